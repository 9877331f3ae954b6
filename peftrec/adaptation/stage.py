"""What the language stage learns: heads and losses around a BERT."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertOnlyNSPHead, BertPooler, BertPredictionHeadTransform

from peftrec.adaptation.config import LanguageConfig
from peftrec.adaptation.packed import read_packed

TERMS = MASKED, NEXT, CONTRASTIVE, DISTILLATION = ("masked", "next", "contrastive", "distillation")
"""Names of the objectives in the log."""

Inputs = Mapping[str, Any]
"""Arguments of what one pass through BERT is for: tensors, and what BERT reads."""


class MaskedHead(nn.Module):
    """Guesses masked pieces: ``logits = transform(h) E^T + b`` with the word embeddings E of BERT itself.

    The embeddings are lent at each call, so they are tied to the head and exist once.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        _initialise(self, config)

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """``(m, H), (vocabulary, H) -> (m, vocabulary)``."""
        return F.linear(self.transform(hidden), embeddings, self.bias)


class LanguageStage(nn.Module):
    """Masked-language modelling and next-sentence prediction (Devlin et al., 2019), and two terms that keep vectors useful.

    Args:
        bert: Without a pooler; trained whole.
        config: Weights of the terms; those of weight 0 are not computed.
    """

    def __init__(self, bert: BertModel, config: LanguageConfig) -> None:
        super().__init__()
        self.bert, self.settings = bert, config  # Trainer takes an attribute named config for a transformers config
        self.masked_head = MaskedHead(bert.config)
        self.next_head = nn.Sequential(  # reads the first word, [CLS]
            BertPooler(bert.config), BertOnlyNSPHead(bert.config)
        )
        _initialise(self.next_head, bert.config)
        self.terms: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "LanguageStage":
        """Keeps BERT in evaluation mode: a few passes need no dropout (Geiping and Goldstein, 2023), which is slow on CPUs."""
        super().train(mode)
        self.bert.eval()
        return self

    def forward(self, joint: Inputs | None = None, single: Inputs | None = None) -> dict[str, Tensor]:
        """The weighted sum of the losses of what is given; :attr:`terms` holds each of them.

        Args:
            joint: Arguments of :meth:`of_words`.
            single: Arguments of :meth:`of_vectors`.
        """
        terms = (self.of_words(**joint) if joint else {}) | (self.of_vectors(**single) if single else {})
        config = self.settings
        weights = {
            MASKED: 1.0,
            NEXT: config.nsp_weight,
            CONTRASTIVE: config.contrastive_weight,
            DISTILLATION: config.distillation_weight,
        }
        self.terms = {name: value.detach() for name, value in terms.items()}
        return {"loss": torch.stack([weights[name] * value for name, value in terms.items()]).sum()}

    def of_words(
        self, read: Mapping[str, Tensor], places: Tensor, labels: Tensor, follows: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What is lost guessing words and which text follows.

        Args:
            read: What BERT reads of B texts or pairs of texts, W pieces wide, some of them masked.
            places: (m,) of the masked pieces among all B * W.
            labels: (m,) what they were.
            follows: (B,) 1 where the second text follows the first in a visit.
        """
        wide, device = read["input_ids"].shape[1], places.device
        first = torch.arange(0 if follows is None else len(follows), device=device) * wide  # [CLS] of each row
        # No place twice: a tokenizer may put no special word before a pair, and its first word may be masked.
        distinct, back = torch.cat([places, first]).unique(return_inverse=True)
        hidden = read_packed(self.bert, read, distinct).index_select(0, back)
        terms = {MASKED: guessing_loss(self.masked_head, self.bert, hidden[: len(places)], labels)}
        if follows is not None:
            terms[NEXT] = F.cross_entropy(self.next_head(hidden[len(places) :, None]).float(), follows)
        return terms

    def of_vectors(
        self, read: Mapping[str, Tensor], pairs: Tensor | None = None, original: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What is lost where vectors lie.

        Args:
            read: What BERT reads of S distinct texts, one by one.
            pairs: (2, P) rows of them that were bought together, P > 1.
            original: (S, H) the vectors that they had before adaptation.
        """
        vectors, terms = pooled(read_packed(self.bert, read), read.get("attention_mask")), dict[str, Tensor]()
        if pairs is not None:
            terms[CONTRASTIVE] = contrastive_loss(vectors, pairs, temperature=self.settings.temperature)
        if original is not None:
            terms[DISTILLATION] = (1 - F.cosine_similarity(vectors, original, dim=1)).mean()
        return terms


class HeadStage(nn.Module):
    """Fits a masked-language head alone: what can be guessed with a BERT as it is."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert.requires_grad_(False)
        self.masked_head = MaskedHead(bert.config)
        self.terms: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "HeadStage":
        """Keeps BERT in evaluation mode, as :class:`LanguageStage` does."""
        super().train(mode)
        self.bert.eval()
        return self

    def forward(self, joint: Inputs) -> dict[str, Tensor]:
        """The masked-language loss, see :class:`LanguageStage`; what follows what is not looked at."""
        with torch.no_grad():
            hidden = read_packed(self.bert, joint["read"], joint["places"])
        loss = guessing_loss(self.masked_head, self.bert, hidden, joint["labels"])
        self.terms = {MASKED: loss.detach()}
        return {"loss": loss}


def guessing_loss(head: MaskedHead, bert: BertModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of the masked pieces.

    Args:
        head: Of this BERT.
        bert: Lends its word embeddings.
        hidden: (m, H) of the masked pieces after BERT's last layer.
        labels: (m,) what they were.
    """
    if not len(labels):  # texts of unknown words alone
        # The head's own, for there to be a gradient where BERT is frozen.
        return 0 * (hidden.float().sum() + head.bias.sum())
    return F.cross_entropy(head(hidden, bert.embeddings.word_embeddings.weight).float(), labels)


def pooled(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """``(S, W, H) -> (S, H)`` float32: the mean over all pieces but padding, as the item encoder takes it."""
    if mask is None:
        return hidden.float().mean(dim=1)
    weight = mask.unsqueeze(2).float()
    return (hidden.float() * weight).sum(dim=1) / weight.sum(dim=1)


def contrastive_loss(vectors: Tensor, pairs: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al., 2018) with the other pairs' texts as negatives, in both directions.

    No text is a negative of itself, nor of one that it was bought with in another pair of the batch.

    Args:
        vectors: (S, H) of distinct texts.
        pairs: (2, P) rows of them that were bought together.
        temperature: What cosines are divided by.
    """
    unit = F.normalize(vectors, dim=1)
    first, second = pairs
    logits = unit[first] @ unit[second].T / temperature  # (P, P)
    partners = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    partners[first, second] = partners[second, first] = True
    own = torch.eye(len(first), dtype=torch.bool, device=vectors.device)
    forward = logits.masked_fill(partners[first][:, second] & ~own, -torch.inf)
    backward = logits.T.masked_fill(partners[second][:, first] & ~own, -torch.inf)
    target = torch.arange(len(first), device=logits.device)
    return (F.cross_entropy(forward, target) + F.cross_entropy(backward, target)) / 2


def _initialise(module: nn.Module, config: BertConfig) -> None:
    """Random maps as small as BERT's own were, no bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=config.initializer_range)
            nn.init.zeros_(layer.bias)
