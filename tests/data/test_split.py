"""Windows that roll through time, and everyone's last events where nothing but their order is known."""

import dataclasses
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.data import Catalog, CleaningRules, Dataset, audit, load_dataset
from peftrec.data.order import FINAL
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError

CATALOG = Catalog.from_table({"item_id": list("abc"), "title": ["tea", "pot", "milk"]})


def at_days(*days: int) -> Dataset:
    """One event at noon of each of these days of January 2020."""
    moments = [datetime(2020, 1, day, 12) for day in days]
    return Dataset.build(
        name="shop",
        catalog=CATALOG,
        events={"user_id": ["u"] * len(days), "item_id": ["a"] * len(days), "timestamp": moments},
    )


def days(dataset: Dataset) -> list[int]:
    return dataset.events.frame["timestamp"].dt.day().to_list()


def test_windows_end_with_the_log_and_the_earliest_comes_first():
    shop = at_days(*range(1, 11))
    windows = shop.rolling(windows=3, horizon=2)
    assert [days(future) for _, future in windows] == [[5, 6], [7, 8], [9, 10]]
    assert [days(past) for past, _ in windows] == [[*range(1, 5)], [*range(1, 7)], [*range(1, 9)]]
    for past, future in windows:
        assert future.past is past
        assert past.past is None
        assert past.users is future.users is shop.users


def test_steps_and_ends():
    shop = at_days(*range(1, 11))
    overlapping = shop.rolling(windows=3, horizon=timedelta(days=4), step=1)
    assert [days(future) for _, future in overlapping] == [[5, 6, 7, 8], [6, 7, 8, 9], [7, 8, 9, 10]]
    apart = shop.rolling(windows=2, horizon=1, step=timedelta(days=4), end="2020-01-09")
    assert [days(future) for _, future in apart] == [[4], [8]]
    assert [days(past) for past, _ in apart] == [[1, 2, 3], [*range(1, 8)]]
    short = shop.rolling(windows=1, horizon=timedelta(hours=1))
    assert days(short[0][1]) == [10]


def test_windows_of_a_part_have_its_past_before_them():
    part = at_days(*range(1, 11)).split(at="2020-01-06")[1]
    windows = part.rolling(windows=4, horizon=1)
    assert [days(past) for past, _ in windows] == [[*range(1, last)] for last in (7, 8, 9, 10)]
    assert days(part.rolling(windows=1, horizon=5)[0][0]) == [1, 2, 3, 4, 5]


def test_windows_of_a_part_never_reach_into_its_past():
    part = at_days(*range(1, 31)).split(at="2020-01-21")[1]
    with pytest.raises(NotEnoughDataError, match="1 windows of 20 days"):
        part.rolling(windows=1, horizon=20)
    past, future = part.rolling(windows=1, horizon=10)[0]
    assert (days(past)[-1], len(days(future))) == (20, 10)


@pytest.mark.parametrize(
    "wrong", [{"windows": 1.5}, {"windows": 10**7}, {"horizon": "1"}, {"horizon": 10**10}, {"horizon": float("nan")}]
)
def test_windows_of_another_kind_are_refused(wrong: dict[str, Any]):
    with pytest.raises(InvalidValueError):
        at_days(*range(1, 31)).rolling(**{"windows": 1, "horizon": 1, **wrong})


def test_windows_that_do_not_fit():
    shop = at_days(1, 2, 3, 4, 9)
    with pytest.raises(NotEnoughDataError, match="3 windows of 4 days, 4 days apart") as caught:
        shop.rolling(windows=3, horizon=4)
    assert "windows after 2020-01-01 12:00 UTC; 2 of them are" in caught.value.expected
    with pytest.raises(NotEnoughDataError, match="no event of 'shop' is in the window"):
        shop.rolling(windows=2, horizon=2)


@pytest.mark.parametrize(
    "wrong", [{"windows": 0}, {"horizon": 0}, {"horizon": timedelta(days=-1)}, {"step": 0}, {"end": "soon"}]
)
def test_windows_that_mean_nothing(wrong: dict[str, int]):
    asked = {"windows": 1, "horizon": 1, "step": 1} | wrong
    with pytest.raises(InvalidValueError, match=f"{next(iter(wrong))}="):
        at_days(1, 2, 3).rolling(**asked)  # pyright: ignore[reportArgumentType]


