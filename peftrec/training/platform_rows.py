"""One platform's rows for training, from its log to candidates with labels."""

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from peftrec.data.snapshot import Snapshot
from peftrec.model.extras import Extras
from peftrec.model.nearest import nearest
from peftrec.model.platform import Platform
from peftrec.training.anchors import Anchor, anchors_of
from peftrec.training.checks import check_rows
from peftrec.training.config import TrainConfig
from peftrec.training.inherited import says_little
from peftrec.training.newcomers import ENOUGH
from peftrec.training.objectives import targets_of
from peftrec.training.rows import RowDataset, Rows

BETAS = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0)
"""Weights of log popularity in retrieval that validation chooses from."""

BETA_TOP = 100
"""Products of the retrieval list that the choice looks at."""


@dataclass(frozen=True, eq=False)
class PlatformRows:
    """A platform's shoppers at several moments of its past.

    Attributes:
        platform: Read through the backbone.
        config: Of the training.
        anchors: The moments, latest first, then the latest once more for shoppers read by a young shop.
        snapshots: Of each anchor: what the platform knows, and last what a shop knows that has sold nothing yet.
        silent: Whether all of them are such a shop's.
        held_out: (users,) bool, shoppers that stopping and choices look at.
        parts: One for each anchor, without candidates.
        rng: Draws all that is drawn, in one order.
    """

    platform: Platform
    config: TrainConfig
    anchors: list[Anchor]
    snapshots: list[Snapshot]
    held_out: NDArray[np.bool_]
    parts: list[Rows]
    rng: np.random.Generator
    silent: bool = False

    @classmethod
    def of(cls, platform: Platform, config: TrainConfig, *, silent: bool = False) -> "PlatformRows":
        """Reads the shopper side.

        Args:
            platform: Where the shoppers are.
            config: Of the training.
            silent: Leave the platform's statistics of products out, as if it had sold nothing yet.

        Raises:
            NotEnoughDataError: The log is too short, or too few shoppers buy again.
            ConfigError: All shoppers would be held out.
        """
        anchors = anchors_of(platform.dataset, config)
        rng = np.random.default_rng(config.seed)
        held_out = rng.random(len(platform.dataset.users)) < config.validation_share
        snapshots = [(platform.young if silent else platform.snapshot)(one.moment) for one in anchors]
        latest = anchors[0]
        young = round(config.young_share * len(latest.users))
        if young:
            again = rng.permutation(len(latest.users))[:young]
            anchors, snapshots = [*anchors, latest.take(np.sort(again))], [*snapshots, platform.young(latest.moment)]
        parts = [
            Rows.begin(one, snapshot, config, rng, augmented=~held_out)
            for one, snapshot in zip(anchors, snapshots, strict=True)
        ]
        found = cls(platform, config, anchors, snapshots, held_out, parts, rng, silent)
        check_rows(found.rows(parts), config)
        return found

    @classmethod
    def for_adapter(cls, platform: Platform, config: TrainConfig) -> "PlatformRows":
        """The rows that an adapter is trained on.

        They are silent where the backbone knows shopping and there are few of them, and name products never sold where enough of
        those were bought.
        """
        found = cls.of(platform, config)
        if platform.backbone.shopping is not None and says_little(found.shoppers):
            return cls.of(platform, config, silent=True)
        if found.newly_sold < ENOUGH:
            return found
        candidates = replace(config.candidates, newcomers=config.newcomers)
        return replace(found, config=replace(config, candidates=candidates))

    @property
    def newly_sold(self) -> int:
        """Purchases, at all anchors, of products that nobody had bought before."""
        pairs = zip(self.anchors, self.snapshots, strict=True)
        return sum(int(snapshot.unsold[one.bought.values].sum()) for one, snapshot in pairs)

    @property
    def shoppers(self) -> int:
        """Shoppers of all anchors: rows."""
        return sum(len(one.users) for one in self.anchors)

    @property
    def count(self) -> int:
        """Rows that are trained on."""
        return len(self.rows(self.parts))

    def rows(self, parts: list[Rows], *, variants: NDArray[np.float32] | None = None) -> RowDataset:
        """The rows that are trained on; ``variants`` as in :class:`RowDataset`."""
        moment = self.anchors[0].moment
        return RowDataset(self.platform, parts, self.config, keep=~self.held_out, moment=moment, variants=variants)

    def validation(self, parts: list[Rows]) -> RowDataset:
        """The latest rows of the shoppers held out."""
        return RowDataset(self.platform, parts[:1], self.config, keep=self.held_out, moment=self.anchors[0].moment)

    def offered(self, extras: Extras, bar: "tqdm[NoReturn]") -> list[Rows]:
        """The same rows with the candidates that serving would hand them, labelled naturally."""
        found = [
            part.offered(
                one,
                snapshot,
                self.config,
                nearest=nearest(extras, self.platform, part.tokens, snapshot),
                rng=self.rng,
                bar=bar,
            )
            for one, snapshot, part in zip(self.anchors, self.snapshots, self.parts, strict=True)
        ]
        return [self._with_targets(part) for part in found] if self.config.auxiliary else found

    def _with_targets(self, part: Rows) -> Rows:
        targets = targets_of(
            self.config.auxiliary,
            self.platform.dataset.log,
            part.users,
            part.candidates,
            moment=part.moment,
            horizon=self.config.horizon,
            n_items=len(self.platform.dataset.catalog),
        )
        return replace(part, targets=targets)

    def popularity_hits(self, extras: Extras) -> dict[float, int]:
        """First purchases of held-out shoppers that retrieval finds, by the weight of log popularity."""
        latest, part = self.anchors[0], self.parts[0]
        rows = np.flatnonzero(self.held_out[latest.users])[:500]
        found = dict.fromkeys((float(extras["popularity"].detach()), *BETAS), 0)
        if not len(rows):
            return found
        scorer = nearest(extras, self.platform, part.tokens, self.snapshots[0])
        popularity = self.snapshots[0].popularity
        now = float(extras["popularity"].detach())
        for row in rows:
            similar = scorer(np.array([row])).values[0] - now * popularity
            for beta in found:
                best = np.argpartition(-(similar + beta * popularity), min(BETA_TOP, len(similar) - 1))[:BETA_TOP]
                found[beta] += int(np.isin(latest.first[int(row)], best).sum())
        return found


def candidates_bar(shoppers: int, *, show: bool) -> "tqdm[NoReturn]":
    """Moves on by every shopper whose candidates are named."""
    return tqdm(total=shoppers, desc="naming candidates", unit="row", disable=not show, leave=False)
