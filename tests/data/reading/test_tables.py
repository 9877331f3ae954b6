"""Every form of table is read as it is; every kind of broken file is named."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import peftrec.data.reading.encodings
from peftrec.data.reading import memory
from peftrec.data.reading.tables import read_table
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
        ("cut.parquet", PARQUET_START, "54 bytes and ends in .* it looks truncated"),
        ("text.parquet", b"item_id,title\na,b\n", "begins with b'item_i'"),
        ("packed.parquet", b"\x1f\x8b" + bytes(50), "like gzip"),
        ("semicolons.csv", b"item_id;title\na;b\n", "separated by ';'"),
        ("tabs.csv", b"item_id\ttitle\na\tb\n", r"separated by '\\t'"),
        ("commas.tsv", b"item_id,title\na,b\n", "separated by ','"),
        ("sep.csv", b"sep=;\nitem_id;title\na;b\nc;d\n", "separated by ';'"),
        ("twice.csv", b"item_id,title,title\na,b,c\n", "more than one column named 'title'"),
        (
            "long.csv",
            b"item_id,title\na,b\nc,d,e\n",
            r"row 1 \(counting from 0; line 3 of the file\) has 3 of 2 fields",
        ),
        ("short.csv", b'item_id,title\na,"b\nb"\nc\nd,e\n', "row 1 .*line 4 of the file.* has 1 of 2 fields: 'c'"),
        ("cut.csv", b"item_id,title,brand\na,b,c\nd,e", "middle of a row"),
        ("open.csv", b'item_id,title\na,b\nc,"d\ne,f\n', "row 1 .*line 3 .* quotation mark out of place"),
        ("inch.csv", b'item_id,title\na,5" nail\nb,c\nd,3" nail\n', r"row 0 .* has a quotation mark inside"),
        ("mac.csv", b"item_id,title\ra,b\r", "carriage returns alone"),
        ("lone.csv", b"item_id\na\rb\n", "row 0 .*line 2 .* ends in a carriage return alone: 'a'"),
        ("torn.csv", b"item_id,title\na,b\nc,d\re,f\n", "row 1 .*line 3 .* ends in a carriage return alone: 'c,d'"),
        ("carets.csv", b"item_id^title\na^b\n", r"separated by '\^'"),
        ("hive.csv", b"item_id\x01title\na\x01b\n", r"separated by '\\x01'"),
        ("colons.csv", b"item_id::title\na::green tea\n", "separated by '::'"),
        ("blanks.csv", b"item_id title\na   tea\n", "separated by blanks"),
        ("zipped.csv", b"PK\x03\x04\x14\0\0\0item_id,title\n", "like a zip archive"),
        ("gzipped.csv", b"\x1f\x8b\x08" + bytes(range(60)), "like gzip"),
        ("renamed.csv", PARQUET_START, "like Parquet"),
        ("zeros.csv", bytes(500), "begins with 500 zero bytes"),
        ("blank.csv", b"\n\n", "nothing but empty lines"),
        (
            "latin.csv",
            "item_id,title\na,tea\nb,thé\n".encode("latin-1"),
            "row 1 .*line 3.*, column 'title', .* bytes e9",
        ),
        ("header-latin.csv", "item_id,thé\na,b\n".encode("latin-1"), "the header, line 1, holds the bytes e9"),
        ("utf16.csv", "item_id,title\na,b\n".encode("utf-16"), "begins with the bytes ff fe"),
        ("utf16le.csv", "item_id,title\na,b\n".encode("utf-16-le"), "two bytes each"),
        ("items.xlsx", b"PK", "'.xlsx'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str):
    with pytest.raises(SchemaError, match=says) as caught:
        read_table(_file(tmp_path, name, content), what="catalogue")
    assert name in caught.value.found


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("semicolons.csv", b"item_id;title\na;b\n", [("a", "b")]),
        ("sep.csv", b"sep=;\nitem_id;title\na;b\nc;d\n", [("a", "b"), ("c", "d")]),
        ("colons.csv", b"item_id::title\na::green tea\n", [("a", "green tea")]),
        ("blanks.csv", b"item_id title\na   tea\n", [("a", "tea")]),
        ("latin.csv", "item_id,title\na,thé\n".encode("cp1252"), [("a", "thé")]),
        ("cyrillic.csv", "item_id,title\na,чайник\n".encode("cp1251"), [("a", "чайник")]),
        ("chinese.csv", "item_id,title\na,红茶壶\n".encode("gb18030"), [("a", "红茶壶")]),
        ("utf16.csv", "item_id\ttitle\na\tthé\n".encode("utf-16"), [("a", "thé")]),
        ("utf16be.csv", "item_id,title\na,thé\n".encode("utf-16-be"), [("a", "thé")]),
        ("mixed.csv", "item_id,title\na,thé\n".encode() + "b,thé\n".encode("cp1252"), [("a", "thé"), ("b", "thé")]),
        ("inch.csv", b'item_id,title\na,5" nail\nb,c\nd,3" x\n', [("a", '5" nail'), ("b", "c"), ("d", '3" x')]),
        ("mac.csv", b"item_id,title\ra,b\r", [("a", "b")]),
        ("rows.csv", b"item_id,title;x\na;b\nc;d\n", [("a", "b"), ("c", "d")]),
    ],
)
def test_the_remedy_of_a_bad_file_reads_it(tmp_path: Path, name: str, content: bytes, rows: list[tuple[str, ...]]):
    with pytest.raises(SchemaError) as caught:
        read_table(_file(tmp_path, name, content), what="catalogue")
    _, call, rest = re.split(r"((?:pandas|polars)\.read_csv)", caught.value.remedy, maxsplit=1)
    code = call + rest.partition(", and pass that")[0]
    found = eval(code, {"pandas": pd, "polars": pl, "peftrec": peftrec})  # the call is there to be pasted
    assert read_table(found, what="catalogue").rows() == rows


def test_a_column_may_be_called_like_the_beginning_of_another_format(tmp_path: Path):
    path = _file(tmp_path, "orcs.csv", b"ORC,PAR1\na,b\n")
    assert read_table(path, what="catalogue").columns == ["ORC", "PAR1"]


def test_quotation_marks_that_pair_within_a_line_are_letters(tmp_path: Path):
    path = _file(tmp_path, "frames.csv", b'item_id,title\na,5" x 7" frame\nb,"8"" frame, black"\n')
    assert read_table(path, what="catalogue").rows() == [("a", '5" x 7" frame'), ("b", '8" frame, black')]


def test_a_field_may_be_long(tmp_path: Path):
    path = _file(tmp_path, "long.csv", b"item_id,title\na," + b"x" * 200_000 + b"\n")
    assert len(read_table(path, what="catalogue")["title"][0]) == 200_000


def test_every_record_of_a_text_file_is_a_row(tmp_path: Path):
    path = _file(tmp_path, "gaps.csv", b'\nitem_id,title\r\n"a","x\r\ny"\r\n\r\nb,\r\n,\r\n')
    assert read_table(path, what="catalogue").rows() == [("a", "x\r\ny"), (None, None), ("b", None), (None, None)]


def test_a_table_longer_than_memory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frame = pl.DataFrame({"user_id": ["u" * 40] * 1000, "n": range(1000)})
    frame.write_csv(tmp_path / "events.csv")
    frame.write_parquet(tmp_path / "events.parquet")
    for name in ("events.csv", "events.parquet"):
        monkeypatch.setattr(memory, "free_memory", lambda: 10_000)
        with pytest.raises(SchemaError, match=r"needs about 0\.00 GB of memory") as caught:
            read_table(tmp_path / name, what="events")
        assert "stream_events(" in caught.value.remedy
        with pytest.raises(SchemaError) as caught:
            read_table(tmp_path / name, what="catalogue")
        assert caught.value.remedy.startswith("polars.scan_")
        monkeypatch.setattr(memory, "free_memory", lambda: 10**9)
        assert len(read_table(tmp_path / name, what="events")) == 1000
        monkeypatch.setattr(memory, "free_memory", lambda: None)
        assert len(read_table(tmp_path / name, what="events")) == 1000


def test_what_is_free_is_known_here():
    free = memory.free_memory()
    assert free is None or free > 10_000_000


def test_a_container_may_allow_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {"limit": "1000", "used": "700", "stat": "anon 1\ninactive_file 200\n"}
    paths = tuple(str(_file(tmp_path, name, text.encode())) for name, text in files.items())
    monkeypatch.setattr(memory, "_GROUPS", (paths,))
    assert memory.free_memory() == 500
    (tmp_path / "limit").write_text("max\n")
    assert memory.free_memory() != 500


def test_a_truncated_parquet_file_is_named(tmp_path: Path):
    path = tmp_path / "events.parquet"
    pl.DataFrame({"x": range(1000)}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SchemaError, match=r"events\.parquet cannot be read: .* it looks truncated"):
        read_table(path, what="events")


def test_the_damaged_column_of_a_parquet_file_is_named(tmp_path: Path):
    path = tmp_path / "events.parquet"
    frame = pl.DataFrame({"good": range(5000), "bad": [f"text {number * 7919 % 5000}" for number in range(5000)]})
    frame.write_parquet(path, compression="zstd")
    data = bytearray(path.read_bytes())
    start = len(data) * 2 // 3  # among the texts, which come last and take most of the file
    data[start : start + 400] = bytes(400)
    path.write_bytes(bytes(data))
    with pytest.raises(SchemaError, match=r"its columns 'bad' are damaged .* the others are not") as caught:
        read_table(path, what="events")
    code = caught.value.remedy.partition("pass ")[2]
    assert eval(code, {"polars": pl}).columns == ["good"]


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
        ({"a": [1, "x"]}, "column 'a' of the events: row 1 .* is the str 'x', while row 0 is the int 1"),
        ({"a": [None, 1.5, 2, b"x"]}, "row 3 .* is the bytes b'x', while row 1 is the float 1.5"),
        ({"a": [True, 2]}, "row 1 .* is the int 2, while row 0 is the bool True"),
        ({"a": np.array(["x", 3], dtype=object)}, "row 1 .* is the int 3, while row 0 is the str 'x'"),
        ({"a": ["x", "\ud800"]}, "row 1"),
        ({"a": [object()]}, "row 0 .* is the object"),
        (pd.DataFrame({"b": [1, 2], "a": ["x", 3]}), "column 'a' .* row 1 .* is the int 3"),
        (pl.LazyFrame({"a": [1]}).select("b"), "the events LazyFrame cannot be read"),
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


def test_the_remedy_for_mixed_types_reads_the_column():
    frame = pd.DataFrame({"a": [1, "x", None]})
    with pytest.raises(SchemaError) as caught:
        read_table(frame, what="events")
    exec(caught.value.remedy.partition(" makes")[0], {"frame": frame})  # the line is there to be pasted
    assert read_table(frame, what="events")["a"].to_list() == ["1", "x", None]


def test_errors_are_of_one_family(tmp_path: Path):
    with pytest.raises(PeftrecError):
        read_table(tmp_path / "none.parquet", what="events")
