"""What the short trainings learn: the retrieval map, the feature network, then the decoder with its tuner on top."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from peftrec.model import extras as ops
from peftrec.model import losses
from peftrec.model.purchase import PurchaseModel, are_read, never_bought
from peftrec.training.adversarial import worst
from peftrec.training.config import TrainConfig
from peftrec.training.objectives import AuxiliaryHeads, known
from peftrec.training.parts import alike, summed
from peftrec.training.rows import Batch
from peftrec.tuners import Attached

Losses = dict[str, Tensor]


class RetrievalStage(nn.Module):
    """Fits the item map W on first purchases, the decoder left out: the shopper is the decayed mean of the mapped history."""

    def __init__(self, model: PurchaseModel) -> None:
        super().__init__()
        self.extras = nn.ParameterDict({name: model.extras[name] for name in ("item_map", "sharpness")})

    def forward(self, mean: Tensor, first: Tensor, mask: Tensor, negatives: Tensor) -> Losses:
        """The retrieval loss, see :func:`peftrec.model.losses.retrieval_loss`; ``mean`` is (B, H)."""
        shopper = ops.asking(self.extras, ops.mapped(self.extras, mean))
        return {"loss": losses.retrieval_loss(shopper, first, mask, negatives, self.extras["sharpness"])}


class FeatureStage(nn.Module):
    """Fits the feature network alone."""

    def __init__(self, model: PurchaseModel, config: TrainConfig) -> None:
        super().__init__()
        names = [name for name in model.extras if name.startswith("features_")]
        self.extras, self.drop = nn.ParameterDict({name: model.extras[name] for name in names}), config.feature_drop

    def forward(self, inputs: Tensor, weight: Tensor, labels: Tensor) -> Losses:
        """Purchase loss of (C, 2 * len(FEATURES)) inputs, averaged over the members, which so learn apart."""
        if self.training and self.drop:
            kept = torch.rand(len(inputs), inputs.shape[1] // 2) >= self.drop
            inputs = inputs * torch.cat([kept, kept], dim=1)  # zero is the average, of the number and of its place
        logits = ops.feature_network(self.extras, inputs)[1]
        return {"loss": losses.purchase_loss(logits, *(one[:, None].expand_as(logits) for one in (labels, weight)))}


class Over(NamedTuple):
    """Divisors of a batch's losses, so that each part of it can be learned from by itself.

    Attributes:
        purchases: For candidates that their shoppers never bought, by how many each stands for.
        lists: For rows with a purchase of such a product.
        first: For first purchases that the retrieval loss asks for.
        tasks: (tasks,) for candidates of each auxiliary task, none of them in evaluation.
    """

    purchases: Tensor
    lists: Tensor
    first: Tensor
    tasks: Tensor


class DecoderStage(nn.Module):
    """Tuner and decoder extras: purchase and listwise losses of products never bought, and the retrieval loss."""

    def __init__(self, model: PurchaseModel, config: TrainConfig, attached: Attached | None = None) -> None:
        super().__init__()
        self.penalty = None if attached is None else attached.penalty
        self.tuner_state = None if attached is None else attached.state
        for name, value in model.extras.items():
            if name.startswith("features_"):
                value.requires_grad_(False)  # fitted before, on far more candidates than the decoder can read
        self.auxiliary = None
        if config.auxiliary:
            hidden = model.extras["item_map"].shape[0]
            weighting = config.auxiliary_weighting
            self.auxiliary = AuxiliaryHeads(config.auxiliary, hidden, weighting=weighting, seed=config.seed)
        self.model, self.settings = model, config  # Trainer takes an attribute named config for a transformers config

    def forward(self, batch: Batch, labels: Tensor) -> Losses:
        """The weighted sum while training; the purchase loss alone in evaluation, where stopping is decided."""
        if not self.training:
            return {"loss": self._loss(batch, labels, labels, self._over(batch, labels))}
        batch, over = self._with_numbers_hidden(batch), self._over(batch, labels)
        if self.settings.retrieval_weight:
            batch = replace(batch, negatives=losses.gathered(batch.negatives))
        told = losses.smoothed(labels, _new(batch), share=self.settings.label_smoothing)
        parts = [partial(self._trained, batch.rows(at), labels[at], told[at], over) for at in alike(batch)]
        loss = summed(parts, [x for x in (*self.parameters(), *_vectors(batch)) if x.requires_grad])
        if self.auxiliary is not None and len(over.tasks):
            adversarial = self.settings.adversarial  # bears the cost as well, as every pass does
            loss = loss + self.auxiliary.cost() * (1 if adversarial is None else 1 + adversarial.weight)
        return {"loss": loss if self.penalty is None else loss + self.penalty()}

    def _over(self, batch: Batch, labels: Tensor) -> Over:
        new, tasks = _new(batch), labels.new_zeros(0)
        if self.training and self.auxiliary is not None and batch.targets is not None:
            tasks = known(batch.targets, batch.weight * are_read(self.model.extras, batch.features))
        lists = (labels * (new > 0)).any(dim=1).sum()
        counts = torch.stack([new.sum(), lists.to(new.dtype), batch.first_mask.sum().to(new.dtype), *tasks])
        found = losses.divisors(counts)
        return Over(found[0], found[1], found[2], found[3:])

    def _trained(self, batch: Batch, labels: Tensor, told: Tensor, over: Over) -> Tensor:
        """What some rows add to the loss, by their labels (B, M or more); in adversarial training on changed inputs as well."""
        labels, told = (x[:, : batch.weight.shape[1]] for x in (labels, told))
        loss, adversarial = self._loss(batch, labels, told, over), self.settings.adversarial
        if adversarial is None:
            return loss
        inputs = (batch.shoppers.vectors, batch.vectors)
        changed = worst(lambda vectors: self._loss(_reading(batch, vectors), labels, told, over), inputs, adversarial)
        return loss + adversarial.weight * self._loss(_reading(batch, changed), labels, told, over)

    def _loss(self, batch: Batch, labels: Tensor, told: Tensor, over: Over) -> Tensor:
        """Of (B, M) labels; the purchase loss is of ``told``, which may be smoothed."""
        model, config, new = self.model, self.settings, _new(batch)
        reading = model.read(batch.shoppers)
        scored = model.score(reading, batch.vectors, batch.features)
        logits = scored.logits.float()
        # Where all candidates were bought before, nothing else ties the loss to what is trained.
        loss = losses.purchase_loss(logits, told, new, over=over.purchases) + 0 * reading.vector.float().sum()
        if self.auxiliary is not None and batch.targets is not None and len(over.tasks):
            there = scored.at[..., None].expand(-1, -1, batch.targets.shape[-1])
            read = batch.weight * are_read(model.extras, batch.features)
            targets, weight = batch.targets.gather(1, there), read.gather(1, scored.at)
            loss = loss + self.auxiliary(scored.output, targets, weight, over=over.tasks)
        if self.training and config.listwise_weight:
            listwise = losses.listwise_loss(logits, labels * (new > 0), new, over=over.lists)
            loss = loss + config.listwise_weight * listwise
        if self.training and config.retrieval_weight:
            loss = loss + config.retrieval_weight * losses.retrieval_loss(
                ops.asking(model.extras, reading.vector).float(),
                batch.first,
                batch.first_mask,
                batch.negatives,
                model.extras["sharpness"],
                over=over.first,
            )
        return loss

    def _with_numbers_hidden(self, batch: Batch) -> Batch:
        """Some numbers of the history at their average; candidates' numbers are read by the feature network, which is fixed."""
        drop, features = self.settings.feature_drop, batch.shoppers.features
        if not drop:
            return batch
        hidden = torch.rand(len(features), 1, features.shape[-1]) < drop
        average = self.model.extras["event_mean"].expand_as(features)
        return replace(batch, shoppers=replace(batch.shoppers, features=torch.where(hidden, average, features)))


def _new(batch: Batch) -> Tensor:
    """(B, M) weights of the candidates that their shoppers have never bought, 0 for the others."""
    return batch.weight * never_bought(batch.features)


def _vectors(batch: Batch) -> tuple[Tensor, ...]:
    """What an encoder that is trained as well would have made."""
    told = batch.shoppers
    return told.vectors, told.profile, told.scene, batch.vectors, batch.first, batch.negatives


def _reading(batch: Batch, vectors: Sequence[Tensor]) -> Batch:
    """The same with other item vectors of history and candidates."""
    history, candidates = vectors
    return replace(batch, shoppers=replace(batch.shoppers, vectors=history), vectors=candidates)
