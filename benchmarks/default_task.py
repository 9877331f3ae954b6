"""A step of training on the default's task: through the item table, encoding products anew, and as a cross-encoder.

The very same shoppers, candidates and labels for all, in turns, so that a slow minute hits all alike. A cross-encoder reads a
sentence for each candidate, and a step's sentences do not fit in memory at once: it gathers its gradients shopper by shopper.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from inspect import unwrap

import numpy as np
import torch
from end_to_end import decoder_stage, end_to_end_stage, places_of
from timing import growth
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, addmm_flop, baddbmm_flop, sdpa_backward_flop, sdpa_flop

from peftrec import Backbone
from peftrec.model import cross
from peftrec.model.cross import CrossEncoder, PairWriter
from peftrec.model.shapes import first_layer
from peftrec.training.cross import CrossEncoderConfig, CrossStage, PairRows
from peftrec.training.rows import RowDataset
from peftrec.training.train import Prepared
from peftrec.training.trainer import attach
from peftrec.tuners import Tuner

TABLE, ANEW, CROSS = "lora, default task", "end_to_end_peft", "cross_encoder"
TURNS = 4
ROWS, TRIES = 4096, 50

FURTHER = {
    torch.ops.aten.addmm_: unwrap(addmm_flop),
    torch.ops.aten.baddbmm_: unwrap(baddbmm_flop),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: unwrap(sdpa_flop),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: unwrap(sdpa_backward_flop),
}
"""Products that torch's counter leaves out: LoRA's, added in place, and fused attention on a CPU."""

Losses = Callable[[list[tuple[int, int]]], Iterator[Tensor]]
"""From (anchor, row) of a step's shoppers to what it sums the gradients of."""


def steps_in_turns(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> dict[str, tuple[float, int]]:
    """Each system's seconds of a step, the median, and bytes that the process grows by at most."""
    config = prepared.source.config
    systems = {
        TABLE: _through_table(prepared, backbone, tuner),
        ANEW: _encoding_anew(prepared, backbone, tuner),
        CROSS: _word_by_word(prepared, backbone, tuner),
    }
    order = np.random.default_rng(config.seed).permutation(len(prepared.train))
    seconds, grown = defaultdict[str, list[float]](list), defaultdict[str, int](int)
    for turn in range(TURNS + 1):  # the first does not count: libraries load what they need
        chosen = [prepared.train[at] for at in order[turn * config.batch_size :][: config.batch_size].tolist()]
        for name, (stage, losses) in systems.items():
            with growth() as most:
                begun = time.perf_counter()
                _step(stage, losses(chosen), bf16=config.precision == "bf16")
                taken = time.perf_counter() - begun
            if turn:
                seconds[name].append(taken)
                grown[name] = max(grown[name], most[0])
            print(f"{name}, turn {turn}: {taken:.2f} s, {most[0] / 2**20:,.0f} MiB", flush=True)
    return {name: (float(np.median(taken)), grown[name]) for name, taken in seconds.items()}


def operations(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> dict[str, float]:
    """Each system's operations of a step in all its matrix products, forth and back, but the cross-encoder's."""
    order = np.random.default_rng(prepared.source.config.seed).permutation(len(prepared.train))
    chosen = [prepared.train[at] for at in order[: prepared.source.config.batch_size].tolist()]
    counted: dict[str, float] = {}
    for name, system in ((TABLE, _through_table), (ANEW, _encoding_anew)):
        stage, losses = system(prepared, backbone, tuner)
        with FlopCounterMode(display=False, custom_mapping=FURTHER) as counter:
            _step(stage, losses(chosen), bf16=False)
        counted[name] = float(counter.get_total_flops())
    return counted


def rate(backbone: Backbone, precision: str) -> float:
    """Operations a second of the decoder's largest matrix product on this machine, in a training's precision, at best."""
    within = max((weight for weight in backbone.upper_layers().parameters()), key=Tensor.numel).detach()
    within = within.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    rows, taken = torch.randn(ROWS, within.shape[1]).to(within), list[float]()
    for _ in range(TRIES):
        begun = time.perf_counter()
        functional.linear(rows, within)
        taken.append(time.perf_counter() - begun)
    return 2 * ROWS * within.numel() / min(taken)


def _step(stage: nn.Module, losses: Iterator[Tensor], *, bf16: bool) -> None:
    while True:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = next(losses, None)
        if loss is None:
            break
        loss.backward()
    stage.zero_grad(set_to_none=True)


def _through_table(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> tuple[nn.Module, Losses]:
    return _at_once(decoder_stage(prepared, backbone, tuner)[0], prepared.train)


def _encoding_anew(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> tuple[nn.Module, Losses]:
    return _at_once(end_to_end_stage(prepared, backbone, tuner)[0], places_of(prepared, prepared.train))


def _at_once(stage: nn.Module, rows: RowDataset) -> tuple[nn.Module, Losses]:
    def losses(chosen: list[tuple[int, int]]) -> Iterator[Tensor]:
        yield stage(**rows.collate(chosen))["loss"]

    return stage.train(), losses


def _word_by_word(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> tuple[nn.Module, Losses]:
    source, layers = prepared.source, backbone.upper_layers()
    attached = attach(tuner, layers, source.config, rows=source.count, start=None, first_layer=first_layer(backbone))
    stage = CrossStage(CrossEncoder(backbone, layers, cross.initial(backbone.hidden)), source.config, attached).train()
    writer = PairWriter(source.platform, words=CrossEncoderConfig().words)
    rows = PairRows(writer, prepared.train.parts, keep=~source.held_out)

    def losses(chosen: list[tuple[int, int]]) -> Iterator[Tensor]:
        for one in chosen:
            yield stage(**rows.collate([one]))["loss"] / len(chosen)

    return stage, losses
