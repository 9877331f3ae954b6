"""Where an alias leads, and how it is moved: in one step, with a reason, if nothing forbids it."""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import replace

from peftrec.disk import worded_write_errors
from peftrec.errors import AdapterNotFoundError, GateRefusedError, PinnedAliasError, RegistryError, RegistryWriteError
from peftrec.registry.gate import Comparison, Gate
from peftrec.registry.names import check_name
from peftrec.registry.reading import PRODUCTION, RegistryReader
from peftrec.registry.split import choose
from peftrec.registry.state import State, is_reason, repaired, write_state
from peftrec.registry.version import Version
from peftrec.registry.writing import AFTER, turn

LEAST_SHARE = 1e-6


class AliasRegistry(RegistryReader):
    """Adapters in a plain folder, whose aliases can be moved; versions come and go in :class:`peftrec.registry.Registry`."""

    def promote(
        self,
        reference: str,
        *,
        alias: str = PRODUCTION,
        gate: Gate | None = None,
        evaluation: Comparison | None = None,
        reason: str = "",
    ) -> Version:
        """Points an alias to a version, if the gate lets it.

        Args:
            reference: The version, in any form that :meth:`open` takes.
            alias: That moves.
            gate: What the version must show; nothing if not given.
            evaluation: The version beside the one that the alias leads to, for the gate; systems are named by their references,
                such as ``grocery@3``. :func:`peftrec.evaluate` makes it.
            reason: For the history.

        Raises:
            GateRefusedError: The gate's figures are not reached, or there is nothing to compare with.
            PinnedAliasError: The alias must not move.
            AdapterNotFoundError: There is no such version.
            CorruptAdapterError, UntrustedAdapterError: See :meth:`open`.
            RegistryError: The alias cannot be used.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        check_reason(reason)
        version = self.open(reference)
        with self._changing(version.name) as state:
            refuse_pinned(version.name, alias, state)
            version = self._checked(
                version.name, version.version, state
            )  # while it waited for its turn, it may have gone
            evidence = None
            if gate is not None:
                evidence = gate.check(version, self._served(version, alias, state, gate), evaluation)
            told = {"after": version.version, "evidence": evidence}
            self._write(version.name, state, "promote", reason, alias=alias, before=_told(state, alias), **told)
        return version

    def rollback(self, name: str, *, alias: str = PRODUCTION, reason: str = "") -> Version:
        """Points an alias to where it led before its last move; a second call goes one further back.

        Returns:
            The version that it leads to now; of a split that of the largest share.

        Raises:
            RegistryError: There is no earlier aim.
            AdapterNotFoundError: The earlier version is deleted or gone.
            PinnedAliasError: The alias must not move.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        check_reason(reason)
        with self._changing(name) as state:
            refuse_pinned(name, alias, state)
            aims = state.aims.get(alias)
            if not aims:
                raise RegistryError(
                    f"{name}@{alias} has no earlier aim",
                    expected="an alias that was moved at least once",
                    remedy=f"promote the version you want: peftrec registry promote {name}@VERSION --alias {alias}",
                )
            versions = {version: self._checked(name, version, state) for version in aims[-1]}
            after = dict(aims[-1])
            self._write(name, state, "rollback", reason, alias=alias, before=_told(state, alias), after=after)
        return versions[choose(aims[-1], None, salt="")]

    def split(self, name: str, weights: Mapping[str, float], *, alias: str = PRODUCTION, reason: str = "") -> None:
        """Leads an alias to several versions, each shopper always to the same one: an A/B test.

        Args:
            name: Of the adapter.
            weights: Version, or another alias of it, -> its share; shares need not sum to 1.
            alias: That is split. :meth:`open` with ``user=`` follows it.
            reason: For the history.

        Raises:
            RegistryError: There are less than two versions, one is named twice, or a share is below a millionth.
            AdapterNotFoundError: A version is not there.
            PinnedAliasError: The alias must not move.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        check_reason(reason)
        shares = _shares(name, alias, {self.open(f"{name}@{at}").version: at for at in weights}, weights)
        with self._changing(name) as state:
            refuse_pinned(name, alias, state)
            for version in shares:
                self._checked(name, version, state)
            self._write(name, state, "split", reason, alias=alias, before=_told(state, alias), after=shares)

    def remove_alias(self, name: str, alias: str, *, reason: str = "") -> None:
        """Takes an alias away; the versions stay.

        Raises:
            AdapterNotFoundError: There is no such alias.
            PinnedAliasError: It must not move.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason)
        with self._changing(name) as state:
            refuse_unknown(name, alias, state)
            refuse_pinned(name, alias, state)
            self._write(name, state, "remove_alias", reason, alias=alias, before=_told(state, alias))

    def pin(self, name: str, alias: str, *, reason: str) -> None:
        """Keeps an alias from moving until :meth:`unpin`, such as over a holiday.

        Raises:
            AdapterNotFoundError: There is no such alias.
            RegistryError: No reason is given: whoever meets the pin will want to know.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason, needed=True)
        with self._changing(name) as state:
            refuse_unknown(name, alias, state)
            self._write(name, state, "pin", reason, alias=alias)

    def unpin(self, name: str, alias: str, *, reason: str = "") -> None:
        """Lets a pinned alias move again.

        Raises:
            RegistryError: It is not pinned.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason)
        with self._changing(name) as state:
            if alias not in state.pinned:
                raise RegistryError(
                    f"{name}@{alias} is not pinned",
                    expected=f"one of {', '.join(sorted(state.pinned)) or 'none: no alias is pinned'}",
                    remedy=f"peftrec registry versions {name}",
                )
            self._write(name, state, "unpin", reason, alias=alias)

    def repair(self, name: str) -> State:
        """Makes ``aliases.json`` anew of a whole history, where it was lost, changed by hand or restored from an old copy.

        Raises:
            AdapterNotFoundError: There is no such adapter.
            CorruptAdapterError: The history is not whole.
            RegistryWriteError: The folder cannot be written.
        """
        with self._locked(name):
            return repaired(self.root / name)

    @contextlib.contextmanager
    def _changing(self, name: str) -> Generator[State]:
        """The state of an adapter that exists, under its lock, with the versions that killed writers did not tell of."""
        with self._locked(name):
            yield self._caught_up(name)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Generator[None]:
        if not (self.root / check_name(name)).is_dir():
            raise self._unknown(name)
        with worded_write_errors(self.root, RegistryWriteError, after=AFTER), turn(self.root / name):
            yield

    def _caught_up(self, name: str) -> State:
        """The state, after versions that were finished by writers who were killed before they told of them are told of."""
        state = self.state(name)
        if not state.step:  # a registry of before, or none
            state = replace(state, newest=max(self._numbers(name), default=0))
        while state.step and self._is_version(name, number := str(state.newest + 1)):
            state = self._write(name, state, "found", "its writer was killed before it told of it", version=number)
        return state

    def _write(self, name: str, state: State, action: str, reason: str, **details: object) -> State:
        return write_state(self.root / name, state, action, reason=reason or None, **details)

    def _served(self, version: Version, alias: str, state: State, gate: Gate) -> Version | None:
        """Where an alias leads; None where it leads nowhere, or where nobody asks."""
        weights = state.aliases.get(alias)
        if weights is None:
            return None
        try:
            return self._checked(version.name, choose(weights, None, salt=""), state)
        except RegistryError as error:
            if gate.least_gain is None:
                return None
            raise GateRefusedError(
                f"{version.reference} is not promoted: what {version.name}@{alias} leads to cannot be opened, so nothing can be "
                f"better than it: {error.found}",
                expected="a version that can be compared",
                remedy="restore that version from a copy, or promote without asking for a gain: Gate(least_gain=None, …)",
            ) from error


