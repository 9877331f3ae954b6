"""LoRA adapters that were trained with peft alone, as tuners of the decoder."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from peftrec.backbone import Backbone
from peftrec.errors import CorruptAdapterError, IncompatibleAdapterError
from peftrec.tuners.lora import LoRAConfig
from peftrec.tuners.maps import TARGETS
from peftrec.tuners.neutral import Changes, LowRankPair
from peftrec.tuners.tuner import Arrays, path

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TENSOR = re.compile(r"(?:base_model\.model\.)?(?:bert\.)?(?P<map>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_LAYER = re.compile(r"encoder\.layer\.(?P<number>\d+)\.(?P<place>.+)")
_PLAIN = {
    "use_dora": "DoRA",
    "lora_bias": "LoRA with biases",
    "modules_to_save": "modules that were trained whole",
    "layer_replication": "replicated layers",
    "fan_in_fan_out": "transposed weights",
    "trainable_token_indices": "trained words",
}
"""What else than low-rank changes a peft adapter may hold: its field, and how to call it."""

Pairs = dict[str, LowRankPair[NDArray[np.float32]]]


def import_peft(folder: str | Path, backbone: Backbone) -> tuple[LoRAConfig, Arrays]:
    """Reads a LoRA adapter that ``peft`` saved for the backbone's ``BertModel``.

    Its output is kept to rounding: other scales are folded into B, and where maps of one layer have different ranks, the lower
    ones are filled up with columns of zeros in B. It has none of the heads that recommend; train them on top::

        tuner, start = import_peft("my-lora", backbone)
        adapter = train_adapter(dataset, backbone, tuner, start=start)

    Args:
        folder: With ``adapter_config.json`` and ``adapter_model.safetensors``.
        backbone: Whose weights it was trained on; peft's files do not tell which those were.

    Returns:
        The tuner's settings, and its values.

    Raises:
        CorruptAdapterError: A file is missing or malformed.
        IncompatibleAdapterError: It is no LoRA, or tunes what the decoder does not have; all problems are named.
    """
    config, tensors = _config(Path(folder) / CONFIG), _tensors(Path(folder) / WEIGHTS)
    problems = _problems(config)
    pairs, unread = _pairs(tensors, config)
    problems += [f"a tensor {name}, which is no part of LoRA" for name in unread]
    first = backbone.layers - backbone.decoder_layers
    layers = {first + at: layer for at, layer in enumerate(backbone.decoder())}
    for name, pair in pairs.items():
        found = _LAYER.fullmatch(name)
        place, number = (found["place"], int(found["number"])) if found else ("", -1)
        if place not in TARGETS.values():
            problems.append(f"{name} is tuned, which is none of a layer's {', '.join(TARGETS)}")
        elif number not in layers:
            problems.append(f"{name} is tuned, but the decoder has layers {first} to {backbone.layers - 1}")
        else:
            linear = layers[number].get_submodule(place)
            shape, wanted = (pair.b.shape[0], pair.a.shape[1]), (linear.out_features, linear.in_features)
            if shape != wanted or pair.b.shape[1] != len(pair.a):
                problems.append(f"{name} is {pair.b.shape} by {pair.a.shape}, for a map of {wanted}")
    if problems or not pairs:
        raise IncompatibleAdapterError(
            f"{folder}: {'; '.join(problems) or 'nothing is tuned'}",
            expected=f"a LoRA of linear maps in the layers from {first} on, which the decoder is made of",
            remedy="train it in peft with target_modules="
            f"r'encoder\\.layer\\.({'|'.join(map(str, layers))})\\..*(query|key|value|dense)', or tune with LoRAConfig",
        )
    return _filled(pairs, config, backbone)


def _config(file: Path) -> dict[str, Any]:
    try:
        config: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _corrupt(file, str(error)) from error
    if not isinstance(config, dict):
        raise _corrupt(file, "no JSON object")
    return cast(dict[str, Any], config)


def _tensors(file: Path) -> dict[str, NDArray[np.float32]]:
    try:
        tensors = {name: value.astype(np.float32) for name, value in load_file(file).items()}
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise _corrupt(file, str(error)) from error
    low_rank = {name: value for name, value in tensors.items() if _TENSOR.fullmatch(name)}
    if wrong := [name for name, value in low_rank.items() if value.ndim != 2 or not np.isfinite(value).all()]:
        raise _corrupt(file, f"{', '.join(wrong)} is no matrix of finite numbers")
    return tensors


def _corrupt(file: Path, why: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{file} cannot be read: {why}",
        expected=f"{CONFIG} and {WEIGHTS} as PeftModel.save_pretrained writes them",
        remedy="save the adapter again, with safe_serialization=True; pickles (.bin) are never read, since they run code",
    )


def _problems(config: Mapping[str, Any]) -> list[str]:
    kind = config.get("peft_type")
    problems = [] if kind == "LORA" else [f"peft_type {str(kind)[:80]!r}, not LORA"]
    problems += [f"{what} ({name})" for name, what in _PLAIN.items() if config.get(name)]
    if config.get("bias", "none") != "none":
        problems.append(f"trained biases (bias={config['bias']!r})")
    numbers = {"r": config.get("r"), "lora_alpha": config.get("lora_alpha")}
    return problems + [f"{name} {value!r}" for name, value in numbers.items() if not _positive(value)]


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _pairs(tensors: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> tuple[Pairs, list[str]]:
    """The pairs by the map's path, peft's scale folded in, and names of tensors that belong to none."""
    sides: dict[str, dict[str, NDArray[np.float32]]] = {}
    unread: list[str] = []
    for name, value in tensors.items():
        found = _TENSOR.fullmatch(name)
        if found is None:
            unread.append(name)
        else:
            sides.setdefault(found["map"], {})[found["side"]] = value
    unread += [f"{name}.lora_{side}" for name, one in sides.items() for side in one if len(one) < 2]
    return {
        name: LowRankPair(one["A"], one["B"] * np.float32(_scale(name, len(one["A"]), config)))
        for name, one in sides.items()
        if len(one) == 2
    }, unread


def _scale(name: str, rank: int, config: Mapping[str, Any]) -> float:
    """What peft multiplies this map's product by."""
    patterns: dict[str, Any] = config.get("alpha_pattern") or {}
    own = [value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)]
    alpha = (own or [config.get("lora_alpha")])[0]
    if not _positive(alpha):
        return 1.0  # told of by _problems
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _filled(pairs: Pairs, config: Mapping[str, Any], backbone: Backbone) -> tuple[LoRAConfig, Arrays]:
    """One rank for each layer and the same maps in all; what is added has zeros in B and can learn."""
    first = backbone.layers - backbone.decoder_layers
    targets = tuple(name for name, place in TARGETS.items() if any(at.endswith(f".{place}") for at in pairs))
    ranks: list[int] = []
    filled: Pairs = {}
    rng = np.random.default_rng(0)
    for index, layer in enumerate(backbone.decoder()):
        names = {path(first + index, TARGETS[name]): layer.get_submodule(TARGETS[name]) for name in targets}
        ranks.append(max((len(pairs[name].a) for name in names if name in pairs), default=1))
        for name, linear in names.items():
            width, out = cast(int, linear.in_features), cast(int, linear.out_features)
            a = rng.normal(scale=1 / math.sqrt(width), size=(ranks[-1], width)).astype(np.float32)
            b = np.zeros((out, ranks[-1]), np.float32)
            if name in pairs:
                a[: len(pairs[name].a)], b[:, : len(pairs[name].a)] = pairs[name]
            filled[name] = LowRankPair(a, b)
    dropout = config.get("lora_dropout")
    return LoRAConfig(
        rank=ranks[0] if len({*ranks}) == 1 else tuple(ranks),
        targets=targets,
        dropout=float(dropout) if isinstance(dropout, int | float) and 0 <= dropout < 1 else LoRAConfig().dropout,
    ), Changes(low_rank=filled)
