"""Older forms of the manifest. A version never changes, so what was written in one of them must stay readable for good.

A form that is replaced gets one entry in :data:`OLD_SCHEMAS`: what it looked like, the way to the next form and the way back.
The way back matters as much: seals and signatures are over the text as it was published.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class OldSchema:
    """A form of the manifest that is no longer written.

    Attributes:
        fields: Names of all its fields but the seal.
        cards: Files that a version may hold beside the adapter's own.
        upgrade: Its values as those of the next schema; ``schema_version`` stays what it was.
        downgrade: The way back, from values of the next schema.
    """

    fields: frozenset[str]
    cards: frozenset[str]
    upgrade: Callable[[Values], Values]
    downgrade: Callable[[Values], Values]


def upgraded(values: Mapping[str, Any], schema: int) -> Values:
    """Values of an older schema as the present one has them."""
    found = dict(values)
    while schema in OLD_SCHEMAS:
        found = OLD_SCHEMAS[schema].upgrade(found)
        schema += 1
    return found


def downgraded(values: Mapping[str, Any], schema: int) -> Values:
    """Values of the present schema as an older one had them.

    Raises:
        ValueError: They hold what the older one has no field for.
    """
    found = dict(values)
    for number in sorted((number for number in OLD_SCHEMAS if number >= schema), reverse=True):
        found = OLD_SCHEMAS[number].downgrade(found)
    return found


def _from_1(values: Values) -> Values:
    return {**values, "learning_curve": [], "reliability": [], "latency": None}


def _to_1(values: Values) -> Values:
    added = _from_1({})
    if told := [name for name, nothing in added.items() if values[name] != nothing]:
        raise ValueError(f"schema 1 has no field for {', '.join(told)}")
    return {name: value for name, value in values.items() if name not in added}


OLD_SCHEMAS: dict[int, OldSchema] = {
    1: OldSchema(
        fields=frozenset(
            {
                *("schema_version", "name", "version", "parent", "created"),
                *("method", "base_model", "decoder_layers", "ranks", "fingerprints", "files", "tensors"),
                *("data", "metrics", "protocol", "seed", "privacy", "versions"),
            }
        ),
        cards=frozenset({"card.md"}),
        upgrade=_from_1,
        downgrade=_to_1,
    )
}
