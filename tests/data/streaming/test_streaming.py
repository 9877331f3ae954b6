"""Logs that are streamed into shards: the same rows, counts, digest, statistics and features as in memory."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from filelock import FileLock

from peftrec.data import CleaningRules, Coupons, Dataset
from peftrec.data.collaborative import collaborative
from peftrec.data.features import pair_features
from peftrec.data.histories import EVENT_ARRAYS, Histories, Ragged
from peftrec.data.pairs import pairs_of
from peftrec.data.snapshot import Snapshot
from peftrec.data.streaming.sharded import ShardedDataset
from peftrec.data.streaming.spool import Spool
from peftrec.data.streaming.stream import stream_events
from peftrec.data.tokens import history_tokens
from peftrec.errors import ConfigError, DataError, InvalidValueError, NotEnoughDataError, SchemaError

RULES = CleaningRules(duplicate_event=True, exported_at="2017-09-20")


@dataclass(frozen=True)
class Shop:
    """The tables of a small shop in which all that can be wrong is wrong somewhere."""

    events: pl.DataFrame
    catalog: pl.DataFrame
    profiles: pl.DataFrame
    promotions: pl.DataFrame
    coupons: Coupons

    def build(self, rules: CleaningRules = RULES) -> Dataset:
        return Dataset.build(name="shop", events=self.events, rules=rules, **self._others())

    def stream(
        self, folder: Path, *, rules: CleaningRules = RULES, suffix: str = ".parquet", **options
    ) -> ShardedDataset:
        source = folder.with_name(f"{folder.name}-source{suffix}")
        self.events.write_csv(source) if suffix == ".csv" else self.events.write_parquet(source)
        others = self._others()
        return stream_events(
            source, others.pop("catalog"), folder=folder, rules=rules, name="shop", progress=False, **others, **options
        )

    def _others(self) -> dict:
        tables = ("catalog", "profiles", "promotions", "coupons")
        return {name: getattr(self, name) for name in tables}


@pytest.fixture(scope="module")
def shop() -> Shop:
    rng, rows, users = np.random.default_rng(5), 3000, 50
    seconds = 1_490_000_000 + np.sort(rng.random(rows)) * 86_400 * 200
    moments = pl.Series((seconds * 1e6).astype(np.int64)).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S")
    moments = moments.set(pl.Series(rng.random(rows) < 0.02), "soon").set(pl.Series(rng.random(rows) < 0.02), "")
    shoppers = pl.Series([f"u{number}" for number in rng.integers(0, users, rows)])
    events = pl.DataFrame(
        {
            "user_id": shoppers.set(pl.Series(rng.random(rows) < 0.03), None),
            "item_id": [f"p{number}" for number in (rng.random(rows) ** 2 * 42).astype(int)],
            "timestamp": moments,
            "event": pl.Series(rng.choice(["purchase", "view", "cart", "oops"], rows, p=[0.6, 0.3, 0.09, 0.01])).set(
                shoppers.str.contains(r"^u\d$"),
                "purchase",  # some only buy
            ),
            "quantity": rng.choice([1, 2, -1, 0], rows, p=[0.8, 0.1, 0.07, 0.03]),
            "price": np.round(rng.random(rows) * 10, 2),
            "discount": rng.choice([0, 0.1, 2], rows, p=[0.8, 0.19, 0.01]),
            "channel": [f"store {number}" for number in rng.integers(0, 30, rows)],
            "session_id": [f"v{number}" for number in rng.integers(0, 30, rows)],
            "colour": rng.choice(["red", "blue"], rows),
        }
    )
    titles = [f"<b>tea</b> {number // 2} g of leaves" for number in range(39)]
    ids = [f"p{number}" for number in range(40)]
    prices, categories = rng.random(40) * 9, [f"c{number // 2 % 5}" for number in range(40)]
    return Shop(
        events=pl.concat([events, events.head(40)]),
        catalog=pl.DataFrame({"item_id": ids, "title": [*titles, ""], "category": categories, "price": prices}),
        profiles=pl.DataFrame({"user_id": [f"u{number}" for number in range(80)], "age": ["young", "old"] * 40}),
        promotions=pl.DataFrame({"item_id": ["p1", "zz"], "start": ["2017-05-01"] * 2, "end": ["2017-09-09"] * 2}),
        coupons=Coupons.from_tables(
            {"campaign_id": ["a", "a"], "item_id": ["p3", "zz"]},
            {
                "campaign_id": ["a", "a"],
                "user_id": ["u1", "u2"],
                "start": ["2017-05-01"] * 2,
                "end": ["2017-09-09"] * 2,
            },
        ),
    )


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every log of these tests takes several batches, blocks of products and windows of time."""
    monkeypatch.setattr("peftrec.data.streaming.batches.BATCH_ROWS", 400)
    monkeypatch.setattr("peftrec.data.streaming.spool.BATCH_ROWS", 400)
    monkeypatch.setattr("peftrec.data.streaming.snapshot.BLOCK_ROWS", 200)
    monkeypatch.setattr("peftrec.data.streaming.digest.WINDOW_ROWS", 300)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".parquet" not in path.name and ".csv" not in path.name)


