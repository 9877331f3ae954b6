"""Products that nobody has bought yet, of which numbers say nothing: what their texts tell.

Numbers about them are all alike, and seen among the numbers of products that sell they only say that hardly any of them is
bought. So their logit is another one, quadratic in how close they are in meaning to the closest product that the shopper
dealt with. It is fitted on what became of such products at the moments that training looks at, so that its chances are as
natural as the others', and both stand in one list.
"""

import numpy as np
import torch
from torch import Tensor

from peftrec.data.browsing import FAR
from peftrec.data.features import FEATURES
from peftrec.model.extras import Extras

NEVER_SOLD, TOUCHED = FEATURES.index("never_sold"), FEATURES.index("touched")


def are_new(features: Tensor) -> Tensor:
    """(…,) bool: nobody ever bought the product, and the shopper never looked at it, by (…, len(FEATURES)) numbers."""
    untouched = np.log1p(FAR) - 0.1  # half precision rounds
    return (features[..., NEVER_SOLD] > 0) & (features[..., TOUCHED] > untouched)


def are_told(extras: Extras, features: Tensor) -> Tensor:
    """(…, M) bool: those whose logit is :func:`newcomer_logits`, none where the adapter has not learned it."""
    return are_new(features) & (extras["newcomer"][..., 0] < 0)


def newcomer_logits(extras: Extras, closest: Tensor) -> Tensor:
    """(…, M) purchase logits by how close they are, see :func:`closeness`."""
    rate, slope, curve = extras["newcomer"].unbind(-1)  # each (…, 1)
    return rate + slope * closest + curve * closest.square()


def closeness(vectors: Tensor, history: Tensor, mask: Tensor) -> Tensor:
    """Cosine to the closest product of a history, 0 where none is on the same side or there is no history.

    Args:
        vectors: (B, M, H) unit item vectors.
        history: (B, N, H) those of the history.
        mask: (B, N) bool, True where there is a product.

    Returns:
        (B, M).
    """
    if not history.shape[1]:
        return vectors.new_zeros(vectors.shape[:2])
    with torch.autocast(vectors.device.type, enabled=False):  # the curve is steep where they are very close
        alike = (vectors.float() @ history.float().transpose(-1, -2)).masked_fill(~mask[:, None], 0)
    return alike.amax(dim=-1).clamp(min=0)
