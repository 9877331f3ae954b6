"""Some of a data set's shoppers, for benchmarks that need not ask all."""

from dataclasses import replace

import numpy as np
import polars as pl

from peftrec.data import Dataset, Events, Profiles


def every(shop: Dataset, step: int) -> Dataset:
    """Every ``step``-th shopper and all products."""
    return _of(shop, shop.users[::step])


def some(future: Dataset, count: int, *, seed: int) -> Dataset:
    """The same window for at most ``count`` of the shoppers that can be asked about in it, drawn evenly."""
    past = [] if future.past is None else future.past.log.user
    known = np.intersect1d(future.log.user, past)
    if len(known) <= count:
        return future
    drawn = np.sort(np.random.default_rng(seed).choice(known, count, replace=False))
    users = future.users.gather(drawn).implode()
    return replace(future, events=Events(future.events.frame.filter(pl.col("user_id").is_in(users))), index=None)


def _of(shop: Dataset, users: pl.Series) -> Dataset:
    chosen = users.implode()
    events = Events(shop.events.frame.filter(pl.col("user_id").is_in(chosen)))
    profiles = shop.profiles and Profiles(shop.profiles.frame.filter(pl.col("user_id").is_in(chosen)))
    return replace(shop, events=events, profiles=profiles, index=None)
