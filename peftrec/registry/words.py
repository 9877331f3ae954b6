"""What the cards say in words, whichever form they have. Nothing here is escaped; that is for the form to do."""

import json
import re
from collections.abc import Mapping
from datetime import datetime

from peftrec.registry.manifest import FILES, Manifest

MAIN_SLICE = "all"
_METHODS = {
    "lora": "LoRA",
    "adalora": "AdaLoRA",
    "bottleneck": "bottleneck",
    "head_only": "head-only",
    "bias_only": "bias-only",
    "full": "full",
}
_SLICES = {MAIN_SLICE: "all shoppers", "never_bought": "products new to the shopper"}
_IN_PEFT = {"lora", "adalora"}
"""Methods that peft opens. A cross-encoder's name is longer: it holds tensors for which peft has no place."""
_NOT_BESIDE_OTHERS = {"full", "bias_only"}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
"""Not the calendar module's: those follow the machine's language."""


def plain(value: object) -> str:
    """A value as one line; what is no visible character, such as a terminal's commands, becomes a space."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


def shown(value: object) -> str:
    """A plain value of the manifest as a person reads it."""
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.6g}" if isinstance(value, float) else plain(value)


def method(manifest: Manifest) -> str:
    """The method's name as its papers write it."""
    name, _, form = manifest.method.partition(" ")
    return plain(f"{_METHODS.get(name, name)} {form}".strip())


def article(noun: str) -> str:
    """``a`` or ``an``."""
    return "an" if noun[:1].lower() in {"a", "e", "i", "o", "u"} else "a"


def ranks(manifest: Manifest) -> str:
    """How large the tuner is, such as ``rank 16 in 18 maps``."""
    found = manifest.ranks.values()
    if not found:
        return "no ranks"
    what = "width" if manifest.method.startswith("bottleneck") else "rank"
    low, high = min(found), max(found)
    size = f"{what} {low:,}" if low == high else f"{what}s {low:,} to {high:,}"
    return f"{size} in {_many(len(found), 'place' if what == 'width' else 'map')}"


def own_files(manifest: Manifest) -> dict[str, int]:
    """Size in bytes of each file that an adapter is made of, its cards left out."""
    return {file: manifest.files[file].size for file in sorted(FILES)}


def size(count: int) -> str:
    """Bytes in the unit that suits them."""
    if count < 1000:
        return _many(count, "byte")
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.2f} MB"


def day(moment: object) -> str:
    """The day of a moment in ISO 8601, such as ``27 November 2017``; any other text as it is."""
    try:
        found = datetime.fromisoformat(str(moment))
    except ValueError:
        return plain(moment)
    return f"{found.day} {_MONTHS[found.month - 1]} {found.year}"


def period(data: Mapping[str, object]) -> str | None:
    """The time range of the data; None where neither end is known."""
    start, end = data.get("start"), data.get("end")
    if start is None and end is None:
        return None
    if start is None or end is None:
        return f"from {day(start)}" if end is None else f"up to {day(end)}"
    try:
        length = (datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))).days + 1
    except (ValueError, TypeError):  # no moments, or only one of them with a zone
        return f"{day(start)} to {day(end)}"
    return f"{day(start)} to {day(end)}, {_many(length, 'day')}"


def licence(manifest: Manifest) -> str:
    """The licence of the data."""
    found = manifest.data.get("licence")
    return "not stated: ask before you pass the adapter on" if found in (None, "") else shown(found)


def privacy(manifest: Manifest) -> str:
    """Whether training was private."""
    if manifest.privacy is None:
        return "trained without differential privacy"
    rest = {name: value for name, value in manifest.privacy.items() if name not in {"epsilon", "delta"}}
    told = f"differentially private, ε = {manifest.privacy['epsilon']:g}, δ = {manifest.privacy['delta']:g}"
    return told + "".join(f", {plain(name)} {shown(value)}" for name, value in sorted(rest.items()))


def slice_name(name: str) -> str:
    """A slice as a person calls it."""
    return _SLICES.get(name, plain(name).replace("_", " "))


def figure(value: float) -> str:
    """A measured number with as many digits as tell something."""
    if value == 0 or 0.1 <= abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 0.1 else f"{value:.3g}"


def series(manifest: Manifest) -> dict[str, list[tuple[float, float]]]:
    """The learning curve as (step, value) of each number in it, by rising step; losses first."""
    found: dict[str, list[tuple[float, float]]] = {}
    for point in manifest.learning_curve:
        for name, value in point.items():
            if name != "step":
                found.setdefault(name, []).append((point["step"], value))
    names = sorted(found, key=lambda name: ("loss" not in name, not name.startswith("eval"), name))
    return {name: sorted(found[name], key=lambda point: point[0]) for name in names}


def series_name(name: str) -> str:
    """A number of the learning curve as a person calls it."""
    known = {"loss": "training loss", "eval_loss": "loss on held-out shoppers"}
    return known.get(name, plain(name).replace("_", " "))


