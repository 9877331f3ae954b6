"""Known answers for ids, texts, numbers and moments."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from peftrec.data.values import as_attribute, as_id, as_moment, as_number, as_text, parse_moment
from peftrec.errors import InvalidValueError, SchemaError

TEN = datetime(2017, 1, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["007", " x "], ["007", " x "]),
        ([1, 2**60], ["1", str(2**60)]),
        ([12.0, float("nan"), None], ["12", None, None]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_ids(values: list[object], ids: list[str | None]):
    assert as_id(pl.Series("id", values), "events").to_list() == ids


@pytest.mark.parametrize("values", [[1.5], [2.0**54], [True], [date(2020, 1, 1)], [["a"]], [b"a"]])
def test_values_that_are_no_ids(values: list[object]):
    with pytest.raises(SchemaError, match="column 'id' of the events holds"):
        as_id(pl.Series("id", values), "events")


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([["red", None, "big"], None], ["red, big", None]),
        ([1.0, float("nan")], ["1", None]),
        ([1.5], ["1.5"]),
        ([True], ["true"]),
        (["x" * 100_000, "茶🫖"], ["x" * 100_000, "茶🫖"]),
    ],
)
def test_texts(values: list[object], texts: list[str | None]):
    assert as_text(pl.Series("t", values), "catalogue").to_list() == texts


def test_numbers_come_from_text_too():
    text = pl.Series("price", [" 1.5", "NaN", "", "n/a", None, "2e3"])
    assert as_number(text, "events", single=True).to_list() == [1.5, None, None, None, None, 2000]
    assert as_number(pl.Series("price", [1, 2]), "events", single=False).dtype == pl.Float64


@pytest.mark.parametrize(
    ("values", "says"), [(["1", "x7"], "row 1 .* is 'x7'"), ([True], "Boolean"), ([[1.0]], "List")]
)
def test_values_that_are_no_numbers(values: list[object], says: str):
    with pytest.raises(SchemaError, match=says):
        as_number(pl.Series("price", values), "events", single=True)


@pytest.mark.parametrize("value", [float("inf"), 1e300])
def test_infinite_numbers(value: float):
    with pytest.raises(InvalidValueError, match=r"row 1 .*infinite"):
        as_number(pl.Series("price", [1.0, value]), "events", single=True)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2017-01-01", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2017-01-01 10:00", TEN),
        ("2017-01-01T10:00", TEN),
        ("2017-01-01T10:00:00", TEN),
        ("2017-01-01T10:00:00Z", TEN),
        ("2017-01-01T12:00:00+02:00", TEN),
        ("2017-01-01 12:00:00+0200", TEN),
        (" 2017-01-01 10:00:00.250 ", TEN + timedelta(milliseconds=250)),
        ("yesterday", None),
        ("2017-13-01", None),
        ("", None),
    ],
)
def test_moments_from_text(value: str, moment: datetime | None):
    assert as_moment(pl.Series("timestamp", [value]), "events").to_list() == [moment]


def test_moments_of_mixed_forms_in_one_column():
    texts = ["2017-01-01", "soon", "2017-01-01T12:00:00+02:00", None, "2017-01-01 10:00"]
    moments = as_moment(pl.Series("timestamp", texts), "events").to_list()
    assert moments == [datetime(2017, 1, 1, tzinfo=UTC), None, TEN, None, TEN]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_moments_without_zone_are_utc(unit: str):
    naive = pl.Series("t", [datetime(2017, 1, 1, 10)]).dt.cast_time_unit(unit)  # pyright: ignore[reportArgumentType]
    assert as_moment(naive, "events").to_list() == [TEN]
    assert as_moment(naive.dt.replace_time_zone("Asia/Tokyo"), "events").to_list() == [TEN - timedelta(hours=9)]


def test_dates_are_midnight():
    assert as_moment(pl.Series("t", [date(2017, 1, 1)]), "events").to_list() == [datetime(2017, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("values", [[1_500_000_000], [1.5e9], [True]])
def test_numbers_are_no_moments(values: list[object]):
    with pytest.raises(SchemaError, match="column 't' of the events holds"):
        as_moment(pl.Series("t", values), "events")


@pytest.mark.parametrize(
    "moment",
    ["2017-01-01T10:00", TEN, datetime(2017, 1, 1, 10), datetime(2017, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))],
)
def test_one_moment(moment: str | datetime):
    assert parse_moment(moment, name="at") == TEN


def test_a_date_and_a_text_that_is_none():
    assert parse_moment(date(2017, 1, 1), name="at") == datetime(2017, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidValueError, match="at='week 48'"):
        parse_moment("week 48", name="at")


def test_attributes_keep_plain_types_and_refuse_structures():
    assert as_attribute(pl.Series("n", [1, None]), "profiles").dtype == pl.Int64
    assert as_attribute(pl.Series("x", [1.0, float("nan")]), "profiles").to_list() == [1.0, None]
    with pytest.raises(SchemaError, match="Struct"):
        as_attribute(pl.Series("s", [{"a": 1}]), "profiles")
