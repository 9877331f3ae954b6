"""Strict checks of what a manifest holds. Every refusal is a ``CorruptAdapterError`` that names the field."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

from peftrec.errors import CorruptAdapterError
from peftrec.registry.names import is_name, is_number

_DIGEST = re.compile(r"[0-9a-f]{64}")
SEAL = "sha256"
CLEANING = "cleaning"
"""Field of ``data`` that holds the cleaning report of the whole data set."""

REPORT_KEYS = {"name", "rows_in", "rows_kept", "rows_dropped", "products", "rules", "switched_off"}
RULE_KEYS = {"rule", "action", "rows", "share", "example"}
METRIC_KEYS = {"metric", "slice", "value", "low", "high"}
BIN_KEYS = {"predicted", "observed", "count"}


def corrupt(where: str, what: str) -> CorruptAdapterError:
    """The error for a manifest that is not as peftrec writes it."""
    return CorruptAdapterError(
        f"{where}: {what}",
        expected="a manifest as peftrec writes it, see adapters/README.md",
        remedy="restore the version from a copy, or publish it again under the next number",
    )


def seal(values: Mapping[str, object]) -> str:
    """Sha256 over the canonical JSON of all fields but the seal itself.

    Canonical: keys sorted, no spaces, ASCII, numbers as Python prints them.

    Raises:
        ValueError: A value is not finite.
        TypeError: A value is none of JSON's.
    """
    content = {name: value for name, value in values.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: str | bytes, where: str) -> dict[str, Any]:
    """Reads one JSON object in UTF-8 and refuses keys that are there twice.

    Raises:
        CorruptAdapterError: It is anything else.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        content: object = json.loads(decoded, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise corrupt(where, f"is not JSON: {error}") from error
    return as_object(content, where, "the manifest")


def check_seal(values: Mapping[str, object], where: str) -> None:
    """Compares the seal with the content.

    Raises:
        CorruptAdapterError: The content was changed after it was published, or there is no seal.
    """
    try:
        digest = seal(values)
    except (ValueError, RecursionError) as error:
        raise corrupt(where, f"holds a value that JSON has not: {error}") from error
    if values.get(SEAL) != digest:
        raise corrupt(where, f"was changed: field '{SEAL}' is not the digest of the other fields")


def as_object(value: object, where: str, what: str) -> dict[str, Any]:
    """Returns a JSON object, or raises."""
    if not isinstance(value, dict):
        raise corrupt(where, f"{what} is no object")
    return cast(dict[str, Any], value)


def same_keys(values: Mapping[str, object], names: set[str], where: str, what: str) -> None:
    """Raises when a key is missing or unknown, and names all of them."""
    if set(values) != names:
        missing, unknown = names - set(values), set(values) - names
        parts = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        parts += [f"has the unknown {', '.join(map(repr, sorted(unknown)))}"] if unknown else []
        raise corrupt(where, f"{what} {' and '.join(parts)}")


def is_digest(value: object) -> bool:
    """Whether it is a sha256 in lower-case hexadecimal."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def is_whole(value: object, *, least: int) -> bool:
    """Whether it is a whole number, not a boolean, of at least ``least``."""
    return type(value) is int and value >= least


def is_finite(value: object) -> bool:
    """Whether it is a number that a float can hold."""
    try:
        return type(value) in (int, float) and math.isfinite(cast(float, value))
    except OverflowError:
        return False


def check_values(values: Mapping[str, Any], where: str) -> None:
    """Checks every plain field; files, tensors and fingerprints are checked where they are read.

    Raises:
        CorruptAdapterError: Names the first field that is wrong and shows what it holds.
    """
    for name, (good, expected) in _RULES.items():
        if not good(values[name]):
            raise corrupt(where, f"field '{name}' holds {str(values[name])[:80]!r}, expected {expected}")


def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """For ``json.loads``: an object whose keys are there once.

    Raises:
        ValueError: A key is there twice.
    """
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is there twice")
    return values


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_moment(value: object) -> bool:
    """Whether it is a moment in ISO 8601 with its zone."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_parent(value: object) -> bool:
    if value is None:
        return True
    name, _, version = value.partition("@") if isinstance(value, str) else ("", "", "")
    return is_name(name) and is_number(version)


def _each(value: object, kind: type, good: Callable[[Any], bool]) -> bool:
    if not isinstance(value, kind):
        return False
    entries = cast(dict[str, object], value).values() if isinstance(value, dict) else cast(list[object], value)
    return all(good(entry) for entry in entries)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | bool) or is_finite(value)


