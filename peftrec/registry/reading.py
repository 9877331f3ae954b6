"""What can be asked of a registry without changing it. Readers take no lock and never see half a version."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, PeftrecError, RegistryError
from peftrec.registry.folder import RegistryFolder
from peftrec.registry.journal import Entry
from peftrec.registry.keys import load_public_key
from peftrec.registry.names import check_name, is_digest_reference, is_number, parse_reference
from peftrec.registry.search import Condition, matches
from peftrec.registry.signing import check_signed, read_signatures
from peftrec.registry.split import choose
from peftrec.registry.state import State, read_history, read_state
from peftrec.registry.verifying import problems
from peftrec.registry.version import Version

PRODUCTION = "production"
_TURNS = 8  # looks at an alias that moves
Found = TypeVar("Found")


@dataclass(frozen=True)
class Ancestor:
    """One step of a lineage.

    Attributes:
        reference: ``name@version``.
        version: It, or None where it is no longer there.
        note: Why it is not, in words; else empty.
    """

    reference: str
    version: Version | None
    note: str


class RegistryReader(RegistryFolder):
    """Adapters in a plain folder, for reading.

    Args:
        root: The folder. It need not exist.
        trusted_keys: PEM files of public keys. Where there are any, a version is opened only if one of them signed it.

    Raises:
        RegistryError: A key cannot be read.
        MissingExtraError: There are keys, and the package cryptography is not installed.
    """

    def __init__(
        self, root: str | os.PathLike[str] = "adapters", *, trusted_keys: Sequence[str | os.PathLike[str]] = ()
    ) -> None:
        super().__init__(root)
        self.trusted = [load_public_key(Path(key)) for key in trusted_keys]

    def versions(self, name: str) -> list[Version]:
        """All versions of an adapter, oldest first, those deleted left out; of each, the manifest is read and nothing else.

        Raises:
            AdapterNotFoundError: There is no such adapter, or all its versions are deleted.
            CorruptAdapterError: A manifest or the aliases cannot be read.
        """
        numbers, found = self.numbers(name), list[Version]()
        if not numbers:
            raise self._unknown(name)
        deleted = self.state(name).deleted
        for number in numbers:
            try:
                if number not in deleted:
                    found.append(self._version(name, number))
            except (AdapterNotFoundError, CorruptAdapterError):
                if self._is_version(name, number):
                    raise  # else it was removed meanwhile
        if not found:
            raise self._unknown(name)
        return found

    def newest(self, name: str) -> Version:
        """The version with the highest number that is not deleted, whatever state the older ones are in.

        Raises:
            AdapterNotFoundError: There is no such adapter, or all its versions are deleted.
            CorruptAdapterError: Its manifest or the aliases cannot be read.
        """
        check_name(name)
        return self._version(name, self._newest(name, self.state(name)))

    def state(self, name: str) -> State:
        """Aliases, pins, tags and deletions of an adapter; an empty state where there is none.

        Raises:
            RegistryError: The name could be no adapter's.
            CorruptAdapterError: ``aliases.json`` is malformed.
        """
        return read_state(self.root / check_name(name))

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version; of a split alias the one of the largest share, see :meth:`splits`.

        Raises:
            CorruptAdapterError: ``aliases.json`` is malformed.
        """
        return {alias: choose(weights, None, salt="") for alias, weights in self.state(name).aliases.items()}

    def splits(self, name: str) -> dict[str, dict[str, float]]:
        """Alias -> version -> share, of the aliases that lead to several versions; shares sum to 1.

        Raises:
            CorruptAdapterError: ``aliases.json`` is malformed.
        """
        return {
            alias: {version: weight / sum(weights.values()) for version, weight in weights.items()}
            for alias, weights in self.state(name).aliases.items()
            if len(weights) > 1
        }

    def history(self, name: str, *, last: int | None = None) -> list[Entry]:
        """Every change of an adapter since its first, oldest first; or the ``last`` ones, which costs no look at the others.

        Raises:
            AdapterNotFoundError: There is no such adapter.
            CorruptAdapterError: The journal is damaged.
        """
        if not os.path.isdir(self.root / check_name(name)):
            raise self._unknown(name)
        if last is not None and last < 1:
            raise RegistryError(f"last={last}", expected="1 or more", remedy="leave it out for all changes")
        return read_history(self.root / name, last=last)

    def open(self, reference: str, *, user: str | None = None) -> Version:
        """Finds a version.

        Args:
            reference: ``name@version``, ``name@alias``, ``name@sha256:…`` with at least eight digits of the manifest's
                digest, or ``name`` for its production alias, else its newest version.
            user: The shopper it is for. An alias that is split gives each shopper one version, always the same; without
                a shopper that of the largest share.

        Raises:
            AdapterNotFoundError: There is none, or it is deleted; names the nearest.
            UntrustedAdapterError: No trusted key signed it.
            CorruptAdapterError: Its manifest cannot be read, or a file is missing, surplus or a link. What the files hold is
                checked when they are read.
            RegistryError: The registry is no folder.
        """
        return self._followed(reference, user, self._checked)

    def resolve(self, reference: str, *, user: str | None = None) -> str:
        """The version that a reference means now, as ``name@version``, without a look at what it holds.

        It costs the reading of ``aliases.json``, and of the folder's names where no alias says which version is meant; it is
        for those who hold versions in memory that they opened before.
        Arguments are those of :meth:`open`.

        Raises:
            AdapterNotFoundError, RegistryError: As :meth:`open`.
            CorruptAdapterError: ``aliases.json`` is malformed; or a digest is asked for, and a manifest cannot be read.
        """

        def named(name: str, version: str, state: State) -> str:
            self._refuse_deleted(name, version, state)
            if not self._is_version(name, version):
                self._version(name, version)  # raises, and says why
            return f"{name}@{version}"

        return self._followed(reference, user, named)

    def _followed(self, reference: str, user: str | None, found: Callable[[str, str, State], Found]) -> Found:
        """What is found of the version that a reference means, an alias that moves meanwhile looked at again."""
        name, wanted = parse_reference(reference)
        if user is not None and not isinstance(cast(object, user), str):
            raise RegistryError(f"user={user!r}", expected="an id as text", remedy=f"write user={str(user)!r}")
        if not os.path.isdir(self.root / name):
            raise self._unknown(name)
        if wanted is not None and is_digest_reference(wanted):
            return found(name, self._by_digest(name, wanted), State())
        state = self._state_for(name, wanted)
        for _turn in range(_TURNS):
            version = self._resolved(name, wanted, user, state)
            try:
                if version is None or not os.path.isdir(self.root / name / version):
                    raise self._no_version(reference, name, wanted, version, state)
                return found(name, version, state)
            except RegistryError:
                before, state = state, self._state_for(name, wanted)
                if state.step == before.step:
                    raise  # else an alias moved away from a version that went then
        raise AdapterNotFoundError(
            f"{reference!r} moved {_TURNS} times while it was opened",
            expected="an alias that stays for a moment",
            remedy="open it again, or name a version",
        )

    def opened(self, name: str, version: str) -> Version:
        """A version that was found before, be it deleted since: who began with it may go on.

        Raises:
            AdapterNotFoundError: It was removed.
            CorruptAdapterError, UntrustedAdapterError: See :meth:`open`.
        """
        return self._checked(check_name(name), version, State())

    def lineage(self, reference: str) -> list[Ancestor]:
        """A version, the version that its training continued from, and so on.

        Raises:
            AdapterNotFoundError: There is no such version. A parent that is gone ends the list with a note instead.
        """
        version = self.open(reference)
        found = [Ancestor(version.reference, version, "")]
        while (parent := found[-1].version and found[-1].version.manifest.parent) is not None:
            if any(parent == known.reference for known in found):
                return [*found, Ancestor(parent, None, "it descends from itself")]
            try:
                name, _, number = parent.partition("@")
                found.append(Ancestor(parent, self._version(name, number), ""))
            except PeftrecError as error:
                found.append(Ancestor(parent, None, error.found))
        return found

    def find(self, *conditions: str, names: Sequence[str] | None = None) -> list[Version]:
        """Versions whose manifests meet all conditions.

        Args:
            conditions: Such as ``"method=lora"``, ``"data.licence~CC"``, ``"metrics.ndcg@10>0.4"``, ``"tag=reviewed"`` or
                ``"alias=production"``; see :class:`peftrec.registry.search.Condition`.
            names: Look at these adapters alone.

        Raises:
            RegistryError: A condition cannot be read; says what one looks like.
            AdapterNotFoundError: There is no adapter of a given name.
            CorruptAdapterError: A manifest cannot be read: it might meet them, so nothing is said; ``names`` leaves it out.
        """
        wanted = [Condition.parse(text) for text in conditions]
        found = list[Version]()
        for name in self.names() if names is None else names:
            numbers = self.numbers(name)
            if not numbers:
                raise self._unknown(name)
            state = self.state(name)
            for number in numbers:
                if number in state.deleted:
                    continue
                try:
                    version = self._version(name, number)
                except (AdapterNotFoundError, CorruptAdapterError):
                    if self._is_version(name, number):
                        raise  # else it was removed meanwhile
                    continue
                told = {"tag": state.tags.get(number, ()), "alias": state.users_of(number)}
                if all(matches(version.manifest, condition, told) for condition in wanted):
                    found.append(version)
        return found

    def verify(self, name: str | None = None, *, require_signed: bool | None = None) -> list[str]:
        """Reads every file again and says in words what is wrong; empty when all is well.

        Args:
            name: One adapter; all when left out.
            require_signed: Whether a version without the signature of a trusted key is a problem; it is by default where
                there are trusted keys. Signatures that are there are checked in any case.

        Raises:
            AdapterNotFoundError: There is no adapter of that name.
        """
        if name is not None and not os.path.isdir(self.root / check_name(name)):
            raise self._unknown(name)
        required = bool(self.trusted) if require_signed is None else require_signed
        names = self._folders() if name is None else [name]
        return [problem for each in names for problem in problems(self, each, required=required)]

    def _state_for(self, name: str, wanted: str | None) -> State:
        """The state; an empty one where it cannot be read and a number is wanted, which no alias decides."""
        try:
            return self.state(name)
        except CorruptAdapterError:
            if wanted is None or not is_number(wanted):
                raise
            return State()

    def _resolved(self, name: str, wanted: str | None, user: str | None, state: State) -> str | None:
        """The number that a reference means, of a version that may not be there."""
        if wanted is not None and is_number(wanted):
            return wanted
        weights = state.aliases.get(wanted or PRODUCTION)
        if weights is not None:
            return choose(weights, user, salt=f"{name}@{wanted or PRODUCTION}")
        return None if wanted is not None else self._newest(name, state)

    def _newest(self, name: str, state: State) -> str:
        for number in sorted(self._entries(name), reverse=True):
            if str(number) not in state.deleted and self._is_version(name, str(number)):
                return str(number)
        raise self._unknown(name)

    def _by_digest(self, name: str, wanted: str) -> str:
        start = wanted.partition(":")[2]
        found = [version for version in self.versions(name) if version.digest.startswith(start)]
        if len(found) != 1:
            raise AdapterNotFoundError(
                f"{name}@{wanted}: {len(found) or 'no'} versions have this digest",
                expected="the beginning of one manifest's sha256",
                remedy=f"peftrec registry show {name} --json",
            )
        return found[0].version

    def _no_version(
        self, reference: str, name: str, wanted: str | None, version: str | None, state: State
    ) -> AdapterNotFoundError:
        numbers, aliases = self.numbers(name), sorted(state.aliases)
        if not numbers:
            return self._unknown(name)
        shown = numbers[-20:]
        what = f"{reference!r}: {name} has no version or alias {wanted or version!r}"
        if version is not None and state.was_removed(version):
            what = f"{reference!r}: version {version} of {name} was removed"
        elif version not in (None, wanted):
            what = f"{reference!r} leads to version {version}, which is not there"
        return AdapterNotFoundError(
            what,
            expected=f"a version out of {'… ' if len(numbers) > len(shown) else ''}{', '.join(shown)}"
            + (f", or an alias out of {', '.join(aliases)}" if aliases else ""),
            remedy=f"peftrec registry versions {name}",
        )

    def _checked(self, name: str, version: str, state: State) -> Version:
        """A version that is there, not deleted, whole as far as names tell, and trusted."""
        self._refuse_deleted(name, version, state)
        found = self._version(name, version)
        found.check_folder()
        if self.trusted:
            check_signed(found.manifest, read_signatures(found), self.trusted)
        return found

    def _refuse_deleted(self, name: str, version: str, state: State) -> None:
        if version in state.deleted:
            raise AdapterNotFoundError(
                f"{name}@{version} is deleted; it may be removed from {state.deleted[version]} on",
                expected="a version that is not",
                remedy=f"bring it back: peftrec registry restore {name}@{version}",
            )
