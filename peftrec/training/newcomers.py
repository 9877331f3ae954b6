# pyright: basic, reportArgumentType=false
# scikit-learn has no types; the rest of the package is checked strictly.
"""Learning how likely products are to be bought that nobody has bought yet, see :mod:`peftrec.model.newcomers`."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from peftrec.model.newcomers import are_new, closeness
from peftrec.model.platform import Platform
from peftrec.model.purchase import PurchaseModel
from peftrec.training.rows import Rows

ENOUGH = 50
"""Purchases of products never sold before, at all moments together, from which on something is learned of them."""

FEW = 10
"""Purchases among the products named below which closeness is not asked about, only how often such products are bought."""

_GREATEST = -1e-2
"""Intercept: zero means that nothing was learned."""


def learn_newcomers(model: PurchaseModel, platform: Platform, parts: Sequence[Rows]) -> list[Rows]:
    """Fits what tells of products never sold, in place.

    Args:
        model: Its other extras stay as they are.
        platform: Whose products they are.
        parts: Rows with candidates, such products among them.

    Returns:
        The rows without these candidates: nothing else reads them, so nothing else should learn from them.
    """
    new = [are_new(torch.from_numpy(part.candidates.features)).numpy() for part in parts]
    closest = np.concatenate([_closest(platform, part, told) for part, told in zip(parts, new, strict=True)])
    bought, weight = (
        np.concatenate([getattr(part, name)[told] for part, told in zip(parts, new, strict=True)])
        for name in ("labels", "weight")
    )
    model.extras["newcomer"].data.copy_(torch.from_numpy(fitted(closest, bought, weight)))
    return [part.only(~told) for part, told in zip(parts, new, strict=True)]


def fitted(
    closest: NDArray[np.floating], bought: NDArray[np.bool_], weight: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Logistic regression (scikit-learn) on how close products are and its square, or their rate alone where few were bought.

    Args:
        closest: (C,) see :func:`peftrec.model.newcomers.closeness`.
        bought: (C,) bool.
        weight: (C,) how many candidates each stands for.

    Returns:
        (1, 3): intercept, slope and curvature.
    """
    if bought.sum() < FEW or bought.all():
        chance = (weight[bought].sum() + 0.5) / (weight.sum() + 1)
        return np.array([[min(np.log(chance / (1 - chance)), _GREATEST), 0, 0]], np.float32)
    x = np.stack([closest, closest**2], axis=1).astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    found = LogisticRegression().fit((x - mean) / scale, bought, sample_weight=weight)
    slopes = found.coef_[0] / scale
    return np.array([[min(found.intercept_[0] - slopes @ mean, _GREATEST), *slopes]], np.float32)


def _closest(platform: Platform, part: Rows, new: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(C,) how close the new ones among a part's candidates are to their shoppers' histories."""
    items, tokens = part.candidates.items, part.tokens
    rows, values = items.rows[new], items.values[new]
    found = [np.empty(0, np.float32)]
    for row, (start, end) in enumerate(pairwise(np.searchsorted(rows, np.arange(len(part.users) + 1)))):
        asked = (platform.items(values[start:end]), platform.items(tokens.item[row]), tokens.mask[row])
        found.append(closeness(*(torch.from_numpy(one)[None] for one in asked))[0].numpy())
    return np.concatenate(found)
