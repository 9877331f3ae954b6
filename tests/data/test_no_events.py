"""A shop that has a catalogue and no events yet: built, described, cut, read as of now."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Catalog, Dataset, Events, Profiles
from peftrec.data.features import FEATURES
from peftrec.data.histories import Histories, Ragged
from peftrec.data.pairs import pairs_of
from peftrec.data.snapshot import ITEM_FEATURES, Snapshot
from peftrec.data.tokens import history_tokens
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError
from peftrec.model.candidates import CandidateConfig, Scores, describe, generate
from peftrec.model.platform import Platform

CATALOG = {
    "item_id": ["a", "b", "c"],
    "title": ["tea", "pot", "milk"],
    "price": [1.0, 3.0, None],
    "category": ["kitchen", "kitchen", "dairy"],
}
NO_ROWS = {"user_id": [], "item_id": [], "timestamp": []}


@pytest.fixture
def shop() -> Dataset:
    return Dataset.build(name="new", catalog=CATALOG, profiles={"user_id": ["p"], "age": ["30"]})


def sold(*items: str) -> Dataset:
    """The same shop after a purchase of each of these products, the last one in 2024."""
    events = {"user_id": ["u"] * len(items), "item_id": list(items), "timestamp": ["2024-01-01"] * len(items)}
    return Dataset.build(name="young", catalog=CATALOG, events=events)


def test_a_catalogue_is_a_data_set(shop: Dataset):
    assert repr(shop) == "Dataset(new: 0 shoppers, 3 products, 0 events, no time)"
    assert len(shop.log) == len(shop.events) == 0
    assert shop.users.to_list() == ["p"]
    assert Dataset.build(name="new", catalog=CATALOG).users.to_list() == []
    assert shop.report is not None
    assert (shop.report.rows_in, shop.report.rows_kept) == (0, 0)
    assert "0 events in, 0 kept" in str(shop.report)
    assert not shop.ordered


def test_its_digest_tells_what_it_holds(shop: Dataset):
    again = Dataset.build(name="other", catalog=CATALOG, profiles=shop.profiles)
    assert again.digest == shop.digest
    assert replace(shop, profiles=None).digest != shop.digest
    assert (
        replace(shop, catalog=Catalog.from_table({**CATALOG, "title": ["tea", "pot", "cream"]})).digest != shop.digest
    )
    assert replace(shop, events=sold("a").events).digest != shop.digest
    assert pickle.loads(pickle.dumps(shop)).digest == shop.digest  # noqa: S301  # as multiprocessing does


def test_it_has_neither_start_nor_end(shop: Dataset):
    for ask in (lambda: shop.start, lambda: shop.end):
        with pytest.raises(NotEnoughDataError, match="'new' has no events"):
            ask()


def test_now_is_the_present_hour_only_where_nothing_happened(shop: Dataset, monkeypatch: pytest.MonkeyPatch):
    log = sold("a")
    for present, hour in ((7_205.0, 7_200.0), (10_799.0, 7_200.0), (10_800.0, 10_800.0)):
        monkeypatch.setattr("time.time", lambda present=present: present)
        assert shop.now == hour
        assert log.now == log.end.timestamp() + 1


def test_cuts_say_that_there_is_nothing_to_cut(shop: Dataset):
    for cut in (
        lambda: shop.split(at="2024-01-01"),
        lambda: shop.window(),
        lambda: shop.rolling(windows=1, horizon=1),
        lambda: replace(shop, ordered=True).leave_last_out(),
    ):
        with pytest.raises(NotEnoughDataError, match="no event"):
            cut()
    with pytest.raises(InvalidValueError, match="real moments"):
        shop.leave_last_out()
    assert shop.segment(by="category") == shop.segment(by="age") == {}  # values without events are left out


def test_events_without_rows_are_taken_and_a_table_without_rows_is_doubted(shop: Dataset, tmp_path: Path):
    again = Dataset.build(name="new", catalog=CATALOG, events=shop.events, profiles=shop.profiles)
    assert again.digest == shop.digest
    priced = Events(shop.events.frame.with_columns(pl.lit(None, pl.Float32).alias("price")))
    assert len(Dataset.build(name="new", catalog=CATALOG, events=priced).events) == 0
    assert len(Dataset("new", shop.catalog, shop.events).log) == 0
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp\n")
    for table in (NO_ROWS, pl.DataFrame(NO_ROWS), path):
        with pytest.raises(NotEnoughDataError, match=r"the events table has no rows") as caught:
            Dataset.build(name="new", catalog=CATALOG, events=table)
        assert "leave events out where the shop has none yet" in caught.value.remedy
    with pytest.raises(SchemaError, match="event_columns without events"):
        Dataset.build(name="new", catalog=CATALOG, event_columns={"user_id": "customer"})


def test_it_can_be_pooled(shop: Dataset):
    pool = Dataset.pool([shop, sold("a", "b")])
    assert (len(pool.catalog), len(pool.events)) == (6, 2)
    alone = Dataset.pool([shop])
    assert (len(alone.catalog), len(alone.events), alone.users.to_list()) == (3, 0, ["new/p"])


def test_promotions_are_read_as_of_now(shop: Dataset):
    plan = {"item_id": ["a", "b"], "start": ["2020-01-01", "2020-01-01"], "end": ["2999-01-01", "2020-02-01"]}
    promoted = Dataset.build(name="new", catalog=CATALOG, promotions=plan)
    items = Snapshot.at(promoted, promoted.now).items
    next_week = [name for name in ITEM_FEATURES if name.endswith("_next")]
    told = np.stack([items[:, ITEM_FEATURES.index(name)] for name in next_week]).max(axis=0)
    assert told.tolist() == [1, 0, 0]


def test_nothing_is_known_of_any_product_but_what_the_catalogue_says(shop: Dataset):
    snapshot = Snapshot.at(shop, shop.now)
    assert len(snapshot.popular) == 0
    assert not snapshot.buyers.any()
    assert not snapshot.group_buyers.any()
    told = {name: snapshot.items[:, column].tolist() for column, name in enumerate(ITEM_FEATURES)}
    assert told.pop("never_sold") == [1, 1, 1]
    among_like = told.pop("price_in_category")
    assert among_like == pytest.approx([np.log(1 / 2), np.log(3 / 2), 0])
    assert all(values == [0, 0, 0] for values in told.values())
    assert snapshot.with_new(2).items[3:, ITEM_FEATURES.index("never_sold")].tolist() == [1, 1]


def test_numbers_about_shoppers_are_those_of_a_first_visit(shop: Dataset):
    snapshot = Snapshot.at(shop, shop.now)
    histories = Histories.of(shop, np.array([0]), moment=shop.now)
    found = describe(histories, snapshot, Ragged.join([np.arange(3, dtype=np.int32)]))
    assert np.isfinite(found.features).all()
    told = {name: found.features[:, column] for column, name in enumerate(FEATURES)}
    for name in ("share_of_visits", "known_for", "share_of_title", "share_of_variant", "neighbours", "together"):
        assert not told[name].any(), name
    assert told["never_bought"].tolist() == [1, 1, 1]
    tokens = history_tokens(histories, pairs_of(histories, 3), snapshot, limit=8)
    assert not tokens.mask.any()
    assert np.isfinite(tokens.features).all()


def test_a_history_is_read_beside_a_catalogue_as_beside_a_log(shop: Dataset):
    """What was bought elsewhere counts fully: only what other shoppers do is unknown."""
    young = sold("a", "b")
    histories = Histories.of(young, np.array([0]), moment=young.now)
    snapshot = Snapshot.at(shop, shop.now)
    found = describe(histories, snapshot, Ragged.join([np.arange(3, dtype=np.int32)])).features
    beside = describe(histories, Snapshot.at(young, young.now), Ragged.join([np.arange(3, dtype=np.int32)])).features
    assert np.isfinite(found).all()
    for name in ("times_bought", "recency", "never_bought", "share_of_visits", "rank", "category_products"):
        column = FEATURES.index(name)
        assert np.array_equal(found[:, column], beside[:, column]), name


class Many:
    """A shop of 2,000 products, of which some were sold just now."""

    def __init__(self, sold: int) -> None:
        ids = [f"p{at:04d}" for at in range(2000)]
        catalog = {"item_id": ids, "title": [f"product {at}" for at in range(2000)]}
        events = {"user_id": ["u"] * sold, "item_id": ids[:sold], "timestamp": ["2024-01-01"] * sold}
        self.shop = Dataset.build(name="many", catalog=catalog, events=events if sold else None)
        self.snapshot = Snapshot.at(self.shop, self.shop.now)
        self.near = np.random.default_rng(0).normal(size=(1, 2000)).astype(np.float32)

    def named(self, config: CandidateConfig, *, least: int = 0) -> list[int]:
        """Candidates of a shopper without a past."""
        nobody = Histories.of(self.shop, np.array([10**6]), moment=self.shop.now)
        found = generate(nobody, self.snapshot, config, nearest=lambda rows: Scores(self.near[rows]), least=least)
        return found.items[0].tolist()


def test_retrieval_takes_the_places_of_sources_that_live_from_sales():
    many, config = Many(0), CandidateConfig()
    best = np.argsort(-many.near[0], kind="stable")
    assert many.named(config) == sorted(best[:700].tolist())  # 100, and 300 + 150 + 150 places
    assert many.named(config, least=900) == sorted(best[:900].tolist())
    assert many.named(config, least=5000) == list(range(2000))
    assert many.named(replace(config, nearest=0)) == sorted(best[:600].tolist())


def test_a_young_shop_lets_go_of_them_one_by_one_and_a_grown_one_keeps_its_places():
    config = CandidateConfig(popular=30, neighbours=15, together=15, nearest=10)
    reach = [config.reach(Many(count).snapshot) for count in (0, 1, 10, 20, 30, 40)]
    assert reach == [70, 67, 40, 20, 10, 10]
    young, grown = Many(29), Many(30)
    assert config.reach(young.snapshot, least=50) == 50
    assert config.reach(grown.snapshot, least=50) == 10  # what a log names stays as it was, whatever is asked for
    assert len(grown.named(config, least=50)) <= 40


def test_a_platform_keeps_the_statistics_of_one_present(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch):
    empty = Dataset.build(name="new", catalog=CATALOG)
    platform = Platform.of(empty, tiny_backbone, progress=False)
    assert platform.profile_of.shape == (0,)
    assert platform.channels == []
    moments = []
    for hour in (10, 11, 12):
        monkeypatch.setattr("time.time", lambda hour=hour: hour * 3600.0)
        moments.append(platform.snapshot(empty.now).moment)
        assert platform.snapshot(empty.now) is platform.snapshot(empty.now)
    assert moments == [36_000, 39_600, 43_200]
    assert len(platform._snapshots) == 1
    with_profile = Dataset("new", empty.catalog, empty.events, Profiles.from_table({"user_id": ["p"], "age": ["30"]}))
    assert Platform.of(with_profile, tiny_backbone, progress=False).profile_of.tolist() == [0]
