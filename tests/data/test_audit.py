"""Each kind of leak is planted and found, and only it; honest splits raise no alarm."""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from peftrec.cli.audit import audit as command
from peftrec.data import AuditReport, Catalog, Dataset, DataSource, Events, Profiles, audit, audit_tables, load_dataset
from peftrec.data import register_dataset as register
from peftrec.data.coupons import CouponLog, Coupons
from peftrec.data.histories import DAY, Histories
from peftrec.data.promotions import PromotionLog
from peftrec.data.snapshot import Snapshot
from peftrec.errors import ConfigError, DataError, InvalidValueError, LeakageError, NotEnoughDataError, SchemaError

START, CUT = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 5, 20, tzinfo=UTC)
LENGTH = 200
RETAIL = "online_retail/uci_online_retail.parquet"


def world(seed: int = 7) -> Dataset:
    """Two hundred days of a shop whose products and shoppers come one after the other, with visits, prices, promotions."""
    rng = np.random.default_rng(seed)
    products, shoppers, visits = 500, 260, 2_400
    launched, joined = (np.where(rng.random(n) < 0.5, 0, rng.uniform(0, 190, n)) for n in (products, shoppers))
    liked, price = rng.lognormal(0, 1, products), rng.lognormal(1, 0.7, products).round(2)
    user = rng.choice(shoppers, visits, p=(weights := rng.lognormal(0, 0.8, shoppers)) / weights.sum())
    day = rng.uniform(joined[user], LENGTH)
    rows: list[tuple[str, str, datetime, float, str]] = []
    for visit in range(visits):
        odds = liked * (launched <= day[visit]) / price**0.5
        for item in rng.choice(products, rng.integers(1, 6), replace=False, p=odds / odds.sum()):
            moment = START + timedelta(days=float(day[visit]))
            rows.append((f"u{user[visit]:03}", f"p{item:03}", moment, float(price[item]), f"s{visit}"))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "price", "session_id"], orient="row")
    names = [f"p{item:03}" for item in range(products)]
    begins = [START + timedelta(days=float(at)) for at in rng.uniform(0, LENGTH, 80)]
    return Dataset.build(
        name="shop",
        catalog={"item_id": names, "title": [f"product {name}" for name in names], "price": price},
        events=events,
        profiles={"user_id": [f"u{at:03}" for at in range(shoppers)], "age": rng.integers(18, 90, shoppers)},
        promotions={"item_id": names[:80], "start": begins, "end": [begin + timedelta(days=7) for begin in begins]},
    )


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return world()


@pytest.fixture(scope="module")
def parts(shop: Dataset) -> tuple[Dataset, Dataset]:
    return shop.split(at=CUT)


def sided(shop: Dataset, past: pl.DataFrame, future: pl.DataFrame) -> tuple[Dataset, Dataset]:
    """Parts put together by hand; the profiles hold all shoppers, so both sides number them alike."""
    first, second = (Events(frame.sort("timestamp", maintain_order=True)) for frame in (past, future))
    before = Dataset(shop.name, shop.catalog, first, shop.profiles, promotions=shop.promotions)
    return before, dataclasses.replace(before, events=second, past=before, index=None)


def frames(parts: tuple[Dataset, Dataset]) -> tuple[pl.DataFrame, pl.DataFrame]:
    return parts[0].events.frame, parts[1].events.frame


def found(report: AuditReport) -> dict[str, str]:
    return {check.name: check.severity for check in report.checks if check.severity in ("leak", "warning")}


def shifted(frame: pl.DataFrame, row: int, by: timedelta) -> pl.DataFrame:
    """The same with the moment of one row changed."""
    moment = pl.when(pl.int_range(pl.len()) == row).then(pl.col("timestamp") + by).otherwise("timestamp")
    return frame.with_columns(moment.alias("timestamp"))


