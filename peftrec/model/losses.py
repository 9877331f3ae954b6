"""What the purchase model is trained on: purchases, their order, and retrieval of first purchases.

Where several processes train together, a loss divides by what all of them hold: the mean of their losses, and of their
gradients, is that of one process with the whole batch. Where a batch is learned from part by part, ``over`` is the divisor of the
whole batch (:func:`divisors`): the sum of the parts' losses is its loss, and processes talk once a step.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # its usual name


def purchase_loss(logits: Tensor, labels: Tensor, weight: Tensor, *, over: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, mean over all candidates that those at hand stand for.

    Args:
        logits: Of any shape.
        labels: 1 where bought.
        weight: How many candidates each stands for, 0 for padding.
        over: Divisor for the sum of the weights of a whole batch; None where these are all.
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return _mean((losses * weight).sum(), weight.sum(), over)


def smoothed(labels: Tensor, weight: Tensor, *, share: float) -> Tensor:
    """Labels with a share of each replaced by their weighted mean (Szegedy et al., 2016, the prior for the uniform part)."""
    if not share:
        return labels
    return (1 - share) * labels + share * mean(_of_all((labels * weight).sum()), weight.sum())


def listwise_loss(logits: Tensor, labels: Tensor, weight: Tensor, *, over: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy over a row's candidates (ListNet's top-one loss; Cao et al., 2007).

    Mean over a row's purchases, then over rows with any; (B, M) each. A candidate that stands for several counts as often
    in the sum below the softmax: its logit is raised by the logarithm of its weight (log-Q correction). ``over`` is
    the divisor for the rows with any purchase of a whole batch; None where these are all.
    """
    mask = weight > 0
    raised = logits + weight.clamp(min=1).log() * (1 - labels)
    chance = raised.masked_fill(~mask, -torch.inf).log_softmax(dim=1).masked_fill(~mask, 0)
    bought = labels.sum(dim=1)
    losses = -(chance * labels).sum(dim=1) / bought.clamp(min=1)
    return _mean(losses.sum(), (bought > 0).sum(), over)


def retrieval_loss(
    shopper: Tensor,
    positives: Tensor,
    mask: Tensor,
    negatives: Tensor,
    sharpness: Tensor,
    *,
    over: Tensor | None = None,
) -> Tensor:
    """Sampled softmax over the catalogue, for products bought for the first time.

    The model's score is ``s_j + log popularity_j``; sampling negatives by popularity subtracts the same term again (log-Q
    correction; Yi et al., 2019), so that what remains, ``s_j`` alone, is compared, and no item bias is ever learned.

    Args:
        shopper: (B, H) from :func:`peftrec.model.extras.asking`.
        positives: (B, P, H) unit item vectors of first purchases.
        mask: (B, P) bool.
        negatives: (K, H) unit item vectors drawn by popularity.
        sharpness: (1, 1) factor of the scores.
        over: Divisor for the first purchases of a whole batch; None where these are all.
    """
    bought = (positives @ shopper[..., None])[..., 0] * sharpness  # (B, P)
    others = shopper @ negatives.T * sharpness  # (B, K)
    total = torch.logaddexp(bought, others.logsumexp(dim=1, keepdim=True))
    return _mean(((total - bought) * mask).sum(), mask.sum(), over)


def mean(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``, at least 1 being counted; where processes train together, the count is the mean of theirs."""
    return total / divisors(count.to(total.dtype))


def divisors(counts: Tensor) -> Tensor:
    """What sums over so many are divided by, at least 1; where processes train together, the mean of their counts."""
    return _of_all(counts).clamp(min=1 / processes())


def _mean(total: Tensor, count: Tensor, over: Tensor | None) -> Tensor:
    return mean(total, count) if over is None else total / over


def _of_all(value: Tensor) -> Tensor:
    """The mean of what all processes hold; no gradient goes through it."""
    if processes() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / processes()


def gathered(rows: Tensor) -> Tensor:
    """(processes * K, H) constant rows of all processes, of K each; a process's own where it is alone."""
    if processes() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(processes())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def processes() -> int:
    """How many train together, this one counted."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
