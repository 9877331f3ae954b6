"""Versions elsewhere: archives on any file system that fsspec knows, as ``<url>/<name>/<version>.peftrec``.

What is there may come from anyone, so a version is believed after :func:`~peftrec.registry.archive.read_archive` checked it,
and trusted after :func:`~peftrec.registry.signing.check_signed` did.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Generator
from typing import Any, TypeAlias, cast

from peftrec.errors import (
    AdapterNotFoundError,
    CorruptAdapterError,
    MissingExtraError,
    PeftrecError,
    RegistryError,
    RegistryWriteError,
)
from peftrec.registry.archive import SIZE_LIMIT, SUFFIX, Parcel, load, pack, read_archive
from peftrec.registry.names import is_name, is_number, parse_reference
from peftrec.registry.signing import manifest_seal, merge
from peftrec.registry.version import Version

Files: TypeAlias = Any
"""A file system of fsspec, which has no types."""

_BLOCK = 1 << 20
_PACKAGE = re.compile(r"[Ii]nstall ([a-z0-9_\-]+)")


def push(version: Version, url: str, *, signature: bytes | None = None) -> str:
    """Puts a version on a remote; nobody ever sees half of it.

    The archive is written under a hidden name, read back, and moved. Where the same version is there already, nothing is
    written, or only the signatures that it lacks.

    Args:
        version: Read and checked in full.
        url: Folder, such as ``s3://bucket/adapters``.
        signature: Content of the version's file of signatures.

    Returns:
        The archive's address.

    Raises:
        CorruptAdapterError: The version is damaged, or ``signature`` is malformed or of another version.
        RegistryError: The remote holds something else under this name and number, or cannot be reached.
        RegistryWriteError: The remote cannot be written; what was there is there still.
        MissingExtraError: The package for this kind of address is not installed.
    """
    parcel = load(version, signature=signature)
    files, folder = _remote(url)
    target = f"{folder}/{parcel.manifest.name}/{parcel.manifest.version}{SUFFIX}"
    address = f"{url.rstrip('/')}/{parcel.manifest.name}/{parcel.manifest.version}{SUFFIX}"
    there = _there(files, target, address)
    if there is not None:
        parcel = _joined(parcel, there, address)
        if parcel.signature == there.signature:
            return address
    _put(files, target, pack(parcel), address, fresh=there is None)
    return address


def pull(url: str, *, reference: str | None = None, limit: int = SIZE_LIMIT) -> Parcel:
    """Fetches a version into memory.

    Args:
        url: The archive, or the folder of a remote where ``reference`` is given.
        reference: ``name@version`` in that folder. What comes must then say of itself that it is this version, so that who
            can write the remote cannot hand out an older one, or another adapter, in its place.
        limit: Bytes that the archive may have.

    Raises:
        AdapterNotFoundError: There is no such archive, or ``reference`` names no version.
        CorruptAdapterError: It is no intact version, or another one than asked for.
        RegistryError: The remote cannot be reached.
        MissingExtraError: The package for this kind of address is not installed.
    """
    files, path = _remote(url)
    if reference is not None:
        name, number = exact(reference)
        path, url = (f"{start.rstrip('/')}/{name}/{number}{SUFFIX}" for start in (path, url))
    parcel = _fetch(files, path, url, limit=limit)
    check_is(parcel, reference, where=_shown(url))
    return parcel


def remote_versions(url: str) -> list[tuple[str, str]]:
    """Name and version of the archives in a remote's folder, sorted; what they hold is checked when they are pulled.

    Raises:
        RegistryError: The remote cannot be reached.
        MissingExtraError: The package for this kind of address is not installed.
    """
    files, folder = _remote(url)
    found: list[tuple[str, str]] = []
    with _worded(url, "reached", RegistryError):
        for name in _listed(files, folder, kind="directory"):
            if is_name(name):
                archives = _listed(files, f"{folder}/{name}", kind="file")
                numbers = (file.removesuffix(SUFFIX) for file in archives if file.endswith(SUFFIX))
                found += [(name, number) for number in numbers if is_number(number)]
    return sorted(found, key=lambda entry: (entry[0], int(entry[1])))


def exact(reference: str) -> tuple[str, str]:
    """Name and number of a reference that names one version for good.

    Raises:
        AdapterNotFoundError: It is none; aliases and digests are known in a registry only.
    """
    name, number = parse_reference(reference)
    if number is None or not is_number(number) or not is_name(name):
        raise AdapterNotFoundError(
            f"reference {reference[:120]!r}",
            expected="'name@version'; remotes have no aliases",
            remedy="see what the remote holds, and name one of its versions",
        )
    return name, number


def check_is(parcel: Parcel, reference: str | None, *, where: str) -> None:
    """Whether a remote handed out what was asked for; anything will do where ``reference`` is None.

    Raises:
        CorruptAdapterError: It is another version, intact and signed as it may be.
    """
    if reference not in (None, parcel.reference):
        raise CorruptAdapterError(
            f"{where} holds {parcel.reference}",
            expected=f"{reference}, as its name says",
            remedy="do not use it: somebody renamed it, or put it in the other's place",
        )


def _remote(url: str) -> tuple[Files, str]:
    """The file system of an address, and the path in it, without a slash at its end."""
    from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    try:
        with _worded(url, "reached", RegistryError):
            files, path = cast("tuple[Files, str]", url_to_fs(url))
            files.invalidate_cache()  # listings are kept across calls otherwise
    except RegistryError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        package = _PACKAGE.search(str(error.__cause__))
        raise MissingExtraError(
            f"{_shown(url)} without the package for such addresses",
            expected=str(error.__cause__),
            remedy=f"pip install {package[1]}" if package else "install what is named above",
        ) from error.__cause__
    return files, path.rstrip("/")


def _there(files: Files, target: str, address: str) -> Parcel | None:
    """What a remote holds in the place of a version that is to be pushed."""
    try:
        return _fetch(files, target, address, limit=SIZE_LIMIT)
    except AdapterNotFoundError:
        return None
    except CorruptAdapterError as error:
        raise _taken(address, f"is no intact version ({error.found})") from error


def _joined(ours: Parcel, there: Parcel, address: str) -> Parcel:
    """The version with the signatures of both sides."""
    if manifest_seal(ours.manifest) != manifest_seal(there.manifest):
        raise _taken(address, f"is another {there.reference}, published {there.manifest.created}")
    contents = [content for content in (there.signature, ours.signature) if content is not None]
    return Parcel(ours.manifest, ours.content, merge(ours.manifest, *contents) if contents else None)


def _put(files: Files, target: str, content: bytes, address: str, *, fresh: bool) -> None:
    """Writes under a hidden name, reads back, moves, and reads again.

    A ``fresh`` version takes nobody's place: fsspec cannot move on that condition, so it is looked for once more just before.
    """
    folder, _, name = target.rpartition("/")
    hidden = f"{folder}/.{name}.{uuid.uuid4().hex}.new"
    moving = False
    try:
        with _worded(address, "written", RegistryWriteError):
            files.makedirs(folder, exist_ok=True)
            with files.open(hidden, "wb") as file:
                for place in range(0, len(content), _BLOCK):
                    file.write(content[place : place + _BLOCK])
                if getattr(files, "local_file", False):  # elsewhere a closed file is a kept one
                    file.flush()
                    os.fsync(file.fileno())
            _compare(files, hidden, content, address)
            if fresh and files.exists(target):
                raise _taken(address, "was put there meanwhile")
            moving = True
            files.mv(hidden, target)
            _compare(files, target, content, address)
    except BaseException:
        with contextlib.suppress(Exception):  # the cause is told, not what follows from it
            if moving and _is_part(_read(files, target, limit=len(content)), content):
                files.rm_file(target)
        with contextlib.suppress(Exception):
            if files.exists(hidden):
                files.rm_file(hidden)
        raise


def _compare(files: Files, path: str, content: bytes, address: str) -> None:
    if (came := _read(files, path, limit=len(content))) != content:
        raise RegistryWriteError(
            f"{_shown(address)}: of {len(content):,} bytes, {len(came):,} came back, or others than were sent",
            expected="what was sent",
            remedy="push it again; see whether the remote is full, or another pushes the same version",
        )


def _is_part(came: bytes, content: bytes) -> bool:
    """Whether a move that is a copy broke off; what somebody else put there is left alone."""
    return len(came) < len(content) and content.startswith(came)


def _fetch(files: Files, path: str, address: str, *, limit: int) -> Parcel:
    try:
        with _worded(address, "read", RegistryError):
            content = _read(files, path, limit=limit)
    except RegistryError as error:
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise
        raise AdapterNotFoundError(
            f"no archive {_shown(address)}",
            expected=f"the address of a file such as grocery/3{SUFFIX}",
            remedy="see what the remote holds, and name one of its versions",
        ) from error.__cause__
    try:
        return read_archive(content, limit=limit)
    except CorruptAdapterError as error:
        raise CorruptAdapterError(
            f"{_shown(address)}: {error.found}", expected=error.expected, remedy=error.remedy
        ) from error


def _read(files: Files, path: str, *, limit: int) -> bytes:
    """At most one byte more than the limit, whatever size the remote claims."""
    content = bytearray()
    with files.open(path, "rb") as file:
        while len(content) <= limit and (piece := cast(bytes, file.read(min(_BLOCK, limit + 1 - len(content))))):
            content += piece
    return bytes(content)


def _listed(files: Files, folder: str, *, kind: str) -> list[str]:
    """Names of a folder's entries of one kind; none where it does not exist."""
    try:
        entries = cast(list[dict[str, Any]], files.ls(folder, detail=True))
    except FileNotFoundError:
        return []
    return [str(entry["name"]).rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == kind]


@contextlib.contextmanager
def _worded(url: str, verb: str, kind: type[RegistryError]) -> Generator[None]:
    """Turns what a file system raises into one error that says what to do."""
    try:
        yield
    except PeftrecError:
        raise
    except Exception as error:  # the clients of S3, GCS, SFTP and others share no base class
        told = _shown(str(error)) or type(error).__name__
        raise kind(
            f"{_shown(url)} cannot be {verb}: {told}",
            expected="an address that fsspec can reach with the credentials of this machine",
            remedy="see the cause above; what the remote held, it holds still",
        ) from error


def _taken(address: str, what: str) -> RegistryError:
    return RegistryError(
        f"{_shown(address)} {what}",
        expected="this very version, or nothing: a version never changes",
        remedy="publish under the next number, or push to another folder",
    )


def _shown(url: str) -> str:
    """An address, or a text with addresses, without the passwords and tickets that they may hold."""
    return re.sub(r"\?\S*", "?…", re.sub(r"//[^/\s]*@", "//", url))
