"""The purchase model: item vectors and numbers in, purchase logits and a shopper vector out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from peftrec.data.features import FEATURES
from peftrec.model import extras as ops
from peftrec.model import newcomers
from peftrec.model.decoder import Layer, Memory, read_candidates, read_shopper
from peftrec.model.extras import Extras, Shoppers

NEVER = FEATURES.index("never_bought")
WIDTH_STEP = 32
"""Of how many candidates the decoder reads: oneDNN keeps what it prepares for every shape of matrix it has met."""


@dataclass(frozen=True)
class Reading:
    """What the decoder made of B shoppers: enough to score any number of candidates.

    Attributes:
        vector: (B, H) the shopper vector u.
        mean: (B, H) its part that is the decayed mean of the mapped history.
        mask: (B, N + 3) bool of the shopper's words.
        memories: Keys and values per layer.
        history: (B, N, H) unit vectors of its products.
    """

    vector: Tensor
    mean: Tensor
    mask: Tensor
    memories: list[Memory]
    history: Tensor


def read(layers: Sequence[Layer], extras: Extras, shoppers: Shoppers) -> Reading:
    """Runs the shopper side once."""
    words = ops.shopper_words(extras, shoppers)
    output, memories = read_shopper(layers, words.x, words.mask, asked=slice(-1, None))
    mean = ops.mapped(extras, shoppers.weight[:, None] @ shoppers.vectors)[:, 0]
    vector = mean + output[:, 0] * extras["shopper_gate"].squeeze(-2)
    return Reading(vector, mean, words.mask, memories, shoppers.vectors)


class Scored(NamedTuple):
    """What the decoder made of candidates.

    Attributes:
        logits: (B, M) of a purchase.
        at: (B, W) which candidates were read: those of :func:`are_read`, then padding.
        output: (B, W, H) of the decoder for them.
    """

    logits: Tensor
    at: Tensor
    output: Tensor


def score(layers: Sequence[Layer], extras: Extras, reading: Reading, vectors: Tensor, features: Tensor) -> Scored:
    """Purchase logits of candidates, and what they were read from.

    The decoder reads only products that the shopper has never bought. For the others the numbers say all there is, and
    what a decoder learns about them beyond that goes stale within weeks (measured, see ``benchmarks/LOG.md``). Products that
    nobody has bought yet it does not read either where the adapter has learned to tell of them by their texts alone.

    Args:
        layers: The decoder, lowest first.
        extras: The adapter's.
        reading: Of the B shoppers.
        vectors: (B, M, H) unit item vectors.
        features: (B, M, len(FEATURES)).
    """
    summary, logits = ops.feature_path(extras, features)
    unsold = newcomers.are_told(extras, features)
    logits = _with_newcomers(logits, unsold, extras, reading, vectors)
    new = never_bought(features) & ~unsold
    at = _places(new)
    if not at.shape[1]:
        return Scored(logits, at, vectors[:, :0])
    vectors, summary = (_at(x, at) for x in (vectors, summary))
    output = read_candidates(layers, ops.candidate_words(extras, vectors, summary), reading.mask, reading.memories)
    both = torch.stack([reading.vector, reading.mean], dim=-1)  # (B, H, 2)
    near, alike = (vectors @ (extras["item_map"] @ both)).unbind(-1)
    seen = ops.correction(extras, output, summary, near, alike)
    return Scored(logits.scatter_add(1, at, (seen * new.gather(1, at)).to(logits.dtype)), at, output)


def _with_newcomers(logits: Tensor, unsold: Tensor, extras: Extras, reading: Reading, vectors: Tensor) -> Tensor:
    """(B, M) logits, of products never sold (B, M) by how close they are to the shopper's."""
    at = _places(unsold)
    if not at.shape[1]:
        return logits
    closest = newcomers.closeness(_at(vectors, at), reading.history, reading.mask[:, 2:-1])
    own = newcomers.newcomer_logits(extras, closest).to(logits.dtype)
    return logits.scatter(1, at, torch.where(unsold.gather(1, at), own, logits.gather(1, at)))


def _places(wanted: Tensor) -> Tensor:
    """(B, W) places of what is wanted (B, M) in each row, then padding; there are few distinct numbers W."""
    width = int(wanted.sum(dim=1).max())
    width = min(-(-width // WIDTH_STEP) * WIDTH_STEP, wanted.shape[1])
    return torch.argsort(~wanted, dim=1, stable=True)[:, :width]


def _at(x: Tensor, at: Tensor) -> Tensor:
    """(B, W, …) what stands at some places of (B, M, …)."""
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))


def never_bought(features: Tensor) -> Tensor:
    """(B, M) bool: which candidates the shopper has never bought."""
    return features[..., NEVER] > 0


def are_read(extras: Extras, features: Tensor) -> Tensor:
    """(B, M) bool: which candidates the decoder reads, see :func:`score`."""
    return never_bought(features) & ~newcomers.are_told(extras, features)


class PurchaseModel(nn.Module):
    """A decoder with its extras, for training. Serving calls :func:`read` and :func:`score` with its own layers.

    Args:
        decoder: The top layers of the backbone (``BertLayer``), frozen, a tuner attached or not.
        extras: From :func:`peftrec.model.extras.initial` or an adapter.
    """

    def __init__(self, decoder: nn.ModuleList, extras: Extras) -> None:
        super().__init__()
        self.decoder = decoder
        self.extras = nn.ParameterDict(
            {name: nn.Parameter(value.clone(), requires_grad=name not in ops.FIXED) for name, value in extras.items()}
        )
        self.extras["popularity"].requires_grad_(False)  # chosen on validation

    def layers(self) -> list[Layer]:
        """The decoder's layers as maps; words travel in the precision of autocast where that is on."""
        device = self.extras["input_gain"].device.type
        words = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return [Layer.of(layer, words=words) for layer in self.decoder]

    def read(self, shoppers: Shoppers) -> Reading:
        """Runs the shopper side."""
        return read(self.layers(), self.extras, shoppers)

    def score(self, reading: Reading, vectors: Tensor, features: Tensor) -> Scored:
        """Scores candidates, see :func:`score`."""
        return score(self.layers(), self.extras, reading, vectors, features)
