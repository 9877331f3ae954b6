"""A folder of files becomes a data set; what is missing is answered with the ``columns.json`` that works."""

import json
from pathlib import Path

import polars as pl
import pytest

from peftrec.data import CleaningRules
from peftrec.data.sources.files import load_files
from peftrec.errors import DataError, InvalidValueError, NotEnoughDataError, SchemaError

PRODUCTS = "sku,name\na,Tea\nb,Pot of tea\n"
ORDERS = "customer,sku,when\nu,a,2020-01-01\nu,b,2020-01-02\nv,b,2020-01-03\n"
MAPPINGS = {
    "products": {"item_id": "sku", "title": "name"},
    "events": {"user_id": "customer", "item_id": "sku", "timestamp": "when"},
}


def shop(folder: Path, *, columns: object = MAPPINGS, **tables: str) -> Path:
    """Writes a folder: table -> its text, ``columns`` into columns.json unless None."""
    folder = folder / "corner_shop"
    folder.mkdir(exist_ok=True)
    for name, text in ({"products": PRODUCTS, "events": ORDERS} | tables).items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    if columns is not None:
        text = columns if isinstance(columns, str) else json.dumps(columns)
        (folder / "columns.json").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_is_a_data_set_named_like_it(tmp_path: Path):
    dataset = load_files(shop(tmp_path))
    assert dataset.name == "corner_shop"
    assert dataset.report is not None
    assert (len(dataset.catalog), dataset.report.rows_in, len(dataset.users)) == (2, 3, 2)


def test_our_own_names_need_no_mapping_and_other_names_of_files_are_known(tmp_path: Path):
    tables = {
        "items.parquet": pl.DataFrame({"item_id": ["a"], "title": ["Tea"]}),
        "interactions.tsv": pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": ["2020-01-01"]}),
        "users.csv": pl.DataFrame({"user_id": ["u", "w"], "age": ["30", "40"]}),
        "promotions.csv": pl.DataFrame({"item_id": ["a"], "start": ["2020-01-01"], "end": ["2020-01-08"]}),
    }
    for name, frame in tables.items():
        write = {"parquet": frame.write_parquet, "tsv": lambda path, frame=frame: frame.write_csv(path, separator="\t")}
        write.get(name.rpartition(".")[2], frame.write_csv)(tmp_path / name)
    dataset = load_files(tmp_path)
    assert dataset.users.to_list() == ["u", "w"]
    assert dataset.promotions is not None
    assert len(dataset.promotions) == 1


def test_a_log_that_knows_only_the_order_is_read_by_its_position(tmp_path: Path):
    columns = MAPPINGS | {"events": {"user_id": "customer", "item_id": "sku", "position": "nth"}}
    orders = "customer,sku,nth\nu,a,1\nu,b,2\n"
    assert load_files(shop(tmp_path, columns=columns, events=orders)).ordered


def test_rules_are_passed_on(tmp_path: Path):
    folder = shop(tmp_path, events=ORDERS + "u,gone,2020-01-04\n")
    assert len(load_files(folder).events) == 3
    with pytest.raises(DataError, match="unknown item in the events, row 3") as caught:
        load_files(folder, CleaningRules(unknown_item=False))
    assert "events.csv, column 'sku', line 5" in caught.value.found


@pytest.mark.parametrize(
    "columns",
    [
        None,
        {"events": MAPPINGS["events"]},
        {"events": {"user_id": "customer"}, "products": {"title": "name"}},
        {"events": MAPPINGS["events"] | {"item_id": "SKU"}, "products": MAPPINGS["products"]},
        {"events": {"usr_id": "customer", "item_id": "sku", "timestamp": "when"}, "items": MAPPINGS["products"]},
    ],
)
def test_missing_columns_are_answered_with_the_file_that_works(tmp_path: Path, columns: object):
    folder = shop(tmp_path, columns=columns)
    with pytest.raises(SchemaError) as caught:
        load_files(folder)
    assert str(folder) in caught.value.found
    proposal = caught.value.remedy.partition("after a check: ")[2]
    (folder / "columns.json").write_text(proposal, encoding="utf-8")
    dataset = load_files(folder)
    assert len(dataset.events) == 3
    assert dataset.catalog.frame["title"].to_list() == ["Tea", "Pot of tea"]


def test_a_column_that_nothing_looks_like_is_asked_for(tmp_path: Path):
    with pytest.raises(SchemaError) as caught:
        load_files(shop(tmp_path, columns={"products": MAPPINGS["products"]}, events="x,sku,when\nu,a,2020-01-01\n"))
    assert '"user_id": "<your column>"' in caught.value.remedy
    assert "the file has 'x', 'sku', 'when'" in caught.value.found


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("{", "cannot be read"),
        ("[1]", "holds list instead of an object"),
        ('{"events": {"user_id": "customer", "user_id": "who"}}', "'user_id' stands twice"),
        ('{"events": {}, "interactions": {}}', "names the table 'events' twice"),
        ('{"orders": {}}', "names a table 'orders'"),
        ('{"users": {"user_id": "u"}}', "a mapping for 'users', of which there is no file"),
        ('{"events": {"user_id": 5}}', 'has {"user_id": 5} for'),
        ('{"events": "customer"}', "for 'events' instead of names"),
        ({"events": MAPPINGS["events"] | {"user_id": "sku"}, "items": MAPPINGS["products"]}, "'sku' for 'user_id' and"),
    ],
)
def test_mappings_that_cannot_work(tmp_path: Path, columns: object, says: str):
    with pytest.raises(SchemaError) as caught:
        load_files(shop(tmp_path, columns=columns))
    assert says in caught.value.found
    assert "corner_shop" in caught.value.found


