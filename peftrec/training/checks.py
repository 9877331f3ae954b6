"""What cannot be learned from is refused, before hours are spent on it."""

from collections.abc import Sequence

import numpy as np

from peftrec.data.dataset import Dataset
from peftrec.data.features import FEATURES
from peftrec.data.tokens import EVENT_FEATURES
from peftrec.errors import ConfigError, NotEnoughDataError, TrainingError
from peftrec.training.config import TrainConfig
from peftrec.training.rows import RowDataset, Rows


def check_log(dataset: Dataset) -> None:
    """Refuses to train on a catalogue alone, before it is encoded.

    Raises:
        NotEnoughDataError: There are no events.
    """
    if not len(dataset.events):
        raise NotEnoughDataError(
            f"'{dataset.name}' has no events to train on",
            expected="a log of purchases",
            remedy="serve it without an adapter: a backbone that was adapted with peftrec.adapt reads its catalogue alone",
        )


def check_rows(train: RowDataset, config: TrainConfig) -> None:
    """Refuses to train when all shoppers are held out.

    Raises:
        ConfigError: With the share that was held out.
    """
    if not len(train):
        raise ConfigError(
            f"validation_share={config.validation_share!r} leaves no shopper to train on",
            expected="a share small enough for the platform",
            remedy="the default is validation_share=0.1",
        )


def check_candidates(parts: Sequence[Rows], *, platform: str) -> None:
    """Refuses candidates that nothing can be learned from.

    Args:
        parts: With their candidates.
        platform: Its name, for messages.

    Raises:
        TrainingError: None of them was bought or all were, or a number about them is none.
    """
    bought, all_of_them = sum(int(part.labels.sum()) for part in parts), sum(len(part.labels) for part in parts)
    if bought in (0, all_of_them):
        raise TrainingError(
            f"'{platform}': {bought:,} of {all_of_them:,} candidates were bought within the horizon",
            expected="some that were and some that were not",
            remedy="use a longer horizon_days or log, or more products per source in CandidateConfig"
            if not bought
            else "raise sampled_candidates, or use a larger catalogue",
        )
    finite = np.all([np.isfinite(part.candidates.features).all(axis=0) for part in parts], axis=0)
    if not finite.all():
        wrong = [name for name, good in zip(FEATURES, finite, strict=True) if not good]
        raise TrainingError(
            f"'{platform}': {', '.join(wrong)} of some candidates {'is' if len(wrong) == 1 else 'are'} no finite number",
            expected=f"numbers up to {np.finfo(np.float16).max:,.0f}, which half precision can hold",
            remedy="look for extreme prices, quantities or times with peftrec data audit",
        )
    _check_words(parts, platform)


def _check_words(parts: Sequence[Rows], platform: str) -> None:
    told = np.all([np.isfinite(part.tokens.features[part.tokens.mask]).all(axis=0) for part in parts], axis=0)
    if not told.all():
        wrong = [name for name, good in zip(EVENT_FEATURES, told, strict=True) if not good]
        raise TrainingError(
            f"'{platform}': {', '.join(wrong)} of some events {'is' if len(wrong) == 1 else 'are'} no finite number",
            expected="numbers, or nothing where a log does not tell them",
            remedy="look for extreme prices, quantities or times with peftrec data audit",
        )
