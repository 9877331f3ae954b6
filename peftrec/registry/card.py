"""The adapter's card: what a person should know before using it."""

import json
from typing import Any

from peftrec.registry.manifest import Manifest
from peftrec.registry.strict import CLEANING


def card(manifest: Manifest) -> str:
    """Markdown with the front matter that model hubs read."""
    data = {key: value for key, value in manifest.data.items() if key != CLEANING}
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {json.dumps(manifest.base_model)}",  # JSON is YAML, whatever the name holds
        f"tags: {json.dumps(['peftrec', 'recommendation', manifest.method])}",
        "---",
        "",
        f"# {manifest.name}, version {manifest.version}",
        "",
        f"A {manifest.method} adapter that predicts purchases, for the top {manifest.decoder_layers} layers of "
        f"`{manifest.base_model}` (weights {manifest.fingerprints.backbone[:12]}).",
        "",
        "## Trained on",
        "",
        "| what | value |",
        "|---|---|",
        *(f"| {key} | {_shown(value)} |" for key, value in data.items()),
        f"| published | {manifest.created} |",
        f"| seed | {manifest.seed} |",
        f"| privacy | {manifest.privacy or 'trained without differential privacy'} |",
        "",
        *_cleaning(manifest.data.get(CLEANING)),
        "## Measured",
        "",
    ]
    if manifest.metrics:
        lines += [manifest.protocol, "", "| metric | slice | value | 95 % interval |", "|---|---|---|---|"]
        lines += [
            f"| {entry['metric']} | {entry['slice']} | {entry['value']:.4f} | {_interval(entry)} |"
            for entry in manifest.metrics
        ]
    else:
        lines += ["Not evaluated before it was published."]
    size = sum(entry.size for entry in manifest.files.values())
    lines += [
        "",
        "## Limits",
        "",
        f"- {size / 1e6:.2f} MB in {len(manifest.files)} files; it works with this backbone, tokenizer and template only.",
        "- It knows one platform's shoppers up to the end of its data; retrain when assortments or habits change.",
        "- It predicts what is bought, not what should be: popular products stay popular.",
        "",
        "## Use",
        "",
        "```python",
        "from peftrec import Backbone, Engine, Registry",
        "",
        f'engine = Engine(Backbone.load({json.dumps(manifest.base_model)}), registry="adapters")',
        "engine.attach(dataset, adapter=" + f'"{manifest.name}@{manifest.version}")',
        "```",
        "",
        "The tuner alone, in peft:",
        "",
        "```python",
        "from peft import PeftModel",
        "from transformers import BertModel",
        "",
        f"bert = BertModel.from_pretrained(...)  # the weights of {manifest.base_model}",
        f'model = PeftModel.from_pretrained(bert, "adapters/{manifest.name}/{manifest.version}")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _cleaning(told: dict[str, Any] | None) -> list[str]:
    """What cleaning did to the data, where that is known."""
    if told is None:
        return []
    lines = [
        "## Cleaning",
        "",
        f"Of {_shown(told['rows_in'])} events of the whole data set, {_shown(told['rows_kept'])} were kept.",
        "",
    ]
    if rules := [rule for rule in told["rules"] if rule["rows"]]:
        lines += ["| rule | what | rows | share | example |", "|---|---|--:|--:|---|"]
        lines += [
            f"| {rule['rule']} | {rule['action']} | {rule['rows']:,} | {rule['share']:.2%} | {_shown(rule['example'])} |"
            for rule in rules
        ]
        lines.append("")
    if told["switched_off"]:
        lines += [f"Switched off: {', '.join(told['switched_off'])}.", ""]
    return lines


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "/").replace("\n", " ")


def _interval(entry: dict[str, object]) -> str:
    low, high = entry.get("low"), entry.get("high")
    return f"{low:.4f} to {high:.4f}" if isinstance(low, int | float) and isinstance(high, int | float) else ""
