"""One version as one file: a stored zip of which every byte is fixed by what it holds.

``grocery-3.peftrec`` holds ``manifest.json``, the files that it names and, where the version is signed, ``signatures.json``,
sorted by name, not compressed, all of 1980-01-01. Because an archive has one form only, reading it ends in a comparison with
that form: no byte is left in which something could hide, or that two readers could understand differently.
"""

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from peftrec.disk import replace_durably, worded_write_errors
from peftrec.errors import CorruptAdapterError, RegistryError, RegistryWriteError
from peftrec.registry.manifest import CARDS, FACTS, FILES, MANIFEST, MANIFEST_LIMIT, REQUIRED, TENSOR_FILES, Manifest
from peftrec.registry.signing import parse_signatures
from peftrec.registry.tensors import tensor_entries
from peftrec.registry.version import Version

SIGNATURES = "signatures.json"
SUFFIX = ".peftrec"
SIZE_LIMIT = 2**32 - 1
"""Bytes that a zip without extensions can have, just under 4 GiB."""

_KNOWN = {MANIFEST, SIGNATURES, *CARDS, *FILES}
_LOCAL = struct.Struct("<4s5H3L2H")  # signature, version, flags, method, time, date, crc, sizes (2), name, extra
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # signature, maker, as above, comment, disk, internal, external, offset
_END = struct.Struct("<4s4H2LH")  # signature, disks (2), entries (2), size, offset, comment
_VERSION, _MAKER, _DATE = 10, 3 << 8 | 10, 1 << 5 | 1
_MODE = (stat.S_IFREG | 0o644) << 16


@dataclass(frozen=True)
class Parcel:
    """A version in memory, with every check passed but the one of who signed it.

    Attributes:
        manifest: What it says about itself.
        content: Of the files that the manifest names.
        signature: Its signatures, well-formed and of this manifest; whether one is to be trusted, ``check_signed`` says.
    """

    manifest: Manifest
    content: Mapping[str, bytes]
    signature: bytes | None

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def files(self) -> dict[str, bytes]:
        """What an adapter brings, so that it can be published under another name."""
        return {file: self.content[file] for file in sorted(FILES)}

    def describe(self) -> dict[str, object]:
        """What an adapter says of itself, see :meth:`files`."""
        told = asdict(self.manifest)
        return {name: told[name] for name in (*REQUIRED, *FACTS)}


def archive_name(name: str, version: str) -> str:
    """What an archive is called: ``grocery-3.peftrec``."""
    return f"{name}-{version}{SUFFIX}"


def write_archive(
    version: Version, path: str | os.PathLike[str], *, signature: bytes | None = None, overwrite: bool = False
) -> None:
    """Writes a version as one file; a kill at any moment leaves the old state or the whole archive.

    Args:
        version: Read and checked in full.
        path: Of the archive.
        signature: Content of the version's file of signatures.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        CorruptAdapterError: The version is damaged, or ``signature`` is malformed or of another version.
        RegistryError: The file is there already, or the version is too large.
        RegistryWriteError: The folder cannot be written.
    """
    path = Path(path)
    if not overwrite and os.path.lexists(path):
        raise RegistryError(
            f"{path} is there already",
            expected="the name of a new file, or leave to overwrite",
            remedy="name another file, or pass overwrite=True",
        )
    content = pack(load(version, signature=signature))
    with worded_write_errors(path.parent, RegistryWriteError):
        replace_durably(path, content)


def read_archive(source: str | os.PathLike[str] | bytes | BinaryIO, *, limit: int = SIZE_LIMIT) -> Parcel:
    """Reads an archive that may come from anyone; nothing is returned before all of it was checked.

    Args:
        source: The file, its content, or an open binary file that stands at its beginning.
        limit: Bytes that it may have.

    Raises:
        CorruptAdapterError: It is not, byte for byte, what :func:`write_archive` makes of an intact version.
        RegistryError: It cannot be read.
    """
    where = "the archive"
    if isinstance(source, str | os.PathLike):
        where = str(Path(source))
    try:
        content = _bounded(source, limit)
    except OSError as error:
        raise RegistryError(
            f"{where} cannot be read: {error.strerror or error}",
            expected="an archive that this user may read",
            remedy="name the right file, or change its permissions",
        ) from error
    if len(content) > limit:
        raise _corrupt(where, f"has more than the {limit:,} bytes that are allowed")
    members = _members(content, where)
    _same_bytes(content, members, where)
    signature = members.pop(SIGNATURES, None)
    if MANIFEST not in members:
        raise _corrupt(where, f"holds no {MANIFEST}")
    return checked(members.pop(MANIFEST), members, signature, where=where)


