"""The registry on disk: ``<root>/<name>/<version>/``, versions that never change, aliases that do."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, PeftrecError
from peftrec.registry.card import card
from peftrec.registry.files import replace_durably, sync_folder, worded_write_errors, write_durably
from peftrec.registry.manifest import MANIFEST, SCHEMA_VERSION, FileEntry, Fingerprints, Manifest, TensorEntry
from peftrec.registry.names import check_name, parse_reference
from peftrec.registry.tensors import tensor_entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRODUCTION = "production"
ALIASES = "aliases.json"
CARD = "card.md"
_TEMPORARY = ".new-"


class Publishable(Protocol):
    """What can be published; :class:`peftrec.Adapter` is."""

    def files(self) -> Mapping[str, bytes]:
        """Content by file name: ``adapter_config.json``, ``adapter_model.safetensors``, ``decoder.safetensors``."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Fields of the manifest that only the adapter knows.

        ``method, base_model, decoder_layers, ranks, fingerprints`` must be there; ``data, metrics, protocol, seed, privacy,
        versions`` may be.
        """
        ...


@dataclass(frozen=True)
class Version:
    """One published version.

    Attributes:
        name: Of the adapter.
        version: Its number, as text.
        path: Its folder.
        manifest: What it says about itself.
    """

    name: str
    version: str
    path: Path
    manifest: Manifest

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def size(self) -> int:
        """Bytes of all files that the manifest names."""
        return sum(entry.size for entry in self.manifest.files.values())

    def read(self, file: str) -> bytes:
        """The content of a file, after its size and digest were checked.

        Raises:
            CorruptAdapterError: It is missing, a link, changed or truncated, or the manifest does not name it.
        """
        entry = self.manifest.files.get(file)
        if entry is None:
            raise self._corrupt(file, "is not in the manifest")
        path = self.path / file
        if path.is_symlink() or not path.is_file():
            raise self._corrupt(file, "is missing" if not path.is_symlink() else "is a link")
        if (size := path.stat().st_size) != entry.size:
            raise self._corrupt(file, f"has {size:,} bytes, the manifest says {entry.size:,}")
        content = path.read_bytes()
        if (digest := hashlib.sha256(content).hexdigest()) != entry.sha256:
            raise self._corrupt(
                file, f"has sha256 {digest[:12]}…, the manifest says {entry.sha256[:12]}…: its bytes changed"
            )
        return content

    def tensors(self, file: str) -> "dict[str, NDArray[np.generic]]":
        """The tensors of a safetensors file, after digest, header and every shape were checked.

        Raises:
            CorruptAdapterError: See :meth:`read`; or a tensor is not the one that the manifest describes.
        """
        from safetensors.numpy import load

        content = self.read(file)
        if tensor_entries(file, content) != {n: e for n, e in self.manifest.tensors.items() if e.file == file}:
            raise self._corrupt(file, "holds other tensors than the manifest describes")
        return load(content)

    def problems(self) -> list[str]:
        """Everything that is wrong with the files, in words; empty when all is well."""
        found: list[str] = []
        for file in self.manifest.files:
            try:
                self.tensors(file) if file.endswith(".safetensors") else self.read(file)
            except PeftrecError as error:
                found.append(error.found)
        known = {MANIFEST, *self.manifest.files}
        found += [
            f"{self.reference}: {path.name} is not in the manifest"
            for path in self.path.iterdir()
            if path.name not in known
        ]
        return found

    def _corrupt(self, file: str, what: str) -> CorruptAdapterError:
        return CorruptAdapterError(
            f"{self.reference}: {file} {what}",
            expected="the file as it was published",
            remedy="restore it from a copy, or serve another version: peftrec registry list",
        )


class Registry:
    """Adapters in a plain folder.

    Args:
        root: The folder. It need not exist to be read; publishing makes it.
    """

    def __init__(self, root: str | os.PathLike[str] = "adapters") -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"Registry({str(self.root)!r}: {', '.join(self.names()) or 'empty'})"

    def names(self) -> list[str]:
        """Names of all adapters with a version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and self._numbers(path.name))

    def versions(self, name: str) -> list[Version]:
        """All versions of an adapter, oldest first.

        Raises:
            AdapterNotFoundError: There is no such adapter.
        """
        numbers = self._numbers(name)
        if not numbers:
            raise self._unknown(name)
        return [self._version(name, str(number)) for number in numbers]

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version.

        Raises:
            CorruptAdapterError: ``aliases.json`` is malformed.
        """
        path = self.root / name / ALIASES
        if not path.is_file():
            return {}
        try:
            content: object = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            entries = cast(dict[object, object], content)
            if all(isinstance(value, str) for value in (*entries.keys(), *entries.values())):
                return cast(dict[str, str], entries)
        raise CorruptAdapterError(
            f"{path} is no JSON object of aliases and versions",
            expected='for example {"production": "3"}',
            remedy=f"remove the file and set the aliases again; versions there are: {self._numbers(name)}",
        )

    def open(self, reference: str) -> Version:
        """Finds a version.

        Args:
            reference: ``name@version``, ``name@alias``, or ``name`` for its production alias, else its newest version.

        Raises:
            AdapterNotFoundError: There is none; names the nearest.
            CorruptAdapterError: Its manifest cannot be read.
        """
        name, wanted = parse_reference(reference)
        numbers = self._numbers(name)
        if not numbers:
            raise self._unknown(name)
        aliases = self.aliases(name)
        version = aliases.get(wanted or PRODUCTION, wanted or str(numbers[-1]))
        if not version.isdigit() or int(version) not in numbers:
            raise AdapterNotFoundError(
                f"{reference!r}: {name} has no version or alias {wanted or version!r}",
                expected=f"a version out of {', '.join(map(str, numbers))}"
                + (f", or an alias out of {', '.join(sorted(aliases))}" if aliases else ""),
                remedy=f"peftrec registry show {name}",
            )
        return self._version(name, version)

    def publish(
        self, name: str, adapter: Publishable, *, alias: str | None = None, parent: str | None = None
    ) -> Version:
        """Adds a version under the next number.

        Files are written to a temporary folder, brought to the disk and renamed; a kill at any moment leaves the registry
        as it was or with the version complete. Concurrent publishers get different numbers.

        Args:
            name: Of the adapter.
            adapter: What is published.
            alias: Points to the new version afterwards, such as ``production``.
            parent: Version that training continued from.

        Raises:
            RegistryError: The name or alias cannot be used.
            RegistryWriteError: The folder is read-only or the disk is full; nothing was changed.
        """
        check_name(name)
        if alias is not None:
            check_name(alias, what="alias")
        files, facts = dict(adapter.files()), adapter.describe()
        with worded_write_errors(self.root):
            folder = self.root / name
            folder.mkdir(parents=True, exist_ok=True)
            with _turn(folder):
                _sweep(folder)
                version = str(max(self._numbers(name, complete=False), default=0) + 1)
                manifest = _manifest(name, version, parent, files, facts)
                files[CARD] = card(manifest).encode()
                entry = FileEntry(hashlib.sha256(files[CARD]).hexdigest(), len(files[CARD]))
                manifest.files[CARD] = entry
                _write_version(folder, version, files, manifest)
                if alias is not None:
                    self._point(name, alias, version)
        return self._version(name, version)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Points an alias to a version, in one step.

        Raises:
            AdapterNotFoundError: There is no such version.
            RegistryError: The alias cannot be used.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        found = self.open(f"{name}@{version}")
        with worded_write_errors(self.root), _turn(self.root / name):
            self._point(name, alias, found.version)

    def verify(self, name: str | None = None) -> list[str]:
        """Reads every file again and says in words what is wrong; empty when all is well.

        Raises:
            AdapterNotFoundError: There is no adapter of that name.
        """
        found: list[str] = []
        for each in self.names() if name is None else [name]:
            numbers = self._numbers(each, complete=False)
            if not numbers:
                raise self._unknown(each)
            for number in numbers:
                try:
                    found += self._version(each, str(number)).problems()
                except PeftrecError as error:
                    found.append(error.found)
            with contextlib.suppress(CorruptAdapterError):
                dangling = {a: v for a, v in self.aliases(each).items() if v not in map(str, numbers)}
                found += [
                    f"{each}@{alias} points to version {version}, which is not there"
                    for alias, version in dangling.items()
                ]
        return found

    def _point(self, name: str, alias: str, version: str) -> None:
        aliases = {**self.aliases(name), alias: version}
        replace_durably(self.root / name / ALIASES, json.dumps(aliases, indent=1, sort_keys=True).encode())

    def _numbers(self, name: str, *, complete: bool = True) -> list[int]:
        """Version numbers, rising. A folder without a manifest is no version: something half-copied by hand."""
        folder = self.root / name
        if name.startswith(".") or not folder.is_dir():
            return []
        names = (path for path in folder.iterdir() if path.name.isdigit() and path.is_dir())
        return sorted(int(path.name) for path in names if not complete or (path / MANIFEST).is_file())

    def _version(self, name: str, version: str) -> Version:
        path = self.root / name / version
        where = f"{name}@{version}: {MANIFEST}"
        try:
            content = (path / MANIFEST).read_bytes()
        except OSError as error:
            raise CorruptAdapterError(
                f"{where} cannot be read: {error.strerror}",
                expected="a complete version",
                remedy="remove the folder if it was half-copied, or copy it again",
            ) from error
        manifest = Manifest.from_json(content, where=where)
        if (manifest.name, manifest.version) != (name, version):
            raise CorruptAdapterError(
                f"{where} says that it is {manifest.name}@{manifest.version}",
                expected=f"{name}@{version}, as its folder says",
                remedy="move the folder back to where it was published",
            )
        return Version(name, version, path, manifest)

    def _unknown(self, name: str) -> AdapterNotFoundError:
        names = self.names()
        near = get_close_matches(name, names, n=3)
        return AdapterNotFoundError(
            f"no adapter {name!r} in {self.root}" + (f"; closest: {', '.join(near)}" if near else ""),
            expected=f"one of {', '.join(names[:10])}" if names else "an adapter, but the registry is empty",
            remedy="peftrec registry list"
            if names
            else "publish one: peftrec demo, or Registry(...).publish(name, adapter)",
        )


def _manifest(
    name: str, version: str, parent: str | None, files: Mapping[str, bytes], facts: Mapping[str, object]
) -> Manifest:
    tensors: dict[str, TensorEntry] = {}
    for file, content in files.items():
        if file.endswith(".safetensors"):
            tensors |= tensor_entries(file, content)
    known = cast(dict[str, Any], dict(facts))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        version=version,
        parent=parent,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=known["method"],
        base_model=known["base_model"],
        decoder_layers=known["decoder_layers"],
        ranks=known["ranks"],
        fingerprints=Fingerprints(**known["fingerprints"]),
        files={file: FileEntry(hashlib.sha256(content).hexdigest(), len(content)) for file, content in files.items()},
        tensors=tensors,
        data=known.get("data", {}),
        metrics=known.get("metrics", []),
        protocol=known.get("protocol", ""),
        seed=known.get("seed", 0),
        privacy=known.get("privacy"),
        versions=known.get("versions", {}),
    )
    # What cannot be read back must not be published.
    return Manifest.from_json(manifest.to_json(), where=f"the manifest of {name}@{version}")


def _write_version(folder: Path, version: str, files: Mapping[str, bytes], manifest: Manifest) -> None:
    temporary = folder / f"{_TEMPORARY}{version}"
    temporary.mkdir()
    try:
        for file, content in files.items():
            write_durably(temporary / file, content)
        write_durably(temporary / MANIFEST, manifest.to_json().encode())
        sync_folder(temporary)
        temporary.rename(folder / version)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sweep(folder: Path) -> None:
    """Removes what a killed publisher left behind. The lock is held, so none of it belongs to a living one."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f".{ALIASES}.*.new"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One writer at a time per adapter; the system frees the lock when its holder dies."""
    from filelock import FileLock

    with FileLock(folder / ".lock"):
        yield
