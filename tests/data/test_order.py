"""Moments made up from order: only order survives, and the final day leaves the last event of each shopper out."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.data import CleaningRules, Dataset
from peftrec.data.order import FINAL, timestamps_from_order
from peftrec.data.reading.values import MOMENT
from peftrec.errors import InvalidValueError, SchemaError

Rows = list[tuple[str | None, float | None]]

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-5, 5).map(float)
rows = st.lists(st.tuples(st.none() | st.sampled_from("abc"), st.none() | numbers), max_size=40)


def columns(rows: Rows) -> tuple[pl.Series, pl.Series]:
    return (
        pl.Series("user_id", [user for user, _ in rows], pl.String),
        pl.Series("position", [position for _, position in rows], pl.Float64),
    )


def days_before_last(moments: pl.Series) -> list[int | None]:
    return [None if moment is None else (FINAL - moment.date()).days for moment in moments]


def test_two_shoppers_by_hand():
    users = pl.Series(["a", "b", "a", "a", "b", "c"])
    moments = timestamps_from_order(users, pl.Series([30, 2, 7, 8, 1, 0]))
    assert moments.name == "timestamp"
    assert moments.dtype == MOMENT
    assert days_before_last(moments) == [0, 0, 2, 1, 1, 0]
    assert all(moment.time().isoformat() == "00:00:00" for moment in moments)


def test_ties_keep_the_order_of_the_rows():
    moments = timestamps_from_order(pl.Series(["a", "a", "b", "a"]), pl.Series([1, 1, 1, 0]))
    assert days_before_last(moments) == [1, 0, 0, 2]


def test_what_is_not_known_has_no_moment_and_moves_no_other():
    users = pl.Series(["a", None, "a", "a", None, "a"])
    moments = timestamps_from_order(users, pl.Series([1.0, 5.0, None, 2.0, None, float("nan")]))
    assert days_before_last(moments) == [1, None, None, 0, None, None]


def test_large_whole_numbers_are_told_apart():
    moments = timestamps_from_order(pl.Series([7, 7, 7]), pl.Series([2**60 + 1, 2**60, 2**60 + 2]))
    assert days_before_last(moments) == [1, 2, 0]


def test_numbers_in_text_are_numbers():
    assert days_before_last(timestamps_from_order(pl.Series([1, 1]), pl.Series(["10", "9"]))) == [0, 1]


def test_no_rows():
    assert timestamps_from_order(*columns([])).equals(pl.Series("timestamp", [], MOMENT))


@given(rows)
def test_every_shopper_ends_on_the_final_day_and_loses_no_event(rows: Rows):
    moments = timestamps_from_order(*columns(rows))
    for shopper in "abc":
        at = [row for row, (user, position) in enumerate(rows) if user == shopper and position is not None]
        in_order = sorted(at, key=lambda row: (rows[row][1], row))
        days = [moments[row].date() for row in in_order]
        assert days == [FINAL - timedelta(days=left) for left in reversed(range(len(at)))]
    unknown = [row for row, (user, position) in enumerate(rows) if user is None or position is None]
    assert moments.is_null().arg_true().to_list() == unknown


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_matters_only_for_ties(rows: Rows, random):
    distinct = list({row: row for row in rows}.values())
    before = dict(zip(distinct, timestamps_from_order(*columns(distinct)), strict=True))
    random.shuffle(distinct)
    assert dict(zip(distinct, timestamps_from_order(*columns(distinct)), strict=True)) == before


def test_the_final_day_leaves_the_last_event_out_and_rows_without_a_position_are_counted():
    table = pl.DataFrame(
        {"user_id": ["a", "b", "a", "c", "a"], "item_id": ["x", "x", "y", "y", "x"], "position": [9, 4, 12, None, 10]}
    )
    events = table.with_columns(timestamps_from_order(table["user_id"], table["position"]))
    catalog = {"item_id": ["x", "y"], "title": ["tea", "kettle"]}
    dataset = Dataset.build(name="shop", catalog=catalog, events=events, rules=CleaningRules())
    assert dataset.report is not None
    assert {count.rule: count.rows for count in dataset.report.counts if count.rows} == {"missing_timestamp": 1}
    past, future = dataset.split(at=FINAL)
    assert past.events.frame["item_id"].to_list() == ["x", "x"]
    assert dict(future.events.frame.select("user_id", "item_id").iter_rows()) == {"a": "y", "b": "x"}


@pytest.mark.parametrize(
    ("users", "position", "error", "says"),
    [
        (["a", "b"], [1], InvalidValueError, "2 users and 1 positions"),
        (["a", "b"], ["1", "first"], SchemaError, "row 1 .*'first'"),
        (["a", "b"], [1.0, float("inf")], InvalidValueError, "row 1 .* is infinite"),
        ([0.5, 1.0], [1, 2], SchemaError, r"for example 0\.5"),
        (["a", "b"], [True, False], SchemaError, "Boolean"),
    ],
)
def test_what_is_no_order(users: list[object], position: list[object], error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        timestamps_from_order(pl.Series("user_id", users), pl.Series("position", position))
