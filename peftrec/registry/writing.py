"""One writer at a time per adapter, and changes of its folder that a kill leaves done or undone."""

import contextlib
import errno
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path

from peftrec.disk import sync_folder, write_durably
from peftrec.errors import RegistryWriteError
from peftrec.registry.manifest import MANIFEST

ALIASES = "aliases.json"
SIGNATURES = ".sig.json"
"""What follows a version's number in the name of the file of its signatures."""
AFTER = "what was done until then is told by peftrec registry history"
"""Where a change of several steps fails."""
LOCK_SECONDS = 60.0
_POLL_SECONDS = 0.005
_TEMPORARY = ".tmp"
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def temporaries(folder: Path) -> Path:
    """Where an adapter's unfinished files are: a folder of their own, so that looking for them costs nothing."""
    path = folder / _TEMPORARY
    path.mkdir(exist_ok=True)
    return path


def write_version(folder: Path, version: str, files: Mapping[str, bytes], manifest: bytes) -> None:
    """Writes a version beside the others and gives it its name in one step; the lock is held."""
    temporary = temporaries(folder) / f"new-{version}"
    (folder / f"{version}{SIGNATURES}").unlink(missing_ok=True)  # of a version that never came to be
    temporary.mkdir()
    try:
        for file, content in files.items():
            write_durably(temporary / file, content)
        write_durably(temporary / MANIFEST, manifest)
        sync_folder(temporary)
        temporary.rename(folder / version)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_version(folder: Path, version: str) -> None:
    """Takes a version out of the adapter in one step, then frees its space; the lock is held."""
    gone = temporaries(folder) / f"gone-{version}"
    (folder / version).rename(gone)
    (folder / f"{version}{SIGNATURES}").unlink(missing_ok=True)
    sync_folder(folder)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what a killed writer left behind. The lock is held, so none of it belongs to a living one."""
    for path in temporaries(folder).iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def turn(*folders: Path) -> Generator[None]:
    """One writer at a time in each of some adapters; the system frees a lock when its holder dies.

    Locks are taken in the order of the folders' names, so that two writers never wait for each other.

    Raises:
        RegistryWriteError: Another writer held one for too long, or the file system has no locks.
    """
    with contextlib.ExitStack() as stack:
        for folder in sorted({*folders}):
            _refuse_links(folder)
            stack.enter_context(_locked(folder))
            _refuse_links(folder)  # again, now that nobody else of us writes
        for folder in {*folders}:
            sweep(folder)
        yield


def _refuse_links(folder: Path) -> None:
    """What is swept or written behind a link would be somebody else's."""
    for path in (folder, folder / _TEMPORARY, folder / ".lock"):
        if path.is_symlink():
            raise RegistryWriteError(
                f"{path} is a link",
                expected="the adapter's own folder: what is unfinished in it is removed",
                remedy="remove the link, and copy what belongs to the adapter into its folder",
            )


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", fallback_to_soft=False)  # a soft lock would outlive a killed holder
    try:
        lock.acquire(timeout=LOCK_SECONDS, poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise RegistryWriteError(
            f"{folder / '.lock'} was not free within {LOCK_SECONDS:g} seconds",
            expected="one writer at a time, each done within seconds",
            remedy="see whether another publisher hangs, and try again; nothing was changed",
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise RegistryWriteError(
            f"{folder} is on a file system without locks",
            expected="one writer at a time, which only a lock can ensure",
            remedy="publish to a local folder and copy it",
        ) from error
    try:
        yield
    finally:
        lock.release()
