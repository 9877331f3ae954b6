"""One published version: its files are read only after they were checked."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from peftrec.errors import CorruptAdapterError, PeftrecError
from peftrec.registry.manifest import FACTS, FILES, MANIFEST, REQUIRED, Manifest
from peftrec.registry.strict import SEAL
from peftrec.registry.tensors import tensor_entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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

    @cached_property
    def digest(self) -> str:
        """The sha256 that seals the manifest, which holds that of every file: the address of the whole content."""
        return str(json.loads(self.manifest.to_json())[SEAL])

    @property
    def facts(self) -> dict[str, object]:
        """What the manifest tells beside how to load it, to be published again: data, metrics, seed and so on."""
        return {name: getattr(self.manifest, name) for name in FACTS}

    def files(self) -> dict[str, bytes]:
        """What an adapter brings, so that a version can be published again under another name."""
        return {file: self.read(file) for file in sorted(FILES)}

    def describe(self) -> dict[str, object]:
        """What an adapter says of itself, see :meth:`files`."""
        told = asdict(self.manifest)
        return {name: told[name] for name in (*REQUIRED, *FACTS)}

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
        try:
            if path.is_symlink() or not path.is_file():
                raise self._corrupt(file, "is missing" if not path.is_symlink() else "is a link")
            if (size := path.stat().st_size) != entry.size:
                raise self._corrupt(file, f"has {size:,} bytes, the manifest says {entry.size:,}")
            content = path.read_bytes()
        except OSError as error:
            raise self._corrupt(file, f"cannot be read: {error.strerror or error}") from error
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
        from safetensors import SafetensorError
        from safetensors.numpy import load

        content = self.read(file)
        if tensor_entries(file, content) != {n: e for n, e in self.manifest.tensors.items() if e.file == file}:
            raise self._corrupt(file, "holds other tensors than the manifest describes")
        try:
            return load(content)
        except SafetensorError as error:
            raise self._corrupt(file, f"cannot be loaded: {error}") from error

    def problems(self) -> list[str]:
        """Everything that is wrong with the files, in words; empty when all is well."""
        found: list[str] = []
        for file in self.manifest.files:
            try:
                self.tensors(file) if file.endswith(".safetensors") else self.read(file)
            except PeftrecError as error:
                found.append(error.found)
        return found + [f"{self.reference}: {what}" for what in self.strangers() if "is missing" not in what]

    def strangers(self) -> list[str]:
        """Files that are missing, surplus or links, in words; looks at the folder only.

        Hidden files, such as file managers and network file systems leave behind, are nobody's and never read.
        """
        try:
            with os.scandir(self.path) as entries:
                shown = (entry for entry in entries if not entry.name.startswith("."))
                present = {entry.name: entry.is_file(follow_symlinks=False) for entry in shown}
        except OSError as error:
            return [f"its folder cannot be read: {error.strerror or error}"]
        known = {MANIFEST, *self.manifest.files}
        found = [f"{file} is missing" for file in sorted(known - set(present))]
        found += [f"{file} is not in the manifest" for file in sorted(set(present) - known)]
        found += [f"{file} is a link or a folder" for file in sorted(known & set(present)) if not present[file]]
        return found

    def check_folder(self) -> None:
        """Looks at the folder without reading its files.

        Raises:
            CorruptAdapterError: A file is missing, surplus or a link; all of them are named.
        """
        if found := self.strangers():
            raise CorruptAdapterError(
                f"{self.reference}: {'; '.join(found)}",
                expected=f"{MANIFEST} and the files that it names, nothing else",
                remedy="restore the folder from a copy, or remove what does not belong there",
            )

    def _corrupt(self, file: str, what: str) -> CorruptAdapterError:
        return CorruptAdapterError(
            f"{self.reference}: {file} {what}",
            expected="the file as it was published",
            remedy="restore it from a copy, or serve another version: peftrec registry list",
        )