def load(version: Version, *, signature: bytes | None = None) -> Parcel:
    """A version from disk in memory, every byte of it checked.

    Raises:
        CorruptAdapterError: It is damaged, or ``signature`` is malformed or of another version.
    """
    files = {file: version.read(file) for file in version.manifest.files}
    return checked(version.manifest.to_json().encode(), files, signature, where=version.reference)


def pack(parcel: Parcel) -> bytes:
    """The archive of a version.

    Raises:
        RegistryError: It would be larger than a zip can be.
    """
    members = {MANIFEST: parcel.manifest.to_json().encode(), **parcel.content}
    if parcel.signature is not None:
        members[SIGNATURES] = parcel.signature
    if (size := sum(map(len, members.values())) + 4096) > SIZE_LIMIT:
        raise RegistryError(
            f"{parcel.reference} has {size:,} bytes",
            expected=f"at most {SIZE_LIMIT:,}",
            remedy="copy its folder instead, or train a smaller adapter",
        )
    return b"".join(_pieces(members))


def checked(manifest: bytes, files: Mapping[str, bytes], signature: bytes | None, *, where: str) -> Parcel:
    """Files from anywhere as a version, after each was compared with the manifest.

    Args:
        manifest: Content of ``manifest.json``, in the very form that peftrec writes.
        files: Content of all other files.
        signature: Content of the file of signatures.
        where: For messages.

    Raises:
        CorruptAdapterError: The manifest is malformed; a file is missing, surplus or another one; a tensor is not the one that
            the manifest describes; or the signatures are malformed or of another version.
    """
    if len(manifest) > MANIFEST_LIMIT:
        raise _corrupt(where, f"has a {MANIFEST} of {len(manifest):,} bytes, more than {MANIFEST_LIMIT:,}")
    read = Manifest.from_json(manifest, where=f"{where}: {MANIFEST}")
    try:
        canonical = read.to_json().encode()
    except ValueError as error:  # half of a character that needs two
        raise _corrupt(where, f"has a {MANIFEST} that is no text: {error}") from error
    if canonical != manifest:
        raise _corrupt(where, f"has a {MANIFEST} that is written in another way than peftrec does")
    if missing := sorted(set(read.files) - set(files)):
        raise _corrupt(where, f"lacks {', '.join(missing)}")
    if surplus := sorted(set(files) - set(read.files)):
        raise _corrupt(where, f"holds {', '.join(map(repr, surplus))}, which the manifest does not name")
    for file, entry in read.files.items():
        content = files[file]
        if len(content) != entry.size:
            raise _corrupt(where, f"{file} has {len(content):,} bytes, the manifest says {entry.size:,}")
        if (digest := hashlib.sha256(content).hexdigest()) != entry.sha256:
            raise _corrupt(where, f"{file} has sha256 {digest[:12]}…, the manifest says {entry.sha256[:12]}…")
    for file in sorted(TENSOR_FILES):
        if tensor_entries(file, files[file]) != {n: e for n, e in read.tensors.items() if e.file == file}:
            raise _corrupt(where, f"{file} holds other tensors than the manifest describes")
    if signature is not None:
        parse_signatures(signature, read)
    return Parcel(read, dict(files), signature)


