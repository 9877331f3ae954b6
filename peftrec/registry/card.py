"""The adapter's card: what a person should know before using it, to be read in a terminal or on a model hub."""

import json
from typing import Any

from peftrec.registry import words
from peftrec.registry.manifest import Manifest
from peftrec.registry.strict import CLEANING

_MARKUP = str.maketrans({"\\": "\\\\", "<": "\\<", "[": "\\[", "`": "\\`", "|": "/"})
"""Nothing that a manifest holds may become a tag, a link, an image or another cell."""


def card(manifest: Manifest) -> str:
    """Markdown with the front matter that model hubs read."""
    method = words.method(manifest)
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {json.dumps(manifest.base_model)}",  # JSON is YAML, whatever the name holds
        f"tags: {json.dumps(['peftrec', 'recommendation', manifest.method])}",
        "---",
        "",
        f"# {manifest.name}, version {manifest.version}",
        "",
        f"{words.article(method).capitalize()} {_told(method)} adapter that predicts purchases, for the top"
        f" {manifest.decoder_layers} layers of {_told(manifest.base_model)} (weights {manifest.fingerprints.backbone[:12]}).",
        "",
        *_trained(manifest),
        *_cleaning(manifest.data.get(CLEANING)),
        *_measured(manifest),
        *_section(
            "Calibration", words.calibration(manifest) or ["Not measured: take its probabilities as an order only."]
        ),
        *_section("Learning", words.learning(manifest) or ["No learning curve was kept."]),
        *_section("Speed", [f"{name}: {value}" for name, value in words.latency(manifest)] or ["Not measured."]),
        *_section("Limits", words.limits(manifest)),
        *_files(manifest),
        *_use(manifest),
    ]
    return "\n".join(lines)


def _told(value: object) -> str:
    """A value on one line, without a character that means something to Markdown or to a terminal."""
    return words.shown(value).translate(_MARKUP)


def _section(title: str, sentences: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {_told(sentence)}" for sentence in sentences), ""]


def _trained(manifest: Manifest) -> list[str]:
    data = {key: value for key, value in manifest.data.items() if key not in {CLEANING, "licence"}}
    return [
        "## Trained on",
        "",
        "| what | value |",
        "|---|---|",
        *(f"| {_told(key)} | {_told(value)} |" for key, value in data.items()),
        f"| licence of the data | {_told(words.licence(manifest))} |",
        f"| parent | {manifest.parent or 'none, trained from the backbone'} |",
        f"| published | {manifest.created} |",
        f"| seed | {manifest.seed} |",
        f"| privacy | {_told(words.privacy(manifest))} |",
        f"| libraries | {_told(words.libraries(manifest))} |",
        "",
    ]


def _cleaning(told: dict[str, Any] | None) -> list[str]:
    """What cleaning did to the data, where that is known."""
    if told is None:
        return []
    lines = [
        "## Cleaning",
        "",
        f"Of {_told(told['rows_in'])} events of the whole data set, {_told(told['rows_kept'])} were kept.",
        "",
    ]
    if rules := [rule for rule in told["rules"] if rule["rows"]]:
        lines += ["| rule | what | rows | share | example |", "|---|---|--:|--:|---|"]
        lines += [
            f"| {_told(rule['rule'])} | {_told(rule['action'])} | {rule['rows']:,} | {rule['share']:.2%} |"
            f" {_told(rule['example'])} |"
            for rule in rules
        ]
        lines.append("")
    if told["switched_off"]:
        lines += [f"Switched off: {', '.join(map(_told, told['switched_off']))}.", ""]
    return lines


def _measured(manifest: Manifest) -> list[str]:
    lines = ["## Measured", ""]
    if not manifest.metrics:
        return [*lines, "Not evaluated before it was published.", ""]
    lines += [_told(manifest.protocol), "", "| metric | slice | value | 95 % interval |", "|---|---|---|---|"]
    lines += [
        f"| {_told(entry['metric'])} | {_told(entry['slice'])} | {entry['value']:.4f} | {_interval(entry)} |"
        for entry in manifest.metrics
    ]
    return [*lines, ""]


def _interval(entry: dict[str, Any]) -> str:
    low, high = entry["low"], entry["high"]
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _files(manifest: Manifest) -> list[str]:
    files = words.own_files(manifest)
    return [
        "## Files",
        "",
        "| file | size |",
        "|---|--:|",
        *(f"| {file} | {words.size(size)} |" for file, size in files.items()),
        f"| together | {words.size(sum(files.values()))} |",
        "",
    ]


def _use(manifest: Manifest) -> list[str]:
    lines = ["## Use", "", "```python", words.with_peftrec(manifest), "```", ""]
    if (snippet := words.with_peft(manifest)) is not None:
        lines += ["The tuner alone, in peft:", "", "```python", snippet, "```", ""]
    return lines