def refuse_unknown(name: str, alias: str, state: State) -> None:
    """Raises where there is no such alias."""
    if alias not in state.aliases:
        raise AdapterNotFoundError(
            f"{name} has no alias {alias[:80]!r}",
            expected=f"one of {', '.join(sorted(state.aliases)) or 'none: it has no aliases'}",
            remedy=f"peftrec registry versions {name}",
        )


def refuse_pinned(name: str, alias: str, state: State) -> None:
    """Raises where an alias must not move."""
    if alias in state.pinned:
        raise PinnedAliasError(
            f"{name}@{alias} is pinned: {state.pinned[alias]}",
            expected="an alias that may move",
            remedy=f"unpin it when its reason is gone: peftrec registry unpin {name} {alias}",
        )


def check_reason(reason: object, *, needed: bool = False) -> None:
    """Raises where a reason is none, or more than a state can hold."""
    if not is_reason(reason) or (needed and not str(reason).strip()):
        raise RegistryError(
            f"the reason {str(reason)[:80]!r}",
            expected="some words, at most 2,000 characters",
            remedy="say in a sentence why",
        )


def _told(state: State, alias: str) -> dict[str, float] | None:
    """Where an alias leads, for the history."""
    weights = state.aliases.get(alias)
    return None if weights is None else dict(weights)


def _shares(name: str, alias: str, versions: Mapping[str, str], weights: Mapping[str, object]) -> dict[str, float]:
    """Version -> share; shares sum to 1."""
    good = all(
        isinstance(w, int | float) and not isinstance(w, bool) and 0 < w < float("inf") for w in weights.values()
    )
    found: dict[str, float] = {}
    if good and len(versions) == len(weights) > 1:
        total = sum(float(str(weights[at])) for at in versions.values())
        found = {version: float(str(weights[at])) / total for version, at in versions.items()}
    if not found or not min(found.values()) >= LEAST_SHARE:
        raise RegistryError(
            f"a split of {name}@{alias} into {dict(weights)}",
            expected=f"two or more different versions, each with a share of at least {LEAST_SHARE:g}",
            remedy='write it like {"3": 0.9, "4": 0.1}; promote() leads all shoppers to one version',
        )
    return found
