"""Amazon's editions: files that are true to each form, and a real category where it is at hand."""

import gzip
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from peftrec.data import CleaningRules, Dataset
from peftrec.data.order import FINAL
from peftrec.data.sources.amazon import (
    EDITION_2014,
    EDITION_2018,
    EDITION_2023,
    MINIONEREC,
    load_amazon,
)
from peftrec.errors import NotEnoughDataError, SchemaError

Lines = Sequence[dict[str, object] | str]

PRODUCTS_2018: Lines = [
    {
        "category": ["Office Products", "Paper &amp; Notebooks", ""],
        "description": ["A <b>ruled</b> notebook.", "", "80 sheets."],
        "title": "Notebook &ndash; A5",
        "also_buy": ["B003"],
        "brand": "Rhodia",
        "feature": ["Ruled", "A5"],
        "price": "$1,012.99",
        "asin": "B001",
        "imageURL": ["https://a/1.jpg", "https://a/2.jpg"],
    },
    {
        "category": [],
        "description": [],
        "title": "Pen",
        "price": "$5.00 - $9.99",
        "asin": "B002",
        "brand": "by\n  \n  BIC",
    },
    {"category": ["Office Products"], "title": "var aPageStart = (new Date()).getTime();", "asin": "B003", "price": ""},
    {"category": ["Office Products"], "title": "Ink", "asin": "B004", "price": ".a-box-inner{color:#fff}"},
    {"category": ["Office Products"], "title": "Ink, blue", "asin": "B004", "price": 7.5, "description": "One text."},
    {"category": ["Office Products"], "title": " ", "asin": "B004", "price": ""},
]
REVIEWS_2018: Lines = [
    {
        "overall": 5.0,
        "vote": "3",
        "verified": True,
        "reviewerID": "A1",
        "asin": "B001",
        "reviewText": "Fine.",
        "summary": "Fine",
        "unixReviewTime": 1514764800,
        "style": {"Color:": " Red"},
    },
    {"overall": 2.0, "verified": False, "reviewerID": "A2", "asin": "B002", "unixReviewTime": 1514851200},
    {"overall": 2.0, "verified": False, "reviewerID": "A2", "asin": "B002", "unixReviewTime": 1514851200},
    {"overall": 4.0, "verified": True, "reviewerID": "A2", "asin": "B999", "unixReviewTime": 1514851200},
    {"overall": 4.0, "verified": True, "asin": "B003", "unixReviewTime": 1514851200},
    {"overall": 1.0, "verified": True, "reviewerID": "A1", "asin": "B004", "unixReviewTime": 1514937600},
]
RATINGS_2018 = "B001,A1,5.0,1514764800\nB002,A2,2.0,1514851200\nB999,A2,4.0,1514851200\nB004,A1,1.0,\n"
PRODUCTS_2014: Lines = [
    "{'asin': 'B001', 'title': \"Girls' notebook\", 'price': 3.17, 'imUrl': 'https://a/1.jpg', 'brand': 'Rhodia',"
    " 'related': {'also_bought': ['B002']}, 'salesRank': {'Toys': 211836}, 'description': 'Ruled \\d',"
    " 'categories': [['Office', 'Paper'], ['School']]}",
    "{'asin': 'B002', 'categories': [['Office', 'Pens']], 'title': 'Pen'}",
]
REVIEWS_2014: Lines = [
    {"reviewerID": "A1", "asin": "B001", "helpful": [2, 3], "overall": 5.0, "unixReviewTime": 1252800000},
    {"reviewerID": "A2", "asin": "B002", "helpful": [0, 0], "overall": 1.0, "unixReviewTime": 1252886400},
]
PRODUCTS_2023: Lines = [
    {
        "main_category": "Office Products",
        "title": "Notebook",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Ruled", "A5"],
        "description": ["80 sheets."],
        "price": 9.99,
        "images": [{"thumb": "https://a/t.jpg", "large": "https://a/l.jpg", "variant": "MAIN", "hi_res": None}],
        "videos": [],
        "store": "Rhodia",
        "categories": ["Office Products", "Paper"],
        "details": {"Brand": "Rhodia"},
        "parent_asin": "P1",
        "bought_together": None,
    },
    {"main_category": None, "title": "Pen", "price": "—", "categories": [], "parent_asin": "P2", "store": None},
    {"main_category": None, "title": "Ink", "price": "from 8.50", "categories": [], "parent_asin": "P3", "images": []},
    {"main_category": None, "title": "", "price": None, "categories": ["Office Products"], "parent_asin": "P4"},
]
REVIEWS_2023: Lines = [
    {
        "rating": 5.0,
        "title": "Such a lovely scent",
        "text": "Fine.",
        "images": [],
        "asin": "C1",
        "parent_asin": "P1",
        "user_id": "AG1",
        "timestamp": 1588687728923,
        "helpful_vote": 0,
        "verified_purchase": True,
    },
    {"rating": 4.0, "parent_asin": "P2", "user_id": "AG1", "timestamp": 1588687728924, "verified_purchase": False},
    {"rating": 4.0, "parent_asin": "P9", "user_id": "AG2", "timestamp": 1588687728924, "verified_purchase": False},
]
HEADER_2023 = "user_id,parent_asin,rating,timestamp"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into one folder and returns it: ``write(**{"meta_X.json": lines})``."""

    def files(**contents: Lines | str) -> Path:
        for name, content in contents.items():
            lines = (
                [content]
                if isinstance(content, str)
                else [line if isinstance(line, str) else json.dumps(line) for line in content]
            )
            data = "\n".join(lines).encode()
            (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path

    return files


def counts(dataset: Dataset) -> dict[str, int]:
    """Rows that each rule concerned, after a check that none is unaccounted for."""
    report = dataset.report
    assert report is not None
    found = {count.rule: count.rows for count in report.counts if count.rows}
    dropped = sum(count.rows for count in report.counts if count.action == "dropped")
    assert report.rows_in == report.rows_kept + dropped
    assert report.rows_kept == len(dataset.events)
    return found


def products(dataset: Dataset) -> dict[str, dict[str, object]]:
    return {row["item_id"]: row for row in dataset.catalog.frame.iter_rows(named=True)}


def events(dataset: Dataset) -> list[tuple[object, ...]]:
    frame = dataset.events.frame
    assert frame["event"].unique().to_list() == ["purchase"]
    shown = frame.select("user_id", "item_id", pl.col("timestamp").dt.to_string("%Y-%m-%d %H:%M:%S%.3f"), "rating")
    return shown.rows()


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_the_edition_of_2018(write: Callable[..., Path], gz: str):
    dataset = load_amazon(write(**{f"meta_Office.json{gz}": PRODUCTS_2018, f"Office_5.json{gz}": REVIEWS_2018}))
    assert dataset.source == EDITION_2018
    assert counts(dataset) == {
        "missing_user": 1,
        "unknown_item": 1,
        "duplicate_event": 1,
        "html": 1,
        "empty_title": 1,
        "doubled_product": 2,
    }
    assert events(dataset) == [
        ("A1", "B001", "2018-01-01 00:00:00.000", 5.0),
        ("A2", "B002", "2018-01-02 00:00:00.000", 2.0),
        ("A1", "B004", "2018-01-03 00:00:00.000", 1.0),
    ]
    assert dataset.events.frame["verified"].to_list() == [True, False, True]


def test_products_of_2018(write: Callable[..., Path]):
    found = products(load_amazon(write(**{"meta_Office.json": PRODUCTS_2018, "Office.json": REVIEWS_2018})))
    assert found["B001"] == {
        "item_id": "B001",
        "title": "Notebook – A5",
        "description": "A ruled notebook. 80 sheets.",
        "brand": "Rhodia",
        "category": "Office Products > Paper & Notebooks",
        "tags": "Ruled, A5",
        "price": 1012.99,
        "image": "https://a/1.jpg",
    }
    assert found["B002"]["brand"] == "BIC"
    assert found["B002"]["price"] == 5.0
    assert found["B002"]["category"] is None
    assert found["B002"]["description"] is None
    assert found["B003"]["title"] == "Office Products"
    assert found["B003"]["brand"] is None
    assert found["B003"]["price"] is None
    assert found["B004"]["title"] == "Ink, blue"
    assert found["B004"]["description"] == "One text."
    assert found["B004"]["price"] == 7.5


def test_a_price_that_is_none_is_counted(write: Callable[..., Path]):
    dataset = load_amazon(write(**{"meta_Office.json": PRODUCTS_2018[:4], "Office.json": REVIEWS_2018}))
    assert counts(dataset)["unreadable_price"] == 1
    assert products(dataset)["B004"]["price"] is None
    assert dataset.report is not None
    assert ".a-box-inner" in str(dataset.report)


@pytest.mark.parametrize("order", ["item first", "user first"])
def test_ratings_without_a_header_in_either_order(write: Callable[..., Path], order: str):
    rows = [line.split(",") for line in RATINGS_2018.splitlines()]
    rows = rows if order == "item first" else [[user, item, *rest] for item, user, *rest in rows]
    text = "\n".join(",".join(row) for row in rows)
    dataset = load_amazon(write(**{"meta_Office.json": PRODUCTS_2018, "Office.csv": text}))
    found = counts(dataset)
    assert (found["missing_timestamp"], found["unknown_item"]) == (1, 1)
    assert events(dataset) == [
        ("A1", "B001", "2018-01-01 00:00:00.000", 5.0),
        ("A2", "B002", "2018-01-02 00:00:00.000", 2.0),
    ]
    assert "verified" not in dataset.events.frame.columns


def test_the_edition_of_2014_in_pythons_notation(write: Callable[..., Path]):
    dataset = load_amazon(write(**{"meta_Office.json.gz": PRODUCTS_2014, "reviews_Office.json.gz": REVIEWS_2014}))
    assert dataset.source == EDITION_2014
    assert counts(dataset) == {}
    assert [event[:2] for event in events(dataset)] == [("A1", "B001"), ("A2", "B002")]
    assert "verified" not in dataset.events.frame.columns
    assert products(dataset)["B001"] == {
        "item_id": "B001",
        "title": "Girls' notebook",
        "description": "Ruled \\d",
        "brand": "Rhodia",
        "category": "Office > Paper",
        "price": 3.17,
        "image": "https://a/1.jpg",
    }


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_the_edition_of_2023(write: Callable[..., Path], gz: str):
    dataset = load_amazon(write(**{f"meta_Office.jsonl{gz}": PRODUCTS_2023, f"Office.jsonl{gz}": REVIEWS_2023}))
    assert dataset.source == EDITION_2023
    assert counts(dataset) == {"unknown_item": 1, "empty_title": 1}
    assert events(dataset) == [
        ("AG1", "P1", "2020-05-05 14:08:48.923", 5.0),
        ("AG1", "P2", "2020-05-05 14:08:48.924", 4.0),
    ]
    assert dataset.events.frame["verified"].to_list() == [True, False]
    found = products(dataset)
    assert found["P1"] == {
        "item_id": "P1",
        "title": "Notebook",
        "description": "80 sheets.",
        "brand": "Rhodia",
        "category": "Office Products > Paper",
        "tags": "Ruled, A5",
        "price": 9.99,
        "image": "https://a/l.jpg",
    }
    assert [found[item]["price"] for item in ("P2", "P3", "P4")] == [None, 8.5, None]
    assert found["P2"]["brand"] is None
    assert found["P4"]["title"] == "Office Products"


def test_ratings_of_2023_in_parts_with_a_history(write: Callable[..., Path]):
    head = f"{HEADER_2023},history\n"
    parts = {
        "Office.train.csv": f"{head}AG1,P1,5.0,1588687728923,\n",
        "Office.valid.csv": f"{head}AG1,P2,4.0,1588687728924,P1\n",
        "Office.test.csv": f"{head}AG1,P3,3.0,1588687728925,P1 P2\n",
    }
    dataset = load_amazon(write(**{"meta_Office.jsonl": PRODUCTS_2023, **parts}))
    assert [event[1] for event in events(dataset)] == ["P1", "P2", "P3"]
    assert "history" not in dataset.events.frame.columns


def test_one_compressed_csv_of_2023(write: Callable[..., Path]):
    text = f"{HEADER_2023}\nAG1,P1,5.0,1588687728923\nAG2,P8,,1588687728923\n"
    dataset = load_amazon(write(**{"meta_Office.jsonl": PRODUCTS_2023, "Office.csv.gz": text}))
    assert counts(dataset)["unknown_item"] == 1
    assert events(dataset) == [("AG1", "P1", "2020-05-05 14:08:48.923", 5.0)]


@pytest.fixture
def office(tmp_path: Path) -> Path:
    """The form of MiniOneRec's copy."""
    texts = ["['An <i>A5</i> book.', '', \"Ruler's \\d edge.\"]", "['3/16\" wide', 'can\\'t', 'it's cut']", ""]
    items = {"item_id": [0, 1, 2], "title": ["Book", "Roll", "Pen"], "description": texts, "brand": ["HP", "", "BIC"]}
    pl.DataFrame({**items, "categories": [""] * 3}).write_parquet(tmp_path / "items.parquet")
    orders = {"user_id": ["A1", "A2", "A1", "A1"], "item_id": [2, 0, 1, 7], "position": [1, 0, 0, 2]}
    pl.DataFrame(orders).write_parquet(tmp_path / "interactions.parquet")
    return tmp_path


