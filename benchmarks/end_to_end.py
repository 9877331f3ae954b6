"""The reference that needs no item table: peft's LoRA on a whole BERT that encodes a step's products anew, decoder on top.

The decoder, its losses, rows, candidates and schedule are peftrec's own; what differs is where item vectors come from. Each
text of a step is encoded once, in batches of like length, so that the reference is no slower than it must be.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from peftrec import Backbone
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.data import Dataset
from peftrec.model import Adapter, Platform
from peftrec.model.purchase import PurchaseModel
from peftrec.model.scoring import AdapterRecommender
from peftrec.model.shapes import first_layer
from peftrec.text.words import TOKEN_BUDGET
from peftrec.training.rows import Batch, RowDataset
from peftrec.training.stages import DecoderStage
from peftrec.training.train import Prepared
from peftrec.training.trainer import attach, run_tuned
from peftrec.tuners import Attached, Tuner

STAGE = "end to end"
RANK = 16


class EndToEndStage(nn.Module):
    """A decoder's stage whose item vectors come out of a BERT that is tuned with it.

    Args:
        decoder: The stage as it is.
        bert: With peft's LoRA.
        words: Ids of each product text, special ones included.
        padding: Id of what fills a batch.
    """

    def __init__(self, decoder: DecoderStage, bert: PeftModel, words: Sequence[Sequence[int]], padding: int) -> None:
        super().__init__()
        self.decoder, self.bert = decoder, bert
        self.words, self.padding = [torch.tensor(ids) for ids in words], padding

    def forward(self, batch: Batch, labels: Tensor) -> Mapping[str, Tensor]:
        """As the decoder's; ``batch`` holds, where vectors should be, the places of texts."""
        parts = {"history": batch.shoppers.vectors, "candidates": batch.vectors}
        if self.training:  # evaluation looks at purchases alone
            parts |= {"first": batch.first, "negatives": batch.negatives}
        places = torch.cat([part.flatten() for part in parts.values()]).long()
        used, at = places.unique(return_inverse=True)
        vectors, ends = self._encoded(used.tolist()), np.cumsum([part.numel() for part in parts.values()])
        found = {
            name: vectors[rows].unflatten(0, part.shape[:-1])
            for (name, part), rows in zip(parts.items(), at.tensor_split(ends[:-1].tolist()), strict=True)
        }
        nothing = torch.zeros_like(batch.shoppers.profile)
        told = replace(batch.shoppers, vectors=found["history"], scene=nothing)
        others = {name: found[name] for name in ("first", "negatives") if name in found}
        return self.decoder(replace(batch, shoppers=told, vectors=found["candidates"], **others), labels)

    def _encoded(self, texts: Sequence[int]) -> Tensor:
        """(U, H) unit vectors of texts, as the item encoder makes them."""
        order = sorted(range(len(texts)), key=lambda at: -len(self.words[texts[at]]))
        parts, start = list[Tensor](), 0
        while start < len(order):
            count = max(1, TOKEN_BUDGET // len(self.words[texts[order[start]]]))
            some = [self.words[texts[at]] for at in order[start : start + count]]
            ids = nn.utils.rnn.pad_sequence(some, batch_first=True, padding_value=self.padding)
            mask = torch.arange(ids.shape[1]) < torch.tensor([len(one) for one in some])[:, None]
            hidden = self.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            weight = mask[..., None].to(hidden.dtype)
            parts.append((hidden * weight).sum(dim=1) / weight.sum(dim=1))
            start += count
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return F.normalize(torch.cat(parts), dim=-1)[back]


def places_of(prepared: Prepared, rows: RowDataset) -> RowDataset:
    """The same rows with the place of each product's text where its vector should be."""
    platform = rows.platform
    places = np.arange(len(platform.vectors), dtype=np.float32)[:, None]
    held_out = prepared.source.held_out
    keep = held_out if rows is prepared.validation else ~held_out
    moment = prepared.source.anchors[0].moment
    return RowDataset(replace(platform, vectors=places), rows.parts, rows.config, keep=keep, moment=moment)


def decoder_stage(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> tuple[DecoderStage, Attached]:
    """The decoder with a tuner, about to learn what is prepared."""
    config, decoder = prepared.source.config, backbone.decoder()
    first = first_layer(backbone)
    attached = attach(tuner, decoder, config, rows=len(prepared.train), start=None, first_layer=first)
    return DecoderStage(PurchaseModel(decoder, prepared.extras), config, attached), attached


def end_to_end_stage(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> tuple[EndToEndStage, Attached]:
    """Encoder and decoder, each with low-rank changes of its own, about to learn together."""
    decoder, attached = decoder_stage(prepared, backbone, tuner)
    maps = ["query", "key", "value", "dense"]
    bert = get_peft_model(copy.deepcopy(backbone.bert), LoraConfig(r=RANK, lora_alpha=RANK, target_modules=maps))
    begin, end, padding = (
        int(value or 0)
        for value in (
            backbone.tokenizer.cls_token_id,
            backbone.tokenizer.sep_token_id,
            backbone.tokenizer.pad_token_id,
        )
    )
    words = [[begin, *ids[: backbone.max_length - 2], end] for ids in prepared.source.platform.words()]
    return EndToEndStage(decoder, bert, words, padding), attached


def tune_end_to_end(
    prepared: Prepared, backbone: Backbone, tuner: Tuner, *, folder: Path, measured: AbstractContextManager[object]
) -> "EndToEnd":
    """Trains encoder and decoder together on what :func:`peftrec.training.train.tune` would train the decoder on.

    Args:
        prepared: Rows and fitted numbers.
        backbone: What both start from.
        tuner: Of the decoder.
        folder: For checkpoints.
        measured: Entered around the training alone.
    """
    config = prepared.source.config
    stage, attached = end_to_end_stage(prepared, backbone, tuner)
    train, validation = (places_of(prepared, rows) for rows in (prepared.train, prepared.validation))
    with measured:
        run_tuned(stage, attached, train, validation, config, name=STAGE, learning_rate=None, folder=folder)
    settings = {"candidates": config.candidates, "history": config.history}
    adapter = Adapter.of(stage.decoder.model, backbone, tuner, attached.export(first_layer(backbone)), **settings)
    merged = stage.bert.merge_and_unload().eval().requires_grad_(False)
    encoder = replace(backbone, bert=merged, encoder_fingerprint=weights_fingerprint(merged), name=STAGE)
    return EndToEnd(adapter, encoder)


class EndToEnd(AdapterRecommender):
    """An adapter that reads products through an encoder of its own."""

    def __init__(self, adapter: Adapter, encoder: Backbone) -> None:
        super().__init__(adapter, name="end_to_end_peft")
        self.encoder = encoder

    def platform(self, past: Dataset) -> Platform:
        """The dataset read through the encoder."""
        if self._platform is None or self._platform.dataset is not past:
            self._platform = Platform.of(past, self.encoder)
        return self._platform