def in_order(users: str, positions: list[int] | None = None, items: str = "") -> Dataset:
    table = {
        "user_id": list(users),
        "item_id": list(items or "abc" * len(users))[: len(users)],
        "position": positions or list(range(len(users))),
    }
    return Dataset.build(name="shop", catalog=CATALOG, events=table, rules=CleaningRules(bot=False, outlier_user=False))


def told(dataset: Dataset) -> list[tuple[str, str]]:
    return dataset.events.frame.select("user_id", "item_id").rows()


def test_positions_stand_in_for_moments():
    shop = in_order("uvuu", [5, 2, 9, 1], items="abca")
    assert shop.ordered
    last = datetime(FINAL.year, FINAL.month, FINAL.day, tzinfo=UTC)
    assert shop.end == last
    assert shop.start == last - timedelta(days=2)
    assert [item for user, item in told(shop) if user == "u"] == ["a", "a", "c"]
    assert shop.events.frame["position"].to_list() == [1, 5, 2, 9]
    assert not [name for name in shop.events.frame.columns if name.startswith("__")]


def test_a_position_beside_moments_is_one_more_column():
    table = {
        "user_id": ["u", "u"],
        "item_id": ["a", "b"],
        "timestamp": ["2020-01-02", "2020-01-01"],
        "position": [1, 2],
    }
    shop = Dataset.build(name="shop", catalog=CATALOG, events=table)
    assert not shop.ordered
    assert [item for _, item in told(shop)] == ["b", "a"]


def test_columns_can_be_called_otherwise():
    table = {"who": ["u", "u"], "what": ["a", "b"], "rank": [2, 1]}
    mapping = {"user_id": "who", "item_id": "what", "position": "rank"}
    shop = Dataset.build(name="shop", catalog=CATALOG, events=table, event_columns=mapping)
    assert shop.ordered
    assert [item for _, item in told(shop)] == ["b", "a"]
    with pytest.raises(SchemaError, match="no column 'timestamp'"):
        Dataset.build(name="shop", catalog=CATALOG, events=table, event_columns={"user_id": "who", "item_id": "what"})
    moments = {"user_id": ["u"], "item_id": ["a"], "when": ["2020-01-01"], "position": [1]}
    assert not Dataset.build(name="shop", catalog=CATALOG, events=moments, event_columns={"timestamp": "when"}).ordered


def test_rows_without_a_position_are_counted():
    table = {"user_id": ["u", "u", "v"], "item_id": ["a", "b", "c"], "position": [1, None, 7]}
    shop = Dataset.build(name="shop", catalog=CATALOG, events=table)
    assert shop.report is not None
    assert {count.rule: count.rows for count in shop.report.counts if count.rows} == {"missing_timestamp": 1}


def test_order_survives_every_cut():
    shop = in_order("uuuvvv")
    past, future = shop.split(at=FINAL)
    parts = [
        past,
        future,
        shop.window(start=FINAL),
        *shop.segment(by="event").values(),
        dataclasses.replace(shop, name="other"),
        pickle.loads(pickle.dumps(shop)),  # noqa: S301  # as multiprocessing does
        *shop.leave_last_out(),
    ]
    assert all(part.ordered for part in parts)
    assert not at_days(1, 2).ordered


def test_the_last_event_of_everyone():
    past, future = in_order("uuuvvw", items="abccab").leave_last_out()
    assert told(future) == [("u", "c"), ("v", "a")]
    assert sorted(told(past)) == [("u", "a"), ("u", "b"), ("v", "c"), ("w", "b")]  # w would have no history
    assert future.past is past
    assert past.end < future.start
    assert past.users is future.users


def test_the_last_two():
    past, future = in_order("uuuuvvvww", items="abcaabcbc").leave_last_out(count=2)
    assert sorted(told(future)) == [("u", "a"), ("u", "c"), ("v", "b"), ("v", "c")]
    assert sorted(told(past)) == [("u", "a"), ("u", "b"), ("v", "a"), ("w", "b"), ("w", "c")]
    assert [item for user, item in told(past) if user == "w"] == ["b", "c"]