def test_order_without_times(office: Path):
    dataset = load_amazon(office)
    assert dataset.source == MINIONEREC
    assert "made up" in MINIONEREC.note
    assert str(FINAL) in MINIONEREC.note
    assert counts(dataset) == {"unknown_item": 1, "html": 1}
    days = dict(zip(dataset.events.frame["item_id"], dataset.events.frame["timestamp"].dt.date(), strict=True))
    assert days == {"1": FINAL - timedelta(days=2), "2": FINAL - timedelta(days=1), "0": FINAL}
    found = products(dataset)
    assert [found[item]["description"] for item in "012"] == [
        "An A5 book. Ruler's \\d edge.",
        "3/16\" wide can't it's cut",
        None,
    ]
    assert found["1"]["brand"] is None


def test_descriptions_that_are_lists_already(office: Path):
    lists = pl.read_parquet(office / "items.parquet").with_columns(description=pl.Series([["A", " book"], [], None]))
    lists.write_parquet(office / "items.parquet")
    assert load_amazon(office).catalog.frame["description"].to_list() == ["A book", None, None]


def test_the_shops_own_rules_are_used(write: Callable[..., Path]):
    folder = write(**{"meta_Office.json": PRODUCTS_2018, "Office.json": REVIEWS_2018})
    assert "duplicate_event" not in counts(load_amazon(folder, CleaningRules()))