def test_an_honest_split_has_nothing_to_tell(parts: tuple[Dataset, Dataset]):
    report = audit(*parts)
    assert found(report) == {}
    assert report.cut == parts[1].start
    assert {check.name: check.severity for check in report.checks} == dict.fromkeys(
        (
            "late_past",
            "early_future",
            "copied_events",
            "shared_visits",
            "codes",
            "future_past",
            "features",
            "promotions",
            "newcomers",
            "catalogue_columns",
            "profile_columns",
            "repeated_baskets",
        ),
        "ok",
    ) | {"catalogue_source": "skipped"}
    assert report["newcomers"].rows > 40
    report.raise_if_leaking()


@pytest.mark.parametrize("seed", range(6))
def test_no_shop_raises_a_false_alarm(seed: int):
    for at in ("2020-02-15", "2020-04-01", "2020-06-25"):
        assert found(audit(*world(seed).split(at=at), features=False)) == {}


def test_windows_and_segments_are_honest_too(shop: Dataset):
    for past, future in shop.rolling(windows=3, horizon=20):
        assert found(audit(past, future)) == {}
    past, rest = shop.split(at=CUT)
    assert found(audit(past, rest.window(start="2020-06-10"))) == {}  # with a gap between the two
    assert found(audit(rest.split(at="2020-06-10")[0], rest.split(at="2020-06-10")[1])) == {}