def test_a_second_cut_leaves_the_event_before_out():
    past, test = in_order("uuuuvvv", items="abcaabc").leave_last_out()
    train, validation = past.leave_last_out()
    assert [dict(told(part)) for part in (test, validation)] == [{"u": "a", "v": "c"}, {"u": "c", "v": "b"}]
    assert sorted(told(train)) == [("u", "a"), ("u", "b"), ("v", "a")]
    assert train.end < validation.start < test.start


def test_a_segment_has_last_events_of_its_own():
    table = {
        "user_id": list("uuuvvv"),
        "item_id": list("abcabc"),
        "position": [1, 2, 3, 1, 2, 3],
        "event": ["view", "view", "cart", "view", "cart", "view"],
    }
    part = Dataset.build(name="shop", catalog=CATALOG, events=table).segment(by="event")["view"]
    past, future = part.leave_last_out()
    assert sorted(told(future)) == [("u", "b"), ("v", "c")]
    assert sorted(told(past)) == [("u", "a"), ("v", "a")]


@given(st.lists(st.sampled_from("uvwx"), min_size=2, max_size=30), st.integers(1, 3))
def test_nothing_is_lost_and_every_future_has_a_history(users: list[str], count: int):
    shop = in_order("".join(users))
    sizes = {user: users.count(user) for user in users}
    if max(sizes.values()) <= count:
        with pytest.raises(NotEnoughDataError, match="no shopper of 'shop' has more than"):
            shop.leave_last_out(count=count)
        return
    past, future = shop.leave_last_out(count=count)
    assert sorted(told(past) + told(future)) == sorted(told(shop))
    for user, size in sizes.items():
        own = [item for name, item in told(shop) if name == user]
        held = count if size > count else 0
        assert [item for name, item in told(past) if name == user] == own[: size - held]
        assert [item for name, item in told(future) if name == user] == own[size - held :]


def test_real_moments_are_split_by_time():
    with pytest.raises(InvalidValueError, match="have real moments") as caught:
        at_days(1, 2, 3).leave_last_out()
    assert "split(at=...)" in caught.value.remedy
    assert "rolling(" in caught.value.remedy


def test_what_cannot_be_left_out():
    shop = in_order("uuuvv")
    with pytest.raises(InvalidValueError, match="count=0"):
        shop.leave_last_out(count=0)
    with pytest.raises(InvalidValueError, match="is a part that has a past"):
        shop.leave_last_out()[1].leave_last_out()
    with pytest.raises(NotEnoughDataError, match="more than 3 events"):
        shop.leave_last_out(count=3)


def test_what_was_left_out_is_no_leak():
    report = audit(*in_order("uuuvvvwx").leave_last_out())
    assert not report.leaks
    assert not report.warnings


@pytest.mark.data
def test_real_histories_without_moments(data_folder: Path):
    rows = pl.read_parquet(data_folder / "amazon_office/interactions.parquet")
    user, item = (next(name for name in rows.columns if word in name) for word in ("user", "item"))
    ids = rows[item].unique().sort()
    shop = Dataset.build(
        name="office",
        catalog={"item_id": ids, "title": ids.cast(pl.String)},
        events=rows,
        event_columns={"user_id": user, "item_id": item},
    )
    past, future = shop.leave_last_out()
    assert shop.ordered
    assert len(future.events) == future.events.frame["user_id"].n_unique() == 3_231
    assert len(past.events) + len(future.events) == 22_447
    assert past.end < future.start


@pytest.mark.data
def test_real_weeks_one_after_the_other(data_folder: Path):
    shop = load_dataset("online_retail", data_folder / "online_retail/uci_online_retail.parquet")
    windows = shop.rolling(windows=6, horizon=timedelta(weeks=2), end="2011-12-05")
    assert [f"{future.start:%m-%d}" for _, future in windows] == ["09-12", "09-26", "10-10", "10-24", "11-07", "11-21"]
    assert sum(len(future.events) for _, future in windows) == len(
        shop.window(start="2011-09-12", end="2011-12-05").events
    )
