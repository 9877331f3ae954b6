"""What an adapter holds beside its tuner: embeddings of events, maps of features, heads.

Every extra is a matrix. Training uses them as they are, (rows, columns); serving stacks those of several adapters to
(B, rows, columns), one per request of the batch, and the same functions work, since ``matmul`` and ``+`` broadcast.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # its usual name

from peftrec.data.columns import EVENT_TYPES
from peftrec.data.features import FEATURES
from peftrec.data.log import ENTRIES
from peftrec.data.tokens import EVENT_FEATURES
from peftrec.model import forest
from peftrec.model.quantiles import KNOTS, encoded, standard

Extras = Mapping[str, Tensor]

WORDS_STEP = 8
"""Of how many products a history is read: oneDNN keeps what it prepares for every shape of matrix it has met."""

MEMBERS, WIDE, NARROW = 4, 192, 64
"""The feature network: how many small ones it is the mean of, and their widths."""

STATISTICS = ("feature_mean", "feature_scale", "feature_knots", "event_mean", "event_scale")
"""Extras that are measured on the training rows, not learned."""

FIXED = (*STATISTICS, *forest.SHAPES, "newcomer")
"""Extras that gradients do not reach."""

OPTIONAL = ("newcomer",)
"""Extras that files hold only where something was learned; elsewhere they are zeros."""

EXACT = STATISTICS
"""Extras that keep single precision in files: inverse scales can lie outside half precision."""

NEAR_IDENTITY = ("item_map", "pooler")
"""Extras, of both forms, that start at the identity: beside its ones, what is learned would be lost in a byte."""


def shapes(hidden: int) -> dict[str, tuple[int, int]]:
    """Name and (rows, columns) of every extra, for a decoder of width ``hidden``."""
    return {
        "feature_mean": (1, len(FEATURES)),
        "feature_scale": (1, len(FEATURES)),
        "feature_knots": (KNOTS, len(FEATURES)),
        **forest.SHAPES,
        "newcomer": (1, 3),  # zeros where nothing is told of products never sold
        "event_mean": (1, len(EVENT_FEATURES)),
        "event_scale": (1, len(EVENT_FEATURES)),
        "features_1": (2 * len(FEATURES), MEMBERS * WIDE),  # member by member, as are all of features_*
        "features_1_bias": (1, MEMBERS * WIDE),
        "features_2": (WIDE, MEMBERS * NARROW),
        "features_2_bias": (1, MEMBERS * NARROW),
        "features_logit": (NARROW, MEMBERS),
        "features_logit_bias": (1, MEMBERS),
        "candidate_in": (NARROW, hidden),
        "event_1": (len(EVENT_FEATURES), NARROW),
        "event_1_bias": (1, NARROW),
        "event_2": (NARROW, hidden),
        "event_kind": (len(EVENT_TYPES), hidden),
        "event_entry": (ENTRIES, hidden),
        "profile": (1, hidden),
        "scene": (1, hidden),
        "shopper": (1, hidden),
        "candidate": (1, hidden),
        "input_gain": (1, 1),
        "item_map": (hidden, hidden),
        "shopper_gate": (1, hidden),
        "sharpness": (1, 1),
        "popularity": (1, 1),
        "head_1": (hidden + NARROW + 2, NARROW),
        "head_1_bias": (1, NARROW),
        "head_2": (NARROW, 1),
    }


def initial(hidden: int, *, gain: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Starting values: similarity works at once (identity map), text and counts begin without disturbing each other.

    Args:
        hidden: Width of the decoder.
        gain: Usual length of a word at the decoder's input; item vectors come with unit length.
        generator: Draws the random ones.
    """
    extras: dict[str, Tensor] = {}
    for name, (rows, columns) in shapes(hidden).items():
        value = torch.zeros(rows, columns)
        if name in ("features_1", "features_2", "features_logit", "event_1", "head_1"):
            value.normal_(std=1 / math.sqrt(rows), generator=generator)
        elif name == "shopper":
            value.normal_(std=gain / math.sqrt(hidden), generator=generator)
        elif name in ("feature_scale", "event_scale"):
            value.fill_(1.0)
        extras[name] = value
    extras |= forest.empty()
    extras["item_map"] = torch.eye(hidden)
    extras["input_gain"].fill_(gain)
    extras["sharpness"].fill_(10.0)
    extras["popularity"].fill_(1.0)
    return extras


