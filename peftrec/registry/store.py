"""The registry on disk: ``<root>/<name>/<version>/``, versions that never change, aliases that do."""

import json
import os
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from peftrec.disk import replace_durably, worded_write_errors
from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, PeftrecError, RegistryWriteError
from peftrec.registry.files import listed
from peftrec.registry.manifest import MANIFEST, Manifest
from peftrec.registry.names import check_name, is_alias, is_name, is_number, parse_reference
from peftrec.registry.publishing import Publishable, draft, finished
from peftrec.registry.version import Version
from peftrec.registry.writing import ALIASES, sweep, turn, write_version

PRODUCTION = "production"


class Registry:
    """Adapters in a plain folder.

    Args:
        root: The folder. It need not exist to be read; publishing makes it.
    """

    def __init__(self, root: str | os.PathLike[str] = "adapters") -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"Registry({str(self.root)!r})"

    def names(self) -> list[str]:
        """Names of all adapters with a version, sorted.

        Raises:
            RegistryError: The registry is no folder, or it cannot be read.
        """
        return [name for name in self._folders() if self._numbers(name)]

    def versions(self, name: str) -> list[Version]:
        """All versions of an adapter, oldest first; of each, the manifest is read and nothing else.

        Raises:
            AdapterNotFoundError: There is no such adapter.
        """
        numbers = self._numbers(name)
        if not numbers:
            raise self._unknown(name)
        return [self._version(name, str(number)) for number in numbers]

    def newest(self, name: str) -> Version:
        """The version with the highest number, whatever state the older ones are in.

        Raises:
            AdapterNotFoundError: There is no such adapter.
            CorruptAdapterError: Its manifest cannot be read.
        """
        numbers = self._numbers(name)
        if not numbers:
            raise self._unknown(name)
        return self._version(name, str(numbers[-1]))

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version.

        Raises:
            CorruptAdapterError: ``aliases.json`` is malformed.
        """
        path = self.root / check_name(name) / ALIASES
        try:
            content: object = json.loads(path.read_bytes().decode())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            entries = cast(dict[str, object], content)
            if all(isinstance(v, str) and is_number(v) and is_alias(alias) for alias, v in entries.items()):
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
            CorruptAdapterError: Its manifest cannot be read, or a file is missing, surplus or a link. What the files hold is
                checked when they are read.
            RegistryError: The registry is no folder.
        """
        name, wanted = parse_reference(reference)
        if wanted is not None and is_number(wanted) and os.path.isdir(self.root / name / wanted):
            return self._checked(name, wanted)  # aliases do not matter here, whatever state they are in
        numbers = self._numbers(name)
        if not numbers:
            raise self._unknown(name)
        aliases = {} if wanted is not None and is_number(wanted) else self.aliases(name)
        version = aliases.get(wanted or PRODUCTION, wanted or str(numbers[-1]))
        if version not in map(str, numbers):
            raise AdapterNotFoundError(
                f"{reference!r}: {name} has no version or alias {wanted or version!r}",
                expected=f"a version out of {', '.join(map(str, numbers))}"
                + (f", or an alias out of {', '.join(sorted(aliases))}" if aliases else ""),
                remedy=f"peftrec registry show {name}",
            )
        return self._checked(name, version)

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
            parent: Version that training continued from, in any form that :meth:`open` takes.

        Raises:
            RegistryError: The name, the alias or the parent cannot be used, or the adapter does not say all it must.
            CorruptAdapterError: The adapter's files are malformed, or ``aliases.json`` is and an alias was asked for.
            RegistryWriteError: The folder is read-only, the disk is full or another publisher hangs.
        """
        check_name(name)
        if alias is not None:
            check_name(alias, what="alias")
        listed(self.root)  # raises where the root is a file
        parent = None if parent is None else self.open(parent).reference
        first, files = draft(name, parent, adapter)
        with worded_write_errors(self.root, RegistryWriteError):
            folder = self.root / name
            folder.mkdir(parents=True, exist_ok=True)
            with turn(folder):
                sweep(folder)
                if alias is not None:
                    self.aliases(name)  # raises while nothing is written yet
                version = str(max((int(entry) for entry in listed(folder) if is_number(entry)), default=0) + 1)
                manifest, files = finished(first, version, files)
                write_version(folder, version, files, manifest)
                if alias is not None:
                    self._point(name, alias, version)
        return self._version(name, version)

    def check_ready(self, name: str, *, alias: str | None = None) -> None:
        """Raises what :meth:`publish` would raise of name, alias and folder, before hours of training are lost to it.

        Raises:
            RegistryError: The name or the alias cannot be used, or the registry is no folder.
            CorruptAdapterError: ``aliases.json`` is malformed and an alias is asked for.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(name)
        if alias is not None:
            check_name(alias, what="alias")
        listed(self.root)
        with worded_write_errors(self.root, RegistryWriteError):
            self.root.mkdir(parents=True, exist_ok=True)
            folder = self.root / name if (self.root / name).is_dir() else self.root
            with tempfile.TemporaryFile(dir=folder):
                pass
        if alias is not None:
            self.aliases(name)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Points an alias to a version, in one step.

        Raises:
            AdapterNotFoundError: There is no such version.
            RegistryError: The alias cannot be used.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        found = self.open(f"{name}@{version}")
        with worded_write_errors(self.root, RegistryWriteError), turn(self.root / name):
            self._point(name, alias, found.version)

    def verify(self, name: str | None = None) -> list[str]:
        """Reads every file again and says in words what is wrong; empty when all is well.

        Raises:
            AdapterNotFoundError: There is no adapter of that name.
        """
        found: list[str] = []
        for each in self._folders() if name is None else [name]:
            numbers = self._numbers(each, complete=False)
            if not numbers and name is not None:
                raise self._unknown(name)
            for number in numbers:
                try:
                    found += self._version(each, str(number)).problems()
                except PeftrecError as error:
                    found.append(error.found)
            try:
                aliases = self.aliases(each)
            except CorruptAdapterError as error:
                found.append(error.found)
                continue
            found += [
                f"{each}@{alias} points to version {version}, which is not there"
                for alias, version in aliases.items()
                if version not in map(str, numbers)
            ]
        return found

    def _point(self, name: str, alias: str, version: str) -> None:
        aliases = {**self.aliases(name), alias: version}
        try:
            replace_durably(self.root / name / ALIASES, json.dumps(aliases, indent=1, sort_keys=True).encode())
        except OSError as error:
            raise RegistryWriteError(
                f"{name}@{version} is there, but its alias {alias!r} could not be set: {error.strerror or error}",
                expected=f"to write {ALIASES}",
                remedy=f"mend the cause, then Registry(...).set_alias({name!r}, {alias!r}, {version!r})",
            ) from error

    def _folders(self) -> list[str]:
        return sorted(name for name in listed(self.root) if is_name(name) and os.path.isdir(self.root / name))

    def _numbers(self, name: str, *, complete: bool = True) -> list[int]:
        """Version numbers, rising. A folder without a manifest is no version: something half-copied by hand."""
        folder = self.root / name
        numbers = [entry for entry in listed(folder) if is_number(entry)] if is_name(name) and folder.is_dir() else []
        # os.path answers False where a Path would raise on a folder that may not be read.
        kept = (
            n for n in numbers if os.path.isfile(folder / n / MANIFEST) or (not complete and os.path.isdir(folder / n))
        )
        return sorted(int(number) for number in kept)

    def _checked(self, name: str, version: str) -> Version:
        found = self._version(name, version)
        found.check_folder()
        return found

    def _version(self, name: str, version: str) -> Version:
        path = self.root / name / version
        where = f"{name}@{version}: {MANIFEST}"
        if any(os.path.islink(part) for part in (path.parent, path, path / MANIFEST)):
            raise CorruptAdapterError(
                f"{name}@{version}: the adapter's folder, the version's or its {MANIFEST} is a link",
                expected="a folder with the version's files; what a link leads to could change",
                remedy="copy the version itself, and use an alias for a second name",
            )
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
