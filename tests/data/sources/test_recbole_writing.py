"""Data sets written as RecBole's atomic files: the same comes back, for RecBole as well, and no kill leaves half of it."""

import errno
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftrec.data import Catalog, CleaningRules, Dataset, Events, Profiles
from peftrec.data.sources import atomic
from peftrec.data.sources.recbole import load_recbole, write_recbole
from peftrec.errors import ConfigError, DataError, InvalidValueError, NotEnoughDataError, SchemaError

UNTOUCHED = CleaningRules(html=False, mojibake=False, near_duplicate=False, currency=False, duplicate_event=False)
UNTOUCHED = replace(UNTOUCHED, price_unit=False, measured_quantity=False, bot=False, cancelled=False)
"""Only rules that the events of a valid data set satisfy anyway."""

Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\t\n\r"), max_size=12)
QUOTES = st.text('" a', max_size=6)
VALUE = st.none() | TEXT | QUOTES
ID = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=6) | st.sampled_from(['"', '""'])
NUMBER = st.none() | st.floats(0, 1e6, width=32)
MOMENT = st.datetimes(datetime(1960, 1, 1), datetime(2024, 1, 1))
SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Datetime("us"), "event": pl.String}


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    """Catalogue, events and profiles that fit each other."""
    items = draw(st.lists(ID, min_size=1, max_size=5, unique=True))
    users = draw(st.lists(ID, min_size=1, max_size=5, unique=True))

    def column(values: st.SearchStrategy[object], rows: list[str]) -> list[object]:
        return draw(st.lists(values, min_size=len(rows), max_size=len(rows)))

    titles = [f"{text}x" for text in column(TEXT | QUOTES, items)]
    prices = column(st.none() | st.floats(0, 1e300), items)
    catalog = pl.DataFrame(
        {"item_id": items, "title": titles, "brand": column(VALUE, items), "price": prices},
        schema_overrides={"brand": pl.String, "price": pl.Float64},
    )
    kinds = st.sampled_from(["view", "click", "favourite", "cart", "purchase"])
    row = st.tuples(st.sampled_from(users), st.sampled_from(items), MOMENT, kinds, NUMBER, VALUE, st.floats(width=32))
    schema = SCHEMA | {"price": pl.Float32, "query": pl.String, "rating": pl.Float32}
    events = pl.DataFrame(draw(st.lists(row, min_size=1, max_size=15)), schema=schema, orient="row")
    ages = column(st.none() | st.integers(-(2**53), 2**53), users)
    profiles = pl.DataFrame(
        {"user_id": users, "age": ages, "city": column(VALUE, users)},
        schema_overrides={"age": pl.Int64, "city": pl.String},
    )
    return catalog, events, profiles


def build(catalog: pl.DataFrame, events: pl.DataFrame, profiles: pl.DataFrame | None) -> Dataset:
    shoppers = None if profiles is None else Profiles.from_table(profiles)
    return Dataset("shop", Catalog.from_table(catalog), Events.from_table(events), shoppers)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_what_is_written_is_read_back(tmp_path: Path, given_tables: Tables):
    dataset = build(*given_tables)
    path = write_recbole(dataset, tmp_path)
    again = load_recbole(path, UNTOUCHED)
    assert again.digest == dataset.digest
    assert again.catalog.frame.equals(dataset.catalog.frame)
    assert again.events.frame.select("timestamp", "item_id").equals(dataset.events.frame.select("timestamp", "item_id"))
    assert again.report is not None
    assert again.report.rows_in == again.report.rows_kept == len(dataset.events)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_recbole_reads_the_same_texts(tmp_path: Path, given_tables: Tables):
    """RecBole reads with pandas: tabs between fields, and quotes around some."""
    dataset = build(*given_tables)
    path = write_recbole(dataset, tmp_path)
    for kind, frame in (("inter", dataset.events.frame), ("item", dataset.catalog.frame)):
        read = pd.read_csv(
            path.with_suffix(f".{kind}"), delimiter="\t", engine="python", dtype=str, keep_default_na=False
        )
        texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
        header = {str(name).partition(":")[0]: name for name in read.columns}
        for name in texts:
            assert read[header[name]].tolist() == frame[name].fill_null("").to_list()


def shop(**changes: object) -> Dataset:
    events = {
        "user_id": ["a", "a", "b"],
        "item_id": ["1", "2", "1"],
        "timestamp": ["2020-01-01", "2020-01-02", "2020-01-01"],
    }
    dataset = build(
        pl.DataFrame({"item_id": ["1", "2"], "title": ["Tea", "Kettle"]}),
        pl.DataFrame(events),
        pl.DataFrame({"user_id": ["a"], "age": [30]}),
    )
    return replace(dataset, **changes)  # pyright: ignore[reportArgumentType]