def completed(extras: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
    """Extras of a decoder as read from files, with zeros for those that files may leave out; their shapes depend on no width."""
    return {**extras, **{name: np.zeros(shapes(1)[name], np.float16) for name in OPTIONAL if name not in extras}}


@dataclass(frozen=True)
class Words:
    """Words for the shopper side.

    Attributes:
        x: (B, N + 3, H): profile, scene, N products, the shopper's own word last.
        mask: (B, N + 3) bool.
    """

    x: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Shoppers:
    """The shopper side of B requests.

    Attributes:
        vectors: (B, N, H) unit item vectors of the history, least recent first.
        kind: (B, N) long, index into ``EVENT_TYPES``.
        entry: (B, N) long, kind of entry channel, -1 where unknown.
        features: (B, N, len(EVENT_FEATURES)).
        weight: (B, N) share of each word in the decayed mean.
        mask: (B, N) bool, True where there is a word.
        profile: (B, H) vector of the profile's text, zeros without one.
        scene: (B, H) vector of the scene's text, zeros without one.
    """

    vectors: Tensor
    kind: Tensor
    entry: Tensor
    features: Tensor
    weight: Tensor
    mask: Tensor
    profile: Tensor
    scene: Tensor

    def to(self, device: torch.device) -> "Shoppers":
        """The same on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def rows(self, at: slice | Tensor) -> "Shoppers":
        """Some of the requests, with as many words as the longest of them has, brought up to a multiple of ``WORDS_STEP``."""
        width = -(-max(1, int(self.mask[at].sum(dim=1).max())) // WORDS_STEP) * WORDS_STEP
        missing = max(width - self.mask.shape[1], 0)
        kept = {field.name: getattr(self, field.name)[at] for field in fields(self)}
        for name in ("vectors", "kind", "entry", "features", "weight", "mask"):
            kept[name] = F.pad(kept[name][:, :width], (*[0, 0] * (kept[name].ndim - 2), 0, missing))
        return replace(self, **kept)


def shopper_words(extras: Extras, shoppers: Shoppers) -> Words:
    """Builds the sentences of B shoppers."""
    vectors, gain = shoppers.vectors, extras["input_gain"]
    values = standard(shoppers.features, extras["event_mean"], extras["event_scale"])
    values = F.gelu(values @ extras["event_1"] + extras["event_1_bias"]) @ extras["event_2"]
    kinds = F.one_hot(shoppers.kind, len(EVENT_TYPES)).to(vectors.dtype) @ extras["event_kind"]
    known = F.one_hot(shoppers.entry.clamp(min=0), ENTRIES) * (shoppers.entry >= 0)[..., None]
    entries = known.to(vectors.dtype) @ extras["event_entry"]
    products = vectors * gain + values + kinds + entries
    texts = [
        shoppers.profile[:, None] * gain + extras["profile"],
        shoppers.scene[:, None] * gain + extras["scene"],
    ]
    told = torch.stack([shoppers.profile.any(dim=1), shoppers.scene.any(dim=1)], dim=1)  # (B, 2)
    own = extras["shopper"].expand(len(vectors), 1, -1)
    mask = torch.cat([told, shoppers.mask, torch.ones_like(told[:, :1])], dim=1)
    return Words(torch.cat([*texts, products, own], dim=1), mask)


def feature_network(extras: Extras, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What encoded numbers say to small networks: (…, M, NARROW) of the first, and (…, M, MEMBERS) logits.

    Members start from different values and learn apart, so that the mean of their logits errs less than each of them
    (deep ensembles, Lakshminarayanan et al., 2017).
    """
    x = F.gelu(inputs @ extras["features_1"] + extras["features_1_bias"])
    x = _members(x) @ _members(extras["features_2"]) + _members(extras["features_2_bias"])
    x = F.gelu(x)  # (B, MEMBERS, M, NARROW)
    logits = x @ _members(extras["features_logit"]) + _members(extras["features_logit_bias"])
    return x.select(-3, 0), logits[..., 0].transpose(-1, -2)


def feature_path(extras: Extras, features: Tensor) -> tuple[Tensor, Tensor]:
    """What the numbers alone say: (…, M, NARROW) summary, and (…, M) logits, the mean of network and forest.

    Both know the same and err differently: on three validation windows the mean ranked better than either
    (``benchmarks/LOG.md``).
    """
    summary, members = feature_network(extras, encoded(extras, features))
    return summary, (members.mean(dim=-1) + forest.forest_logits(extras, features)) / 2


def _members(x: Tensor) -> Tensor:
    """(…, rows, MEMBERS * columns) -> (…, MEMBERS, rows, columns)."""
    return x.unflatten(-1, (MEMBERS, -1)).transpose(-2, -3)


def candidate_words(extras: Extras, vectors: Tensor, summary: Tensor) -> Tensor:
    """(B, M, H) words of candidates from their item vectors (B, M, H) and feature summaries (B, M, NARROW)."""
    return vectors * extras["input_gain"] + summary @ extras["candidate_in"] + extras["candidate"]


def mapped(extras: Extras, vectors: Tensor) -> Tensor:
    """(…, H) item vectors under the adapter's map W. Linear, so that the map of a mean is the mean of the maps."""
    return vectors @ extras["item_map"]


def asking(extras: Extras, shopper: Tensor) -> Tensor:
    """(…, H) ``W^T u`` of shopper vectors u, whose product with an item vector z is ``u . W z``: no item need be mapped."""
    return shopper @ extras["item_map"].T


def catalog_scores(extras: Extras, shopper: Tensor, vectors: Tensor, text_of: Tensor, popularity: Tensor) -> Tensor:
    """Retrieval scores of a whole catalogue.

    Args:
        extras: One adapter's.
        shopper: (B, H) shopper vectors.
        vectors: (texts, H) unit vectors of distinct product texts.
        text_of: (n_items,) long, the text of each product.
        popularity: (n_items,) log of one plus the buyers of the last four weeks.

    Returns:
        (B, n_items) ``sharpness * u . W z + beta * popularity``.
    """
    near = asking(extras, shopper) @ vectors.T  # (B, texts)
    return extras["sharpness"] * near[:, text_of] + extras["popularity"] * popularity


def correction(extras: Extras, output: Tensor, summary: Tensor, near: Tensor, alike: Tensor) -> Tensor:
    """What the decoder adds to the feature path's logit.

    Args:
        extras: The adapter's.
        output: (B, M, H) decoder output.
        summary: (B, M, NARROW) from the feature path.
        near: (B, M) product of shopper vector and item.
        alike: (B, M) product of the mapped history's decayed mean and item.

    Returns:
        (B, M).
    """
    x = torch.cat([output, summary, near[..., None], alike[..., None]], dim=-1)
    x = F.gelu(x @ extras["head_1"] + extras["head_1_bias"])
    return (x @ extras["head_2"])[..., 0]
