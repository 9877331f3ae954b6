"""Catalogues: what is kept, what is refused, and how products are found."""

import dataclasses

import numpy as np
import pandas as pd
import polars as pl
import pytest

from peftrec.data import Catalog
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError, UnknownItemError

SMALL = {"item_id": ["tea-1", "tea-2", "pot-1"], "title": ["green tea", "black tea", "pot"]}


def test_known_columns_come_first_with_their_types_and_the_rest_is_kept():
    table = {**SMALL, "shelf": [1, 2, 3], "price": ["1", "2.5", ""], "brand": [7, 8, 9], "tags": [["a", "b"], [], None]}
    frame = Catalog.from_table(table).frame
    assert frame.columns == ["item_id", "title", "brand", "tags", "price", "shelf"]
    assert frame["price"].to_list() == [1.0, 2.5, None]
    assert frame["brand"].to_list() == ["7", "8", "9"]
    assert frame["tags"].to_list() == ["a, b", "", None]
    assert frame["shelf"].dtype == pl.Int64


def test_mapping_and_number_ids():
    catalog = Catalog.from_table({"sku": [12, 7], "name": ["a", "b"]}, columns={"item_id": "sku", "title": "name"})
    assert catalog.ids.to_list() == ["12", "7"]
    assert len(catalog) == 2


def test_pandas_index_with_a_name_is_a_column():
    table = pd.DataFrame(SMALL).set_index("item_id")
    assert Catalog.from_table(table).ids.to_list() == SMALL["item_id"]


@pytest.mark.parametrize("title", ["x" * 100_000, "青茶 🫖👩‍👩‍👧", "<b>tea</b> &amp; \n\t milk ", "الشاي"])
def test_texts_pass_untouched(title: str):
    assert Catalog.from_table({"item_id": ["a"], "title": [title]}).frame["title"].to_list() == [title]


def test_indices_are_rows():
    catalog = Catalog.from_table(SMALL)
    rows = catalog.indices(["pot-1", "tea-1", "pot-1"])
    assert rows.dtype == np.int32
    assert rows.tolist() == [2, 0, 2]
    assert catalog.indices([]).shape == (0,)
    assert catalog.indices("tea-2").tolist() == [1]


def test_unknown_ids_are_named_with_the_closest():
    with pytest.raises(UnknownItemError) as caught:
        Catalog.from_table(SMALL).indices(["tea-1", "tea-3", "x", "y", "z"])
    assert caught.value.found.startswith("4 of 5 item ids are not in the catalogue: 'tea-3' (closest: tea-")
    assert "..." in caught.value.found
    assert "'z'" not in caught.value.found
    assert "to mend" in str(caught.value)


def test_it_is_frozen():
    catalog = Catalog.from_table(SMALL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalog.frame = pl.DataFrame()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (
            {"item_id": ["a", None, "c"]},
            InvalidValueError,
            "1 rows of the catalogue have no 'item_id', the first is row 1",
        ),
        ({"item_id": ["a", "b", " "]}, InvalidValueError, "the first is row 2"),
        ({"item_id": [1.0, float("nan"), 3.0]}, InvalidValueError, "the first is row 1"),
        ({"item_id": ["a", "b", "a"]}, InvalidValueError, "'a' in rows 0, 2"),
        ({"item_id": [1.5, 2.0, 3.0]}, SchemaError, "for example 1.5"),
        ({"title": ["x", None, ""]}, InvalidValueError, "empty title in the catalogue, row 1.*and 1 more"),
        ({"title": [b"x", b"y", b"z"]}, SchemaError, "column 'title' of the catalogue holds Binary"),
        ({"price": [1, -2, 3]}, InvalidValueError, r"negative price in the catalogue, row 1.*item 'tea-2': -2\.0"),
        ({"price": ["1", "2", "cheap"]}, SchemaError, r"row 2 .*'cheap'"),
        ({"price": [1, 2, float("inf")]}, InvalidValueError, "infinite"),
    ],
)
def test_bad_values(change: dict[str, list[object]], error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        Catalog.from_table({**SMALL, **change})


def test_empty_catalogue_and_missing_column():
    with pytest.raises(NotEnoughDataError, match="no rows"):
        Catalog.from_table({"item_id": [], "title": []})
    with pytest.raises(SchemaError, match="no column 'title'"):
        Catalog.from_table({"item_id": ["a"], "name": ["b"]})


def test_a_frame_that_was_not_read_is_checked_too():
    with pytest.raises(SchemaError, match="Int64"):
        Catalog(pl.DataFrame({"item_id": [1], "title": ["x"]}))
    with pytest.raises(SchemaError, match="titles are missing"):
        Catalog(pl.DataFrame({"item_id": ["1"]}))


def test_repr_tells_size_and_columns():
    assert repr(Catalog.from_table(SMALL)) == "Catalog(3 products: item_id, title)"
