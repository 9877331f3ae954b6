"""Simulated browsing keeps every purchase and is what its docstring says."""

import numpy as np
import polars as pl
import pytest

from peftrec.data import Dataset
from peftrec.data.columns import EVENT_TYPES
from peftrec.data.histories import DAY, PURCHASE
from peftrec.data.log import kind_of
from peftrec.data.simulate import BUYING, CHANNELS, LOOKING, Browsing, simulate_browsing
from peftrec.errors import ConfigError


@pytest.fixture(scope="module")
def browsed(grocery: Dataset) -> Dataset:
    return simulate_browsing(grocery, seed=1)


def purchases(dataset: Dataset) -> pl.DataFrame:
    frame = dataset.events.frame.filter(pl.col("event") == "purchase")
    return frame.select("user_id", "item_id", "timestamp", "quantity", "price", "discount")


def test_purchases_and_their_visits_stay(grocery: Dataset, browsed: Dataset):
    assert purchases(browsed).equals(purchases(grocery))
    assert browsed.users.equals(grocery.users)
    bought = browsed.log.event == PURCHASE
    _, new = np.unique(browsed.log.session[bought], return_inverse=True)
    _, old = np.unique(grocery.log.session, return_inverse=True)
    assert len(np.unique(np.stack([old, new]), axis=1).T) == old.max() + 1 == new.max() + 1


def test_it_says_that_it_is_simulated(browsed: Dataset):
    assert browsed.name == "grocery (simulated browsing)"
    assert browsed.source is not None
    assert "simulated on real purchases" in browsed.source.note
    assert set(browsed.events.frame["event"].unique()) == {*EVENT_TYPES}


def test_same_seed_same_events(grocery: Dataset, browsed: Dataset):
    assert simulate_browsing(grocery, seed=1).digest == browsed.digest
    assert simulate_browsing(grocery, seed=2).digest != browsed.digest


def test_what_is_announced_is_looked_at_before(grocery: Dataset):
    quiet = Browsing(seen=0, compared=0, announced=1, idle=0, ahead_days=3, favourite=0, cart=0)
    browsed = simulate_browsing(grocery, quiet)
    views = browsed.events.frame.filter(pl.col("event") == "view")
    later = views.join(purchases(grocery), on=["user_id", "item_id"], suffix="_bought")
    waits = (
        later.with_columns((pl.col("timestamp_bought") - pl.col("timestamp")).dt.total_seconds().alias("wait"))
        .filter(pl.col("wait") > 0)
        .group_by("user_id", "item_id", "timestamp")
        .agg(pl.col("wait").min())["wait"]
    )
    assert len(waits) == len(views)  # each of them is followed by a purchase of the product
    assert len(views) > 0.9 * len(grocery.events)
    median = waits.median()
    assert isinstance(median, float)
    assert 0.5 < median / DAY < 3


def test_without_idle_looks_nothing_else_is_added(grocery: Dataset):
    still = Browsing(seen=0, compared=0, announced=0)
    assert len(simulate_browsing(grocery, still).events) == len(grocery.events)


def test_every_simulated_channel_is_of_a_kind_of_its_own():
    assert len({kind_of(channel) for channel in CHANNELS}) == len(CHANNELS)


def test_entry_channels_tell_buyers_from_others(browsed: Dataset):
    frame, log = browsed.events.frame, browsed.log
    buying = np.isin(log.session, log.session[log.event == PURCHASE])
    for chances, rows in ((BUYING, buying), (LOOKING, ~buying)):
        part = frame.filter(pl.Series(rows)).unique("session_id")
        shares = [(part["channel"] == channel).mean() for channel in CHANNELS]
        assert shares == pytest.approx(chances, abs=0.02)


def test_shoppers_stay_longer_on_what_they_buy(grocery: Dataset):
    def median(browsing: Browsing) -> float:
        found = simulate_browsing(grocery, browsing).events.frame["dwell_seconds"].median()
        assert isinstance(found, float)
        return found

    assert median(Browsing(compared=0, announced=0)) == pytest.approx(45, rel=0.05)
    assert median(Browsing(seen=0, announced=0)) == pytest.approx(15, rel=0.05)


def test_pages_rise_along_a_visit(browsed: Dataset):
    steps = browsed.events.frame.select(pl.col("page").diff().over("session_id")).drop_nulls()["page"]
    assert (steps >= 1).all()
    assert browsed.log.page.tolist() == browsed.events.frame["page"].to_list()


def test_products_that_are_compared_are_of_the_same_category(grocery: Dataset):
    only = Browsing(seen=0, compared=1, announced=0)
    frame = simulate_browsing(grocery, only).events.frame
    category = grocery.catalog.frame.select("item_id", pl.col("category").fill_null(""))
    looked = frame.join(category, on="item_id")
    bought = looked.filter(pl.col("event") == "purchase").select("session_id", "category").unique()
    views = looked.filter(pl.col("event") != "purchase")
    assert len(views.join(bought, on=["session_id", "category"], how="semi")) == len(views)


def test_what_cannot_be_simulated_on_is_refused(grocery: Dataset, browsed: Dataset):
    with pytest.raises(ConfigError, match="other events"):
        simulate_browsing(browsed)
    with pytest.raises(ConfigError, match="is a part"):
        simulate_browsing(grocery.split(at="2017-06-01")[1])
    with pytest.raises(ConfigError, match="seen=2"):
        Browsing(seen=2)
    with pytest.raises(ConfigError, match="idle=-1"):
        Browsing(idle=-1)