@pytest.mark.parametrize("shards", [1, 2, 7, 100])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_same_rows_are_kept_and_counted(shop: Shop, tmp_path: Path, shards: int, suffix: str):
    whole, streamed = shop.build(), shop.stream(tmp_path / "log", shards=shards, suffix=suffix)
    assert streamed.report == whole.report
    assert sum(count.rows > 0 for count in streamed.report.counts) > 12  # else this shop is too clean a test
    events = pl.concat([shard.events.frame for shard in streamed.shards()])
    assert events.sort(events.columns).equals(whole.events.frame.sort(events.columns))
    assert streamed.digest == whole.digest
    assert (len(streamed), streamed.start, streamed.end) == (len(whole.events), whole.start, whole.end)
    assert streamed.shoppers == whole.events.frame["user_id"].n_unique()
    assert leftovers(tmp_path) == ["log"]


@pytest.mark.parametrize(
    "rules",
    [
        CleaningRules(),
        replace(RULES, near_duplicate="merge", zero_price=True, price_unit=False),
        replace(RULES, timezone="Europe/London", outlier_user=False, cancelled=False, non_product_ids="p7"),
    ],
    ids=["default", "merged products", "local time"],
)
def test_whatever_the_rules(shop: Shop, tmp_path: Path, rules: CleaningRules):
    whole, streamed = shop.build(rules), shop.stream(tmp_path / "log", rules=rules, shards=3)
    assert streamed.report == whole.report
    assert streamed.digest == whole.digest


def test_each_shopper_is_in_one_shard_and_in_order(shop: Shop, tmp_path: Path):
    whole, seen = shop.build(), list[str]()
    for shard in shop.stream(tmp_path / "log", shards=5).shards():
        mine = shard.events.frame["user_id"].unique()
        expected = whole.events.frame.filter(pl.col("user_id").is_in(mine.implode()))
        assert shard.events.frame.equals(expected)  # rows of one moment as they came
        seen += shard.users.to_list()
    assert sorted(seen) == whole.users.to_list()  # those with a profile alone included


