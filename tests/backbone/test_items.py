import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.backbone import Backbone, ItemTable
from peftrec.backbone.arithmetic import Precision
from peftrec.backbone.items import default_root
from peftrec.errors import ItemTableError

TEXTS = ["tea", "red socks", "kettle pot", "milk", "", "bread and milk", "red kettle", "blue box"]
NEW = ["green tea", "large paper box"]

# A writer in a process of its own: encodes "tea 0", "tea 1", … and counts what it encoded itself.
WRITER = """
import sys, time
from peftrec.backbone import Backbone, ItemTable

folder, root, count, rows, pause = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
backbone, encode, seen = Backbone.load(folder), Backbone.encode, []

def counted(self, texts, **options):
    seen.extend(texts)
    time.sleep(pause)
    return encode(self, texts, **options)

Backbone.encode = counted
print("ready", flush=True)
sys.stdin.readline()
texts = [f"tea {number}" for number in range(int(count))]
vectors = ItemTable(backbone, root, segment_rows=int(rows)).vectors(texts, progress=False)
print(len(seen), vectors.shape[0], float(vectors.sum()), flush=True)
"""


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that reaches the encoder from here on."""
    seen: list[str] = []
    encode = Backbone.encode

    def counted(self: Backbone, texts: list[str], **options) -> NDArray[np.float32]:
        seen.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(Backbone, "encode", counted)
    return seen


@pytest.fixture
def writer(tiny_bert_folder: Path, tmp_path: Path):
    """Starts writers that wait at the line; ends those still running afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(*, count: int, rows: int, pause: float = 0.0) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-c",
            WRITER,
            str(tiny_bert_folder),
            str(tmp_path),
            str(count),
            str(rows),
            str(pause),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Inode and content of every file of every segment."""
    return {path: (path.stat().st_ino, path.read_bytes()) for path in folder.glob("seg-*/*")}


def test_vectors_are_those_of_the_encoder(tiny_backbone: Backbone, tmp_path: Path):
    table = ItemTable(tiny_backbone, tmp_path, precision="fp32", segment_rows=3)
    texts = [*TEXTS, *TEXTS[::-1]]
    vectors = table.vectors(texts)
    exact = tiny_backbone.encode(texts, precision="fp32")
    assert vectors.dtype == np.float32
    cosine = (vectors * exact).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.9998
    assert len(table) == len(TEXTS)
    assert len(list(table.folder.glob("seg-*"))) == 3


def test_precisions_keep_to_themselves(tiny_backbone: Backbone, tmp_path: Path):
    tables = [ItemTable(tiny_backbone, tmp_path, precision=precision) for precision in get_args(Precision)]
    assert len({table.folder for table in tables}) == len(tables)
    assert ItemTable(tiny_backbone, tmp_path).folder in {table.folder for table in tables}


def test_a_second_run_encodes_nothing(tiny_backbone: Backbone, tmp_path: Path, encoded: list[str]):
    first = ItemTable(tiny_backbone, tmp_path).vectors(TEXTS * 2)
    assert sorted(encoded) == sorted(TEXTS)
    encoded.clear()
    assert (ItemTable(tiny_backbone, tmp_path).vectors(TEXTS * 2) == first).all()
    assert encoded == []


def test_new_texts_add_segments_and_touch_no_old_one(tiny_backbone: Backbone, tmp_path: Path, encoded: list[str]):
    table = ItemTable(tiny_backbone, tmp_path)
    first = table.vectors(TEXTS)
    before = contents(table.folder)
    encoded.clear()
    both = table.vectors([*NEW, *TEXTS])
    assert sorted(encoded) == sorted(NEW)
    assert (both[2:] == first).all()
    after = contents(table.folder)
    assert {path: after[path] for path in before} == before
    assert len(after) == 2 * len(before)


def test_another_backbone_has_another_table(tiny_bert: Callable[..., Path], tmp_path: Path):
    tables = [ItemTable(Backbone.load(tiny_bert(seed=seed)), tmp_path) for seed in (0, 1, 0)]
    vectors = [table.vectors(["tea"]) for table in tables]
    assert tables[0].folder == tables[2].folder != tables[1].folder
    assert (vectors[0] == vectors[2]).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1


def test_no_texts(tiny_backbone: Backbone, tmp_path: Path):
    table = ItemTable(tiny_backbone, tmp_path)
    assert table.vectors([]).shape == (0, 64)
    assert len(table) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["keys.npy", "vectors.npy", "steps.npy", "segment.json"])
def test_a_damaged_segment_is_encoded_again(tiny_backbone: Backbone, tmp_path: Path, file: str, encoded: list[str]):
    table = ItemTable(tiny_backbone, tmp_path, segment_rows=4)
    first = table.vectors(TEXTS)
    damaged = next(table.folder.glob("seg-*")) / file
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x07")
    encoded.clear()
    fresh = ItemTable(tiny_backbone, tmp_path, segment_rows=4)
    np.testing.assert_allclose(fresh.vectors(TEXTS), first, atol=1e-5)
    assert len(encoded) == 4  # the texts of that segment alone
    assert len(list(table.folder.glob("bad-*"))) == 1


def test_a_segment_that_goes_while_a_table_is_open_is_encoded_again(tiny_backbone: Backbone, tmp_path: Path):
    table = ItemTable(tiny_backbone, tmp_path, segment_rows=4)
    first = table.vectors(TEXTS)
    next(table.folder.glob("seg-*")).rename(tmp_path / "elsewhere")
    np.testing.assert_allclose(table.vectors(TEXTS), first, atol=1e-5)


def test_a_disk_that_spoils_everything_ends_in_an_error(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("peftrec.backbone.segments.Segment.intact", lambda segment: False)
    with pytest.raises(ItemTableError, match="loses what is written"):
        ItemTable(tiny_backbone, tmp_path).vectors(TEXTS)


def test_a_read_only_table_still_serves_what_it_holds(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = ItemTable(tiny_backbone, tmp_path).vectors(TEXTS)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("mkdir", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    table = ItemTable(tiny_backbone, tmp_path)
    assert (table.vectors(TEXTS) == first).all()
    with pytest.raises(ItemTableError, match="Permission denied") as caught:
        table.vectors(NEW)
    assert "PEFTREC_CACHE" in caught.value.remedy


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_write_permission_is_named(tiny_backbone: Backbone, tmp_path: Path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ItemTableError, match="Permission denied"):
            ItemTable(tiny_backbone, tmp_path).vectors(TEXTS)
    finally:
        tmp_path.chmod(0o700)


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PEFTREC_CACHE", str(tmp_path))
    assert default_root() == tmp_path / "items"
    monkeypatch.delenv("PEFTREC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "peftrec" / "items"


def test_two_writers_share_the_work(tiny_backbone: Backbone, tmp_path: Path, writer):
    first, second = writer(count=200, rows=20, pause=0.05), writer(count=200, rows=20, pause=0.05)
    go(first, second)
    answers = [process.communicate(timeout=60)[0].split() for process in (first, second)]
    encoded = [int(answer[0]) for answer in answers]
    assert sum(encoded) == 200  # nothing twice
    assert min(encoded) > 0  # and both took part
    assert answers[0][1:] == answers[1][1:]
    assert answers[0][1] == "200"
    assert len(ItemTable(tiny_backbone, tmp_path)) == 200


def test_a_killed_writer_costs_one_segment(tiny_backbone: Backbone, tmp_path: Path, writer, encoded: list[str]):
    process = writer(count=400, rows=20, pause=0.1)
    go(process)
    table = ItemTable(tiny_backbone, tmp_path)
    deadline = time.monotonic() + 60
    while len(list(table.folder.glob("seg-*"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = len(table)
    assert 60 <= kept < 400
    assert kept % 20 == 0
    texts = [f"tea {number}" for number in range(400)]
    vectors = table.vectors(texts)  # does not wait for the dead one's lock
    assert len(encoded) == 400 - kept
    whole = ItemTable(tiny_backbone, tmp_path / "whole").vectors(texts)
    np.testing.assert_allclose(vectors, whole, atol=0.02)