def test_a_broken_line_of_reviews_or_products_is_named(write: Callable[..., Path]):
    folder = write(**{"meta_X.json": PRODUCTS_2018, "X.json": [*REVIEWS_2018, '{"overall": 5.0, "asin": "B0']})
    with pytest.raises(SchemaError, match=r"line 7 of .*X\.json .*no JSON: '{\"overall\": 5.0, \"asin\": \"B0'"):
        load_amazon(folder)
    write(**{"X.json": REVIEWS_2018, "meta_X.json": [*PRODUCTS_2018, {"title": "Nameless", "category": []}]})
    with pytest.raises(SchemaError, match=r"line 7 of .*meta_X\.json .*it has no 'asin'.*Nameless"):
        load_amazon(folder)


def test_a_csv_that_is_broken(write: Callable[..., Path]):
    folder = write(**{"meta_X.json": PRODUCTS_2018, "X.csv": f"{RATINGS_2018}B001,A1,five,1514764800\n"})
    with pytest.raises(SchemaError, match=r"'rating' of the file .*X\.csv holds String: row 4 .*'five'"):
        load_amazon(folder)
    write(**{"X.csv": f"{RATINGS_2018}B001,A1,5.0,1514764800,surplus\n"})
    with pytest.raises(SchemaError, match=r"line 5 of .*X\.csv has 5 of 4 fields"):
        load_amazon(folder)


