"""Where a training keeps its checkpoints, and whose they are."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from peftrec.disk import replace_durably, worded_write_errors
from peftrec.errors import ConfigError, TrainingError
from peftrec.training import parallel

RUN_FILE, LOCK_FILE = "run.sha256", ".lock"
"""What says in a folder of checkpoints whose they are, and what keeps a second training out of it."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


@contextmanager
def workspace(folder: str | Path | None) -> Iterator[Path]:
    """A folder for checkpoints: the one that is named, which stays, or a temporary one; one for all processes of a training.

    Raises:
        TrainingError: The folder cannot be written, or another training is at work in it.
    """
    with ExitStack() as held:
        yield Path(parallel.of_first(lambda: _opened(folder, held)))
        parallel.wait()


def _opened(folder: str | Path | None, held: ExitStack) -> str:
    if folder is None:
        return held.enter_context(tempfile.TemporaryDirectory(prefix="peftrec-"))
    with worded_write_errors(Path(folder), TrainingError):
        Path(folder).mkdir(parents=True, exist_ok=True)
        held.callback(_locked(Path(folder)).release)
    return str(folder)


def _locked(place: Path) -> FileLock:
    lock = FileLock(place / LOCK_FILE, fallback_to_soft=False)  # a soft lock would outlive a killed holder
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrainingError(
            f"another training is at work in {place}",
            expected="one at a time: each would remove the other's checkpoints",
            remedy="wait for it, or name another folder",
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise TrainingError(
            f"{place} is on a file system without locks",
            expected="one training at a time, which only a lock can ensure",
            remedy="keep checkpoints in a local folder",
        ) from error
    return lock


def claim(place: Path, digest: str, *, resume: bool) -> None:
    """Makes sure that checkpoints are those of this very training: others fit in shape and would be taken for its own.

    Args:
        place: The folder; without ``resume``, the checkpoints in it are removed.
        digest: Of all that decides what the training ends in.
        resume: Whether to go on from what is there.

    Raises:
        ConfigError: The folder holds the checkpoints of another training, or processes do not train the same.
        TrainingError: The folder cannot be written.
    """
    if not parallel.same(digest):
        raise ConfigError(
            "processes that train different things",
            expected="the same data, backbone, tuner, settings and seed in each",
            remedy="let no process draw or choose by its rank before training",
        )
    count = f"\n{parallel.processes()}" if parallel.processes() > 1 else ""  # each keeps its own chance in checkpoints
    parallel.of_first(lambda: _claim(place, digest + count, resume=resume))


def _claim(place: Path, digest: str, *, resume: bool) -> None:
    with worded_write_errors(place, TrainingError):
        if resume and (place / RUN_FILE).is_file():
            if not is_of(place, digest):
                raise ConfigError(
                    f"{place} holds the checkpoints of another training",
                    expected="the same data, backbone, tuner, settings, seed and number of processes as before",
                    remedy="train into another folder, or leave resume out to start anew here",
                )
            return
        (place / RUN_FILE).unlink(missing_ok=True)
        _remove_checkpoints(place)
        replace_durably(place / RUN_FILE, digest.encode())


def is_of(place: Path, digest: str) -> bool:
    """Whether a folder holds the checkpoints of this very training."""
    mark = place / RUN_FILE
    return mark.is_file() and mark.read_text(encoding="utf-8") == digest


def discard(place: Path, *made: str) -> None:
    """Removes what a training left in its folder, and the folder if nothing else is in it.

    Args:
        place: The folder, see :func:`workspace`; the caller is at work in it.
        made: Patterns of what it left beside the checkpoints.
    """
    _remove_checkpoints(place)
    for path in [path for pattern in made for path in place.glob(pattern)]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (RUN_FILE, LOCK_FILE):
        (place / name).unlink(missing_ok=True)
    for path in (*place.iterdir(), place):
        if path.is_dir():
            (path / RUN_FILE).unlink(missing_ok=True)
            if not any(path.iterdir()):  # stages that wrote no checkpoint leave nothing else
                path.rmdir()


def _remove_checkpoints(place: Path) -> None:
    """Removes each stage's folder of checkpoints, and nothing that somebody else put there."""
    for stage in place.iterdir():
        if stage.is_dir() and any(stage.glob("checkpoint-*")):
            shutil.rmtree(stage, ignore_errors=True)