def test_an_event_of_the_past_from_after_the_cut(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = frames(parts)
    report = audit(*sided(shop, shifted(past, 100, timedelta(days=190)), future))
    assert found(report) == {"late_past": "leak"}
    check = report["late_past"]
    assert (check.rows, check.share) == (1, pytest.approx(1 / len(past)))
    assert f"item_id '{past['item_id'][100]}'" in check.example
    assert report.cut == parts[1].start


def test_an_event_of_the_future_from_before_the_cut(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = frames(parts)
    report = audit(*sided(shop, past, shifted(future, 50, timedelta(days=-120))))
    assert found(report) == {"early_future": "leak"}
    assert report["early_future"].rows == 1
    assert parts[0].end < report.cut <= parts[1].start


def test_an_event_at_the_very_moment_of_the_cut_is_late(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = frames(parts)
    at_cut = past.with_columns(
        pl.when(pl.int_range(pl.len()) == 9).then(future["timestamp"][0]).otherwise("timestamp").alias("timestamp")
    )
    assert found(audit(*sided(shop, at_cut, future))) == {"late_past": "leak"}


def test_a_split_by_chance_fails_loudly(shop: Dataset):
    chosen = np.random.default_rng(0).random(len(shop.events)) < 0.8
    report = audit(*sided(shop, shop.events.frame.filter(chosen), shop.events.frame.filter(~chosen)))
    wrong = [check for check in report.leaks if check.name in ("late_past", "early_future")]
    assert wrong
    assert "as in a split by chance" in wrong[0].found
    assert "% of the past is at or after the first event of the future" in wrong[0].found
    assert report["shared_visits"].severity == "leak"
    assert "torn apart" in report["shared_visits"].found
    with pytest.raises(LeakageError, match="by chance") as caught:
        report.raise_if_leaking()
    assert isinstance(caught.value, DataError)
    assert "split(at=...)" in caught.value.remedy


def test_events_that_are_in_both_parts(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = frames(parts)
    basket = future.filter(pl.col("session_id") == future["session_id"][200])
    report = audit(*sided(shop, pl.concat([past, basket]), future))
    assert found(report) == {"copied_events": "leak"}
    check = report["copied_events"]
    assert check.rows == len(basket)
    assert f"({len(basket)} of them equal in every column), in 1 baskets" in check.found
    dearer = basket.with_columns(pl.col("price") * 2)
    assert "(0 of them equal" in audit(*sided(shop, pl.concat([past, dearer]), future))["copied_events"].found
    again = past.filter(pl.col("session_id") == past["session_id"][200])
    assert found(audit(*sided(shop, past, pl.concat([again, future])))) == {"copied_events": "leak"}


def test_a_part_that_is_nothing_but_a_copy(parts: tuple[Dataset, Dataset]):
    past, _ = parts
    assert found(audit(past, dataclasses.replace(past, past=past))) == {"copied_events": "leak"}


def test_a_visit_that_was_copied_with_another_moment(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = frames(parts)
    size = pl.len().over("session_id")
    basket = future.filter(size >= 3).filter(pl.col("session_id") == pl.col("session_id").first())
    report = audit(
        *sided(shop, pl.concat([past, basket.with_columns(pl.col("timestamp").dt.offset_by("-60d"))]), future)
    )
    assert found(report) == {"shared_visits": "leak"}
    assert "1 visits are on both sides, 1 of them with the same lines" in report["shared_visits"].found
    assert f"session_id '{basket['session_id'][0]}'" in report["shared_visits"].example


@pytest.mark.parametrize("named", [True, False])
def test_large_baskets_that_were_exported_twice_are_worth_a_look(named: bool):
    rng, rows = np.random.default_rng(4), list[tuple[str, str, datetime, str]]()
    for visit in range(200):
        for item in rng.choice(300, 6, replace=False):
            rows.append((f"u{visit % 40}", f"p{item}", START + timedelta(days=visit), f"s{visit}"))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "session_id"], orient="row")
    past, future = frame.filter(pl.col("timestamp") < CUT), frame.filter(pl.col("timestamp") >= CUT)
    twice = future.filter(pl.col("timestamp") < CUT + timedelta(days=3)).with_columns(
        pl.col("timestamp").dt.offset_by("-60d"), pl.col("user_id", "session_id") + " again"
    )
    names = frame.columns if named else frame.columns[:3]
    assert found(audit_tables(past.select(names), future.select(names))) == {}
    report = audit_tables(pl.concat([past, twice]).select(names), future.select(names))
    assert found(report) == {"repeated_baskets": "warning"}
    assert "3 of 60 baskets of 5 lines or more" in report["repeated_baskets"].found


def test_a_visit_under_way_at_the_cut_is_worth_a_look(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = frames(parts)
    first = pl.when(pl.int_range(pl.len()) == 0)
    going_on = future.with_columns(
        first.then(pl.lit(past["user_id"][-1])).otherwise("user_id").alias("user_id"),
        first.then(pl.lit(past["session_id"][-1])).otherwise("session_id").alias("session_id"),
    )
    report = audit(*sided(shop, past, going_on))
    assert found(report) == {"shared_visits": "warning"}
    report.raise_if_leaking()


def test_shoppers_who_count_their_visits_from_one_share_none(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = (
        frame.with_columns(pl.col("session_id").rank("dense").over("user_id").cast(pl.String))
        for frame in frames(parts)
    )
    shopper = past["user_id"][0]
    future = future.filter(pl.col("user_id") != shopper)
    assert found(audit(*sided(shop, past.filter(pl.col("user_id") == shopper), future), features=False)) == {}


def test_parts_that_number_their_shoppers_apart(shop: Dataset, parts: tuple[Dataset, Dataset]):
    before, after = (Dataset(shop.name, shop.catalog, part.events) for part in parts)
    report = audit(before, after)
    assert found(report) == {"codes": "leak", "future_past": "warning"}
    first = int((before.users.head(200) != after.users.head(200)).arg_true()[0])
    told = f"index {first} is '{before.users[first]}' in the past and '{after.users[first]}' in the future"
    assert report["codes"].example == told
    assert report["features"].severity == report["catalogue_columns"].severity == "skipped"


def test_parts_with_other_catalogues(shop: Dataset, parts: tuple[Dataset, Dataset]):
    turned = Catalog(shop.catalog.frame.reverse())
    future = Dataset(shop.name, turned, parts[1].events, shop.profiles)
    report = audit(parts[0], future)
    assert found(report) == {"codes": "leak", "future_past": "warning"}
    assert "indices of item_id" in report["codes"].found


def test_a_future_without_its_past(parts: tuple[Dataset, Dataset]):
    past, future = parts
    alone = dataclasses.replace(future, past=None)
    assert found(audit(past, alone)) == {"future_past": "warning"}


def test_a_future_whose_past_goes_on_too_long(shop: Dataset, parts: tuple[Dataset, Dataset]):
    past, future = parts
    report = audit(past, dataclasses.replace(future, past=shop))
    assert found(report) == {"future_past": "leak"}
    assert report["future_past"].rows == len(future.events)


def test_a_future_with_another_past(parts: tuple[Dataset, Dataset]):
    past, future = parts
    other = dataclasses.replace(past, events=Events(past.events.frame[::2]), index=None)
    assert found(audit(past, dataclasses.replace(future, past=other))) == {"future_past": "warning"}


def ahead(function: Callable[..., object], days: float) -> classmethod:
    """A tampered pipeline: the same as of a later moment."""

    def later(cls: type, *words: object, moment: float = 0.0, **others: object) -> object:
        if moment:
            return function(cls, *words, moment=moment + days * DAY, **others)
        return function(cls, words[0], words[1] + days * DAY)  # pyright: ignore[reportOperatorIssue]

    return classmethod(later)


def test_statistics_that_read_beyond_the_cut(parts: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Snapshot, "at", ahead(Snapshot.at.__func__, 2))
    unplanned = [dataclasses.replace(part, promotions=None) for part in parts]
    report = audit(*unplanned)
    assert found(report) == {"features": "leak"}
    assert "buyers_1w" in report["features"].found
    assert found(audit(*unplanned, features=False)) == {}
    assert found(audit(*parts)) == {"features": "leak", "promotions": "leak"}  # a later moment knows more of both


def test_histories_that_read_beyond_the_cut(parts: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Histories, "of", ahead(Histories.of.__func__, 2))
    report = audit(*parts)
    assert found(report) == {"features": "leak"}
    assert report["features"].example == "history length"


def test_coupons_that_are_held_before_they_are_given(parts: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch):
    users, moment = parts[0].users, parts[1].events.frame["timestamp"].min()
    given = {
        "campaign_id": ["1"],
        "user_id": users[:1],
        "start": [moment + timedelta(days=1)],
        "end": [moment + timedelta(days=9)],
    }
    coupons = Coupons.from_tables({"campaign_id": ["1"], "item_id": parts[0].catalog.ids[:1]}, given)
    with_coupons = [dataclasses.replace(part, coupons=coupons) for part in parts]
    assert found(audit(*with_coupons)) == {}
    held, calls = CouponLog.held, iter((2, 0))  # the first of both looks two days ahead
    monkeypatch.setattr(CouponLog, "held", lambda self, users, now: held(self, users, now + next(calls) * DAY))
    report = audit(*with_coupons)
    assert found(report) == {"features": "leak"}
    assert report["features"].example == "coupons held"


@pytest.mark.parametrize("features", [True, False])
def test_promotions_that_are_read_before_they_are_announced(
    parts: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch, features: bool
):
    monkeypatch.setattr(PromotionLog, "known", lambda self, moment: self)
    report = audit(*parts, features=features)
    assert found(report) == {"promotions": "leak"}
    plan = parts[0].promotion_log
    assert plan is not None
    later = (plan.announced > parts[1].log.time[0]).sum()
    assert report["promotions"].rows == later > 0
    assert ("feature_planned" in report["promotions"].found) == features


def test_promotions_are_skipped_where_there_are_none(parts: tuple[Dataset, Dataset]):
    past, future = (dataclasses.replace(part, promotions=None) for part in parts)
    assert audit(past, future)["promotions"].severity == "skipped"


def with_product_column(shop: Dataset, name: str, values: object) -> AuditReport:
    catalog = Catalog(shop.catalog.frame.with_columns(pl.Series(name, values)))
    return audit(*dataclasses.replace(shop, catalog=catalog).split(at=CUT), features=False)


def with_shopper_column(shop: Dataset, name: str, values: pl.DataFrame) -> AuditReport:
    assert shop.profiles is not None
    profiles = Profiles(shop.profiles.frame.join(values.select("user_id", name), on="user_id", how="left"))
    return audit(*dataclasses.replace(shop, profiles=profiles).split(at=CUT), features=False)


def sold(shop: Dataset, *, before: bool = False) -> NDArray[np.float64]:
    at = shop.log.time < CUT.timestamp() if before else np.ones(len(shop.log), bool)
    return np.bincount(shop.log.item[at], minlength=len(shop.catalog)).astype(float)


@pytest.mark.parametrize("kind", ["total", "rank", "text", "noisy"])
def test_a_column_that_counts_later_sales(shop: Dataset, kind: str):
    total = sold(shop)
    values: dict[str, object] = {
        "total": total.astype(int),
        "rank": pl.Series(-(total - sold(shop, before=True))).rank("ordinal"),
        "text": [f"{count:.0f}" for count in total],  # as a CSV file has it
        "noisy": np.random.default_rng(1).binomial(total.astype(int), 0.8),
    }
    report = with_product_column(shop, "times", values[kind])
    assert found(report) == {"catalogue_columns": "leak"}
    check = report["catalogue_columns"]
    assert "'times' has a rank correlation of" in check.found
    assert check.rows > 40
    assert check.remedy.startswith("leave the column out")


def test_columns_that_were_true_before_the_cut(shop: Dataset):
    before = sold(shop, before=True)
    moment, last = CUT.timestamp(), np.zeros(len(before))
    early = shop.log.time < moment
    np.maximum.at(last, shop.log.item[early], shop.log.time[early])
    recent = np.bincount(shop.log.item[early & (shop.log.time > moment - 28 * DAY)], minlength=len(before))
    rng = np.random.default_rng(2)
    honest = {
        "sales_rank": np.where(before > 0, pl.Series(-before).rank("ordinal"), np.nan),
        "sold_lately": recent,
        "last_sold": pl.Series(last * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC")),
        "weight": rng.lognormal(0, 1, len(before)),
        "row_number": np.arange(len(before)),
        "colour": ["red"] * len(before),
        "fragile": rng.random(len(before)) < 0.5,
        "sold_well": before > np.median(before),
        "sold_well_lately": pl.Series(recent > np.median(recent)).replace_strict({True: "yes", False: "no"}),
    }
    for name, values in honest.items():
        assert found(with_product_column(shop, name, values)) == {}, name


@pytest.mark.parametrize("words", [None, ("yes", "no"), ("Y", "N")])
def test_a_flag_that_knows_what_sells_later(shop: Dataset, words: tuple[str, str] | None):
    after = sold(shop) - sold(shop, before=True)
    flag = pl.Series(after > np.quantile(after, 0.7))
    values = flag if words is None else flag.replace_strict(dict(zip((True, False), words, strict=True)))
    report = with_product_column(shop, "star", values)
    assert found(report) == {"catalogue_columns": "leak"}
    assert "'star'" in report["catalogue_columns"].found


def test_a_catalogue_that_its_source_calls_made_in_hindsight(shop: Dataset):
    def from_source(note: str) -> AuditReport:
        named = dataclasses.replace(shop, source=DataSource("shop", "", "", note))
        return audit(*named.split(at=CUT), features=False)

    report = from_source("a review is a purchase; titles are those of all lines, those after a cut included")
    assert found(report) == {"catalogue_source": "warning"}
    check = report["catalogue_source"]
    assert "the source says: titles are those of all lines, those after a cut included; " in check.found
    assert "a review" not in check.found
    assert check.rows == report["newcomers"].rows > 40
    report.raise_if_leaking()  # it is no failure
    assert from_source("a review is a purchase")["catalogue_source"].severity == "ok"


def test_a_rating_before_anybody_could_rate(shop: Dataset):
    stars = np.where(sold(shop) > 0, np.random.default_rng(3).uniform(1, 5, len(shop.catalog)), np.nan)
    report = with_product_column(shop, "average_rating", stars)
    assert found(report) == {"catalogue_columns": "warning"}
    new = report["newcomers"].rows
    assert (
        f"has a value for {new} of {new} products that first come up after the cut" in report["catalogue_columns"].found
    )
    assert found(with_product_column(shop, "softness", stars)) == {}


def test_a_product_date_after_the_cut(shop: Dataset):
    frame = shop.events.frame.group_by("item_id").agg(first=pl.col("timestamp").min(), last=pl.col("timestamp").max())
    dates = shop.catalog.frame.select("item_id").join(frame, on="item_id", how="left", maintain_order="left")
    assert found(with_product_column(shop, "last_sold", dates["last"])) == {"catalogue_columns": "leak"}
    as_text = dates["last"].dt.strftime("%Y-%m-%d")
    assert found(with_product_column(shop, "last_sold", as_text)) == {"catalogue_columns": "leak"}
    assert found(with_product_column(shop, "launched", dates["first"])) == {}  # of new products, which may be announced


def spent(shop: Dataset) -> pl.DataFrame:
    paid = (pl.col("price") * pl.col("quantity")).sum().cast(pl.Float64)
    last = pl.col("timestamp").max().dt.date()
    return shop.events.frame.group_by("user_id").agg(total_spend=paid, last_purchase=last, orders=pl.len())


@pytest.mark.parametrize("name", ["total_spend", "orders", "last_purchase"])
def test_a_profile_that_knows_what_was_bought_later(shop: Dataset, name: str):
    report = with_shopper_column(shop, name, spent(shop))
    assert found(report) == {"profile_columns": "leak"}
    assert f"'{name}' has" in report["profile_columns"].found


def test_a_profile_of_what_was_known(shop: Dataset):
    past = shop.split(at=CUT)[0]
    for name in ("total_spend", "orders", "last_purchase"):
        assert found(with_shopper_column(shop, name, spent(past))) == {}, name


def test_plans_are_no_leak_but_worth_a_look(shop: Dataset):
    users = shop.users.to_frame("user_id")
    ends = [date(2020, 5, 25) + timedelta(days=5 * at) for at in range(len(users))]
    report = with_shopper_column(shop, "member_until", users.with_columns(pl.Series("member_until", ends)))
    assert found(report) == {"profile_columns": "warning"}
    assert "beyond" in report["profile_columns"].found


def test_a_part_without_events(parts: tuple[Dataset, Dataset]):
    empty = dataclasses.replace(parts[0], events=Events(parts[0].events.frame.clear()), index=None)
    with pytest.raises(NotEnoughDataError, match="the past of this split, 'shop', has no events"):
        audit(empty, parts[1])


def test_the_report_prints_and_travels(shop: Dataset):
    report = with_product_column(shop, "times", sold(shop))
    lines = str(report).splitlines()
    assert lines[0].startswith("Audit of shop, cut at 2020-05-20")
    assert lines[0].endswith("1 leak, no warnings")
    assert max(map(len, lines[1:])) <= 100
    assert any(line.startswith("catalogue_columns  leak     'times' has a rank") for line in lines)
    told = json.loads(json.dumps(report.to_dict()))
    assert told["leaks"] == 1
    assert [check["name"] for check in told["checks"]] == [check.name for check in report.checks]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_two_tables_of_an_honest_split(shop: Dataset, parts: tuple[Dataset, Dataset], tmp_path: Path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    for path, frame in zip((train, test), frames(parts), strict=True):
        frame.drop("event").write_csv(path)
    report = audit_tables(train, test)
    assert found(report) == {}
    assert report["cleaning"].found.startswith(f"all {len(shop.events):,} rows")
    assert report["newcomers"].rows == audit(*parts, features=False)["newcomers"].rows
    assert "features" not in {check.name for check in report.checks}


def test_two_tables_with_everything_wrong(shop: Dataset):
    chosen = np.random.default_rng(0).random(len(shop.events)) < 0.8
    frame = shop.events.frame.rename({"user_id": "who", "item_id": "what", "timestamp": "when"})
    catalog = {"sku": shop.catalog.ids, "name": shop.catalog.frame["title"], "times": sold(shop)}
    report = audit_tables(
        frame.filter(chosen),
        pl.concat([frame.filter(~chosen), frame.filter(chosen)[:5]]),
        columns={"user_id": "who", "item_id": "what", "timestamp": "when"},
        catalog=catalog,
        catalog_columns={"item_id": "sku", "title": "name"},
        profiles=spent(shop),
    )
    leaking = {check.name for check in report.leaks}
    assert {"copied_events", "shared_visits"} < leaking
    assert leaking & {"late_past", "early_future"}
    honest = audit_tables(
        *frames(shop.split(at=CUT)), catalog=catalog, catalog_columns={"item_id": "sku", "title": "name"}
    )
    assert found(honest) == {"catalogue_columns": "leak"}


def test_rows_that_cannot_be_read_are_counted(parts: tuple[Dataset, Dataset]):
    train, test = frames(parts)
    broken = train.with_columns(
        pl.when(pl.int_range(pl.len()) < 3).then(None).otherwise("user_id").alias("user_id"),
        pl.lit(-1.0).alias("quantity"),
    )
    report = audit_tables(broken, test)
    assert found(report) == {"cleaning": "warning"}
    assert report["cleaning"].rows == 3  # returns stay: they are real events
    assert "train missing_user 3" in report["cleaning"].found
    assert report["cleaning"].example.startswith("train, row 0")


def test_tables_without_moments(parts: tuple[Dataset, Dataset]):
    train, test = (frame.drop("timestamp") for frame in frames(parts))
    with pytest.raises(SchemaError, match="no column 'timestamp'"):
        audit_tables(train, test)
    numbered = [frame.with_row_index("position") for frame in (train, test)]
    with pytest.raises(InvalidValueError, match="only positions"):
        audit_tables(*numbered)


def ask(*words: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, words)


def test_the_command_audits_a_data_set(shop: Dataset):
    register("audited", lambda *_: shop)
    done = ask("--dataset", "audited", "--at", "2020-05-20")
    assert done.exit_code == 0, done.output
    assert "no leaks, no warnings" in done.output
    catalog = Catalog(shop.catalog.frame.with_columns(pl.Series("times", sold(shop))))
    leaking = dataclasses.replace(shop, catalog=catalog)
    register("leaking", lambda *_: leaking)
    done = ask("--dataset", "leaking", "--at", "2020-05-20", "--no-features", "--json")
    assert done.exit_code == 1
    assert json.loads(done.output)["leaks"] == 1


def test_the_command_audits_two_files(shop: Dataset, parts: tuple[Dataset, Dataset], tmp_path: Path):
    train, test, products = (str(tmp_path / name) for name in ("train.parquet", "test.parquet", "products.csv"))
    for path, frame in zip((train, test), frames(parts), strict=True):
        frame.rename({"user_id": "who"}).write_parquet(path)
    shop.catalog.frame.with_columns(pl.Series("times", sold(shop))).write_csv(products)
    files = ("--train", train, "--test", test, "--column", "user_id=who")
    done = ask(*files)
    assert done.exit_code == 0, done.output
    done = ask(*files, "--catalog", products)
    assert done.exit_code == 1
    assert "'times' has a rank" in done.output
    assert isinstance(ask("--train", train, "--test", test, "--column", "who").exception, ConfigError)


@pytest.mark.parametrize(
    "words",
    [(), ("--dataset", "x"), ("--train", "x"), ("--dataset", "x", "--at", "2020", "--test", "y"), ("--at", "2020")],
)
def test_the_command_says_what_it_needs(words: tuple[str, ...]):
    done = ask(*words)
    assert isinstance(done.exception, ConfigError)
    assert "--train and --test" in done.exception.expected


@pytest.fixture(scope="module")
def wholesale(data_folder: Path) -> Dataset:
    return load_dataset("online_retail", data_folder / RETAIL)


@pytest.mark.data
@pytest.mark.parametrize("at", ["2011-03-01", "2011-06-01", "2011-11-01"])
def test_real_invoices_split_by_time(wholesale: Dataset, at: str):
    report = audit(*wholesale.split(at=at))  # with a price in the catalogue
    assert found(report) == {"catalogue_source": "warning"}
    assert "titles and catalogue prices are made of all invoices" in report["catalogue_source"].found


@pytest.mark.data
def test_real_invoices_split_by_chance(wholesale: Dataset):
    frame = wholesale.events.frame
    chosen = np.random.default_rng(0).random(len(frame)) < 0.8
    report = audit_tables(frame.filter(chosen), frame.filter(~chosen))
    assert "as in a split by chance" in str(report)
    with pytest.raises(LeakageError, match="at or after the first event of the future"):
        report.raise_if_leaking()


def with_prices_and_sales(shop: Dataset) -> Dataset:
    """With the usual price of each product in the catalogue, which is fair, and all of its sales, which are not."""
    price = shop.events.frame.group_by("item_id").agg(pl.col("price").median().cast(pl.Float64))
    frame = shop.catalog.frame.join(price, on="item_id", how="left", maintain_order="left")
    sales = pl.Series("sales", np.bincount(shop.log.item, minlength=len(frame)))
    return dataclasses.replace(shop, catalog=Catalog(frame.with_columns(sales)), index=None)


def test_real_baskets_split_by_time():
    households = load_dataset("completejourney")
    report = audit(*with_prices_and_sales(households).split(at="2017-11-27T05:00"), features=False)
    assert found(report) == {"catalogue_columns": "leak"}
    assert report["catalogue_columns"].found.startswith("'sales' has a rank correlation of +1.00")
    assert "price" not in report["catalogue_columns"].found


def test_real_households_as_of_the_cut(grocery: Dataset):
    assert found(audit(*grocery.split(at="2017-11-27T05:00"))) == {}
    report = audit(*with_prices_and_sales(grocery).split(at="2017-11-27T05:00"), features=False)
    assert report["catalogue_columns"].severity == "leak"


def test_a_bad_value_is_told_with_its_file(tmp_path: Path):
    train, test, catalog = (tmp_path / name for name in ("train.csv", "test.csv", "items.csv"))
    train.write_text("user_id,item_id,timestamp,cost\nu,a,2020-01-01,1\n")
    test.write_text("user_id,item_id,timestamp,cost\nu,a,2020-01-02,1\nu,a,2020-01-03,cheap\n")
    catalog.write_text("item_id,name\na,tea\n")
    columns = {"price": "cost"}
    for first, second in ((train, test), (test, train)):
        with pytest.raises(SchemaError, match=r"\(in .*test\.csv, column 'cost', line 3\)"):
            audit_tables(first, second, columns=columns)
    with pytest.raises(SchemaError, match=r"no column 'title'.*items\.csv"):
        audit_tables(train, train, columns=columns, catalog=catalog)
    files = ("--train", str(train), "--test", str(train), "--catalog", str(catalog), "--column", "price=cost")
    done = ask(*files, "--catalog-column", "title=name")
    assert done.exit_code == 1, done.output  # an event that is in both parts
    assert isinstance(ask(*files, "--profile-column", "age").exception, ConfigError)
