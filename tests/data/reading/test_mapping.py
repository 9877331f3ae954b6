"""Columns get our names; a mapping that cannot work is answered with one that would."""

from pathlib import Path

import polars as pl
import pytest

from peftrec.data import Dataset, Events
from peftrec.data.reading.mapping import read_rows, rename_columns
from peftrec.data.reading.names import NAMES, folded, likeness
from peftrec.errors import NotEnoughDataError, SchemaError


def rename(columns: list[str], mapping: dict[str, str] | None) -> list[str]:
    frame = pl.DataFrame({name: ["1"] for name in columns})
    return rename_columns(
        frame, mapping, required=("user_id", "item_id", "timestamp"), optional=("price",), what="events"
    ).columns


def test_renames_what_is_mapped_and_keeps_the_rest():
    mapping = {"user_id": "who", "item_id": "what", "timestamp": "when"}
    assert rename(["who", "what", "when", "extra"], mapping) == ["user_id", "item_id", "timestamp", "extra"]
    assert rename(["user_id", "item_id", "timestamp"], None) == ["user_id", "item_id", "timestamp"]


def test_names_can_be_swapped():
    mapping = {"user_id": "item_id", "item_id": "user_id"}
    assert rename(["user_id", "item_id", "timestamp"], mapping) == ["item_id", "user_id", "timestamp"]


def test_missing_columns_are_answered_with_the_mapping_that_works():
    columns = ["household_id", "product_id", "transaction_timestamp", "store_id"]
    with pytest.raises(SchemaError) as caught:
        rename(columns, None)
    mapping = {"user_id": "household_id", "item_id": "product_id", "timestamp": "transaction_timestamp"}
    assert caught.value.remedy == f"pass columns={mapping}"
    assert "closest to 'item_id': product_id" in caught.value.found
    assert rename(columns, mapping)[:3] == list(mapping)


def test_missing_column_keeps_the_mapping_already_given():
    with pytest.raises(SchemaError, match="no column 'item_id'") as caught:
        rename(["who", "Item Id", "timestamp"], {"user_id": "who"})
    assert caught.value.remedy == "pass columns={'user_id': 'who', 'item_id': 'Item Id'}"


def test_missing_column_without_a_near_name():
    with pytest.raises(SchemaError, match="it has 'xx', 'yy', 'zz'") as caught:
        rename(["xx", "yy", "zz"], None)
    assert "<your column>" in caught.value.remedy


@pytest.mark.parametrize(
    ("mapping", "found", "remedy"),
    [
        ({"item_id": "sku"}, "'item_id' from a column 'sku'", "under our own name"),
        ({"user_id": "custmer"}, "'user_id' from a column 'custmer'", "columns={'user_id': 'customer'}"),
        (
            {"customer": "user_id"},
            "'customer' from a column 'user_id'",
            "turn it round: columns={'user_id': 'customer'}",
        ),
        ({"user_id": "customer", "item_id": "customer"}, "'customer' for 'user_id' and 'item_id'", "keep one"),
        ({"user_id": "customer", "timestamp": "sold"}, "two columns of the events would be called 'timestamp'", "drop"),
    ],
)
def test_mappings_that_cannot_work(mapping: dict[str, str], found: str, remedy: str):
    with pytest.raises(SchemaError) as caught:
        rename(["customer", "item_id", "timestamp", "sold"], mapping)
    assert found in caught.value.found
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("mapping", "found"),
    [
        ({"user_id": 5}, "holds 'user_id': 5"),
        ({"user_id": ["customer"]}, "holds 'user_id': ['customer']"),
        ({None: "customer"}, "holds None: 'customer'"),
        ([("user_id", "customer")], "a list"),
        ("customer", "a str"),
    ],
)
def test_mappings_that_are_none(mapping: dict[str, str], found: str):
    with pytest.raises(SchemaError) as caught:
        rename(["customer", "item_id", "timestamp"], mapping)
    assert found in caught.value.found


def test_a_misspelt_name_of_ours_is_corrected():
    columns = ["customer", "item_id", "timestamp"]
    with pytest.raises(SchemaError, match="the mapping's 'usr_id' is none of our names") as caught:
        rename(columns, {"usr_id": "customer"})
    assert caught.value.remedy == "pass columns={'user_id': 'customer'}"


def test_one_column_is_proposed_once():
    with pytest.raises(SchemaError) as caught:
        rename(["id", "date", "sku"], None)
    proposed = caught.value.remedy
    assert proposed == "pass columns={'user_id': '<your column>', 'item_id': 'sku', 'timestamp': 'date'}"


def test_names_that_cleaning_uses_are_refused():
    with pytest.raises(SchemaError, match="'__row', which peftrec uses for itself"):
        rename(["user_id", "item_id", "timestamp", "__row"], None)


def test_a_file_with_a_header_alone_is_named(tmp_path: Path):
    path = tmp_path / "users.csv"
    path.write_text("user_id,age\n", encoding="utf-8")
    with pytest.raises(NotEnoughDataError, match=r"no rows, only a header: .*users\.csv"):
        read_rows(
            path, None, required=("user_id",), optional=(), what="profiles", rows="shopper", remedy="leave it out"
        )


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("CustomerID", "user_id"),
        ("customer id", "user_id"),
        ("CUSTOMER_ID", "user_id"),
        ("Kunden-Nr.", "user_id"),
        ("id_client", "user_id"),
        ("顧客ID", "user_id"),
        ("items.item_id", "item_id"),
        ("orderCustomerId", "user_id"),
        ("Référence", "item_id"),
        ("Lineitem sku", "item_id"),
        ("t_dat", "timestamp"),
        ("InvoiceDate", "timestamp"),
        ("fecha_compra", "timestamp"),
        ("Stückpreis", "price"),
        ("quantité", "quantity"),
        ("Bezeichnung", "title"),
    ],
)
def test_names_are_known_in_any_spelling(name: str, ours: str):
    best = max(NAMES, key=lambda column: likeness(name, column)[0])
    assert best == ours
    assert likeness(name, ours)[0] >= 0.5


def test_our_own_name_is_surest_and_strange_ones_are_none():
    assert likeness("item_id", "item_id")[0] == 1
    assert likeness("xyz", "item_id") == (0, "")
    assert likeness("VisitorType", "user_id") == (0, "")
    assert folded("Größe (cm)") == "grossecm"


def test_an_optional_name_that_is_nearly_ours_is_told():
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": ["2020-01-01"], "cost": [1.0]})
    with pytest.raises(SchemaError, match="takes 'prise' from 'cost'") as caught:
        Events.from_table(frame, columns={"prise": "cost"})
    assert caught.value.remedy.startswith("write columns={'price': 'cost'}")
    assert "expense" in Events.from_table(frame, columns={"expense": "cost"}).frame.columns
    told = frame.with_columns(pl.lit(2.0).alias("price"))  # price is there, so prise can only be another thing
    assert "prise" in Events.from_table(told, columns={"prise": "cost"}).frame.columns


def test_a_mapping_of_another_kind_is_told_beside_a_file(tmp_path: Path):
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp\nu,a,2020-01-01\n")
    with pytest.raises(SchemaError, match="the mapping of the events holds"):
        Dataset.build(
            name="shop",
            catalog={"item_id": ["a"], "title": ["tea"]},
            events=path,
            event_columns=["user_id"],  # pyright: ignore[reportArgumentType]
        )
