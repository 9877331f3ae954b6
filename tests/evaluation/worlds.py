"""Small shops with known answers."""

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from peftrec.data import Catalog, Dataset, Events

START = datetime(2024, 1, 1, tzinfo=UTC)


def shop(events: list[tuple[str, str, float]], items: str | list[str], *, event: str = "purchase") -> Dataset:
    """A shop from (shopper, product, day) triples; events of a shopper within half an hour are one visit."""
    rows = [(user, item, START + timedelta(days=day), event) for user, item, day in events]
    user, item, time, kind = zip(*rows, strict=True)
    table = {"user_id": list(user), "item_id": list(item), "timestamp": list(time), "event": list(kind)}
    catalog = {"item_id": list(items), "title": [f"product {name}" for name in items]}
    return Dataset("small", Catalog.from_table(catalog), Events.from_table(table))


def tastes(*, shoppers: int = 60, groups: int = 4, per_group: int = 8, days: int = 120, seed: int = 0) -> Dataset:
    """Shoppers of one taste each buy the products of that taste, over and over; texts tell the taste.

    Sold only within a group, so that who knows a shopper's taste ranks its eight products before all others.
    """
    rng = np.random.default_rng(seed)
    words = ["tea", "socks", "paint", "bread", "cheese", "lamp"]
    order = rng.permutation(groups * per_group)  # an item's index says nothing about its group
    ids = [f"i{index:03d}" for index in order]
    titles = [f"{words[index // per_group]} number {index}" for index in order]
    names, products, times = [], [], []
    for user in range(shoppers):
        taste = user % groups
        for day in range(user % 5, days, 5):
            for choice in rng.choice(per_group, 3, replace=False):
                names.append(f"u{user:03d}")
                products.append(f"i{taste * per_group + choice:03d}")
                times.append(START + timedelta(days=day, hours=user % 24))
    catalog = Catalog.from_table({"item_id": ids, "title": titles})
    return Dataset("tastes", catalog, Events.from_table({"user_id": names, "item_id": products, "timestamp": times}))


class Fixed:
    """Answers with scores that are given, one row per user index."""

    def __init__(self, name: str, scores: NDArray[np.floating], *, probabilistic: bool = False) -> None:
        self.name, self.scores, self.probabilistic = name, np.asarray(scores, np.float32), probabilistic
        self.asked: list[int] = []

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        self.asked += users.tolist()
        return self.scores[users]

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.take_along_axis(self.scores[users], items, axis=1)
