"""The decoder in an engine's arithmetic, and the check that it still says what it says in fp32."""

import copy
import logging
from typing import cast

import torch
from torch import Tensor, nn

from peftrec.backbone import Backbone, native_precision
from peftrec.backbone.int8 import int8_linears, packed
from peftrec.errors import ConfigError
from peftrec.model.decoder import Layer, read_candidates, read_shopper
from peftrec.model.shapes import first_layer

_log = logging.getLogger(__name__)

PRECISIONS = ("int8", "bf16", "fp32")

LEAST_COSINE = {"int8": 0.99, "bf16": 0.999, "fp32": 1.0}
"""How alike outputs must be to those of fp32, on average over words."""

_TEXTS = (
    "Copper tea kettle, 2 l, whistling, for gas and induction",
    "Organic whole milk",
    "Trail running shoes, waterproof, women, size 39, with a spare pair of laces and a bag; returned items are checked",
)


def decoder_for(backbone: Backbone, precision: str) -> tuple[nn.ModuleList, str]:
    """The decoder on the backbone's device, and its arithmetic.

    Args:
        backbone: Whose decoder it is.
        precision: One of :data:`PRECISIONS`, or ``auto``: int8 on a processor, where it takes a quarter of the memory; bf16 on
            a GPU, where it is fastest. If that fails the check, the next in that list is taken, and a warning says so.

    Raises:
        ConfigError: An unknown precision, or one whose outputs differ from those of fp32 by more than ``LEAST_COSINE`` allows.
    """
    if precision not in (*PRECISIONS, "auto"):
        raise ConfigError(
            f"precision={precision!r}", expected=f"one of auto, {', '.join(PRECISIONS)}", remedy="leave it out"
        )
    if backbone.is_quantised:
        if precision not in ("auto", "int8"):
            raise ConfigError(
                f"precision={precision!r} on a backbone whose weights are int8",
                expected='"int8"',
                remedy="leave it out, or take the backbone that it was made from",
            )
        return cast(nn.ModuleList, packed(backbone.decoder())), "int8"
    exact = backbone.decoder().to(backbone.device)
    wanted = (PRECISIONS if backbone.device.type == "cpu" else PRECISIONS[1:]) if precision == "auto" else (precision,)
    told = ""
    for name in wanted:
        if name == "fp32":
            break
        decoder = _converted(exact, name, backbone.device)
        cosine = agreement(backbone, exact, decoder, name)
        if cosine >= LEAST_COSINE[name]:
            return decoder, name
        told = f"{name} gives outputs of this backbone's decoder whose cosine to fp32 is {cosine:.4f} on average"
        if precision != "auto":
            raise ConfigError(
                told, expected=f"at least {LEAST_COSINE[name]}", remedy='take precision="fp32", or leave it out'
            )
        _log.warning(f"{told}, below {LEAST_COSINE[name]}: another precision is taken")
    return exact, "fp32"


def words_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What words travel in between the maps of a decoder: half the memory where a processor multiplies bfloat16 itself.

    int8 maps round their words anyway, and reading and writing what is between them takes longer than the maps.
    """
    if precision == "fp32" or device.type != "cpu" or native_precision() != "bf16":
        return None
    return torch.bfloat16


def _converted(exact: nn.ModuleList, precision: str, device: torch.device) -> nn.ModuleList:
    decoder = copy.deepcopy(exact)
    if precision == "bf16":
        for module in decoder.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)
    elif device.type == "cuda":
        from peftrec.serving.cuda import int8_linears_of_bitsandbytes

        int8_linears_of_bitsandbytes(decoder, device)
    else:
        packed(int8_linears(decoder))
    return decoder


@torch.inference_mode()
def agreement(backbone: Backbone, exact: nn.ModuleList, other: nn.ModuleList, precision: str) -> float:
    """Mean cosine of two decoders' outputs for the words of some texts, as the BERT hands them to its upper layers.

    They are read once as shoppers, and once more as candidates that see them.

    Args:
        backbone: Whose decoders they are.
        exact: In single precision.
        other: In another one.
        precision: Which.
    """
    texts = backbone.tokenizer(list(_TEXTS), padding=True, truncation=True, max_length=64, return_tensors="pt")
    texts = {name: texts[name].to(backbone.device) for name in ("input_ids", "attention_mask")}
    x = backbone.bert(**texts, output_hidden_states=True).hidden_states[first_layer(backbone)]
    mask = texts["attention_mask"].bool()

    def output(decoder: nn.ModuleList, precision: str) -> Tensor:
        words = words_dtype(precision, x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            layers = [Layer.of(layer, words=words) for layer in decoder]
            shoppers, memories = read_shopper(layers, x, mask)
            return torch.cat([shoppers[mask], read_candidates(layers, x, mask, memories)[mask]]).float()

    return float(torch.cosine_similarity(output(exact, "fp32"), output(other, precision), dim=-1).mean())
