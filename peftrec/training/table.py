"""The rows of training as plain tables, for baselines that rank by the very same numbers."""

import numpy as np
from numpy.typing import NDArray

from peftrec.backbone import Backbone
from peftrec.data.dataset import Dataset
from peftrec.data.histories import Histories, Ragged
from peftrec.evaluation.baselines import TrainingRows
from peftrec.model.candidates import describe, generate
from peftrec.model.platform import Platform
from peftrec.training.anchors import anchor, moments
from peftrec.training.config import TrainConfig
from peftrec.training.rows import Rows


class CandidateTable:
    """Candidates and features as :class:`peftrec.evaluation.baselines.LightGBMRanker` takes them.

    The sources *nearest* and *newcomers* are left out, since they need a trained adapter; all others are those of the model.

    Args:
        backbone: Only its templates and item table are used.
        config: Anchors, horizon and candidate sources.
    """

    def __init__(self, backbone: Backbone, config: TrainConfig | None = None) -> None:
        self.backbone, self.config = backbone, config or TrainConfig()
        self._platform: Platform | None = None
        self._rows: tuple[Dataset, TrainingRows] | None = None

    def training_rows(self, past: Dataset) -> TrainingRows:
        """Those of all anchors, latest first; kept for the next who asks."""
        if self._rows is not None and self._rows[0] is past:
            return self._rows[1]
        platform, rng = self._of(past), np.random.default_rng(self.config.seed)
        log = past.log
        parts: list[TrainingRows] = []
        for moment in moments(float(log.time[-1]) + 1, float(log.time[0]), self.config):
            one = anchor(platform.dataset, moment, self.config)
            rows = Rows.begin(one, platform.snapshot(moment), self.config, rng)
            rows = rows.offered(one, platform.snapshot(moment), self.config, nearest=None, rng=rng)
            features, groups = rows.candidates.features.astype(np.float32), np.diff(rows.candidates.items.offsets)
            parts.append(TrainingRows(features, rows.labels, rows.weight, groups))
        self._rows = past, TrainingRows(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        return self._rows[1]

    def candidates(self, past: Dataset, users: NDArray[np.int32]) -> tuple[Ragged, NDArray[np.float32]]:
        """Candidates at the end of the past, and their (C, F) features."""
        histories, snapshot = self._now(past, users)
        found = generate(histories, snapshot, self.config.candidates)
        return found.items, found.features

    def features(self, past: Dataset, users: NDArray[np.int32], items: Ragged) -> NDArray[np.float32]:
        """(C, F) features of given products."""
        histories, snapshot = self._now(past, users)
        return describe(histories, snapshot, items).features

    def _of(self, past: Dataset) -> Platform:
        if self._platform is None or self._platform.dataset is not past:
            self._platform = Platform.of(past, self.backbone)
        return self._platform

    def _now(self, past: Dataset, users: NDArray[np.int32]):
        moment = float(past.log.time[-1]) + 1
        return Histories.of(past, users, moment=moment), self._of(past).snapshot(moment)
