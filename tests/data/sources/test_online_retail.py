"""UCI's invoices: real ones where they are at hand, and lines that are true to the form."""

from pathlib import Path

import polars as pl
import pytest

from peftrec.data import CleaningRules, Dataset, load_dataset
from peftrec.data.sources.online_retail import load_online_retail
from peftrec.errors import ConfigError, SchemaError

FILE = "online_retail/uci_online_retail.parquet"

LINES = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123a,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850,United Kingdom
536366,85123A,WHITE HANGING HEART,2,7/1/2011 8:28,2.95,17850,United Kingdom
536367,85123A,white heart,2,7/1/2011 8:28,2.95,,France
C536368,85123A,WHITE HANGING HEART,-2,7/2/2011 9:00,2.95,17850,United Kingdom
536369,POST,POSTAGE,1,7/2/2011 9:00,18,13047,France
536370,22139,damaged,-5,7/2/2011 9:00,0,,United Kingdom
536371,22139,RETRO MUG ,1,7/2/2011 9:00,0,13047,France
536372,22140,,1,7/2/2011 9:00,1.5,13047,France
536373,22141,found,1,7/2/2011 9:00,0,,France
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "online_retail.csv"
    path.write_text(LINES, encoding="utf-8")
    return path


def counts(dataset: Dataset) -> dict[str, int]:
    assert dataset.report is not None
    return {count.rule: count.rows for count in dataset.report.counts if count.rows}


def test_every_line_is_accounted_for(lines: Path):
    dataset = load_dataset("online_retail", lines)
    assert counts(dataset) == {
        "missing_user": 3,
        "non_product": 1,
        "cancelled": 2,
        "zero_price": 1,
        "empty_title": 2,
    }
    assert dataset.events.frame["session_id"].to_list() == ["536365", "536372"]


def test_winter_and_summer_are_londons(lines: Path):
    moments = load_dataset("online_retail", lines).events.frame["timestamp"]
    assert [f"{moment:%Y-%m-%d %H:%M}" for moment in moments] == ["2010-12-01 08:26", "2011-07-02 08:00"]


def test_a_title_is_what_sales_carry_and_no_remark(lines: Path):
    products = load_dataset("online_retail", lines).catalog.frame
    assert dict(zip(products["item_id"], products["title"], strict=True)) == {
        "22139": "RETRO MUG",
        "22140": "unknown product 22140",
        "22141": "unknown product 22141",
        "85123A": "WHITE HANGING HEART",
    }
    assert products["price"].to_list()[-1] == pytest.approx(2.95)


def test_services_can_be_kept(lines: Path):
    dataset = load_dataset("online_retail", lines, rules=CleaningRules())
    assert "POSTAGE" in dataset.catalog.frame["title"]
    assert "POST" in dataset.events.frame["item_id"]


def test_the_second_edition_is_read_as_well(lines: Path):
    names = {"InvoiceNo": "Invoice", "UnitPrice": "Price", "CustomerID": "Customer ID"}
    second = pl.read_csv(lines, infer_schema=False).rename(names)
    assert load_online_retail(second).digest == load_online_retail(lines).digest


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no path") as caught:
        load_dataset("online_retail")
    assert "archive.ics.uci.edu" in caught.value.remedy
    path = tmp_path / "other.csv"
    path.write_text("InvoiceNo,StockCode\n1,2\n", encoding="utf-8")
    with pytest.raises(SchemaError, match="CustomerID"):
        load_dataset("online_retail", path)
    with pytest.raises(ConfigError, match="comes with the package"):
        load_dataset("completejourney", path)


@pytest.mark.data
def test_the_real_invoices(data_folder: Path):
    dataset = load_dataset("online_retail", data_folder / FILE)
    found, report = counts(dataset), dataset.report
    assert report is not None
    assert report.rows_in == 541_909
    assert report.rows_in == report.rows_kept + report.rows_dropped
    assert found["missing_user"] == 135_080
    assert 5_000 < found["cancelled"] < 9_000  # of 8,905 returns, most took back a whole line
    assert found["non_product"] > 1_500
    titles = set(dataset.catalog.frame["title"])
    assert "WHITE HANGING HEART T-LIGHT HOLDER" in titles
    assert not titles & {"POSTAGE", "Manual", "damaged", "damages", "?", "check", "ebay"}
    assert dataset.profiles is not None
    assert dataset.profiles.frame["country"].n_unique() > 30
    assert dataset.events.frame["quantity"].min() > 0  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
