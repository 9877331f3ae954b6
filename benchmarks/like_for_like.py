"""What peft and peftrec make of the same decoder, the same words and the same adapters, for benchmarks/serving.py."""

from collections.abc import Iterator, Sequence
from itertools import count

import torch
from peft_serving import PeftDecoder, joint_mask
from timing import alternately, median, multiplies_bf16, row
from torch import Tensor, nn

from peftrec import Backbone
from peftrec.model.decoder import read_candidates, read_shopper
from peftrec.model.mixed import Mixture, mixed_layers
from peftrec.model.shapes import first_layer
from peftrec.serving.decoding import parts_of
from peftrec.serving.loaded import Loaded, mixture_of
from peftrec.serving.precision import PRECISIONS, decoder_for, words_dtype

NUMBERS = (1, 8, 32, 128, 1_000)
"""Of adapters: so many are at hand, and each batch names as many of them as it has rows."""


def like_for_like(
    backbone: Backbone, adapters: Sequence[Loaded], words: Tensor, mask: Tensor, candidates: Tensor
) -> Iterator[dict[str, object]]:
    """Rows of throughput, of overhead over the base and of loading.

    Args:
        backbone: Whose decoder it is.
        adapters: A thousand, of which nothing but the tuner is looked at, as an engine holds them.
        words: (B, N, H) of shoppers.
        mask: (B, N) bool.
        candidates: (B, M, H).
    """
    batch, total = len(words), candidates.shape[0] * candidates.shape[1]
    theirs = PeftDecoder(backbone, [one.restored().changes.map(torch.as_tensor) for one in adapters[:batch]])
    joint, seen = torch.cat([words, candidates], dim=1), joint_mask(mask, candidates.shape[1])

    def ours(decoder: nn.ModuleList, rows: Sequence[Loaded], precision: str) -> Tensor:
        """The engine's own lines, with as many rows at once; what each row's adapter changes is put together anew."""
        device, first, found = torch.device("cpu"), first_layer(backbone), list[Tensor]()
        travel = words_dtype(precision, device)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            shared = len(set(map(id, rows))) <= 1
            for at in parts_of(batch, device):
                if not (found and shared):
                    mixture = mixture_of(rows[at], travel or torch.half) if rows else Mixture([])
                    layers = mixed_layers(decoder, mixture, first_layer=first, words=travel)
                _, memories = read_shopper(layers, words[at], mask[at])
                found.append(read_candidates(layers, candidates[at], mask[at], memories))
            return torch.cat(found).float()

    yield from _of_peft(theirs, joint, seen, total)

    def peft() -> Tensor:
        return theirs(joint, seen, [str(at) for at in range(batch)])

    for precision in PRECISIONS[::-1]:
        if precision == "bf16" and not multiplies_bf16():
            continue
        decoder, _ = decoder_for(backbone, precision)
        system = "peftrec" if precision == "int8" else f"peftrec {precision}"
        found = ours(decoder, adapters[:batch], precision)
        there = peft()[:, words.shape[1] :]
        yield row(system, "largest_difference_to_peft", float((there - found).abs().max()), "")

        def mixed(at_hand: int, decoder: nn.ModuleList = decoder, precision: str = precision):
            turns = count()  # other adapters at every turn, where there are more than rows

            def once() -> None:
                begun = next(turns) * batch if at_hand > batch else 0
                ours(decoder, [adapters[(begun + at) % at_hand] for at in range(batch)], precision)

            return once

        def base(decoder: nn.ModuleList = decoder, precision: str = precision) -> None:
            ours(decoder, [], precision)

        alone, with_all, of_peft = alternately(base, mixed(batch), peft, times=9)
        yield row(system, "scores_per_second", total / alone, "1/s", adapters=0)
        yield row(system, "mixed_overhead_over_base", with_all / alone - 1, "", adapters=batch)
        yield row(system, "speedup_over_peft_like_for_like", of_peft / with_all, "times", adapters=batch)
        for number in NUMBERS:
            seconds = with_all if number == batch else median(mixed(number), 3)
            yield row(system, "scores_per_second", total / seconds, "1/s", adapters=number)


def _of_peft(theirs: PeftDecoder, joint: Tensor, seen: Tensor, total: int) -> Iterator[dict[str, object]]:
    """What peft reaches itself; it holds as many adapters as a batch has rows, and takes ever longer to load one more."""
    batch = len(joint)
    base, mixed = alternately(
        lambda: theirs(joint, seen, []), lambda: theirs(joint, seen, [str(at) for at in range(batch)]), times=5
    )
    yield row("peft", "scores_per_second", total / base, "1/s", adapters=0)
    yield row("peft", "scores_per_second", total / mixed, "1/s", adapters=batch)
    yield row("peft", "mixed_overhead_over_base", mixed / base - 1, "", adapters=batch)
    for number in (1, 8):
        seconds = median(lambda number=number: theirs(joint, seen, [str(at % number) for at in range(batch)]), 3)
        yield row("peft", "scores_per_second", total / seconds, "1/s", adapters=number)
    for number in (2, 30):
        yield row("peft", "load_ms", 1e3 * theirs.load_seconds[number - 1], "ms", adapters=number)
