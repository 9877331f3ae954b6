"""The literal form, BERT(history, product): one sentence of words for each pair, and a head of two classes.

It reads what the decoder reads as item vectors word by word, for every candidate anew: the reference that the decoder is
compared with, and a re-ranker of few products. A tuner works on the upper layers, as many as the decoder has; embeddings and
layers below them stay frozen. The form is that of Nogueira & Cho (2019), "Passage Re-ranking with BERT".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from peftrec.backbone import Backbone
from peftrec.data.tokens import HistoryTokens
from peftrec.model.decoder import Layer, read_shopper
from peftrec.model.extras import Extras
from peftrec.model.platform import Platform, words_of
from peftrec.text.words import TOKEN_BUDGET

if TYPE_CHECKING:
    from transformers import BertModel

WORDS, LEAST_WORDS = 128, 16
"""Words of a sentence that are read unless a training says otherwise, special ones included; and the fewest that may be."""


def shapes(hidden: int) -> dict[str, tuple[int, int]]:
    """Name and (rows, columns) of every extra of this form."""
    return {
        "pooler": (hidden, hidden),
        "pooler_bias": (1, hidden),
        "classifier": (hidden, 2),
        "classifier_bias": (1, 2),
        "popularity": (1, 1),  # of retrieval, which names the candidates
    }


def initial(hidden: int) -> dict[str, Tensor]:
    """Starting values: the pooler hands ``[CLS]`` on, the classes are equally likely."""
    extras = {name: torch.zeros(shape) for name, shape in shapes(hidden).items()}
    return extras | {"pooler": torch.eye(hidden), "popularity": torch.ones(1, 1)}


def retrieval_extras(extras: Extras) -> dict[str, Tensor]:
    """What :func:`peftrec.model.nearest.nearest` reads: similarity as the backbone has it, popularity beside it."""
    hidden = extras["pooler"].shape[0]
    return {
        "item_map": torch.eye(hidden),
        "sharpness": torch.full((1, 1), 10.0),
        "popularity": extras["popularity"].detach().float().cpu(),
    }


@dataclass(frozen=True)
class Pairs:
    """Sentences of P pairs, padded on the right.

    Attributes:
        ids: (P, T) long.
        types: (P, T) long, 0 for the past, 1 for the product.
        mask: (P, T) bool.
    """

    ids: Tensor
    types: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "Pairs":
        """The same on another device."""
        return Pairs(self.ids.to(device), self.types.to(device), self.mask.to(device))


class PairWriter:
    """Writes shoppers and products of a platform: ``[CLS] latest product, …, oldest [SEP] candidate [SEP]``.

    A past that is too long loses its oldest words, a candidate that is longer than a quarter of the sentence its last ones.

    Args:
        platform: Theirs.
        words: Of a sentence at most.
    """

    def __init__(self, platform: Platform, *, words: int) -> None:
        tokenizer = platform.backbone.tokenizer
        self.products, self.text_of, self.words = platform.words(), platform.text_of, words
        self.described = words_of(platform.described, platform.backbone)
        self.begin, self.end, self.padding = (
            int(value or 0) for value in (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
        )
        self.comma = tokenizer(",", add_special_tokens=False)["input_ids"]

    def past(self, tokens: HistoryTokens, row: int) -> list[int]:
        """A shopper's part of a sentence."""
        room, said = self.words - self.words // 4 - 2, list[int]()
        for item in tokens.item[row][tokens.mask[row]][::-1]:
            said += self.comma * bool(said) + self._words_of(item)
            if len(said) >= room:
                break
        return [self.begin, *said[:room], self.end]

    def product(self, item: int) -> list[int]:
        """A candidate's part of a sentence."""
        return [*self._words_of(item)[: self.words // 4 - 1], self.end]

    def _words_of(self, item: int) -> list[int]:
        text, known = int(self.text_of[item]), len(self.products)
        return self.products[text] if text < known else self.described[text - known]

    def write(self, pairs: Sequence[tuple[list[int], int]]) -> Pairs:
        """Sentences of some pasts, each with a candidate."""
        parts = [(past, self.product(item)) for past, item in pairs]
        width = max(len(past) + len(product) for past, product in parts)
        ids, types = (np.full((len(parts), width), fill, np.int64) for fill in (self.padding, 0))
        mask = np.zeros((len(parts), width), bool)
        for row, (past, product) in enumerate(parts):
            length = len(past) + len(product)
            ids[row, :length] = past + product
            types[row, len(past) : length] = 1
            mask[row, :length] = True
        return Pairs(torch.from_numpy(ids), torch.from_numpy(types), torch.from_numpy(mask))


def read_pairs(bert: "BertModel", layers: Sequence[Layer], extras: Extras, pairs: Pairs) -> Tensor:
    """(P,) purchase logits.

    Args:
        bert: Its embeddings and lower layers are run, without gradients.
        layers: The upper ones, tuned or not.
        extras: Matrices of this form.
        pairs: Sentences.
    """
    below = [Layer.of(layer) for layer in bert.encoder.layer[: len(bert.encoder.layer) - len(layers)]]
    kinds = bert.config.type_vocab_size
    with torch.no_grad():
        x = bert.embeddings(input_ids=pairs.ids, token_type_ids=pairs.types.clamp(max=kinds - 1))
        x, _ = read_shopper(below, x, pairs.mask)
    x, _ = read_shopper(layers, x, pairs.mask, asked=slice(0, 1))
    pooled = torch.tanh(x[:, 0] @ extras["pooler"] + extras["pooler_bias"])
    classes = pooled @ extras["classifier"] + extras["classifier_bias"]  # (P, 2): not bought, bought
    return classes[:, 1] - classes[:, 0]


class CrossEncoder(nn.Module):
    """Upper layers of a BERT with a head of two classes, for training.

    Args:
        backbone: Whose embeddings and lower layers read the words first; they are no parameters of this module.
        decoder: Its upper layers (``BertLayer``), frozen, a tuner attached or not.
        extras: From :func:`initial` or an adapter.
    """

    def __init__(self, backbone: Backbone, decoder: nn.ModuleList, extras: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.decoder = decoder
        self.extras = nn.ParameterDict({name: nn.Parameter(value.clone()) for name, value in extras.items()})
        self.extras["popularity"].requires_grad_(False)  # chosen on validation
        self._below = (backbone.bert,)  # a tuple hides it from parameters and checkpoints

    def forward(self, pairs: Pairs) -> Tensor:
        """(P,) purchase logits."""
        return read_pairs(self._below[0], [Layer.of(layer) for layer in self.decoder], self.extras, pairs)


@dataclass(frozen=True)
class PairReader:
    """A cross-encoder with an adapter, for evaluation and serving.

    Attributes:
        bert: Its embeddings and lower layers are run.
        layers: The upper ones with the adapter's changes.
        extras: The adapter's.
        bf16: Run matrix products in bfloat16.
    """

    bert: "BertModel"
    layers: Sequence[Layer]
    extras: Extras
    bf16: bool = False

    def score(self, writer: PairWriter, past: list[int], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """(M,) purchase logits of candidates for one shopper; sentences of like length are read together."""
        lengths = np.array([len(writer.product(int(item))) for item in items], np.int64)
        logits = np.empty(len(items), np.float32)
        if not len(items):
            return logits
        order = np.argsort(-lengths, kind="stable")
        device = self.extras["pooler"].device.type
        rows = max(1, TOKEN_BUDGET // writer.words)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            for some in np.array_split(order, -(-len(order) // rows)):
                pairs = writer.write([(past, int(items[at])) for at in some]).to(self.extras["pooler"].device)
                logits[some] = read_pairs(self.bert, self.layers, self.extras, pairs).float().cpu().numpy()
        return logits
