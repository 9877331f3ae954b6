"""Columns get our names; a mapping that cannot work is answered with one that would."""

import polars as pl
import pytest

from peftrec.data.mapping import rename_columns
from peftrec.errors import SchemaError


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
