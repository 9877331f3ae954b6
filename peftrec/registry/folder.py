"""What lies in a registry's folder: adapters, numbers and manifests, whatever aliases say of them."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, RegistryError
from peftrec.registry.files import listed, read_plain
from peftrec.registry.manifest import MANIFEST, MANIFEST_LIMIT, Manifest
from peftrec.registry.names import check_name, is_name, is_number
from peftrec.registry.version import Version


class RegistryFolder:
    """Adapters in a plain folder.

    Args:
        root: The folder. It need not exist.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r})"

    def names(self, *, after: str = "", limit: int | None = None) -> list[str]:
        """Names of adapters with a version, sorted.

        Args:
            after: Only those that come later in the order: the last name of the page before.
            limit: At most so many; a page costs no look into other adapters.

        Raises:
            RegistryError: The registry is no folder, or it cannot be read.
        """
        found = (name for name in self._folders() if name > after and self._holds_any(name))
        return list(islice(found, limit))

    def numbers(self, name: str, *, complete: bool = True) -> list[str]:
        """Numbers of all versions of an adapter, rising, those deleted among them; none where there is no such adapter.

        Args:
            name: Of the adapter.
            complete: Only of versions with a manifest; else of every folder with a number.
        """
        return [str(number) for number in self._numbers(name, complete=complete)]

    def stored(self, name: str, version: str) -> Version:
        """A version, be it deleted or not, of which the manifest was read and nothing else.

        Raises:
            AdapterNotFoundError: There is no such version.
            CorruptAdapterError: The manifest cannot be read.
        """
        if not is_number(version):
            raise self._unknown(check_name(name))
        return self._version(check_name(name), version)

    def _folders(self) -> list[str]:
        listed(self.root)  # raises where it is no folder
        try:
            with os.scandir(self.root) as entries:
                return sorted(entry.name for entry in entries if is_name(entry.name) and entry.is_dir())
        except FileNotFoundError:
            return []

    def _entries(self, name: str) -> Iterable[int]:
        """Numbers that folders of an adapter have."""
        folder = self.root / name
        return (int(entry) for entry in listed(folder) if is_number(entry)) if folder.is_dir() else ()

    def _holds_any(self, name: str) -> bool:
        """Whether an adapter has a version; one that may not be looked into is told of where it is asked about."""
        try:
            return any(is_number(entry) and self._is_version(name, entry) for entry in listed(self.root / name))
        except RegistryError:
            return True

    def _is_version(self, name: str, number: str) -> bool:
        # os.path answers False where a Path would raise on a folder that may not be read.
        return is_number(number) and os.path.isfile(self.root / name / number / MANIFEST)

    def _numbers(self, name: str, *, complete: bool = True) -> list[int]:
        """Version numbers, rising. A folder without a manifest is no version: something half-copied by hand."""
        numbers = sorted(self._entries(name)) if is_name(name) else []
        folder = self.root / name
        return [n for n in numbers if self._is_version(name, str(n)) or (not complete and (folder / str(n)).is_dir())]

    def _version(self, name: str, version: str) -> Version:
        path = self.root / name / version
        where = f"{name}@{version}: {MANIFEST}"
        if not os.path.lexists(path):
            raise AdapterNotFoundError(
                f"{name}@{version} is not there",
                expected=f"a version out of {', '.join(self.numbers(name)[-20:]) or 'none: there is no version'}",
                remedy=f"peftrec registry versions {name}",
            )
        if any(os.path.islink(part) for part in (path.parent, path, path / MANIFEST)):
            raise CorruptAdapterError(
                f"{name}@{version}: the adapter's folder, the version's or its {MANIFEST} is a link",
                expected="a folder with the version's files; what a link leads to could change",
                remedy="copy the version itself, and use an alias for a second name",
            )
        try:
            content = read_plain(path / MANIFEST, limit=MANIFEST_LIMIT)
        except OSError as error:
            raise CorruptAdapterError(
                f"{where} cannot be read: {error.strerror or error}",
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
        if numbers := self.numbers(name):
            return AdapterNotFoundError(
                f"all versions of {name} are deleted: {', '.join(numbers[-20:])}",
                expected="one that is not",
                remedy=f"bring one back: peftrec registry restore {name}@{numbers[-1]}",
            )
        names = self.names()
        near = get_close_matches(name, names, n=3)
        return AdapterNotFoundError(
            f"no adapter {name[:80]!r} in {self.root}" + (f"; closest: {', '.join(near)}" if near else ""),
            expected=f"one of {', '.join(names[:10])}" if names else "an adapter, but the registry is empty",
            remedy="peftrec registry list"
            if names
            else "publish one: peftrec demo, or Registry(...).publish(name, adapter)",
        )
