"""Click-streams page by page and visit by visit: what the pages without a product tell must not be lost."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from peftrec.data import CleaningRules, Dataset
from peftrec.data.sources.channels import CHANNELS, entry_channels
from peftrec.data.sources.sessions import load_sessions
from peftrec.errors import ConfigError, InvalidValueError, NotEnoughDataError, SchemaError

FILE = "online_shoppers/online_shoppers_intention.csv"

PAGES = """sessionId,userId,timestamp,page_type,product_id,time_on_page,referrer,url,query,title,category,price
s1,,2024-05-01 10:00:00,Home,,5,https://www.google.com/,https://shop.example/,,,,
s1,,2024-05-01 10:00:10,search,,20,,https://shop.example/search,green tea,,,
s1,,2024-05-01 10:00:30,product,p1,,,https://shop.example/p1,,Green tea,Tea,"4,50 €"
s1,u1,2024-05-01 10:01:30,product,p2,40,,https://shop.example/p2,,Tea pot,Pots,30
s1,u1,2024-05-01 10:02:30,cart,p1,,,,,,,
s1,u1,2024-05-01 10:02:30,cart,p2,,,,,,,
s1,u1,2024-05-01 10:03:00,checkout,,60,,,,,,
s1,u1,2024-05-01 10:04:00,Confirmation,p1,,,,,,,
s1,u1,2024-05-01 10:04:00,Confirmation,p2,,,,,,,
s2,,2024-05-01 09:00:00,Product,p1,,,https://shop.example/p1?utm_medium=E-Mail&utm_source=may,,Green tea,Tea,4.5
s2,,2024-05-01 09:00:30,wishlist,p1,,,,,,,
s2,,2024-05-01 09:00:40,compare,p2,,,,,,,
"""
VISITS = """Administrative;Administrative_Duration;Informational;Informational_Duration;ProductRelated;\
ProductRelated_Duration;BounceRates;ExitRates;PageValues;SpecialDay;Month;OperatingSystems;Browser;Region;TrafficType;\
VisitorType;Weekend;Revenue
2;30.5;0;0;10;600;0.02;0.05;12.5;0.4;Feb;1;2;3;4;Returning_Visitor;TRUE;TRUE
0;0;0;0;0;0;0.2;0.2;0;0;Feb;1;1;1;18;New_Visitor;FALSE;FALSE
0;0;1;9;0;0;0.2;0.2;0;0;June;1;1;1;2;Other;FALSE;FALSE
"""


def write(folder: Path, text: str, name: str = "clicks.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write(tmp_path, PAGES)


def counts(dataset: Dataset) -> dict[str, int]:
    assert dataset.report is not None
    return {count.rule: count.rows for count in dataset.report.counts if count.rows}


def rows(dataset: Dataset, *names: str) -> list[tuple[object, ...]]:
    return dataset.events.frame.select(names).rows()


def channel(**first: str | None) -> str | None:
    return entry_channels(pl.DataFrame({name: pl.Series([value], dtype=pl.String) for name, value in first.items()}))[0]


def test_every_page_is_accounted_for(pages: Path):
    dataset = load_sessions(pages)
    assert counts(dataset) == {"missing_item": 3, "unknown_event": 1, "catalogue_currency": 1, "currency": 1}
    assert dataset.report is not None
    assert (dataset.report.rows_in, dataset.report.rows_kept) == (12, 8)
    example = next(count.example for count in dataset.report.counts if count.rule == "unknown_event")
    assert example == "row 11: event 'compare'"  # numbered as in the file, though visits were put in order


def test_pages_become_events(pages: Path):
    assert rows(load_sessions(pages), "user_id", "session_id", "item_id", "event", "page") == [
        ("session s2", "s2", "p1", "view", 1),
        ("session s2", "s2", "p1", "favourite", 2),
        ("u1", "s1", "p1", "view", 3),
        ("u1", "s1", "p2", "view", 4),
        ("u1", "s1", "p1", "cart", 5),
        ("u1", "s1", "p2", "cart", 5),
        ("u1", "s1", "p1", "purchase", 7),
        ("u1", "s1", "p2", "purchase", 7),
    ]


def test_what_other_pages_tell_is_in_the_events(pages: Path):
    events = load_sessions(pages).events.frame
    assert events["channel"].to_list() == ["email"] * 2 + ["search"] * 6
    assert events["query"].to_list() == [None, None, "green tea", *[None] * 5]
    assert events["dwell_seconds"].to_list() == [30, 10, 60, 40, 30, 30, None, None]


def test_the_catalogue_is_what_the_pages_show(pages: Path):
    products = load_sessions(pages).catalog.frame
    assert products.select("item_id", "title", "category", "price").rows() == [
        ("p1", "Green tea", "Tea", 4.5),
        ("p2", "Tea pot", "Pots", 30.0),
    ]
    assert not {"title", "category"} & set(load_sessions(pages).events.frame.columns)


def test_search_words_reach_the_next_product_alone(tmp_path: Path):
    path = """visit_id,time,page_type,sku,search_term