def test_the_files_are_true_to_the_form(tmp_path: Path):
    path = write_recbole(shop(), tmp_path / "new" / "tea", name="tea")
    assert path == tmp_path / "new" / "tea" / "tea.inter"
    assert {file.name: file.read_text(encoding="utf-8") for file in path.parent.iterdir()} == {
        "tea.inter": "user_id:token\titem_id:token\ttimestamp:float\tevent:token\tquantity:float\n"
        "a\t1\t1577836800.0\tpurchase\t1.0\nb\t1\t1577836800.0\tpurchase\t1.0\na\t2\t1577923200.0\tpurchase\t1.0\n",
        "tea.item": "item_id:token\ttitle:token_seq\n1\tTea\n2\tKettle\n",
        "tea.user": "user_id:token\tage:float\na\t30\n",
    }


def test_tabs_and_line_ends_become_spaces(tmp_path: Path):
    catalog = Catalog.from_table({"item_id": ["1", "2"], "title": ["Green\ttea", '"Blue\r\n\nkettle"']})
    again = load_recbole(write_recbole(shop(catalog=catalog), tmp_path), UNTOUCHED)
    assert again.catalog.frame["title"].to_list() == ["Green tea", '"Blue  kettle"']


def test_a_cleaned_data_set_is_clean(tmp_path: Path):
    titles = ["Green &amp; black tea", "green & black TEA", "CafÃ©"]
    dataset = Dataset.build(
        name="shop",
        catalog={"item_id": ["1", "2", "3"], "title": titles},
        events={"user_id": ["a", "b"], "item_id": ["1", "3"], "timestamp": ["2020-01-01", "2020-01-02"]},
    )
    again = load_recbole(write_recbole(dataset, tmp_path))
    assert again.digest == dataset.digest
    assert again.catalog.frame["canonical_id"].to_list() == ["1", "1", "3"]


@pytest.mark.parametrize("position", [True, False])
def test_only_the_order_is_written_where_moments_are_made_up(tmp_path: Path, position: bool):
    lines = ["user_id:token\titem_id:token", "a\t1", "b\t1", "a\t2", "a\t1"]
    if position:
        fields = ("position:float", "1", "1", "2", "3")
        lines = [f"{line}\t{field}" for line, field in zip(lines, fields, strict=True)]
    (tmp_path / "shop.inter").write_text("\n".join(lines), encoding="utf-8")
    dataset = load_recbole(tmp_path)
    assert dataset.events.frame.filter(pl.col("user_id") == "a")["item_id"].to_list() == ["1", "2", "1"]
    path = write_recbole(dataset, tmp_path / "again")
    assert "timestamp" not in path.read_text(encoding="utf-8")
    again = load_recbole(path)
    assert again.ordered
    assert again.digest == dataset.digest


def test_types_that_the_format_lacks(tmp_path: Path):
    values: Mapping[str, list[object]] = {
        "since": [date(2020, 1, 2)],
        "member": [True],
        "card": [2**60 + 1],
        "pause": [timedelta(milliseconds=250)],
        "empty": [None],
    }
    profiles = Profiles.from_table({"user_id": ["a"], **values})
    again = load_recbole(write_recbole(shop(profiles=profiles), tmp_path))
    assert again.profiles is not None
    assert again.profiles.frame.rows() == [("a", "2020-01-02", "true", str(2**60 + 1), 0.25, None)]


def test_older_files_of_that_name_are_replaced(tmp_path: Path):
    path = write_recbole(shop(), tmp_path)
    write_recbole(shop(), tmp_path, name="other")
    assert write_recbole(shop(profiles=None), tmp_path) == path
    assert load_recbole(path).profiles is None
    assert load_recbole(tmp_path / "other.inter").profiles is not None


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_recbole(shop(), tmp_path)
    expected = load_recbole(path).digest
    files = sorted(tmp_path.iterdir())

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(DataError, match="No space left") as caught:
        write_recbole(shop(profiles=None), tmp_path)
    assert "free some space" in caught.value.remedy
    assert sorted(tmp_path.iterdir()) == files
    assert load_recbole(path).digest == expected


def test_a_kill_between_two_renames_leaves_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_recbole(shop(), tmp_path)
    rename, renamed = Path.replace, list[str]()

    def killed(self: Path, target: Path) -> Path:
        renamed.append(target.name)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_recbole(shop(), tmp_path)
    assert renamed == ["shop.item", "shop.user"]
    with pytest.raises(SchemaError, match="cannot be read"):
        load_recbole(path)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a\0b"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match="for files"):
        write_recbole(shop(), tmp_path, name=name)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(tmp_path: Path):
    tabbed = Profiles.from_table({"user_id": ["a\tb"]})
    with pytest.raises(InvalidValueError, match=r"user_id 'a\\tb' of shop\.user"):
        write_recbole(shop(profiles=tabbed), tmp_path)
    with pytest.raises(SchemaError, match=r"column 'age:years' of shop\.user"):
        write_recbole(shop(profiles=Profiles.from_table({"user_id": ["a"], "age:years": [3]})), tmp_path)
    with pytest.raises(SchemaError, match="'photo'"):
        write_recbole(shop(profiles=Profiles(pl.DataFrame({"user_id": ["a"], "photo": [b"\xff"]}))), tmp_path)
    with pytest.raises(NotEnoughDataError, match="no events"):
        write_recbole(shop(events=Events(shop().events.frame.clear())), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        write_recbole(shop(), tmp_path / "file")
