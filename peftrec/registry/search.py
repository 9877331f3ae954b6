"""Finding versions by what their manifests say, and telling two manifests apart."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any, cast

from peftrec.errors import RegistryError
from peftrec.registry.manifest import Manifest

_FORM = re.compile(r"\s*(?P<field>[^\s<>=!~]+)\s*(?P<sign><=|>=|!=|=|<|>|~)\s*(?P<value>.*?)\s*", re.DOTALL)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
METRICS, ALL, NULL = "metrics", "all", "null"


@dataclass(frozen=True)
class Condition:
    """What a field of a manifest must be.

    A field is a path with dots: ``method``, ``data.dataset``, ``fingerprints.backbone``, ``ranks.encoder.layer.4.query``. A
    metric is ``metrics.<name>``, on all shoppers, or ``metrics.<name>.<slice>``, such as ``metrics.auc.never_bought``. ``tag``
    and ``alias`` are what the registry says of the version.

    Attributes:
        field: The path.
        sign: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``; or ``~``, where the field's text holds the value, whatever its case.
        value: As it was written; compared as a number where the field holds one. ``null`` is met by a field that is null or
            missing.
    """

    field: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Reads ``field sign value``.

        Raises:
            RegistryError: It has no such form.
        """
        if (found := _FORM.fullmatch(text)) is None:
            raise RegistryError(
                f"condition {text[:80]!r}",
                expected="a field, one of = != < <= > >= ~, and a value",
                remedy="write it like method=lora, data.licence~CC or metrics.ndcg@10>0.4",
            )
        return cls(**found.groupdict())


def matches(manifest: Manifest, condition: Condition, told: Mapping[str, Iterable[str]]) -> bool:
    """Whether a version meets a condition; one whose field is missing meets none but ``!=``.

    Args:
        manifest: Of the version.
        condition: What is asked.
        told: What is known of it besides, name -> texts, such as its tags.
    """
    if condition.field in told:
        found = [_meets(text, condition) for text in told[condition.field]]
        return (
            not any(text == condition.value for text in told[condition.field]) if condition.sign == "!=" else any(found)
        )
    if condition.field.startswith(f"{METRICS}."):
        value = _metric(manifest, condition.field.removeprefix(f"{METRICS}."))
    else:
        value = _at(asdict(manifest), condition.field)
    if condition.value == NULL and condition.sign in ("=", "!="):
        return (value is None) == (condition.sign == "=")
    if condition.field == "version":
        value = int(manifest.version)  # 10 comes after 9
    return condition.sign == "!=" if value is None else _meets(value, condition)


def differences(one: Manifest, other: Manifest) -> dict[str, tuple[object, object]]:
    """Path -> the values of two manifests, of every field that differs; None where a manifest has none."""
    first, second = dict(_flat(asdict(one))), dict(_flat(asdict(other)))
    paths = [*first, *(path for path in second if path not in first)]
    return {path: (first.get(path), second.get(path)) for path in paths if first.get(path) != second.get(path)}


def _meets(value: object, condition: Condition) -> bool:
    text = json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
    if condition.sign == "~":
        return condition.value.casefold() in text.casefold()
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _SIGNS[condition.sign](value, float(condition.value))
        except ValueError:
            return condition.sign == "!="
    return _SIGNS[condition.sign](text, condition.value)


def _metric(manifest: Manifest, path: str) -> float | None:
    for entry in manifest.metrics:
        if path in (f"{entry['metric']}.{entry['slice']}", entry["metric"] if entry["slice"] == ALL else None):
            return entry["value"]
    return None


def _at(values: object, path: str) -> object:
    """The value at a path; names may hold dots themselves, the longest name that is there is taken."""
    if not path:
        return values
    if not isinstance(values, dict):
        return None
    found = cast(dict[str, object], values)
    for name in sorted((name for name in found if path == name or path.startswith(f"{name}.")), key=len, reverse=True):
        return _at(found[name], path[len(name) + 1 :])
    return None


def _flat(values: Mapping[str, object], start: str = "") -> Iterable[tuple[str, object]]:
    for name, value in values.items():
        path = f"{start}{name}"
        if path == METRICS:
            for entry in cast(list[dict[str, Any]], value):
                where = f"{METRICS}.{entry['metric']}.{entry['slice']}"
                yield where, entry["value"]
                yield f"{where}.interval", None if entry["low"] is None else (entry["low"], entry["high"])
        elif isinstance(value, dict):
            yield from _flat(cast(dict[str, object], value), f"{path}.")
        else:
            yield path, value
