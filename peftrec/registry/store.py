"""The registry on disk: ``<root>/<name>/<version>/``, versions that never change, aliases that do."""

import os
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from peftrec.disk import replace_durably, worded_write_errors
from peftrec.errors import AdapterNotFoundError, RegistryError, RegistryWriteError
from peftrec.registry.aliasing import AliasRegistry, check_reason, refuse_pinned
from peftrec.registry.archive import Parcel
from peftrec.registry.collecting import Collected, collect
from peftrec.registry.files import listed
from peftrec.registry.journal import now
from peftrec.registry.keys import key_id, load_private_key
from peftrec.registry.names import check_name, parse_reference
from peftrec.registry.publishing import Publishable, draft, finished
from peftrec.registry.reading import RegistryReader
from peftrec.registry.signing import add_signature, check_signed, merge
from peftrec.registry.state import State
from peftrec.registry.version import Version
from peftrec.registry.writing import SIGNATURES, temporaries, turn, write_version

GRACE = timedelta(days=7)
"""How long a deleted version can be brought back."""


class Registry(AliasRegistry):
    """Adapters in a plain folder.

    Every change is one step: a kill at any moment leaves it undone or done. Writers of one adapter take turns; readers never
    wait. What was changed, when, by whom and why is told by :meth:`history`.

    Args:
        root: The folder. It need not exist to be read; publishing makes it.
        trusted_keys: PEM files of public keys. Where there are any, a version is opened, promoted or installed only if one of
            them signed it.
    """

    def publish(
        self,
        name: str,
        adapter: Publishable,
        *,
        alias: str | None = None,
        parent: str | None = None,
        reason: str = "",
    ) -> Version:
        """Adds a version under the next number.

        Args:
            name: Of the adapter.
            adapter: What is published; a :class:`Version` of another adapter or registry is, too.
            alias: Points to the new version afterwards, such as ``production``.
            parent: Version that training continued from, in any form that :meth:`open` takes.
            reason: For the history.

        Raises:
            RegistryError: The name, the alias or the parent cannot be used, or the adapter does not say all it must.
            PinnedAliasError: The alias must not move.
            CorruptAdapterError: The adapter's files are malformed, or ``aliases.json`` is.
            RegistryWriteError: The folder is read-only, the disk is full or another publisher hangs.
        """
        check_name(name)
        if alias is not None:
            check_name(alias, what="alias")
        check_reason(reason)
        listed(self.root)  # raises where the root is a file
        parent = None if parent is None else self.open(parent).reference
        first, files = draft(name, parent, adapter)
        folder = self.root / name
        with worded_write_errors(self.root, RegistryWriteError):
            folder.mkdir(parents=True, exist_ok=True)
            # The parent's lock keeps it from being deleted while it gets a child.
            with turn(folder, *([] if parent is None else [self.root / parent.partition("@")[0]])):
                if parent is not None:
                    self.open(parent)
                state = self.state(name)
                if alias is not None:
                    refuse_pinned(name, alias, state)
                version = str(self._next(folder, name, state))
                manifest, files = finished(first, version, files)
                write_version(folder, version, files, manifest.to_json().encode())
                self._tell_published(name, version, alias, state, reason, newest=int(version))
        return self._version(name, version)

    def install(self, parcel: Parcel, *, alias: str | None = None, reason: str = "") -> Version:
        """Adds a version that came from elsewhere, under the name and number that it has there.

        A version that is here already gets the signatures that it lacks, and nothing else is written.

        Args:
            parcel: What :func:`read_archive`, :func:`pull`, :func:`pull_from_hub` or :func:`load` gave.
            alias: Points to it afterwards.
            reason: For the history.

        Raises:
            RegistryError: Its number is taken by other content, or the alias cannot be used.
            UntrustedAdapterError: No trusted key signed it.
            PinnedAliasError: The alias must not move.
            RegistryWriteError: The folder cannot be written.
        """
        name, version = check_name(parcel.manifest.name), parcel.manifest.version
        if alias is not None:
            check_name(alias, what="alias")
        check_reason(reason)
        self.check_trust(parcel)
        listed(self.root)
        folder = self.root / name
        with worded_write_errors(self.root, RegistryWriteError):
            folder.mkdir(parents=True, exist_ok=True)
            with turn(folder):
                state = self.state(name)
                if alias is not None:
                    refuse_pinned(name, alias, state)
                if there := os.path.lexists(folder / version):
                    self._refuse_other(name, version, parcel)
                else:
                    self._refuse_removed(name, version)
                _write_signatures(folder, parcel)  # before the version: nobody opens it unsigned
                if not there:
                    write_version(folder, version, parcel.content, parcel.manifest.to_json().encode())
                if alias is not None or not there:
                    newest = max(state.newest, *self._entries(name))
                    self._tell_published(name, version, alias, state, reason, newest=newest, action="install")
        return self._version(name, version)

    def check_trust(self, parcel: Parcel) -> None:
        """Asks whether a trusted key signed what came from elsewhere; a registry without trusted keys takes everything.

        Raises:
            UntrustedAdapterError: None did.
        """
        if self.trusted:
            check_signed(parcel.manifest, parcel.signature, self.trusted)

    def sign(self, reference: str, key: str | os.PathLike[str], *, passphrase: str | None = None) -> Version:
        """Vouches for a version: every byte of it is read, and an Ed25519 signature is put beside it.

        Args:
            reference: In any form that :meth:`open` takes.
            key: PEM file of the private key.
            passphrase: Where the key is encrypted.

        Raises:
            CorruptAdapterError: A file is not as it was published.
            RegistryError: The key cannot be read.
            RegistryWriteError: The folder cannot be written.
            MissingExtraError: The package cryptography is not installed.
        """
        secret = load_private_key(Path(key), passphrase=passphrase)
        name, _ = parse_reference(reference)
        version = RegistryReader(self.root).open(reference)  # what is to be signed need not be trusted yet
        add_signature(version, secret)
        with self._changing(name) as state:
            self._write(name, state, "sign", "", version=version.version, key=key_id(secret.public_key()))
        return version

    def check_ready(self, name: str, *, alias: str | None = None) -> None:
        """Raises what :meth:`publish` would raise of name, alias and folder, before hours of training are lost to it.

        Raises:
            RegistryError: The name or the alias cannot be used, or the registry is no folder.
            PinnedAliasError: The alias must not move.
            CorruptAdapterError: ``aliases.json`` is malformed.
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
        state = self.state(name)
        if alias is not None:
            refuse_pinned(name, alias, state)

    def tag(self, reference: str, *tags: str, remove: bool = False, reason: str = "") -> None:
        """Gives a version tags, or takes them away; :meth:`find` finds them.

        Raises:
            RegistryError: A tag is not written like a name.
            AdapterNotFoundError: There is no such version.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason)
        for tag in tags:
            check_name(tag, what="alias")
        version = self.open(reference)
        with self._changing(version.name) as state:
            before = {*state.tags.get(version.version, ())}
            after = sorted(before - {*tags} if remove else before | {*tags})
            tagged = {at: kept for at, kept in {**state.tags, version.version: after}.items() if kept}
            details = {"version": version.version, "before": sorted(before), "after": after}
            self._write(version.name, replace(state, tags=tagged), "tag", reason, **details)

    def delete(self, reference: str, *, grace: timedelta = GRACE, reason: str = "") -> None:
        """Takes a version out of sight; :meth:`gc` removes it when the grace is over, :meth:`restore` brings it back until then.

        Raises:
            RegistryError: An alias leads to it.
            AdapterNotFoundError: There is no such version.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason)
        version = self.open(reference)
        with self._changing(version.name) as state:
            if users := state.users_of(version.version):
                raise RegistryError(
                    f"{version.reference} is what the alias {', '.join(users)} leads to",
                    expected="a version that no alias leads to",
                    remedy="promote another version first, or remove the alias",
                )
            until = (now() + max(grace, timedelta(0))).isoformat(timespec="seconds")
            newest = max(state.newest, *self._entries(version.name))  # its number is never given again
            after = replace(state, deleted={**state.deleted, version.version: until}, newest=newest)
            self._write(version.name, after, "delete", reason, version=version.version, until=until)

    def restore(self, reference: str, *, reason: str = "") -> Version:
        """Brings a deleted version back that was not removed yet.

        Args:
            reference: ``name@version``.
            reason: For the history.

        Raises:
            AdapterNotFoundError: There is no such version any more, or it is not deleted.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason)
        name, _, number = reference.partition("@")
        with self._changing(name) as state:
            if number not in state.deleted:
                raise AdapterNotFoundError(
                    f"{reference!r} is not among the deleted versions",
                    expected=f"one of {', '.join(f'{name}@{one}' for one in state.deleted) or 'none: nothing is deleted'}",
                    remedy=f"peftrec registry show {name}",
                )
            version = self._version(name, number)
            kept = {other: until for other, until in state.deleted.items() if other != number}
            self._write(name, replace(state, deleted=kept), "restore", reason, version=number)
        return version

    def gc(self, *, dry_run: bool = False) -> Collected:
        """Removes deleted versions whose grace is over and what killed writers left behind.

        A version that an alias leads to or that another descends from is kept, and all are kept that a damaged version
        might descend from.

        Args:
            dry_run: Only tell.

        Raises:
            RegistryError: The clock stands before a deletion that the history tells of: nothing is removed by such a clock.
            RegistryWriteError: A folder cannot be written.
        """
        return collect(self, dry_run=dry_run)

    def _tell_published(
        self,
        name: str,
        version: str,
        alias: str | None,
        state: State,
        reason: str,
        *,
        newest: int,
        action: str = "publish",
    ) -> None:
        state = replace(state, newest=newest)
        try:
            if alias is None:
                self._write(name, state, action, reason, version=version)
            else:
                self._point(name, state, alias, {version: 1.0}, action, reason, version=version)
        except OSError as error:
            missed = f"its alias {alias!r} could not be set" if alias else "the history could not be written"
            mend = f", then Registry(...).promote('{name}@{version}', alias={alias!r})" if alias else ""
            raise RegistryWriteError(
                f"{name}@{version} is there, but {missed}: {error.strerror or error}",
                expected="to write aliases.json and history.jsonl",
                remedy=f"mend the cause{mend}",
            ) from error

    def _refuse_other(self, name: str, version: str, parcel: Parcel) -> None:
        there = self._version(name, version)
        if there.manifest.to_json() != parcel.manifest.to_json():  # == takes 1, 1.0 and True as equal
            raise RegistryError(
                f"{there.reference} is here already, with the digest {there.digest[:12]}; what came has another",
                expected="a number that is free, or the same version",
                remedy=f"publish it under another name: Registry(...).publish('{name}-2', parcel)",
            )
        self._refuse_deleted(name, version)

    def _refuse_removed(self, name: str, version: str) -> None:
        if any(entry.action == "remove" and entry.details.get("version") == version for entry in self.history(name)):
            raise RegistryError(
                f"{name}@{version} was here before and was removed",
                expected="a version whose number means one thing for good",
                remedy=f"publish it under the next number: Registry(...).publish({name!r}, parcel)",
            )

    def _next(self, folder: Path, name: str, state: State) -> int:
        """A number that no version ever had; without a look at all of them where the state knows the highest."""
        number = state.newest or max(self._entries(name), default=0)
        while os.path.lexists(folder / str(number + 1)):  # copied there by hand, or its writer was killed
            number += 1
        return number + 1


def _write_signatures(folder: Path, parcel: Parcel) -> None:
    if parcel.signature is None:
        return
    path = folder / f"{parcel.manifest.version}{SIGNATURES}"
    present = [] if not path.exists() else [path.read_bytes()]
    content = merge(parcel.manifest, *present, parcel.signature)
    if present != [content]:
        replace_durably(path, content, temporaries=temporaries(folder))
