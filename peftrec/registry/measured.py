"""How the page shows measured numbers: the first ones large, all of them beside each other with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from peftrec.registry.manifest import Manifest
from peftrec.registry.markup import safe
from peftrec.registry.plots import Axis, ruler, whisker
from peftrec.registry.words import MAIN_SLICE, figure, plain, slice_name

_MOST_TILES = 4
_FIRST = ("ndcg", "hit_rate", "auc", "ece", "recall", "mrr", "log_loss")
"""What is shown large, in this order."""
_NAMES = {"ndcg": "NDCG", "hit_rate": "Hit rate", "recall": "Recall", "mrr": "MRR", "auc": "AUC"} | {
    "log_loss": "Log loss",
    "ece": "Calibration error",
}
_MEANINGS = {
    "ndcg": "How near the top of {k} suggestions the bought products stand. 1 is perfect.",
    "hit_rate": "Share of shoppers who buy at least one of {k} suggestions.",
    "recall": "Share of what shoppers buy that is among {k} suggestions.",
    "mrr": "One over the place of the first bought product, averaged.",
    "auc": "How often a bought product is thought likelier than another. 0.5 is guessing.",
    "log_loss": "What wrong probabilities cost. Lower is better.",
    "ece": "Distance of promised from actual purchases. Lower is better.",
}
_LEAST = {"auc": 0.5}
"""Where an axis begins, if not at 0."""

Entry = Mapping[str, Any]


def headline(manifest: Manifest) -> str:
    """The first few numbers as tiles; nothing where nothing was measured."""
    slices = [entry["slice"] for entry in manifest.metrics]
    shown = MAIN_SLICE if MAIN_SLICE in slices else next(iter(slices), "")
    entries = sorted((entry for entry in manifest.metrics if entry["slice"] == shown), key=_importance)
    tiles = "".join(_tile(entry) for entry in entries[:_MOST_TILES])
    if not tiles:
        return ""
    note = f"Measured on {slice_name(shown)}; below each number stands its 95 % interval."
    return f'<div class="row">{tiles}</div>\n<p class="note">{safe(note)}</p>'


def measured(manifest: Manifest) -> list[str]:
    """Every metric with a row for each slice, on an axis of its own."""
    if not manifest.metrics:
        return ["<p>Not evaluated before it was published.</p>"]
    names = sorted(
        {entry["metric"]: None for entry in manifest.metrics}, key=lambda name: _importance({"metric": name})
    )
    panels = [_panel(name, [entry for entry in manifest.metrics if entry["metric"] == name]) for name in names]
    protocol = [f"<p>{safe(manifest.protocol)}</p>"] if manifest.protocol else []
    note = '<p class="note">A dot is the mean over shoppers, the line its 95 % interval. Each metric has its own scale.</p>'
    return [*protocol, note, f'<div class="wide">{"".join(panels)}</div>']


def _panel(name: str, entries: Sequence[Entry]) -> str:
    ends = [entry[end] for entry in entries for end in ("value", "low", "high") if entry[end] is not None]
    axis = Axis.around(ends, least=_LEAST.get(name, 0.0), most_ticks=5)
    rows = "".join(
        f'<tr><th scope="row">{safe(slice_name(entry["slice"]))}</th>'
        f"<td>{whisker(entry['value'], entry['low'], entry['high'], axis, told=_told(entry))}</td>"
        f'<td class="n">{figure(entry["value"])}<small>{_interval(entry)}</small></td></tr>'
        for entry in entries
    )
    meaning = f'<p class="note">{safe(found)}</p>' if (found := _meaning(name)) else ""
    return (
        f'<figure><h3>{safe(_name(name))}</h3>{meaning}<table class="metric"><colgroup><col class="what"><col>'
        f'<col class="value"></colgroup><tbody>{rows}<tr><td></td><td>{ruler(axis)}</td><td></td></tr></tbody></table></figure>'
    )


def _tile(entry: Entry) -> str:
    interval = f"<i>{found}</i>" if (found := _interval(entry)) else "<i>no interval</i>"
    meaning = f"<p>{safe(found)}</p>" if (found := _meaning(entry["metric"])) else ""
    name = f'<span class="note">{safe(_name(entry["metric"]))}</span>'
    return f'<div class="tile">{name}<b>{figure(entry["value"])}</b>{interval}{meaning}</div>'


def _importance(entry: Entry) -> tuple[int, str]:
    base = entry["metric"].partition("@")[0]
    return (_FIRST.index(base) if base in _FIRST else len(_FIRST), entry["metric"])


def _name(metric: str) -> str:
    base, mark, k = metric.partition("@")
    return f"{_NAMES[base]}{mark}{k}" if base in _NAMES else plain(metric).replace("_", " ")


def _meaning(metric: str) -> str:
    base, _, k = metric.partition("@")
    return _MEANINGS.get(base, "").format(k=k or "its")


def _interval(entry: Entry) -> str:
    if entry["low"] is None or entry["high"] is None:
        return ""
    return f"{figure(entry['low'])} – {figure(entry['high'])}"


def _told(entry: Entry) -> str:
    interval = f", 95 % interval {found}" if (found := _interval(entry)) else ""
    return f"{_name(entry['metric'])}, {slice_name(entry['slice'])}: {figure(entry['value'])}{interval}"
