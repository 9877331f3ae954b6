"""Where an alias leads, and how it is moved: in one step, with a reason, if nothing forbids it."""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import replace

from peftrec.disk import worded_write_errors
from peftrec.errors import AdapterNotFoundError, PinnedAliasError, RegistryError, RegistryWriteError
from peftrec.registry.gate import Comparison, Gate
from peftrec.registry.journal import aims_of
from peftrec.registry.names import check_name
from peftrec.registry.reading import PRODUCTION, RegistryReader
from peftrec.registry.split import choose
from peftrec.registry.state import State, Weights, is_reason, write_state
from peftrec.registry.version import Version
from peftrec.registry.writing import turn


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
            GateRefusedError: The gate's figures are not reached.
            PinnedAliasError: The alias must not move.
            AdapterNotFoundError: There is no such version.
            RegistryError: The alias cannot be used.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        check_reason(reason)
        version = self.open(reference)
        with self._changing(version.name) as state:
            refuse_pinned(version.name, alias, state)
            self._refuse_deleted(version.name, version.version)  # while this writer waited for its turn
            before = state.aliases.get(alias)
            current = None if before is None else self._served(version.name, before)
            evidence = None if gate is None else gate.check(version, current, evaluation)
            self._point(version.name, state, alias, {version.version: 1.0}, "promote", reason, evidence=evidence)
        return version

    def rollback(self, name: str, *, alias: str = PRODUCTION, reason: str = "") -> Version:
        """Points an alias to where it led before its last move; a second call goes one further back.

        Raises:
            RegistryError: There is no earlier aim, or it is a split: :meth:`split` sets that anew.
            AdapterNotFoundError: The earlier version is deleted or gone.
            PinnedAliasError: The alias must not move.
            CorruptAdapterError: The history is damaged.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        check_reason(reason)
        with self._changing(name) as state:
            refuse_pinned(name, alias, state)
            aims = aims_of(self.history(name), alias)
            if len(aims) < 2:
                raise RegistryError(
                    f"{name}@{alias} has no earlier aim",
                    expected="an alias that was moved at least once",
                    remedy=f"promote the version you want: peftrec registry promote {name}@VERSION --alias {alias}",
                )
            weights = aims[-2]
            versions = [self._checked(name, version) for version in weights]
            self._point(name, state, alias, weights, "rollback", reason)
        return versions[0] if len(versions) == 1 else self.open(f"{name}@{alias}")

    def split(self, name: str, weights: Mapping[str, float], *, alias: str = PRODUCTION, reason: str = "") -> None:
        """Leads an alias to several versions, each shopper always to the same one: an A/B test.

        Args:
            name: Of the adapter.
            weights: Version, or another alias of it, -> its share; shares need not sum to 1.
            alias: That is split. :meth:`open` with ``user=`` follows it.
            reason: For the history.

        Raises:
            RegistryError: There are less than two versions, or a weight is not above 0.
            AdapterNotFoundError: A version is not there.
            PinnedAliasError: The alias must not move.
            RegistryWriteError: The folder cannot be written.
        """
        check_name(alias, what="alias")
        check_reason(reason)
        shares = {self.open(f"{name}@{version}").version: float(weight) for version, weight in weights.items()}
        if len(shares) < 2 or not all(0 < weight < float("inf") for weight in shares.values()):
            raise RegistryError(
                f"a split of {name}@{alias} into {dict(weights)}",
                expected="two or more different versions, each with a weight above 0",
                remedy='write it like {"3": 0.9, "4": 0.1}; promote() leads all shoppers to one version',
            )
        with self._changing(name) as state:
            refuse_pinned(name, alias, state)
            for version in shares:
                self._refuse_deleted(name, version)
            self._point(name, state, alias, shares, "split", reason)

    def remove_alias(self, name: str, alias: str, *, reason: str = "") -> None:
        """Takes an alias away; the versions stay.

        Raises:
            AdapterNotFoundError: There is no such alias.
            PinnedAliasError: It must not move.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason)
        with self._changing(name) as state:
            before = self._aim(name, alias, state)
            refuse_pinned(name, alias, state)
            aliases = {other: weights for other, weights in state.aliases.items() if other != alias}
            self._write(name, replace(state, aliases=aliases), "remove_alias", reason, alias=alias, before=dict(before))

    def pin(self, name: str, alias: str, *, reason: str) -> None:
        """Keeps an alias from moving until :meth:`unpin`, such as over a holiday.

        Raises:
            AdapterNotFoundError: There is no such alias.
            RegistryError: No reason is given: whoever meets the pin will want to know.
            RegistryWriteError: The folder cannot be written.
        """
        check_reason(reason, needed=True)
        with self._changing(name) as state:
            self._aim(name, alias, state)
            self._write(name, replace(state, pinned={**state.pinned, alias: reason}), "pin", reason, alias=alias)

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
                    remedy=f"peftrec registry show {name}",
                )
            kept = {other: why for other, why in state.pinned.items() if other != alias}
            self._write(name, replace(state, pinned=kept), "unpin", reason, alias=alias)

    @contextlib.contextmanager
    def _changing(self, name: str) -> Generator[State]:
        """The state of an adapter that exists, under its lock."""
        if not (self.root / check_name(name)).is_dir():
            raise self._unknown(name)
        with worded_write_errors(self.root, RegistryWriteError), turn(self.root / name):
            yield self.state(name)

    def _write(self, name: str, state: State, action: str, reason: str, **details: object) -> State:
        return write_state(self.root / name, state, action, reason=reason or None, **details)

    def _point(
        self, name: str, state: State, alias: str, weights: Weights, action: str, reason: str, **details: object
    ) -> State:
        before = state.aliases.get(alias)
        after = replace(state, aliases={**state.aliases, alias: weights})
        told = {"alias": alias, "before": None if before is None else dict(before), "after": dict(weights)}
        return self._write(name, after, action, reason, **told, **details)

    def _served(self, name: str, weights: Weights) -> Version | None:
        """Where an alias leads; None where that is gone, so that nothing keeps a better one from being promoted."""
        try:
            return self._checked(name, choose(weights, None, salt=""))
        except RegistryError:
            return None

    def _aim(self, name: str, alias: str, state: State) -> Weights:
        if alias not in state.aliases:
            raise AdapterNotFoundError(
                f"{name} has no alias {alias[:80]!r}",
                expected=f"one of {', '.join(sorted(state.aliases)) or 'none: it has no aliases'}",
                remedy=f"peftrec registry show {name}",
            )
        return state.aliases[alias]


def refuse_pinned(name: str, alias: str, state: State) -> None:
    """Raises where an alias must not move."""
    if alias in state.pinned:
        raise PinnedAliasError(
            f"{name}@{alias} is pinned: {state.pinned[alias]}",
            expected="an alias that may move",
            remedy=f"unpin it when its reason is gone: peftrec registry unpin {name} {alias}",
        )


def check_reason(reason: str, *, needed: bool = False) -> None:
    """Raises where a reason is none, or more than a state can hold."""
    if not is_reason(reason) or (needed and not reason.strip()):
        raise RegistryError(
            f"a reason of {len(reason)} characters",
            expected="some words, at most 2,000 characters",
            remedy="say in a sentence why",
        )