def learning(manifest: Manifest) -> list[str]:
    """Where each number of the learning curve ended, a sentence each."""
    told: list[str] = []
    for name, points in series(manifest).items():
        (step, last), (best_step, best) = points[-1], min(points, key=lambda point: point[1])
        sentence = f"{series_name(name)} ended at {figure(last)} (step {shown(step)})"
        if len(points) > 1 and "loss" in name:
            sentence += ", its lowest" if best == last else f"; its lowest was {figure(best)} (step {shown(best_step)})"
        told.append(sentence[0].upper() + sentence[1:] + ".")
    return told


def groups(manifest: Manifest) -> list[dict[str, float]]:
    """The groups of the reliability curve that hold a prediction."""
    return [group for group in manifest.reliability if group["count"]]


def calibration(manifest: Manifest) -> list[str]:
    """Whether a probability can be taken at its word, in sentences; empty where nobody measured it."""
    held = groups(manifest)
    total = sum(group["count"] for group in held)
    if total:
        promised = sum(group["predicted"] * group["count"] for group in held) / total
        bought = sum(group["observed"] * group["count"] for group in held) / total
        off = sum(abs(group["predicted"] - group["observed"]) * group["count"] for group in held) / total
        top = max(held, key=lambda group: group["predicted"])
        return [
            f"Over {_many(total, 'prediction')} it promises {percent(promised)} on average, and {percent(bought)} were bought.",
            f"In {_many(len(held), 'group')} of similar predictions, promise and purchases are"
            f" {100 * off:.2f} percentage points apart on average.",
            f"Where it is surest it promises {percent(top['predicted'])}, and {percent(top['observed'])} were bought.",
        ]
    for entry in manifest.metrics:
        if (entry["metric"], entry["slice"]) == ("ece", MAIN_SLICE):
            return [
                f"Promised probability and share bought are {100 * entry['value']:.2f} percentage points apart on average."
            ]
    return []


def percent(share: float) -> str:
    """A share with as many digits as tell something."""
    return f"{share:.1%}" if share >= 0.1 or share == 0 else f"{share:.2%}" if share >= 0.001 else f"{share:.2g}"


def latency(manifest: Manifest) -> list[tuple[str, str]]:
    """What was measured of speed, as names and values: numbers first, as given, then texts."""
    told = manifest.latency or {}
    rows: list[tuple[str, str]] = []
    for name, value in sorted(told.items(), key=lambda item: (isinstance(item[1], str), item[0])):
        unit = next((unit for unit in ("ms", "s") if name.endswith(f"_{unit}") and not isinstance(value, str)), "")
        label = plain(name.removesuffix(f"_{unit}") if unit else name).replace("_", " ")
        rows.append((label, f"{shown(value)} {unit}".strip()))
    return rows


def libraries(manifest: Manifest) -> str:
    """Versions of the libraries that it was trained with."""
    return (
        ", ".join(f"{plain(name)} {plain(version)}" for name, version in sorted(manifest.versions.items()))
        or "not known"
    )


def limits(manifest: Manifest) -> list[str]:
    """What an adapter cannot do, a sentence each."""
    name = manifest.method.partition(" ")[0]
    until = manifest.data.get("end")
    told = [
        "It works with its own backbone, tokenizer and templates only; peftrec refuses others, peft does not notice.",
        "It knows one platform's shoppers"
        + (f" up to {day(until)}" if until is not None else " up to the end of its data")
        + "; train it again when assortments or habits change.",
        "It predicts what is bought, not what should be: popular products stay popular.",
    ]
    if name in _NOT_BESIDE_OTHERS:
        told.append("It replaces weights that all platforms share, so an engine cannot serve it beside others.")
    if not manifest.metrics:
        told.append("Nobody measured how good it is.")
    if manifest.privacy is None:
        told.append(
            "Nothing bounds what it gives away about single shoppers: it was trained without differential privacy."
        )
    return told


def with_peftrec(manifest: Manifest) -> str:
    """Code that serves this version."""
    reference = f"{manifest.name}@{manifest.version}"
    return (
        "from peftrec import Backbone, Engine\n\n"
        f"backbone = Backbone.load({_quoted(manifest.base_model)}, decoder_layers={manifest.decoder_layers})\n"
        'engine = Engine(backbone, registry="adapters")\n'
        f'engine.attach(dataset, adapter="{reference}")\n'
        f'engine.recommend("{reference}", user=dataset.users[0], k=10)'
    )


def with_peft(manifest: Manifest) -> str | None:
    """Code that opens the tuner in peft; None where peft cannot."""
    if manifest.method not in _IN_PEFT:
        return None
    return (
        "from peft import PeftModel\n"
        "from transformers import BertModel\n\n"
        f"# The BERT that peftrec loads as {plain(manifest.base_model)}, weights {manifest.fingerprints.backbone[:12]}\n"
        'bert = BertModel.from_pretrained("path/to/the/backbone")\n'
        f'model = PeftModel.from_pretrained(bert, "adapters/{manifest.name}/{manifest.version}")'
    )


def _many(count: float, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _quoted(text: str) -> str:
    """A text as Python writes it, on one line and without letters that hide what stands there."""
    return json.dumps(text) if re.fullmatch(r"[ -~]*", text) else repr(text)