def equal(found: Snapshot, expected: Snapshot) -> None:
    assert np.array_equal(found.popular, expected.popular)
    for name in ("items", "buyers", "groups", "group_buyers"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-6, err_msg=name)
    pairs = [(found.channel_share, expected.channel_share), (found.panel.affinity, expected.panel.affinity)]
    pairs += [(found.panel.frequency, expected.panel.frequency), (found.panel.recent, expected.panel.recent)]
    for one, other in pairs:
        np.testing.assert_allclose(one.todense(), other.todense(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.panel.scale, expected.panel.scale, rtol=1e-5)
    alike, same = (one.panel.factors @ one.panel.factors.T for one in (found, expected))  # whatever their signs
    np.testing.assert_allclose(alike, same, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shards", [1, 3, 60])
def test_statistics_are_those_of_the_whole(shop: Shop, tmp_path: Path, shards: int, monkeypatch: pytest.MonkeyPatch):
    for module in ("panel", "streaming.snapshot"):
        monkeypatch.setattr(f"peftrec.data.{module}.PANEL_LIMIT", 30)  # below the number of shoppers
    whole, streamed = shop.build(), shop.stream(tmp_path / "log", shards=shards)
    for moment in (whole.end.timestamp() + 1, whole.end.timestamp() - 90 * 86_400, whole.start.timestamp()):
        equal(streamed.snapshot(moment), Snapshot.at(whole, moment))


def numbers(dataset: Dataset, users: np.ndarray, snapshot: Snapshot) -> tuple[Histories, np.ndarray, np.ndarray]:
    """Histories, words and features of some shoppers for all products."""
    histories = Histories.of(dataset, users, moment=snapshot.moment)
    every = Ragged.grid(np.tile(np.arange(snapshot.n_items, dtype=np.int32), (len(users), 1)))
    pairs = pairs_of(histories, snapshot.n_items)
    neighbours, together = (dense.ravel() for dense in collaborative(pairs, snapshot))
    features = pair_features(histories, every, snapshot, pairs=pairs, neighbours=neighbours, together=together)
    return histories, features, history_tokens(histories, pairs, snapshot, limit=20).features


def test_histories_and_features_come_out_the_same(shop: Shop, tmp_path: Path):
    whole, streamed = shop.build(), shop.stream(tmp_path / "log", shards=4)
    moment = whole.end.timestamp() - 20 * 86_400
    reference, snapshot = Snapshot.at(whole, moment), streamed.snapshot(moment)
    for shard in streamed.shards():
        known = np.flatnonzero(np.isin(whole.users.to_list(), shard.users.to_list()))
        expected, features, words = numbers(whole, known, reference)
        found, same_features, same_words = numbers(shard, np.arange(len(shard.users)), snapshot)
        for name in (*EVENT_ARRAYS, "offsets", "channel"):
            if name != "session":  # codes of visits count within a shard
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        np.testing.assert_allclose(same_features, features, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(same_words, words, rtol=1e-4, atol=1e-5)


def test_a_finished_folder_opens_again(shop: Shop, tmp_path: Path):
    streamed = shop.stream(tmp_path / "log", shards=3)
    again = ShardedDataset.open(str(tmp_path / "log"))
    assert (repr(again), again.report, again.digest) == (repr(streamed), streamed.report, streamed.digest)
    assert again.promotions is not None
    assert again.promotions.frame["item_id"].to_list() == ["p1"]


def test_files_are_read_in_order_and_rows_numbered_through(shop: Shop, tmp_path: Path):
    folder = tmp_path / "export"
    folder.mkdir()
    for number, start in enumerate(range(0, len(shop.events), 500)):
        shop.events.slice(start, 500).write_csv(folder / f"{number:02d}.csv")
    (folder / "README.txt").write_text("not a table", encoding="utf-8")
    expected = Dataset.build(name="log", catalog=shop.catalog, events=shop.events, rules=RULES).report
    forms = [folder, str(folder / "*.csv"), sorted(folder.glob("*.csv"))]
    for number, files in enumerate(forms):
        target = tmp_path / str(number) / "log"
        found = stream_events(files, shop.catalog, folder=target, rules=RULES, shards=2, progress=False)
        assert found.report == expected


def test_one_shard_holds_about_a_million_rows(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peftrec.data.streaming.stream.SHARD_ROWS", 1000)
    assert len(shop.stream(tmp_path / "log").manifest.shards) == -(-len(shop.events) // 1000)


def test_rows_without_a_shopper_do_not_fill_one_shard(tmp_path: Path):
    spool = Spool(tmp_path, 4)
    nobody = pl.DataFrame({"user_id": [None, " "] * 400, "__row": range(800)}, schema_overrides={"__row": pl.UInt64})
    spool.add(nobody, source=tmp_path)
    spool.flush()
    assert [len(spool.shard(number)) for number in range(4)] == [200] * 4


def streaming(shop: Shop, folder: Path, events: pl.DataFrame, **options) -> ShardedDataset:
    events.write_csv(folder / "events.csv")
    return stream_events(
        folder / "events.csv", shop.catalog, folder=folder / "log", rules=RULES, shards=2, progress=False, **options
    )


WRONG: list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame], type[DataError], str]] = [
    ("no column", lambda events: events.drop("user_id"), SchemaError, "events.csv.*user_id"),
    (
        "no number",
        lambda events: events.with_columns(pl.lit("many").alias("quantity")),
        SchemaError,
        "row 0 .counting from 0",
    ),
    ("all bad", lambda events: events.with_columns(pl.lit("x").alias("item_id")), NotEnoughDataError, "unknown_item"),
    ("no rows", lambda events: events.clear(), NotEnoughDataError, "no rows"),
    (
        "only an order",
        lambda events: events.drop("timestamp").with_row_index("position"),
        SchemaError,
        "order a shopper's events came, not when",
    ),
    (
        "another currency in a later batch",
        lambda events: events.with_columns(
            pl.when(pl.int_range(pl.len()) < 2000).then(pl.lit("£1.50")).otherwise(pl.lit("2 €")).alias("price")
        ),
        InvalidValueError,
        "2 currencies: EUR, GBP",
    ),
]


@pytest.mark.parametrize(("spoil", "error", "told"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_told_and_nothing_stays_behind(
    shop: Shop, tmp_path: Path, spoil: Callable[[pl.DataFrame], pl.DataFrame], error: type[DataError], told: str
):
    with pytest.raises(error, match=told):
        streaming(shop, tmp_path, spoil(shop.events))
    assert leftovers(tmp_path) == []


def test_a_bad_number_is_named_by_its_row_in_all_files(shop: Shop, tmp_path: Path):
    prices = shop.events["price"].cast(pl.String).set(pl.int_range(len(shop.events), eager=True) == 2345, "inf")
    with pytest.raises(InvalidValueError, match="infinite") as caught:
        streaming(shop, tmp_path, shop.events.with_columns(prices))
    batch = int(caught.value.found.split("counted from row ")[1].split(" ")[0].replace(",", ""))
    row = int(caught.value.found.split("row ")[1].split(" ")[0])
    assert batch > 0
    assert batch + row == 2345


def test_a_rule_that_is_off_refuses_rows_that_cannot_be_kept(shop: Shop, tmp_path: Path):
    with pytest.raises(InvalidValueError, match="unknown event"):
        shop.stream(tmp_path / "log", rules=replace(RULES, unknown_event=False), shards=3)


def test_files_must_have_the_same_columns(shop: Shop, tmp_path: Path):
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    shop.events.write_parquet(paths[0])
    shop.events.with_columns(pl.lit(1).alias("colour")).write_parquet(paths[1])
    with pytest.raises(SchemaError, match=r"b\.parquet.*'colour' is Int32 instead of String"):
        stream_events(paths, shop.catalog, folder=tmp_path / "log", rules=RULES, progress=False)
    with pytest.raises(SchemaError, match="no event files"):
        stream_events(str(tmp_path / "*.csv"), shop.catalog, folder=tmp_path / "log", progress=False)
    with pytest.raises(SchemaError, match="DataFrame are no files") as caught:
        stream_events(shop.events, shop.catalog, folder=tmp_path / "log", progress=False)  # pyright: ignore
    assert "Dataset.build" in caught.value.remedy


def test_an_unreadable_batch_leaves_nothing(shop: Shop, tmp_path: Path):
    path = tmp_path / "events.parquet"
    shop.events.write_parquet(path, row_group_size=500)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(byte ^ 255 for byte in content[middle : middle + 2000])
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"events\.parquet cannot be read"):
        stream_events(path, shop.catalog, folder=tmp_path / "log", rules=RULES, progress=False)
    assert leftovers(tmp_path) == []


def test_a_file_that_changes_meanwhile_is_refused(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    add = Spool.add

    def touching(spool: Spool, frame: pl.DataFrame, *, source: Path) -> None:
        os.utime(source, (1, 1))
        add(spool, frame, source=source)

    monkeypatch.setattr(Spool, "add", touching)
    with pytest.raises(InvalidValueError, match="changed while it was read"):
        streaming(shop, tmp_path, shop.events)
    assert leftovers(tmp_path) == []


def test_a_taken_folder_is_left_alone(shop: Shop, tmp_path: Path):
    (tmp_path / "log").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        streaming(shop, tmp_path, shop.events)
    (tmp_path / "log").rmdir()
    (tmp_path / ".log.partial").mkdir()
    with FileLock(tmp_path / ".log.partial" / "lock"), pytest.raises(ConfigError, match="another process"):
        streaming(shop, tmp_path, shop.events)
    with pytest.raises(ConfigError, match="shards=0"):
        shop.stream(tmp_path / "log", shards=0)


def child(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Streams ``folder / events.csv`` in another process, after ``code``."""
    script = (
        "import os, resource, signal, sys\nfrom pathlib import Path\nfrom peftrec.data.streaming import stream\n"
        f"folder = Path({str(folder)!r})\n{code}\n"
        "stream.stream_events(folder / 'events.csv', folder / 'catalog.csv', folder=folder / 'log', progress=False)\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_a_kill_leaves_nothing_that_looks_whole(shop: Shop, tmp_path: Path):
    shop.events.write_csv(tmp_path / "events.csv")
    shop.catalog.write_csv(tmp_path / "catalog.csv")
    kill = "stream.write_manifest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    assert child(kill, tmp_path).returncode == -signal.SIGKILL
    assert leftovers(tmp_path) == [".log.partial"]  # all shards are in there
    assert (tmp_path / ".log.partial" / "log" / "events-00000.parquet").exists()
    again = child("", tmp_path)
    assert again.returncode == 0, again.stderr
    assert leftovers(tmp_path) == ["log"]
    assert len(ShardedDataset.open(tmp_path / "log")) > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are a matter of Unix")
def test_a_full_disk_is_told(shop: Shop, tmp_path: Path):
    shop.events.write_csv(tmp_path / "events.csv")
    shop.catalog.write_csv(tmp_path / "catalog.csv")
    full = child("resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))", tmp_path)
    assert "DataWriteError" in full.stderr
    assert "log cannot be written" in full.stderr
    assert leftovers(tmp_path) == []


def spoilt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damage_is_found_before_it_is_used(shop: Shop, tmp_path: Path):
    folder = tmp_path / "log"
    streamed = shop.stream(folder, shards=2)
    spoilt(folder / "events-00001.parquet")
    with pytest.raises(SchemaError, match=r"events-00001\.parquet was changed"):
        list(streamed.shards())
    with pytest.raises(SchemaError, match=r"events-00001\.parquet was changed"):
        _ = streamed.digest
    (folder / "events-00000.parquet").unlink()
    with pytest.raises(SchemaError, match=r"events-00000\.parquet cannot be read"):
        list(streamed.shards())
    spoilt(folder / "catalog.parquet")
    with pytest.raises(SchemaError, match=r"catalog\.parquet was changed"):
        ShardedDataset.open(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace('"rows_in": 3040', '"rows_in": 3041'), "was changed"),
        (lambda text: text[:-20], "cannot be read"),
        (lambda text: "[]", "holds no object"),
        (lambda text: json.dumps(json.loads(text) | {"format": 2}), "has format 2"),
    ],
    ids=["edited", "cut", "list", "future"],
)
def test_the_manifest_is_read_strictly(shop: Shop, tmp_path: Path, change: Callable[[str], str], told: str):
    shop.stream(tmp_path / "log", shards=2)
    path = tmp_path / "log" / "shards.json"
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")
    with pytest.raises(SchemaError, match=told):
        ShardedDataset.open(tmp_path / "log")
    path.unlink()
    with pytest.raises(SchemaError, match="no folder of a finished stream"):
        ShardedDataset.open(tmp_path / "log")
