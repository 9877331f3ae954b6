"""What the short trainings learn: the retrieval map, the feature network, then the decoder with its tuner on top."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from peftrec.model import extras as ops
from peftrec.model import losses
from peftrec.model.purchase import PurchaseModel, never_bought
from peftrec.training.adversarial import worst
from peftrec.training.config import TrainConfig
from peftrec.training.objectives import AuxiliaryHeads
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
        shopper, first, negatives = (ops.mapped(self.extras, x) for x in (mean, first, negatives))
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
            return {"loss": self._loss(batch, labels)}
        batch = self._with_numbers_hidden(batch)
        loss, adversarial = self._loss(batch, labels), self.settings.adversarial
        if adversarial is not None:
            inputs = (batch.shoppers.vectors, batch.vectors)
            changed = worst(lambda vectors: self._loss(_reading(batch, vectors), labels), inputs, adversarial)
            loss = loss + adversarial.weight * self._loss(_reading(batch, changed), labels)
        return {"loss": loss if self.penalty is None else loss + self.penalty()}

    def _loss(self, batch: Batch, labels: Tensor) -> Tensor:
        model, config = self.model, self.settings
        reading = model.read(batch.shoppers)
        scored = model.score(reading, batch.vectors, batch.features)
        logits = scored.logits.float()
        new = batch.weight * never_bought(batch.features)
        # Where all candidates were bought before, nothing else ties the loss to what is trained.
        told = losses.smoothed(labels, new, share=config.label_smoothing if self.training else 0.0)
        loss = losses.purchase_loss(logits, told, new) + 0 * reading.vector.float().sum()
        if self.training and self.auxiliary is not None and batch.targets is not None:
            there = scored.at[..., None].expand(-1, -1, batch.targets.shape[-1])
            loss = loss + self.auxiliary(scored.output, batch.targets.gather(1, there), new.gather(1, scored.at))
        if self.training and config.listwise_weight:
            loss = loss + config.listwise_weight * losses.listwise_loss(logits, labels * (new > 0), new)
        if self.training and config.retrieval_weight:
            loss = loss + config.retrieval_weight * losses.retrieval_loss(
                reading.vector.float(),
                ops.mapped(model.extras, batch.first).float(),
                batch.first_mask,
                ops.mapped(model.extras, losses.gathered(batch.negatives)).float(),
                model.extras["sharpness"],
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


def _reading(batch: Batch, vectors: Sequence[Tensor]) -> Batch:
    """The same with other item vectors of history and candidates."""
    history, candidates = vectors
    return replace(batch, shoppers=replace(batch.shoppers, vectors=history), vectors=candidates)
