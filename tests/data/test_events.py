"""Events and profiles: types, order, and each bad row."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from peftrec.data import Events, Profiles
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError

SMALL = {
    "user_id": ["u2", "u1", "u2"],
    "item_id": ["b", "a", "c"],
    "timestamp": ["2020-01-02", "2020-01-01", "2020-01-02"],
}


def test_three_events_sorted_by_time_equal_moments_in_given_order():
    events = Events.from_table(SMALL)
    assert len(events) == 3
    assert events.frame["item_id"].to_list() == ["a", "b", "c"]
    assert events.frame.schema["timestamp"] == pl.Datetime("us", "UTC")


def test_defaults_and_types():
    table = {**SMALL, "price": [1, 2, None], "session_id": [1.0, 2.0, 3.0], "channel": [9, 9, 9], "till": [1, 2, 3]}
    frame = Events.from_table(table).frame
    assert frame["event"].to_list() == ["purchase"] * 3
    assert frame["quantity"].to_list() == [1.0] * 3
    assert frame.schema["quantity"] == frame.schema["price"] == pl.Float32
    assert frame["session_id"].to_list() == ["2", "1", "3"]
    assert frame["channel"].to_list() == ["9"] * 3
    assert frame.schema["till"] == pl.Int64
    assert set(frame.columns) == {*table, "event", "quantity"}


def test_missing_kind_and_quantity_take_the_default():
    frame = Events.from_table({**SMALL, "event": ["view", None, "cart"], "quantity": [None, 2, 3]}).frame
    assert frame["event"].to_list() == ["purchase", "view", "cart"]
    assert frame["quantity"].to_list() == [2, 1, 3]


TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%S}"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"user_id": ["u", None, "v"]}, InvalidValueError, "missing user in the events, row 1: user_id missing"),
        ({"user_id": [1.0, 2.0, float("nan")]}, InvalidValueError, "missing user in the events, row 2"),
        ({"item_id": ["a", "", None]}, InvalidValueError, "missing item in the events, row 1.*and 1 more"),
        ({"item_id": [0.5, 1.0, 2.0]}, SchemaError, "for example 0.5"),
        (
            {"timestamp": ["2020-01-01", None, "2020-01-02"]},
            InvalidValueError,
            "missing timestamp in the events, row 1",
        ),
        (
            {"timestamp": ["2020-01-01", "01/02/2020", "x"]},
            InvalidValueError,
            "row 1: timestamp '01/02/2020', and 1 more",
        ),
        (
            {"timestamp": ["2020-01-01", TOMORROW, "2020-01-01"]},
            InvalidValueError,
            "future timestamp in the events, row 1",
        ),
        ({"timestamp": [1577836800, 1, 2]}, SchemaError, "column 'timestamp' of the events holds Int64"),
        ({"price": [1, 2, -0.5]}, InvalidValueError, r"negative price in the events, row 2: price -0\.5"),
        ({"price": ["1", "2", "3 EUR"]}, SchemaError, "'3 EUR'"),
        ({"quantity": [1, 0, 1]}, InvalidValueError, r"non positive quantity in the events, row 1: quantity 0\.0"),
        ({"discount": [0, 1, 15]}, InvalidValueError, r"row 2: discount 15\.0"),
        ({"dwell_seconds": [0, -1, 1]}, InvalidValueError, "negative dwell"),
        ({"event": ["purchase", "wish", "view"]}, InvalidValueError, "row 1: event 'wish'"),
        ({"extra": [{"a": 1}, {"a": 2}, {"a": 3}]}, SchemaError, "column 'extra' of the events holds Struct"),
    ],
)
def test_bad_rows(change: dict[str, list[object]], error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        Events.from_table({**SMALL, **change})


def test_the_row_named_is_the_row_given_not_the_row_sorted():
    with pytest.raises(InvalidValueError, match=r"row 0: price -1\.0"):
        Events.from_table({**SMALL, "price": [-1, 1, 1]})


def test_empty_events():
    with pytest.raises(NotEnoughDataError, match="events table has no rows"):
        Events.from_table({name: [] for name in SMALL})


def test_a_frame_that_was_not_read_is_checked():
    with pytest.raises(SchemaError, match="event missing, quantity missing"):
        Events(Events.from_table(SMALL).frame.drop("event", "quantity"))
    with pytest.raises(SchemaError, match="not ascending"):
        Events(Events.from_table(SMALL).frame.reverse())


def test_profiles_keep_attributes():
    profiles = Profiles.from_table(
        {"age": [30, None], "who": [1, 2], "city": ["京都", None]}, columns={"user_id": "who"}
    )
    assert profiles.frame.rows() == [("1", 30, "京都"), ("2", None, None)]
    assert repr(profiles) == "Profiles(2 shoppers: user_id, age, city)"


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        ({"user_id": ["u", "u"]}, InvalidValueError, "'u' in rows 0, 1"),
        ({"user_id": ["u", None]}, InvalidValueError, "the first is row 1"),
        ({"user_id": []}, NotEnoughDataError, "profiles table has no rows"),
        ({"customer_id": ["u"]}, SchemaError, "closest to 'user_id': customer_id"),
    ],
)
def test_bad_profiles(table: dict[str, list[object]], error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        Profiles.from_table(table)
