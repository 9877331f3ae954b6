"""The registry on disk: ``<root>/<name>/<version>/``, versions that never change, aliases that do."""

import contextlib
import os
import tempfile
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path

from peftrec.disk import replace_durably, worded_write_errors
from peftrec.errors import AdapterNotFoundError, RegistryError, RegistryWriteError
from peftrec.registry.aliasing import AliasRegistry, check_reason, refuse_pinned
from peftrec.registry.archive import Parcel
from peftrec.registry.collecting import Collected, collect
from peftrec.registry.files import listed
from peftrec.registry.journal import now
from peftrec.registry.keys import key_id, load_private_key
from peftrec.registry.names import LAST_NUMBER, check_name, is_number, parse_reference
from peftrec.registry.publishing import Publishable, draft, finished
from peftrec.registry.reading import RegistryReader
from peftrec.registry.signing import add_signature, check_signed, merge
from peftrec.registry.state import State
from peftrec.registry.version import Version
from peftrec.registry.writing import AFTER, SIGNATURES, temporaries, turn, write_version

LONGEST_GRACE = timedelta(days=3653)
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
        if self.trusted and alias is not None:
            raise RegistryError(
                f"{name}@{alias} would lead to a version that nobody signed",
                expected="an alias that moves once the version is signed: this registry opens no other",
                remedy="publish it without an alias, sign it, then promote it",
            )
        parent = None if parent is None else self.open(parent).reference
        first, files = draft(name, parent, adapter)
        with self._adding(name, parent) as folder:
            if parent is not None:
                self.open(parent)  # it may have been deleted meanwhile
            state = self._caught_up(name)
            if alias is not None:
                refuse_pinned(name, alias, state)
            version = self._next(name, state)
            manifest, files = finished(first, version, files)
            write_version(folder, version, files, manifest.to_json().encode())
            self._tell(name, state, "publish", version, alias, reason)
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
        with self._adding(name, parcel.manifest.parent) as folder:
            state = self._caught_up(name)
            if alias is not None:
                refuse_pinned(name, alias, state)
            there = os.path.lexists(folder / version)
            if there:
                self._refuse_other(name, version, parcel, state)
            elif state.was_removed(version) or version in state.deleted:
                raise RegistryError(
                    f"{name}@{version} was here before and was removed",
                    expected="a version whose number means one thing for good",
                    remedy=f"publish it under the next number: Registry(...).publish({name!r}, parcel)",
                )
            else:
                write_version(folder, version, parcel.content, parcel.manifest.to_json().encode())
            _write_signatures(folder, parcel)
            if alias is not None or not there or int(version) > state.newest:  # the last: its first writer was killed
                self._tell(name, state, "install", version, alias, reason)
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
        version = RegistryReader(self.root).open(reference)  # what is to be signed need not be trusted yet
        with self._changing(version.name) as state:
            self._refuse_deleted(version.name, version.version, state)
            add_signature(self._version(version.name, version.version), secret)
            self._write(version.name, state, "sign", "", version=version.version, key=key_id(secret.public_key()))
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
        name, number = self._named(reference)
        with self._changing(name) as state:
            self._refuse_deleted(name, number, state)
            self._version(name, number)
            before = state.tags.get(number, ())
            after = sorted({*before} - {*tags} if remove else {*before, *tags})
            self._write(name, state, "tag", reason, version=number, before=list(before), after=after)

    def delete(self, reference: str, *, grace: timedelta = GRACE, reason: str = "") -> None:
        """Takes a version out of sight; :meth:`gc` removes it when the grace is over, :meth:`restore` brings it back until then.

        A damaged version can be deleted, too.

        Args:
            reference: In any form that :meth:`open` takes.
            grace: From now, or from the adapter's last change if this clock stands before that; at most ten years.
            reason: For the history.

        Raises:
            RegistryError: An alias leads to it, or the grace is none.
            AdapterNotFoundError: There is no such version.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason)
        if not timedelta(0) <= grace <= LONGEST_GRACE:
            raise RegistryError(
                f"a grace of {grace}", expected=f"0 to {LONGEST_GRACE.days:,} days", remedy="leave it out for a week"
            )
        name, number = self._named(reference)
        with self._changing(name) as state:
            self._refuse_deleted(name, number, state)
            if number not in self.numbers(name, complete=False):
                raise self._no_version(reference, name, number, number, state)
            if users := state.users_of(number):
                raise RegistryError(
                    f"{name}@{number} is what the alias {', '.join(users)} leads to",
                    expected="a version that no alias leads to",
                    remedy="promote another version first, or take the alias away: peftrec registry remove-alias",
                )
            begin = max(now(), datetime.fromisoformat(state.moment)) if state.moment else now()
            until = (begin + grace).isoformat(timespec="milliseconds")
            self._write(name, state, "delete", reason, version=number, until=until)

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
            if number not in state.deleted or number not in self.numbers(name, complete=False):
                there = [one for one in state.deleted if one in self.numbers(name, complete=False)]
                raise AdapterNotFoundError(
                    f"{reference[:120]!r} is not among the deleted versions",
                    expected=f"one of {', '.join(f'{name}@{one}' for one in there) or 'none: nothing is deleted'}",
                    remedy=f"peftrec registry versions {name}",
                )
            self._write(name, state, "restore", reason, version=number)
        return self._version(name, number)

    def gc(self, *, dry_run: bool = False) -> Collected:
        """Removes deleted versions whose grace is over and what killed writers left behind.

        A version stays that an alias leads to or that another descends from; all stay that a version whose manifest cannot be
        read might descend from, and those of an adapter that was changed later than this clock says it is: graces are
        told by clocks.

        Args:
            dry_run: Only tell; nothing is written, and no lock is taken.

        Raises:
            RegistryWriteError: A folder cannot be written.
        """
        return collect(self, dry_run=dry_run)

    @contextlib.contextmanager
    def _adding(self, name: str, parent: str | None) -> Generator[Path]:
        """The folder of an adapter that may be new, under its lock and that of the parent's, which is to stay meanwhile."""
        listed(self.root)  # raises where the root is a file
        folder = self.root / name
        with worded_write_errors(self.root, RegistryWriteError, after=AFTER):
            folder.mkdir(parents=True, exist_ok=True)
            of_parent = folder if parent is None else self.root / parent.partition("@")[0]
            with turn(folder, *([of_parent] if of_parent.is_dir() else [])):
                yield folder

    def _tell(self, name: str, state: State, action: str, version: str, alias: str | None, reason: str) -> None:
        """Records a version that is there now."""
        try:
            self._write(name, state, action, reason, version=version, alias=alias)
        except OSError as error:
            missed = f"its alias {alias!r} could not be set" if alias else "the history could not be written"
            mend = f", then Registry(...).promote('{name}@{version}', alias={alias!r})" if alias else ""
            raise RegistryWriteError(
                f"{name}@{version} is there, but {missed}: {error.strerror or error}",
                expected="to write aliases.json and history.jsonl",
                remedy=f"mend the cause{mend}",
            ) from error

    def _named(self, reference: str) -> tuple[str, str]:
        """Name and number, of a version that may be damaged."""
        name, wanted = parse_reference(reference)
        if wanted is not None and is_number(wanted):
            return check_name(name), wanted
        version = RegistryReader(self.root).open(reference)
        return version.name, version.version

    def _refuse_other(self, name: str, version: str, parcel: Parcel, state: State) -> None:
        there = self._version(name, version)
        if there.manifest.to_json() != parcel.manifest.to_json():  # == takes 1, 1.0 and True as equal
            raise RegistryError(
                f"{there.reference} is here already, with the digest {there.digest[:12]}; what came has another",
                expected="a number that is free, or the same version",
                remedy=f"publish it under another name: Registry(...).publish('{name}-2', parcel)",
            )
        self._refuse_deleted(name, version, state)

    def _next(self, name: str, state: State) -> str:
        """A number that no version ever had; without a look at all of them where the state knows the highest."""
        number = state.newest
        while os.path.lexists(self.root / name / str(number + 1)):  # copied there by hand
            number += 1
        if number >= LAST_NUMBER:
            raise RegistryError(
                f"{name}@{number} is there",
                expected=f"versions up to {LAST_NUMBER - 1:,}, so that there is a next one",
                remedy="publish under another name",
            )
        return str(number + 1)


def _write_signatures(folder: Path, parcel: Parcel) -> None:
    if parcel.signature is None:
        return
    path = folder / f"{parcel.manifest.version}{SIGNATURES}"
    present = [path.read_bytes()] if path.exists() else list[bytes]()
    content = merge(parcel.manifest, *present, parcel.signature)
    if present != [content]:
        replace_durably(path, content, temporaries=temporaries(folder))
