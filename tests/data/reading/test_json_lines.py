"""JSON lines: only what is asked for, mixed types, and the line named that cannot be read."""

import gzip
import json
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.data.reading import json_lines
from peftrec.data.reading.json_lines import Fields, read_json_lines
from peftrec.errors import SchemaError

FIELDS: Fields = {"id": pl.String(), "texts": pl.List(pl.String()), "number": pl.Float64(), "yes": pl.Boolean()}


def written(folder: Path, text: str | bytes, name: str = "lines.json") -> Path:
    path, data = folder / name, text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def test_fields_that_are_not_asked_for_are_passed_over(tmp_path: Path):
    text = '{"id": "a", "long": "x", "texts": ["p", null], "number": 1}\n\n{"yes": true, "other": {"id": 2}}\n'
    expected = [("a", ["p", None], 1.0, None), (None, None, None, True)]
    for name in ("lines.json", "lines.json.gz"):
        assert read_json_lines(written(tmp_path, text, name), FIELDS).rows() == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": 12.5, "texts": "one"}', ("12.5", ["one"], None, None)),
        ('{"id": [1, "é"], "texts": [1, [2]]}', ('[1, "é"]', ["1", "[2]"], None, None)),
        ('{"texts": [], "number": " 1e3 "}', (None, [], 1000.0, None)),
        ('{"number": NaN}', (None, None, None, None)),
        ("{'id': 'O\\'Brien', 'texts': ['C:\\d'], 'number': 3, 'yes': True}", ("O'Brien", ["C:\\d"], 3.0, True)),
        ('\ufeff{"id": "after a byte order mark"}', ("after a byte order mark", None, None, None)),
        (r'{"id": "half a pair \ud83d", "number": "1"}', ("half a pair ?", None, 1.0, None)),
    ],
)
def test_values_are_brought_to_the_type_asked_for(tmp_path: Path, line: str, expected: tuple[object, ...]):
    plain = '{"id": "a", "texts": ["b"], "number": 1, "yes": false}'
    rows = read_json_lines(written(tmp_path, f"{line}\n{plain}\n"), FIELDS).rows()
    assert rows == [expected, ("a", ["b"], 1.0, False)]


def test_structs_of_which_a_part_is_asked_for(tmp_path: Path):
    fields: Fields = {"images": pl.List(pl.Struct({"large": pl.String()})), "id": pl.String()}
    text = '{"images": [{"large": "a", "thumb": "b"}, {}]}\n{"images": {"large": 1}}\n'
    frame = read_json_lines(written(tmp_path, text), fields)
    assert frame["images"].to_list() == [[{"large": "a"}, {"large": None}], [{"large": "1"}]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "b", "texts": ["cut', "it is no JSON"),
        ('{"id": "b"} {"id": "c"}', "it is no JSON"),
        ('["id", "b"]', "it is no object"),
        ('{"id": null, "number": 1}', "it has no 'id'"),
        ('{"id": "b", "number": "1 EUR"}', "its 'number' is '1 EUR'"),
        ('{"id": "b", "number": 1e999}', "its 'number' is infinite"),
        ('{"id": "b", "number": true}', "its 'number' is True"),
        ('{"id": "b", "yes": "maybe"}', "its 'yes' is 'maybe'"),
        (b'{"id": "\xff"}', "'utf-8' codec can't decode byte 0xff"),
    ],
)
@pytest.mark.parametrize("name", ["lines.json", "lines.json.gz"])
def test_a_broken_line_is_named(tmp_path: Path, name: str, line: str | bytes, reason: str):
    line = line.encode() if isinstance(line, str) else line
    path = written(tmp_path, b'{"id": "a"}\n\n' + line + b'\n{"id": "c"}\n', name)
    with pytest.raises(SchemaError) as caught:
        read_json_lines(path, FIELDS, key="id")
    found = caught.value.found
    assert found.startswith(f"line 3 of {path} (counting from 1) cannot be read, {reason}")
    assert repr(line.decode("utf-8", "replace")) in found


def test_lines_are_counted_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_lines, "BLOCK", 64)
    lines = [json.dumps({"id": str(row), "texts": "x" * row, "number": row}) for row in range(40)]
    path = written(tmp_path, "\n".join(lines))
    assert read_json_lines(path, FIELDS)["id"].to_list() == [str(row) for row in range(40)]
    lines[33] = lines[33][:-5]
    with pytest.raises(SchemaError, match="line 34 of"):
        read_json_lines(written(tmp_path, "\n".join(lines)), FIELDS)


texts = st.text(max_size=5)
values = st.none() | st.booleans() | st.integers(-9, 9) | texts


@given(st.lists(st.fixed_dictionaries({"id": values, "texts": values | st.lists(st.none() | texts, max_size=3)})))
def test_no_value_is_lost_whatever_its_type(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str | list[str] | None]]
):
    def text(value: object) -> object:
        return value if value is None or isinstance(value, str) else json.dumps(value)

    path = written(tmp_path_factory.mktemp("lines"), "".join(f"{json.dumps(row)}\n" for row in rows))
    frame = read_json_lines(path, {"id": pl.String(), "texts": pl.List(pl.String())})
    assert frame["id"].to_list() == [text(row["id"]) for row in rows]
    expected = [[value] if isinstance(value, (str, int)) else value for value in (row["texts"] for row in rows)]
    assert frame["texts"].to_list() == [value and [text(one) for one in value] for value in expected]


def test_a_file_that_is_cut_or_not_what_its_name_says(tmp_path: Path):
    whole = gzip.compress(b'{"id": "a"}\n' * 1000)
    for name, data in {"cut.json.gz": whole[:-20], "plain.json.gz": b'{"id": "a"}\n'}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SchemaError, match=f"{re.escape(name)} cannot be read"):
            read_json_lines(tmp_path / name, FIELDS)
    with pytest.raises(SchemaError, match=r"gone\.json cannot be read"):
        read_json_lines(tmp_path / "gone.json", FIELDS)
    assert read_json_lines(written(tmp_path, ""), FIELDS).schema == pl.Schema(FIELDS)