def test_times_in_another_unit_are_refused(write: Callable[..., Path]):
    seconds = [{**row, "timestamp": 1588687728} for row in REVIEWS_2023 if isinstance(row, dict)]
    folder = write(**{"meta_X.jsonl": PRODUCTS_2023, "X.jsonl": seconds})
    with pytest.raises(SchemaError, match=r"latest time in .*X\.jsonl is 1,588,687,728") as caught:
        load_amazon(folder)
    assert caught.value.expected.startswith("milliseconds since 1970")
    write(**{"X.jsonl": [{**row, "timestamp": None} for row in REVIEWS_2023 if isinstance(row, dict)]})
    with pytest.raises(NotEnoughDataError, match="missing_timestamp"):
        load_amazon(folder)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no .json, .jsonl, .csv or .parquet"),
        ({"meta_X.json": PRODUCTS_2018}, "meta_X.json: products of 2018"),
        (
            {"meta_X.json": PRODUCTS_2018, "X.jsonl": REVIEWS_2023},
            "X.jsonl: reviews of 2023; meta_X.json: products of 2018",
        ),
        ({"meta_X.json": PRODUCTS_2018, "X.json": REVIEWS_2018, "X_5.json": REVIEWS_2018}, "X_5.json: reviews of 2014"),
        ({"meta_X.json": PRODUCTS_2018, "meta_Y.json": PRODUCTS_2018, "X.json": REVIEWS_2018}, "meta_Y.json: products"),
        (
            {"meta_X.json": PRODUCTS_2018, "X.json": REVIEWS_2018, "X.csv": RATINGS_2018},
            "X.csv: ratings of 2014 or 2018",
        ),
        (
            {"meta_X.json": PRODUCTS_2018, "X.json": '{"overall": 5.0, "as'},
            """X.json: unknown, '{"overall": 5.0, "as'""",
        ),
        ({"meta_X.json": PRODUCTS_2018, "X.csv": "asin,stars\nB001,5\n"}, "X.csv: unknown, 'asin,stars'"),
        ({"meta_X.json": PRODUCTS_2018, "X.csv": ""}, "X.csv: unknown, ''"),
        (
            {"meta_X.jsonl": PRODUCTS_2023, "X.csv": HEADER_2023, "X.train.csv": HEADER_2023},
            "X.train.csv: ratings of 2023",
        ),
    ],
)
def test_a_folder_that_does_not_hold_one_set_is_refused(
    write: Callable[..., Path], files: dict[str, Lines | str], says: str
):
    with pytest.raises(SchemaError, match="does not hold one file of products and one of reviews") as caught:
        load_amazon(write(**files))
    assert says in caught.value.found
    assert "products of 2023 (JSON lines: categories, main_category, parent_asin)" in caught.value.expected