@pytest.mark.parametrize(
    ("extra", "says", "remedy"),
    [
        ("catalog.tsv", "more than one file of catalog: catalog.tsv, products.csv", "join them"),
        ("promotion.csv", "called almost like one of the tables", "rename it to promotions.csv"),
    ],
)
def test_files_that_cannot_be_told_apart(tmp_path: Path, extra: str, says: str, remedy: str):
    folder = shop(tmp_path)
    (folder / extra).write_text("x\n1\n", encoding="utf-8")
    with pytest.raises(SchemaError, match=says) as caught:
        load_files(folder)
    assert remedy in caught.value.remedy


def test_missing_files(tmp_path: Path):
    folder = shop(tmp_path)
    (folder / "events.csv").rename(folder / "orders.csv")
    with pytest.raises(SchemaError, match=r"no file of events; .* holds orders\.csv") as caught:
        load_files(folder)
    assert "to events.csv" in caught.value.remedy
    with pytest.raises(SchemaError, match="no folder that can be read"):
        load_files(folder / "products.csv")


def test_dates_in_three_forms_are_named_with_rows_and_the_remedy(tmp_path: Path):
    orders = "customer,sku,when\nu,a,2020-01-01\nu,b,31.01.2020\nu,b,1580515200\nu,a,20.01.2020\n"
    folder = shop(tmp_path, events=orders)
    with pytest.raises(SchemaError, match="column 'when' of the events is written in 3 forms") as caught:
        load_files(folder)
    found, remedy = caught.value.found, caught.value.remedy
    assert "2 rows day.month.year, %d.%m.%Y, the first is row 1 (counting from 0): '31.01.2020'" in found
    assert "1 rows seconds since 1970, the first is row 2 (counting from 0): '1580515200'" in found
    assert found.endswith(f"(in {folder / 'events.csv'}, line 3)")
    frame = pl.read_csv(folder / "events.csv", infer_schema=False)
    code = remedy.partition("frame.with_columns(")[2].rpartition(")")[0]
    frame.with_columns(eval(code)).write_csv(folder / "events.csv")  # the expression is there to be pasted
    days = load_files(folder).events.frame["timestamp"]
    assert [f"{day:%m-%d}" for day in days] == ["01-01", "01-20", "01-31", "02-01"]


def test_a_few_odd_dates_are_left_to_the_rule(tmp_path: Path):
    orders = ORDERS + "u,a,2020-01-05\n" * 197 + "u,a,31.01.2020\nu,a,soon\n"
    dataset = load_files(shop(tmp_path, events=orders))
    assert dataset.report is not None
    assert {count.rule: count.rows for count in dataset.report.counts if count.rows} == {"unparsable_timestamp": 2}


@pytest.mark.parametrize(
    ("tables", "error", "says", "place"),
    [
        (
            {"events": 'customer,sku,when,quantity\nu,a,2020-01-01,1\nu,"a\n",2020-01-01,1\nu,a,2020-01-01,"1,5"\n'},
            SchemaError,
            "row 2 (counting from 0) is '1,5'; they are written with a decimal comma",
            "events.csv, line 5",
        ),
        (
            {"products": "sku,name\na,Tea\nb,\nb,Pot\n"},
            InvalidValueError,
            "'b' in rows 1, 2 (counting from 0)",
            "products.csv, column 'sku', line 3",
        ),
        (
            {"profiles": "user_id,age\nu,1\n,2\n"},
            InvalidValueError,
            "the first is row 1 (counting from 0)",
            "profiles.csv, line 3",
        ),
        (
            {"promotions": "item_id,start,end\na,2020-01-02,2020-01-01\n"},
            InvalidValueError,
            "row 0 of the promotions (counting from 0): end",
            "promotions.csv, line 2",
        ),
        ({"events": "customer,sku,when\n"}, NotEnoughDataError, "the events table has no rows", "events.csv"),
    ],
)
def test_errors_name_file_column_and_line(
    tmp_path: Path, tables: dict[str, str], error: type[DataError], says: str, place: str
):
    with pytest.raises(error) as caught:
        load_files(shop(tmp_path, **tables))
    assert says in caught.value.found
    assert caught.value.found.endswith(f"{place})")


@pytest.mark.data
def test_real_invoices_from_a_folder(data_folder: Path, tmp_path: Path):
    lines = pl.read_parquet(data_folder / "online_retail/uci_online_retail.parquet")
    lines.write_parquet(tmp_path / "transactions.parquet")
    lines.group_by("StockCode").agg(pl.col("Description").drop_nulls().first()).write_csv(tmp_path / "products.csv")
    with pytest.raises(SchemaError) as caught:
        load_files(tmp_path)
    (tmp_path / "columns.json").write_text(caught.value.remedy.partition("after a check: ")[2], encoding="utf-8")
    dataset = load_files(tmp_path)
    assert dataset.report is not None
    assert dataset.report.rows_in == 541_909
    assert {count.rule: count.rows for count in dataset.report.counts}["missing_user"] == 135_080