def _bounded(source: str | os.PathLike[str] | bytes | BinaryIO, limit: int) -> bytes:
    """At most one byte more than the limit, however much there is."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        if not stat.S_ISREG(os.stat(source).st_mode):  # a pipe would be waited for, a device never ends
            raise OSError("it is no plain file")
        with open(source, "rb") as file:
            return _bounded(file, limit)
    content = bytearray()
    while len(content) <= limit and (piece := source.read(min(1 << 20, limit + 1 - len(content)))):
        content += piece
    return bytes(content)


def _members(content: bytes, where: str) -> dict[str, bytes]:
    """The files that the directory at the end names, in its order."""
    end = len(content) - _END.size
    if end < 0 or not content.startswith(b"PK"):
        raise _corrupt(where, "is no zip, or has something in front of it")
    mark, _, _, _, count, size, start, comment = _END.unpack_from(content, end)
    if mark != b"PK\x05\x06" or comment:
        raise _corrupt(where, "does not end as a zip does: it is truncated, or something follows it")
    if count > len(_KNOWN):
        raise _corrupt(where, f"claims {count:,} files, more than a version has")
    if start + size != end:
        raise _corrupt(where, "has a directory that lies about its place")
    members: dict[str, bytes] = {}
    place = start
    for _ in range(count):
        name, begin, length, place = _entry(content, place, end, where)
        if name in members:
            raise _corrupt(where, f"holds {name} twice")
        begin += _LOCAL.size + len(name)
        if begin + length > start:
            raise _corrupt(where, f"has a directory that lies about the place of {name}")
        members[name] = content[begin : begin + length]
    if place != end:
        raise _corrupt(where, "has a directory that lies about its size")
    return members


def _entry(content: bytes, place: int, end: int, where: str) -> tuple[str, int, int, int]:
    """One entry of the directory: its name, offset and size, and where the next entry begins."""
    if place + _CENTRAL.size > end:
        raise _corrupt(where, "has a directory that is cut off")
    fields = _CENTRAL.unpack_from(content, place)
    mark, flags, method, stored, size, letters = fields[0], fields[3], fields[4], fields[8], fields[9], fields[10]
    name = content[place + _CENTRAL.size :][:letters].decode("ascii", "backslashreplace") if letters < 256 else ""
    if mark != b"PK\x01\x02":
        raise _corrupt(where, "has a directory with a malformed entry")
    if name not in _KNOWN:
        raise _corrupt(where, f"holds {name!r}, which no version has")
    if flags & 1:
        raise _corrupt(where, f"{name} is encrypted")
    if method != 0 or stored != size:
        raise _corrupt(where, f"{name} is compressed")
    if stat.S_ISLNK(fields[15] >> 16) or stat.S_ISDIR(fields[15] >> 16):
        raise _corrupt(where, f"{name} is a link or a folder")
    return name, fields[16], size, place + _CENTRAL.size + letters


def _same_bytes(content: bytes, members: Mapping[str, bytes], where: str) -> None:
    """Compares an archive with the one form that it may have, without a second copy of it."""
    place = 0
    for piece in _pieces(members):
        if not content.startswith(piece, place):
            raise _corrupt(where, f"is packed in another way than peftrec does, near its byte {place:,}")
        place += len(piece)
    if place != len(content):
        raise _corrupt(where, f"holds {len(content) - place:,} bytes that belong to no file")


def _pieces(members: Mapping[str, bytes]) -> Iterator[bytes]:
    """The bytes of an archive. Written here, since what ``zipfile`` writes is not promised to stay the same."""
    directory, place = b"", 0
    for name, content in sorted(members.items()):
        shared = (_VERSION, 0, 0, 0, _DATE, zlib.crc32(content), len(content), len(content), len(name), 0)
        header = _LOCAL.pack(b"PK\x03\x04", *shared) + name.encode()
        yield header
        yield content
        directory += _CENTRAL.pack(b"PK\x01\x02", _MAKER, *shared, 0, 0, 0, _MODE, place) + name.encode()
        place += len(header) + len(content)
    yield directory
    yield _END.pack(b"PK\x05\x06", 0, 0, len(members), len(members), len(directory), place, 0)


def _corrupt(where: str, what: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{where}: {what}",
        expected="a whole version, packed by peftrec and unchanged since",
        remedy="fetch it again, or ask its publisher to export it again",
    )