def _is_metric(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    entry = cast(dict[str, object], value)
    return (
        entry.keys() == METRIC_KEYS
        and _is_text(entry["metric"])
        and _is_text(entry["slice"])
        and is_finite(entry["value"])
        and all(entry[end] is None or is_finite(entry[end]) for end in ("low", "high"))
    )


def _is_data(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    entries = cast(dict[str, object], value)
    return all(_is_scalar(entry) or (name == CLEANING and _is_report(entry)) for name, entry in entries.items())


def _is_report(value: object) -> bool:
    """Whether it is a cleaning report as plain values."""
    if not isinstance(value, dict):
        return False
    report = cast(dict[str, Any], value)
    return (
        set(report) == REPORT_KEYS
        and isinstance(report["name"], str)
        and all(is_whole(report[name], least=0) for name in ("rows_in", "rows_kept", "rows_dropped", "products"))
        and _each(report["rules"], list, _is_rule)
        and _each(report["switched_off"], list, _is_text)
    )


def _is_rule(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    rule = cast(dict[str, Any], value)
    return (
        set(rule) == RULE_KEYS
        and _is_text(rule["rule"])
        and _is_text(rule["action"])
        and is_whole(rule["rows"], least=0)
        and is_finite(rule["share"])
        and isinstance(rule["example"], str)
    )


def _is_privacy(value: object) -> bool:
    if value is None:
        return True
    if not _each(value, dict, _is_scalar):
        return False
    entry = cast(dict[str, Any], value)
    return all(is_finite(entry.get(name)) and entry[name] >= 0 for name in ("epsilon", "delta"))


def _is_point(value: object) -> bool:
    """Whether it is an entry of a training log."""
    return isinstance(value, dict) and "step" in value and _each(cast(object, value), dict, is_finite)


def _is_bin(value: object) -> bool:
    """Whether it is a group of predictions."""
    if not isinstance(value, dict):
        return False
    entry = cast(dict[str, object], value)
    return (
        set(entry) == BIN_KEYS
        and all(is_finite(entry[name]) and 0 <= cast(float, entry[name]) <= 1 for name in ("predicted", "observed"))
        and is_whole(entry["count"], least=0)
        and is_finite(entry["count"])
    )


def _is_latency(value: object) -> bool:
    return value is None or _each(value, dict, lambda entry: isinstance(entry, str) or is_finite(entry))


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "schema_version": (lambda value: is_whole(value, least=1), "a whole number"),
    "name": (lambda value: isinstance(value, str) and is_name(value), "the name of an adapter"),
    "version": (lambda value: isinstance(value, str) and is_number(value), "a number from 1 on, as text"),
    "parent": (_is_parent, "'name@version' or null"),
    "created": (is_moment, "a moment in ISO 8601 with its zone"),
    "method": (_is_text, "text"),
    "base_model": (_is_text, "text"),
    "decoder_layers": (lambda value: is_whole(value, least=1), "a whole number from 1 on"),
    "ranks": (
        lambda value: _each(value, dict, lambda rank: is_whole(rank, least=1)),
        "an object of whole numbers from 1 on",
    ),
    "files": (lambda value: isinstance(value, dict), "an object"),
    "tensors": (lambda value: isinstance(value, dict), "an object"),
    "data": (_is_data, "an object of texts, finite numbers, booleans, nulls and at most one cleaning report"),
    "metrics": (
        lambda value: _each(value, list, _is_metric),
        "a list of {metric, slice: text; value: finite number; low, high: finite number or null}",
    ),
    "protocol": (lambda value: isinstance(value, str), "text"),
    "seed": (lambda value: type(value) is int, "a whole number"),
    "privacy": (_is_privacy, "null, or an object with finite epsilon and delta"),
    "versions": (lambda value: _each(value, dict, lambda text: isinstance(text, str)), "an object of texts"),
    "learning_curve": (
        lambda value: _each(value, list, _is_point),
        "a list of objects of finite numbers, each with its step",
    ),
    "reliability": (
        lambda value: _each(value, list, _is_bin),
        "a list of {predicted, observed: number from 0 to 1; count: whole number from 0 on}",
    ),
    "latency": (_is_latency, "null, or an object of finite numbers and texts"),
}
