"""The numpy view of events: known codes for a log of known content."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from peftrec.data import Dataset, EventLog, Events
from peftrec.data.columns import EVENT_TYPES
from peftrec.data.log import channels_by_code, codes, kind_of

USERS = pl.Series(["u", "v"])
ITEMS = pl.Series(["b", "a"])


def log(**extra: list[object]) -> EventLog:
    table = {
        "user_id": ["v", "u", "u", "v"],
        "item_id": ["a", "b", "a", "a"],
        "timestamp": ["2020-01-01T10:00", "2020-01-01T11:00:00.5", "2020-01-01T12:00", "2020-01-02"],
        **extra,
    }
    return EventLog.of(Events.from_table(table).frame, users=USERS, items=ITEMS)


def test_codes_times_and_defaults():
    view = log()
    assert view.user.tolist() == [1, 0, 0, 1]
    assert view.item.tolist() == [1, 0, 1, 1]
    assert view.time[1] == datetime(2020, 1, 1, 11, 0, 0, 500_000, tzinfo=UTC).timestamp()
    assert view.event.tolist() == [EVENT_TYPES.index("purchase")] * 4
    assert view.quantity.tolist() == [1] * 4
    assert np.isnan(view.price).all()
    assert view.discount.tolist() == [0] * 4
    assert np.isnan(view.dwell).all()
    assert view.channel.tolist() == [-1] * 4


def test_types():
    dtypes = {name: array.dtype.name for name, array in log()._arrays().items()}
    assert dtypes == {
        "user": "int32",
        "item": "int32",
        "time": "float64",
        "event": "int8",
        "quantity": "float32",
        "price": "float32",
        "discount": "float32",
        "session": "int64",
        "dwell": "float32",
        "channel": "int32",
        "page": "float32",
        "entry": "int8",
    }


def test_given_values():
    view = log(
        event=["view", "cart", "favourite", "click"],
        price=[1, None, 3, 4],
        discount=[None, 0.5, 1, 0],
        dwell_seconds=[None, 1, 2, 3],
        channel=["web", None, "app", "web"],
        quantity=[2, 3, 0.5, None],
    )
    assert [EVENT_TYPES[code] for code in view.event] == ["view", "cart", "favourite", "click"]
    assert view.price.tolist() == pytest.approx([1, np.nan, 3, 4], nan_ok=True)
    assert view.discount.tolist() == [0, 0.5, 1, 0]
    assert view.dwell.tolist() == pytest.approx([np.nan, 1, 2, 3], nan_ok=True)
    assert view.channel.tolist() == [1, -1, 0, 1]
    assert view.quantity.tolist() == [2, 3, 0.5, 1]


def groups(codes: np.ndarray) -> list[int]:
    return np.unique(codes, return_inverse=True)[1].tolist()


def test_without_session_ids_a_visit_ends_where_a_shopper_rests():
    times = ["2020-01-01T10:00", "2020-01-01T10:10", "2020-01-01T10:30", "2020-01-01T10:40"]
    visits = log(timestamp=times, user_id=["v", "u", "v", "u"]).session
    assert groups(visits) == [1, 0, 1, 0]
    rested = log(timestamp=[*times[:3], "2020-01-01T10:40:01"], user_id=["v", "u", "v", "u"]).session
    assert rested[1] != rested[3]
    assert groups(log(timestamp=["2020-01-01"] * 3 + ["2020-01-02"], user_id=["u"] * 4).session) == [0, 0, 0, 1]


def test_sessions_belong_to_one_shopper_and_missing_ones_are_cut_by_rest():
    per_shopper = log(session_id=["1", "1", "2", "1"]).session
    assert per_shopper[0] == per_shopper[3]
    assert len(set(per_shopper.tolist())) == 3
    near = ["2020-01-01T10:00", "2020-01-01T10:10", "2020-01-01T10:20", "2020-01-01T10:30"]
    gaps = log(session_id=["1", None, None, None], timestamp=near).session
    assert gaps[1] == gaps[2]
    assert len(set(gaps.tolist())) == 3


def test_a_path_counts_the_events_of_a_visit_and_keeps_its_entry():
    times = ["2020-01-01T10:00", "2020-01-01T10:10", "2020-01-01T10:20", "2020-01-01T10:30"]
    view = log(timestamp=times, user_id=["u", "v", "u", "u"], channel=["mail", "web", None, "web"])
    assert view.page.tolist() == [1, 1, 2, 3]
    assert view.entry.tolist() == [kind_of("mail"), kind_of("web"), kind_of("mail"), kind_of("mail")]
    assert log(timestamp=times, channel=[None, None, "web", "web"]).entry.tolist()[0] == -1
    assert log(page=[3, None, 7, None]).page.tolist() == [3, 1, 7, 1]


def test_a_pool_keeps_the_kinds_of_its_platforms_channels():
    names, days = ["a/mail", "b/mail", "a/google/cpc", "b/web"], [f"2020-01-0{day}" for day in range(1, 5)]
    pooled = log(channel=names, platform=["a", "b", "a", "b"], timestamp=days).entry.tolist()
    assert pooled == [kind_of("mail"), kind_of("mail"), kind_of("google/cpc"), kind_of("web")]
    assert log(channel=names, timestamp=days).entry.tolist() == [kind_of(name) for name in names]


def test_channels_of_a_part_keep_their_codes():
    table = {
        "user_id": ["u"] * 3,
        "item_id": ["a"] * 3,
        "timestamp": ["2020-01-01", "2020-01-02", "2020-01-03"],
        "channel": ["web", None, "app"],
    }
    whole = Dataset.build(name="shop", catalog={"item_id": ["a"], "title": ["tea"]}, events=table)
    past, future = whole.split(at="2020-01-03")
    assert channels_by_code(whole.events.frame, whole.log) == ["app", "web"]
    assert channels_by_code(past.events.frame, past.log) == ["", "web"]
    assert channels_by_code(future.events.frame, future.log) == ["app"]
    assert channels_by_code(whole.events.frame.drop("channel"), whole.log) == []


def test_events_by_user_are_in_time_order():
    order, keys = log().by_user
    assert order.tolist() == [1, 2, 0, 3]
    assert (np.diff(keys) > 0).all()


def test_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        log().item[0] = 5


def test_slices_share_memory_and_joins_restore():
    view = log()
    first, second = view.slice(0, 2), view.slice(2, 4)
    assert np.shares_memory(first.price, view.price)
    joined = EventLog.join(first, second)
    for name, array in vars(view).items():
        assert np.array_equal(getattr(joined, name), array, equal_nan=True)


def test_take_recodes():
    new_user, new_item = np.array([-1, 0], np.int32), np.array([1, 0], np.int32)
    part = log().take(np.array([0, 3]), users=new_user, items=new_item)
    assert part.user.tolist() == [0, 0]
    assert part.item.tolist() == [0, 0]
    assert part.time.tolist() == log().time[[0, 3]].tolist()


def test_codes_of_unknown_and_missing_values():
    assert codes(pl.Series(["b", "x", None, "a"]), ITEMS).tolist() == [0, -1, -1, 1]
