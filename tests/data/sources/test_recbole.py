"""RecBole's atomic files, as they are found, and all that can be wrong with them."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from peftrec.data import Dataset
from peftrec.data.order import FINAL
from peftrec.data.sources import atomic
from peftrec.data.sources.recbole import MADE_UP, UNTYPED, load_recbole
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError

INTER = """user_id:token\titem_id:token\trating:float\ttimestamp:float\tbehavior:token\ttags:token_seq\tbins:float_seq
u1\t007\t4.5\t1512190800.123456\tview\tgood tea\t0.5 1
u1\t007\t\t1512190801\tPurchase\t\t
u2\t7\t3\t1512190802\tcart\t\t1
u2\t7\t3\t1512190803\tshare\t\t1
u2\t7\t3\t1512190804\t\t\t1
u2\t7\t3\t\tview\t\t1
\t7\t3\t1512190805\tview\t\t1
u2\t\t3\t1512190806\tview\t\t1
u3\t9\t3\t1512190807\tview\t\t1

"""
ITEM = """item_id:token\tmovie_title:token_seq\tclass:token_seq\tprice:float\tyear:token
007\t"Tea" for two\tDrama Comedy\t2.5\t1995
7\t"A ""kettle"", blue"\t\t\t1996
8\t\t\t1\t
"""
USER = """user_id:token\tage:float\tzip_code:token
u1\t31\t02139
u4\t\t
"""


def write(folder: Path, **files: str) -> Path:
    for kind, text in files.items():
        (folder / f"shop.{kind}").write_text(text, encoding="utf-8", newline="")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, inter=INTER, item=ITEM, user=USER)


def counts(dataset: Dataset) -> dict[str, int]:
    assert dataset.report is not None
    return {count.rule: count.rows for count in dataset.report.counts if count.rows}


def test_every_line_is_accounted_for(folder: Path):
    dataset = load_recbole(folder)
    report = dataset.report
    assert report is not None
    assert (report.rows_in, report.rows_kept) == (9, 3)
    assert counts(dataset) == {
        "missing_user": 1,
        "missing_item": 1,
        "missing_timestamp": 1,
        "unknown_item": 1,
        "unknown_event": 2,
        "empty_title": 1,
    }
    assert "share" in next(count.example for count in report.counts if count.rule == "unknown_event")


def test_interactions(folder: Path):
    dataset = load_recbole(folder)
    events = dataset.events.frame
    assert events["event"].to_list() == ["view", "purchase", "cart"]
    assert events["timestamp"][0] == datetime(2017, 12, 2, 5, 0, 0, 123456, tzinfo=UTC)
    assert events["rating"].to_list() == [4.5, None, 3.0]
    assert events["bins"].to_list() == ["0.5 1", None, "1"]
    assert events["tags"].to_list() == ["good tea", None, None]
    assert "behavior" not in events.columns
    assert dataset.source is not None
    assert dataset.source.note == ""
    assert not dataset.ordered


def test_products_and_shoppers(folder: Path):
    dataset = load_recbole(folder)
    products = dataset.catalog.frame
    assert products["item_id"].to_list() == ["007", "7", "8"]
    assert products["title"].to_list() == ['"Tea" for two', 'A "kettle", blue', "unknown product 8"]
    assert products["category"].to_list() == ["Drama Comedy", None, None]
    assert products["price"].to_list() == [2.5, None, 1.0]
    assert products["year"].to_list() == ["1995", "1996", None]
    assert dataset.profiles is not None
    assert dataset.profiles.frame.rows() == [("u1", 31.0, "02139"), ("u4", None, None)]


def test_the_file_itself_and_one_made_on_windows(folder: Path, tmp_path: Path):
    expected = load_recbole(folder).digest
    assert load_recbole(folder / "shop.inter").digest == expected
    windows = tmp_path / "windows"
    windows.mkdir()
    files = {
        kind: "\ufeff" + text.replace("\n", "\r\n") for kind, text in [("inter", INTER), ("item", ITEM), ("user", USER)]
    }
    assert load_recbole(write(windows, **files)).digest == expected


@pytest.mark.parametrize("size", [7, 150])
def test_blocks_give_the_same_table(folder: Path, size: int, monkeypatch: pytest.MonkeyPatch):
    expected = load_recbole(folder).digest
    monkeypatch.setattr(atomic, "BLOCK", size)
    assert load_recbole(folder).digest == expected
    write(folder, inter=INTER + "u1\t007\tmany\t1\tview\t\t\n")
    with pytest.raises(SchemaError, match=r"line 12 of .*shop\.inter.* 'rating' is 'many'"):
        load_recbole(folder)


def test_without_products_the_catalogue_is_made_of_ids(folder: Path):
    (folder / "shop.item").unlink()
    dataset = load_recbole(folder)
    assert dataset.catalog.frame.rows() == [(item, f"unknown product {item}") for item in ("007", "7", "9")]
    assert counts(dataset)["empty_title"] == 3
    assert len(dataset.events) == 4
    assert dataset.report is not None
    assert "canonical_id" not in dataset.catalog.frame.columns  # titles made of ids look alike


def test_without_times_the_order_of_lines_counts(folder: Path):
    dataset = load_recbole(write(folder, inter="item_id:token\tuser_id:token\n7\tb\n8\ta\n007\tb\n8\tb\n"))
    assert dataset.ordered
    moments = dataset.events.frame.filter(pl.col("user_id") == "b")
    assert moments["item_id"].to_list() == ["7", "007", "8"]
    assert [moment.date() for moment in moments["timestamp"]] == [date(2000, 1, 29), date(2000, 1, 30), FINAL]
    assert dataset.events.frame["event"].unique().to_list() == ["purchase"]
    assert dataset.source is not None
    assert dataset.source.note == f"{UNTYPED}; {MADE_UP}"
    past, future = dataset.leave_last_out()
    assert future.events.frame["item_id"].to_list() == ["8"]
    assert len(past.events) == 3


def test_a_position_counts_more_than_the_order_of_lines(folder: Path):
    inter = "user_id:token\titem_id:token\tposition:float\na\t7\t2\na\t8\t1\n"
    dataset = load_recbole(write(folder, inter=inter))
    assert dataset.ordered
    assert dataset.events.frame["item_id"].to_list() == ["8", "7"]


@pytest.mark.parametrize(
    ("field", "unit"), [("timestamp:float", 1), ("timestamp:float", 1e3), ("timestamp:token", 1e6)]
)
def test_units_of_time(folder: Path, field: str, unit: float):
    inter = f"user_id:token\titem_id:token\t{field}\nu\t7\t{1512190800 * unit:.0f}\nu\t8\t{1512190860 * unit:.0f}\n"
    moments = load_recbole(write(folder, inter=inter)).events.frame["timestamp"]
    assert moments.to_list() == [datetime(2017, 12, 2, 5, minute, tzinfo=UTC) for minute in (0, 1)]


def test_iso_8601_is_read_as_well(folder: Path):
    inter = "user_id:token\titem_id:token\ttimestamp:token\nu\t7\t2017-12-02T05:00:00Z\nu\t7\tnoon\n"
    dataset = load_recbole(write(folder, inter=inter))
    assert dataset.events.frame["timestamp"].to_list() == [datetime(2017, 12, 2, 5, tzinfo=UTC)]
    assert counts(dataset)["unparsable_timestamp"] == 1


def test_a_field_that_only_looks_like_a_type_stays_an_attribute(folder: Path):
    inter = "user_id:token\titem_id:token\ttimestamp:float\taction:token\nu\t7\t1512190800\tpv\n"
    dataset = load_recbole(write(folder, inter=inter))
    assert dataset.events.frame.select("event", "action").rows() == [("purchase", "pv")]
    assert dataset.source is not None
    assert dataset.source.note == UNTYPED


def test_fields_of_other_names_are_mapped_in_every_file(tmp_path: Path):
    write(
        tmp_path,
        inter="visitor:token\tartist_id:token\ttimestamp:float\nu\t7\t1512190800\n",
        item="artist_id:token\tband:token_seq\n7\tThe Kettles\n",
    )
    with pytest.raises(SchemaError, match=r"shop\.inter table has no column 'user_id' and no 'item_id'") as caught:
        load_recbole(tmp_path)
    assert "columns=" in caught.value.remedy
    columns = {"user_id": "visitor", "item_id": "artist_id", "title": "band"}
    dataset = load_recbole(tmp_path, columns=columns)
    assert dataset.catalog.frame.rows() == [("7", "The Kettles")]
    assert dataset.events.frame["user_id"].to_list() == ["u"]
    with pytest.raises(SchemaError, match="'group', which the"):
        load_recbole(tmp_path, columns={**columns, "brand": "group"})


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("inter", "user_id\titem_id:token\n", r"'user_id' in the header of .*shop\.inter has no type"),
        ("inter", "user_id:token\titem_id:int\n", r"'item_id:int' in the header .* has the type 'int'"),
        ("inter", "user_id:token\t:token\n", "has no name"),
        ("inter", "user_id:token\tuser_id:float\n", "has the name of another"),
        ("inter", "", "'' in the header of"),
        ("inter", "user_id:token\trating:float\nu\t1\n", "no column 'item_id'"),
        ("item", "title:token_seq\nTea\n", r"shop\.item table has no column 'item_id'"),
        ("user", "age:float\n3\n", r"shop\.user table has no column 'user_id'"),
        ("inter", "user_id:token\titem_id:token\nu\t7\n\nu\n", r"line 4 of .*shop\.inter.* has 1 of 2 fields: 'u'"),
        ("item", "item_id:token\n7\ttea\n", r"line 2 of .*shop\.item.* has 2 of 1 fields: '7\\ttea'"),
        ("user", "user_id:token\tage:float\nu\told\n", r"line 2 of .*shop\.user.*: 'age' is 'old'"),
        ("user", "user_id:token\tages:float_seq\nu\t1 2\nv\t1 x\n", r"line 3 of .*: 'ages' is 'x'"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, kind: str, text: str, message: str):
    with pytest.raises(SchemaError, match=message) as caught:
        load_recbole(write(folder, **{kind: text}))
    assert caught.value.expected
    assert caught.value.remedy


def test_files_that_are_not_there_or_too_many(folder: Path, tmp_path: Path):
    with pytest.raises(SchemaError, match="is no folder"):
        load_recbole(tmp_path / "nowhere")
    with pytest.raises(SchemaError, match="cannot be read"):
        load_recbole(tmp_path / "other.inter")
    (folder / "shop.train.inter").write_text(INTER, encoding="utf-8")
    with pytest.raises(SchemaError, match=r"more than one file of interactions: shop\.inter, shop\.train\.inter"):
        load_recbole(folder)
    (folder / "shop.train.inter").unlink()
    (folder / "shop.inter").unlink()
    with pytest.raises(SchemaError, match=r"no file of interactions: shop\.item, shop\.user"):
        load_recbole(folder)


def test_other_encodings_and_empty_files(folder: Path):
    with pytest.raises(NotEnoughDataError, match="no rows"):
        load_recbole(write(folder, inter="user_id:token\titem_id:token\n"))
    (folder / "shop.inter").write_bytes("user_id:token\titem_id:token\nu\tcafé\n".encode("latin-1"))
    with pytest.raises(SchemaError, match="cannot be read: 'utf-8'") as caught:
        load_recbole(folder)
    assert "UTF-8" in caught.value.remedy
    (folder / "shop.item").unlink()
    with pytest.raises(NotEnoughDataError, match="no interaction names a product"):
        load_recbole(write(folder, inter="user_id:token\titem_id:token\nu\t\n"))


def test_times_beyond_the_calendar_are_refused(folder: Path):
    inter = "user_id:token\titem_id:token\ttimestamp:float\nu\t7\t1512190800\nu\t7\t1\nu\t7\t1e15\n"
    with pytest.raises(InvalidValueError, match=r"row 2 of .*timestamp is 1e\+15"):
        load_recbole(write(folder, inter=inter))
