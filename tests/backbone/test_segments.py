import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.backbone import segments
from peftrec.errors import ItemTableError

TEXTS = ["tea", "kettle", "", "красный чайник 🍵", "a" * 100_000]


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    scales = np.array([1e-3, 1, 1e3, 1, 0], dtype=np.float32)
    return np.random.default_rng(0).normal(size=(len(TEXTS), 32)).astype(np.float32) * scales[:, None]


def opened(table: Path, name: str) -> segments.Segment:
    segment = segments.open_segment(table, name)
    assert segment is not None
    return segment


def test_keys_are_those_of_blake2b_and_differ_for_every_text():
    keys = segments.text_keys(["tea", *TEXTS])
    assert keys[0] == keys[1] == bytes.fromhex("833ede412aad05219a1b924c1fe8a5cd")
    assert len(set(keys.tolist())) == len(TEXTS)


def test_keys_that_end_in_zero_bytes_stay_apart(tmp_path: Path):
    raw = b"\x01" * 15 + b"\x00" + b"\x01" * 14 + b"\x00\x00" + b"\x00" * 16
    keys = np.frombuffer(raw, dtype="S16")
    segment = opened(tmp_path, segments.write_segment(tmp_path, keys, np.eye(3, 4, dtype=np.float32)))
    assert segment.keys.tolist() == sorted(keys.tolist())
    assert len(np.unique(segment.keys)) == 3


def test_what_is_written_is_read_back_in_the_order_of_the_keys(tmp_path: Path, vectors: NDArray[np.float32]):
    keys = segments.text_keys(TEXTS)
    name = segments.write_segment(tmp_path, keys, vectors)
    assert segments.names(tmp_path) == [name]
    segment = opened(tmp_path, name)
    assert segment.intact()
    order = np.argsort(keys)
    assert (segment.keys == keys[order]).all()
    np.testing.assert_allclose(segment.read(np.arange(5)), vectors[order], atol=np.abs(vectors).max() / 254 * 1.01)
    assert (segment.read(np.flatnonzero(order == 4)) == 0).all()  # a vector of zeros stays one


def test_rounding_keeps_the_direction_and_a_quarter_of_the_bytes(vectors: NDArray[np.float32]):
    rows, steps = segments.quantise(vectors[:4])
    back = rows * steps
    cosine = (back * vectors[:4]).sum(1) / np.linalg.norm(back, axis=1) / np.linalg.norm(vectors[:4], axis=1)
    assert cosine.min() > 0.9998
    assert (np.abs(back - vectors[:4]) <= steps * 0.5001).all()
    assert rows.nbytes * 4 == vectors[:4].nbytes


def damage_keys(segment: Path) -> None:
    with (segment / "keys.npy").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))


def damage_size(segment: Path) -> None:
    os.truncate(segment / "vectors.npy", 100)


def damage_facts(segment: Path) -> None:
    (segment / "segment.json").write_text("{}")


def damage_json(segment: Path) -> None:
    (segment / "segment.json").write_bytes(b"\xff\x00")


def damage_presence(segment: Path) -> None:
    (segment / "steps.npy").unlink()


@pytest.mark.parametrize("damage", [damage_keys, damage_size, damage_facts, damage_json, damage_presence])
def test_a_damaged_segment_is_set_aside(tmp_path: Path, vectors: NDArray[np.float32], damage, caplog):
    name = segments.write_segment(tmp_path, segments.text_keys(TEXTS), vectors)
    damage(tmp_path / name)
    assert segments.open_segment(tmp_path, name) is None
    assert segments.names(tmp_path) == []
    assert len(list(tmp_path.glob("bad-*"))) == 1  # kept for whoever wants to know why
    assert "will be encoded anew" in caplog.text


@pytest.mark.parametrize("file", ["vectors.npy", "steps.npy"])
def test_one_flipped_bit_is_found_before_it_is_used(tmp_path: Path, vectors: NDArray[np.float32], file: str):
    name = segments.write_segment(tmp_path, segments.text_keys(TEXTS), vectors)
    content = bytearray((tmp_path / name / file).read_bytes())
    content[-5] ^= 4
    (tmp_path / name / file).write_bytes(content)
    segment = opened(tmp_path, name)
    assert not segment.intact()
    assert segments.names(tmp_path) == []


def test_the_facts_can_be_read_by_a_person(tmp_path: Path, vectors: NDArray[np.float32]):
    name = segments.write_segment(tmp_path, segments.text_keys(TEXTS), vectors)
    facts = json.loads((tmp_path / name / "segment.json").read_text())
    assert (facts["rows"], facts["hidden"]) == (5, 32)
    assert set(facts["files"]) == {"keys.npy", "vectors.npy", "steps.npy"}
    assert facts["files"]["vectors.npy"]["bytes"] == (tmp_path / name / "vectors.npy").stat().st_size


def test_what_a_killed_writer_left_is_invisible_and_swept_after_an_hour(tmp_path: Path):
    old, young = tmp_path / "tmp-old", tmp_path / "tmp-young"
    for scratch in (old, young):
        scratch.mkdir()
        (scratch / "keys.npy").write_bytes(b"half")
    os.utime(old, times=(time.time() - 7200,) * 2)
    segments.prepare(tmp_path)
    assert segments.names(tmp_path) == []
    assert not old.exists()
    assert young.exists()


def test_a_table_that_is_not_there_is_empty(tmp_path: Path):
    assert segments.names(tmp_path / "nowhere") == []


def test_a_file_in_the_way_is_named(tmp_path: Path, vectors: NDArray[np.float32]):
    (tmp_path / "table").write_text("")
    for attempt in (
        lambda table: segments.names(table),
        lambda table: segments.prepare(table),
        lambda table: segments.write_segment(table, segments.text_keys(TEXTS), vectors),
    ):
        with pytest.raises(ItemTableError, match="table") as caught:
            attempt(tmp_path / "table")
        assert "PEFTREC_CACHE" in caught.value.remedy


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ItemTableError, match="No space left"):
        segments.write_segment(tmp_path, segments.text_keys(TEXTS), vectors)
    assert list(tmp_path.iterdir()) == []