1,2024-01-01T00:00:00,search,,tea
1,2024-01-01T00:00:01,category,,
1,2024-01-01T00:00:02,product,a,
1,2024-01-01T00:00:03,product,b,
1,2024-01-01T00:00:04,search,,pot
1,2024-01-01T00:00:05,search,,pots
1,2024-01-01T00:00:06,product,a,own words
1,2024-01-01T00:00:07,product,b,
1,2024-01-01T00:00:08,search,,cup
2,2024-01-01T00:00:09,product,a,
"""
    dataset = load_sessions(write(tmp_path, path))
    assert rows(dataset, "user_id", "item_id", "query") == [
        ("1", "a", "tea"),
        ("1", "b", None),
        ("1", "a", "own words"),
        ("1", "b", None),
        ("2", "a", None),
    ]


def test_rows_need_not_be_in_order(pages: Path, tmp_path: Path):
    header, *lines = PAGES.splitlines()
    # The two rows of one cart, and of one order, keep their order; visits and pages do not.
    turned = write(tmp_path, "\n".join([header, *lines[9:], *lines[6:9], *lines[:6]]), "turned.csv")
    first, second = load_sessions(pages), load_sessions(turned)
    assert second.events.frame.equals(first.events.frame)


def test_two_products_in_one_second_are_two_pages_and_a_list_is_one(tmp_path: Path):
    text = "session,time,page_type,item_id\n" + "".join(
        f"1,2024-01-01T00:00:0{second},{kind},{item}\n"
        for second, kind, item in [(0, "product", "a"), (0, "product", "b"), (5, "cart", "a"), (5, "cart", "b")]
    )
    dataset = load_sessions(write(tmp_path, text))
    assert rows(dataset, "item_id", "page", "dwell_seconds") == [
        ("a", 1, 0),
        ("b", 2, 5),
        ("a", 3, None),
        ("b", 3, None),
    ]


def test_who_the_shopper_is(tmp_path: Path):
    text = """session_id,user_id,timestamp,page_type,item_id
1,,2024-01-01T00:00:00,product,before log-in
1,ann,2024-01-01T00:00:01,product,after
2,ann,2024-01-01T00:00:02,product,home
2,bob,2024-01-01T00:00:03,product,home
2,,2024-01-01T00:00:04,product,whose
,cat,2024-01-01T00:00:05,product,no session
,,2024-01-01T00:00:06,product,nobody
"""
    dataset = load_sessions(write(tmp_path, text))
    assert counts(dataset) == {"missing_user": 1, "empty_title": 6}
    assert rows(dataset, "user_id", "session_id", "page") == [
        ("ann", "1", 1),
        ("ann", "1", 2),
        ("ann", "2", 1),
        ("bob", "2", 1),
        ("session 2", "2", 1),
        ("cat", None, None),
    ]


def test_broken_rows_are_counted_and_disturb_no_path(tmp_path: Path):
    text = """session_id,timestamp,page_type,item_id,seconds,channel
