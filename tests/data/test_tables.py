"""Every form of table is read as it is; every kind of broken file is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from peftrec.data.tables import read_table
from peftrec.errors import PeftrecError, SchemaError

COLUMNS = {"item_id": ["a", "b"], "title": ["tea 茶 🫖", None], "price": [1.5, 2.0]}


def test_every_form_gives_the_same_frame(tmp_path: Path):
    expected = pl.DataFrame(COLUMNS)
    expected.write_parquet(tmp_path / "t.parquet")
    forms = [COLUMNS, expected, expected.lazy(), pd.DataFrame(COLUMNS), pa.table(COLUMNS), tmp_path / "t.parquet"]
    forms += [pa.RecordBatch.from_pydict(COLUMNS), {k: np.array(v, dtype=object) for k, v in COLUMNS.items()}]
    for table in forms:
        frame = read_table(table, what="catalogue")
        assert frame.columns == list(COLUMNS)
        assert frame["title"].to_list() == COLUMNS["title"]
        assert frame["price"].to_list() == COLUMNS["price"]


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_text_files_keep_every_value_as_text(tmp_path: Path, suffix: str, separator: str):
    path = tmp_path / f"items{suffix}"
    path.write_text(
        separator.join(["item_id", "title"]) + "\n" + separator.join(["00123", '"a\nb"']), encoding="utf-8-sig"
    )
    assert read_table(str(path), what="catalogue").rows() == [("00123", "a\nb")]


def test_pandas_nan_in_text_is_missing():
    frame = read_table(pd.DataFrame({"title": ["x", np.nan]}), what="catalogue")
    assert frame["title"].to_list() == ["x", None]
    assert read_table({"title": ["x", float("nan")]}, what="catalogue")["title"].to_list() == ["x", None]


def test_whole_numbers_and_fractions_mix():
    assert read_table({"price": [1, 2.5, None]}, what="events")["price"].to_list() == [1.0, 2.5, None]


@pytest.mark.parametrize("kind", ["pandas", "numpy", "polars"])
def test_later_writes_to_the_input_do_not_reach_the_table(kind: str):
    values = np.array([1.0, 2.0])
    polars = pl.DataFrame({"x": [1.0, 2.0]})
    given = {"pandas": pd.DataFrame({"x": values}), "numpy": {"x": values}, "polars": polars}[kind]
    frame = read_table(given, what="profiles")
    if isinstance(given, pd.DataFrame):
        given.loc[0, "x"] = 9.0
    elif isinstance(given, pl.DataFrame):
        given[0, "x"] = 9.0
    values[0] = 9.0
    assert frame["x"].to_list() == [1.0, 2.0]


def _file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


PARQUET_START = b"PAR1" + bytes(50)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "empty"),
        ("empty.parquet", b"", "empty"),
        ("cut.parquet", PARQUET_START, "cannot be read"),
        ("text.parquet", b"item_id,title\na,b\n", "cannot be read"),
        ("semicolons.csv", b"item_id;title\na;b\n", "separated by ';'"),
        ("tabs.csv", b"item_id\ttitle\na\tb\n", r"separated by '\\t'"),
        ("commas.tsv", b"item_id,title\na,b\n", "separated by ','"),
        ("twice.csv", b"item_id,title,title\na,b,c\n", "more than one column named 'title'"),
        ("long.csv", b"item_id,title\na,b\nc,d,e\n", "cannot be read"),
        ("cut.csv", b"item_id,title,brand\na,b,c\nd,e", "middle of a row"),
        ("latin.csv", "item_id,title\na,thé\n".encode("latin-1"), "cannot be read"),
        ("header-latin.csv", "item_id,thé\na,b\n".encode("latin-1"), "cannot be read"),
        ("items.xlsx", b"PK", "'.xlsx'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str):
    with pytest.raises(SchemaError, match=says) as caught:
        read_table(_file(tmp_path, name, content), what="catalogue")
    assert name in caught.value.found


def test_a_truncated_parquet_file_is_named(tmp_path: Path):
    path = tmp_path / "events.parquet"
    pl.DataFrame({"x": range(1000)}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SchemaError, match=r"events\.parquet cannot be read"):
        read_table(path, what="events")


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(SchemaError, match="No such file"):
        read_table(tmp_path / "none.csv", what="events")
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(SchemaError, match="is a folder"):
        read_table(tmp_path / "dir.csv", what="events")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"a": [1, 2], "b": [1]}, "differ in length"),
        ({"a": "text"}, "single str"),
        ({"a": 5}, "single int"),
        ({"a": [1, "x"]}, "column 'a'"),
        ([{"a": 1}], "builtins.list"),
        (None, "NoneType"),
        (pd.Series([1]), "not a DataFrame"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named 'a'"),
        (pd.DataFrame({"a": [1, "x"]}), "row 1 .* is the str 'x', while row 0 is the int 1"),
        (pa.table([[1], [2]], names=["a", "a"]), "more than one column named 'a'"),
    ],
)
def test_bad_tables(table: object, says: str):
    with pytest.raises(SchemaError, match=says) as caught:
        read_table(table, what="events")  # pyright: ignore[reportArgumentType]
    assert caught.value.expected
    assert caught.value.remedy


def test_errors_are_of_one_family(tmp_path: Path):
    with pytest.raises(PeftrecError):
        read_table(tmp_path / "none.parquet", what="events")