def test_what_is_no_folder_or_cannot_be_read(write: Callable[..., Path], office: Path):
    with pytest.raises(SchemaError, match="is no folder"):
        load_amazon(office / "items.parquet")
    (office / "interactions.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(SchemaError, match=r"interactions\.parquet cannot be read"):
        load_amazon(office)


def test_other_files_in_the_folder_do_no_harm(write: Callable[..., Path]):
    others = {"README.md": "read me", ".hidden.json": "{", "notes.json": '{"a": 1}', "list.csv": "a,b\n"}
    (write() / "sub.json").mkdir()
    dataset = load_amazon(write(**{"meta_X.json": PRODUCTS_2018, "X.json": REVIEWS_2018, **others}))
    assert len(dataset.events) == 3


@pytest.mark.data
def test_the_real_office_products(data_folder: Path):
    dataset = load_amazon(data_folder / "amazon_office")
    assert len(dataset.users) == 3_231
    assert len(dataset.catalog) == 3_459
    assert len(dataset.events) == 22_447
    assert not {"unknown_item", "doubled_product", "empty_title"} & {*counts(dataset)}
    raw = pl.read_parquet(data_folder / "amazon_office" / "interactions.parquet")
    expected = (
        raw.sort("user_id", "position").group_by("user_id", maintain_order=True).agg(pl.col("item_id").cast(pl.String))
    )
    found = dataset.events.frame.group_by("user_id").agg("item_id").sort("user_id")
    assert found.equals(expected)


@pytest.mark.data
def test_the_final_day_of_the_real_office_products_leaves_one_event_of_each_shopper_out(data_folder: Path):
    past, future = load_amazon(data_folder / "amazon_office").split(at=FINAL)
    several = past.events.frame["user_id"].unique()
    assert future.events.frame["user_id"].is_unique().all()
    assert {*several} == {*future.events.frame["user_id"]}  # nobody has a single event
    assert len(past.events) + len(future.events) == 22_447


@pytest.mark.data
def test_no_debris_of_pages_is_left_in_the_real_office_products(data_folder: Path):
    raw = pl.read_parquet(data_folder / "amazon_office" / "items.parquet")
    frame = load_amazon(data_folder / "amazon_office").catalog.frame
    debris = r"</?[A-Za-z][^<>]*>|/>|<!--|&#?[A-Za-z0-9]+;"
    written_as_list = r"^\[['\"]|['\"]\]$"
    assert raw["title"].str.contains(debris).any()
    for name in ("title", "description", "brand"):
        assert not frame[name].str.contains(debris).any()
    assert not frame["description"].str.contains(written_as_list).any()
    words = frame["description"].str.len_chars().sum() / raw["description"].str.len_chars().sum()
    assert 0.95 < words < 1


def test_a_compressed_csv_that_stops_half_way(write: Callable[..., Path]):
    rows = "".join(f"AG{row},P1,5.0,{1588687728923 + row * 977}\n" for row in range(500))
    folder = write(**{"meta_Office.jsonl": PRODUCTS_2023, "Office.csv.gz": f"{HEADER_2023}\n{rows}"})
    log = next(folder.rglob("Office.csv.gz"))
    log.write_bytes(log.read_bytes()[:-200])
    with pytest.raises(SchemaError, match=r"Office\.csv\.gz"):
        load_amazon(folder)