1,soon,home,,,
1,soon,product,a,,
1,2024-01-01T00:00:00,product,a,-3,Newsletter
1,,product,a,,
1,2024-01-01T00:01:00,,a,,
1,2024-01-01T00:02:00,product,b,,
"""
    dataset = load_sessions(write(tmp_path, text), CleaningRules(negative_dwell=False))
    assert counts(dataset) == {
        "missing_item": 1,
        "missing_timestamp": 1,
        "unparsable_timestamp": 1,
        "unknown_event": 1,
        "empty_title": 2,
    }
    assert rows(dataset, "item_id", "page", "dwell_seconds", "channel") == [
        ("a", 1, -3, "email"),
        ("b", 3, None, "email"),
    ]
    assert counts(load_sessions(tmp_path / "clicks.csv"))["negative_dwell"] == 1


def test_numbers_since_1970_and_semicolons_and_parquet(tmp_path: Path):
    frame = pl.DataFrame(
        {"Session ID": [7, 7], "time": [1586731606000, 1586731607000], "Page-Type": ["PDP", "Thank you"], "sku": [1, 1]}
    )
    frame.write_parquet(tmp_path / "clicks.parquet")
    frame.write_csv(tmp_path / "clicks.csv", separator=";")
    first, second = (load_sessions(tmp_path / f"clicks.{suffix}") for suffix in ("parquet", "csv"))
    assert first.events.frame.equals(second.events.frame)
    assert first.start == datetime(2020, 4, 12, 22, 46, 46, tzinfo=UTC)
    assert rows(first, "user_id", "item_id", "event") == [("7", "1", "view"), ("7", "1", "purchase")]


def test_local_times_are_read_by_the_clock_asked_for(pages: Path):
    summer = load_sessions(pages, CleaningRules(timezone="Europe/Berlin"))
    assert summer.start == datetime(2024, 5, 1, 7, tzinfo=UTC)
    assert summer.events.frame["dwell_seconds"].equals(load_sessions(pages).events.frame["dwell_seconds"])


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ({"referrer": None}, "direct"),
        ({"referrer": " "}, "direct"),
        ({"referrer": "(direct)"}, "direct"),
        ({"url": "https://shop.example/"}, None),
        ({"referrer": "https://www.google.co.uk/search?q=tea"}, "search"),
        ({"referrer": "duckduckgo.com"}, "search"),
        ({"referrer": "android-app://com.google.android.googlequicksearchbox/"}, "search"),
        ({"referrer": "https://google.example.com/"}, "other site"),
        ({"referrer": "https://mail.google.com/mail/u/0"}, "email"),
        ({"referrer": "https://m.facebook.com/"}, "social"),
        ({"referrer": "https://t.co/abc"}, "social"),
        ({"referrer": "https://x.com/a"}, "social"),
        ({"referrer": "https://netflix.com/"}, "other site"),
        ({"referrer": "https://ad.doubleclick.net/ddm"}, "advertisement"),
        ({"referrer": "https://blog.example/tea"}, "other site"),
        ({"referrer": "https://www.shop.example/", "url": "https://shop.example/p1"}, "internal"),
        ({"referrer": "https://blog.shop.example/", "url": "https://shop.example:443/p1"}, "internal"),
        ({"referrer": "https://myshop.example/", "url": "https://shop.example/p1"}, "other site"),
        ({"referrer": "/search"}, "internal"),
        ({"referrer": "Organic Search"}, "search"),
        ({"referrer": "Till"}, "till"),
        ({"referrer": None, "url": "/p?utm_source=google&utm_medium=CPC"}, "advertisement"),
        ({"referrer": "https://www.google.com/", "url": "/p?a=1&gclid=x"}, "advertisement"),
        ({"referrer": "https://www.google.com/", "url": "/p?utm_medium=paid%20social#top"}, "advertisement"),
        ({"referrer": None, "url": "/p?utm_source=newsletter"}, "email"),
        ({"referrer": None, "url": "/p?utm_source=facebook&utm_medium=story"}, "social"),
        ({"referrer": None, "url": "/p?utm_source=l.instagram.com"}, "social"),
        ({"referrer": None, "url": "/p?utm_source=leaflet&utm_medium=qr"}, "other site"),
        ({"referrer": "https://www.google.com/", "channel": "Paid Search"}, "advertisement"),
        ({"referrer": "https://www.google.com/", "channel": "Shop App"}, "shop app"),
        ({"referrer": "https://www.google.com/", "channel": ""}, "search"),
    ],
)
def test_the_entry_channel(first: dict[str, str | None], expected: str | None):
    assert channel(**first) == expected
    assert expected in (*CHANNELS, None, "till", "shop app")


def test_columns_that_are_not_known_are_proposed(tmp_path: Path):
    path = write(tmp_path, "sid,when,kind,page,product\n1,2024-01-01,product,x,a\n")
    with pytest.raises(SchemaError, match="a column 'page'"):
        load_sessions(path)
    write(tmp_path, "sid,when,kind,product_id\n1,2024-01-01,product,a\n")
    with pytest.raises(SchemaError, match="no column 'session_id' and no 'timestamp' and no 'page_type'") as caught:
        load_sessions(path)
    assert "pass columns={'item_id': 'product_id', 'session_id'" in caught.value.remedy
    given = load_sessions(path, columns={"session_id": "sid", "timestamp": "when", "page_type": "kind"})
    assert rows(given, "item_id", "event") == [("a", "view")]


def test_files_that_tell_nothing_are_errors(tmp_path: Path):
    path = write(tmp_path, "session_id,timestamp,page_type,item_id\n1,2024-01-01,home,\n")
    with pytest.raises(NotEnoughDataError, match="none of the 1 page views names a product"):
        load_sessions(path)
    write(tmp_path, "a;a;b\n1;2;3\n")
    with pytest.raises(SchemaError, match="more than one column named a"):
        load_sessions(path)
    write(tmp_path, "a;b\n1;2;3\n")
    with pytest.raises(SchemaError, match="cannot be read"):
        load_sessions(path)
    with pytest.raises(SchemaError, match="cannot be read"):
        load_sessions(tmp_path / "nowhere.csv")


def test_without_titles_nothing_is_a_near_duplicate(tmp_path: Path):
    text = "session_id,timestamp,page_type,item_id,category\n" + "".join(
        f"1,2024-01-01T00:00:0{n},product,{n},Tea\n" for n in (1, 2)
    )
    path = write(tmp_path, text)
    assert load_sessions(path).catalog.frame.to_dicts() == [
        {"item_id": "1", "title": "Tea", "category": "Tea"},
        {"item_id": "2", "title": "Tea", "category": "Tea"},
    ]


def test_visits_become_views_and_a_purchase(tmp_path: Path):
    dataset = load_sessions(write(tmp_path, VISITS))
    assert rows(dataset, "user_id", "item_id", "event", "quantity", "dwell_seconds", "channel") == [
        ("1", "administrative", "view", 2, 30.5, "4"),
        ("1", "product_related", "view", 10, 600, "4"),
        ("1", "product_related", "purchase", 1, None, "4"),
        ("3", "informational", "view", 1, 9, "2"),
    ]
    assert [f"{moment:%m-%d %H:%M:%S}" for moment in dataset.events.frame["timestamp"]] == [
        "02-01 00:00:00",
        "02-01 00:00:30",
        "02-01 00:10:30",
        "06-01 00:00:00",
    ]
    assert counts(dataset) == {"missing_item": 1}
    assert dataset.source is not None
    assert "made up" in dataset.source.note


def test_profiles_do_not_give_the_outcome_away(tmp_path: Path):
    dataset = load_sessions(write(tmp_path, VISITS))
    assert dataset.profiles is not None
    assert dataset.profiles.frame.row(0, named=True) == {
        "user_id": "1",
        "special_day": 0.4,
        "operating_system": "1",
        "browser": "2",
        "region": "3",
        "visitor_type": "returning visitor",
        "weekend": True,
    }
    assert len(dataset.profiles) == 3  # the visit without a page as well
    wider = "\n".join(
        f"{line};{end}" for line, end in zip(VISITS.splitlines(), ("user_id;Plan", "x;a", "y;b", "z;c"), strict=True)
    )
    kept = load_sessions(write(tmp_path, wider)).profiles
    assert kept is not None
    assert kept.frame["Plan"].to_list() == ["a", "b", "c"]
    assert kept.frame["user_id"].to_list() == ["1", "2", "3"]


def test_commas_and_types_make_no_difference(tmp_path: Path):
    first = load_sessions(write(tmp_path, VISITS))
    comma = load_sessions(write(tmp_path, VISITS.replace(";", ",")))
    pl.read_csv(tmp_path / "clicks.csv").write_parquet(tmp_path / "visits.parquet")
    assert comma.digest == first.digest == load_sessions(tmp_path / "visits.parquet").digest


@pytest.mark.parametrize(
    ("old", "new"), [("June", "Juin"), ("TRUE\n", "maybe\n"), ("10;600", "10;"), ("New_Visitor", "")]
)
def test_a_value_that_is_not_uci_s_is_named(tmp_path: Path, old: str, new: str):
    with pytest.raises(InvalidValueError, match=r"column '\w+' of the visits, row \d"):
        load_sessions(write(tmp_path, VISITS.replace(old, new)))


def test_a_file_of_visits_that_was_cut_off_is_an_error(tmp_path: Path):
    with pytest.raises(SchemaError, match=r"row 2 .* has 15 of 18 fields"):
        load_sessions(write(tmp_path, VISITS.removesuffix("2;Other;FALSE;FALSE\n")))


def test_visits_take_no_mapping_and_need_all_columns(tmp_path: Path):
    path = write(tmp_path, VISITS)
    with pytest.raises(ConfigError, match="one row for each visit"):
        load_sessions(path, columns={"session_id": "Region"})
    write(tmp_path, VISITS.replace("Month", "When"))
    with pytest.raises(SchemaError, match="no column Month"):
        load_sessions(path)


@pytest.mark.data
def test_the_real_visits(data_folder: Path):
    raw = pl.read_csv(data_folder / FILE, separator=";", infer_schema=False)
    dataset = load_sessions(data_folder / FILE)
    report, events = dataset.report, dataset.events.frame
    assert report is not None
    assert len(dataset.users) == len(raw) == 12_330
    assert counts(dataset) == {"missing_item": 6}  # visits without a page
    assert report.rows_in == report.rows_kept + 6
    assert events["session_id"].n_unique() == 12_324
    bought = events.filter(pl.col("event") == "purchase")
    assert len(bought) == (raw["Revenue"] == "TRUE").sum() == 1_908
    seen = events.filter(pl.col("event") == "view")
    for kind, name in (("administrative", "Administrative"), ("product_related", "ProductRelated")):
        pages = seen.filter(pl.col("item_id") == kind)
        assert pages["quantity"].sum() == raw[name].cast(pl.Int64).sum()
        assert pages["dwell_seconds"].sum() == pytest.approx(raw[f"{name}_Duration"].cast(pl.Float64).sum(), rel=1e-4)
    began = raw.filter(pl.any_horizontal(pl.col("Administrative", "Informational", "ProductRelated") != "0"))
    told = events.group_by(pl.col("timestamp").dt.strftime("%b")).agg(pl.col("session_id").n_unique())
    assert dict(told.rows()) == dict(began["Month"].str.slice(0, 3).value_counts().rows())
