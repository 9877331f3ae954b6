"""Known answers for ids, texts, numbers and moments."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from peftrec.data.reading.values import as_attribute, as_id, as_moment, as_number, as_text, check_ids, parse_moment
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


@pytest.mark.parametrize("values", [[True], [b"2017"], [timedelta(days=1)], [["2017-01-01"]]])
def test_what_is_no_moment(values: list[object]):
    with pytest.raises(SchemaError, match="column 't' of the events holds"):
        as_moment(pl.Series("t", values), "events")


SECONDS = 1_512_190_800


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([None, SECONDS], "row 1 .* is 1512190800, which looks like seconds since 1970"),
        ([SECONDS * 1.0, float("nan")], "seconds since 1970"),
        ([SECONDS * 1000], "milliseconds"),
        ([SECONDS * 10**6], "microseconds"),
        ([SECONDS * 10**9], "nanoseconds"),
        ([None, str(SECONDS), " ", f"{SECONDS}.0"], r"holds String: row 1 .*'1512190800', .* seconds since 1970"),
        ([str(SECONDS * 1000)], "milliseconds"),
        ([20171202], "dates without marks"),
        ([43071.208333333], "workbooks"),
    ],
)
def test_numbers_are_answered_with_the_expression_that_reads_them(values: list[object], says: str):
    column = pl.Series("t", values)
    with pytest.raises(SchemaError, match=says) as caught:
        as_moment(column, "events")
    assert "it would be 2017-12-02" in caught.value.found
    code = caught.value.remedy.partition("table.with_columns(")[2].removesuffix(")")
    moments = as_moment(column.to_frame().with_columns(eval(code))["t"], "events")  # it is there to be pasted
    assert {f"{moment:%Y-%m-%d}" for moment in moments if moment is not None} == {"2017-12-02"}
    assert moments.null_count() == sum(value in (None, " ") or value != value for value in values)


@pytest.mark.parametrize("values", [[5, 6], [SECONDS, SECONDS * 1000]])
def test_numbers_that_are_no_one_unit_are_told_with_their_range(values: list[int]):
    with pytest.raises(SchemaError, match=f"all are between {values[0]} and {values[1]}, which is no one unit"):
        as_moment(pl.Series("t", values), "events")


def test_single_numbers_among_texts_are_left_to_the_rule():
    moments = as_moment(pl.Series("t", [str(SECONDS), "2017-01-01"]), "events")
    assert moments.to_list() == [None, datetime(2017, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("ms"), pl.Datetime("us", "Asia/Tokyo"), pl.Datetime("ns")])
@pytest.mark.parametrize("read", [as_moment, as_attribute])
def test_moments_out_of_the_calendar(dtype: pl.DataType, read: Callable[[pl.Series, str], pl.Series]):
    count = 2**31 - 1 if dtype == pl.Date else 2**62
    column = pl.Series("t", [0, count]).cast(dtype)
    if dtype == pl.Datetime("ns"):
        assert len(read(column, "events")) == 2  # nanoseconds end in the year 2262
        return
    with pytest.raises(InvalidValueError, match=rf"row 1 .* out of the calendar: .* holds {count}"):
        read(column, "events")


@pytest.mark.parametrize("text", ["+20000-01-01", "0000-01-01", "-0001-01-01", "9999-12-31"])
def test_texts_out_of_the_calendar_are_no_moments(text: str):
    assert as_moment(pl.Series("t", [text]), "events").to_list() == [None]


@pytest.mark.parametrize(
    ("texts", "style", "numbers"),
    [
        (["1.234,50", "2,5", "3", "-1.234.567,8", ""], "a decimal comma", [1234.5, 2.5, 3, -1234567.8, None]),
        (["1,234.50", "3"], "commas part thousands", [1234.5, 3]),
        (["1 234,5", "7"], "blanks or apostrophes", [1234.5, 7]),
        (["1'234'567.5"], "blanks or apostrophes", [1234567.5]),
        (["15%", "20.5 %"], "percent", [0.15, 0.205]),
        (["15,5%"], "percent", [0.155]),
        (["£2.55", "3"], "a currency or a unit", [2.55, 3]),
        (["1.234,50 €"], "a currency and a decimal comma", [1234.5]),
        (["1,234", "2"], "either a decimal mark or parts thousands", [1234, 2]),
    ],
)
def test_written_numbers_are_answered_with_the_expression_that_reads_them(
    texts: list[str], style: str, numbers: list[float | None]
):
    column = pl.Series("quantity", texts)
    with pytest.raises(SchemaError, match=style) as caught:
        as_number(column, "events", single=False)
    code = caught.value.remedy.partition("table.with_columns(")[2].partition(".alias('quantity'))")[0]
    read = as_number(column.to_frame().with_columns(eval(code))["quantity"], "events", single=False)
    assert read.to_list() == pytest.approx(numbers)


def test_numbers_in_no_one_style_are_counted():
    with pytest.raises(
        SchemaError, match=r"row 1 \(counting from 0\) is '1,5', and 1 more rows are no numbers"
    ) as caught:
        as_number(pl.Series("quantity", ["1", "1,5", "x"]), "events", single=True)
    assert "with_columns" not in caught.value.remedy


def test_long_values_are_cut_in_messages():
    with pytest.raises(SchemaError) as caught:
        as_number(pl.Series("quantity", ["x" * 10_000]), "events", single=True)
    assert len(caught.value.found) < 200


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


def test_doubled_ids_are_found_in_a_table_that_has_a_column_called_row():
    frame = pl.DataFrame({"item_id": ["a", "b", "a"], "row": [1, 2, 3]})
    with pytest.raises(InvalidValueError, match="'a' in rows 0, 2"):
        check_ids(frame, "item_id", "catalogue")
