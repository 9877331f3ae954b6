"""Whether the registry can be trusted, and what it costs when it is large.

``kills``      A writer publishes, promotes, deletes and collects without end and tells of each thing done; ``kill -9`` ends it at
               a random moment. Afterwards everything that it told of must be there, whole, and the alias where it was put
               last, or where the change that was cut short would have put it.
``mutations``  One file of a version, its aliases, its history, its signatures or its archive is changed at random: bits
               flipped, cut off, tensors exchanged, hostile JSON, another version's file. Reading must refuse it with an error
               of peftrec's own, or give exactly what was there before.
``processes``  Many processes publish at once.
``sizes``      What publishing, opening by alias and the first page of ``peftrec registry list`` cost with 10, 1,000 and 10,000
               versions, of one adapter and of as many adapters. The list is the whole command, interpreter and all.

The adapter is a small one, two kilobytes: what is measured is the registry, not the disk. Ten minutes on two cores::

    python benchmarks/registry.py
"""

import argparse
import json
import multiprocessing
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from results import write
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from tqdm import tqdm

from peftrec.errors import PeftrecError
from peftrec.registry import Registry
from peftrec.registry.archive import read_archive, write_archive
from peftrec.registry.keys import generate_key
from peftrec.registry.signing import read_signatures

PARTS = ("kills", "mutations", "processes", "sizes")
NAME, ALIAS = "tea", "production"
DIGESTS = {"backbone": "a" * 64, "tokenizer": "b" * 64, "template": "c" * 64}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--each", type=int, default=50, help="versions that each process publishes")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10, 1_000, 10_000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "kills" in options.parts:
            rows += kills(folder / "kills", options.kills, random.Random(options.seed))
        if "mutations" in options.parts:
            rows += mutations(folder / "mutations", options.mutations, random.Random(options.seed))
        if "processes" in options.parts:
            rows += processes(folder / "processes", options.processes, options.each)
        if "sizes" in options.parts:
            rows += sizes(folder / "sizes", options.sizes)
    for row in rows:
        print(f"{row['slice']:40} {row['metric']:28} {row['value']:12,.3f} {row['unit']}")
    write("registry", rows, seed=options.seed)


@dataclass
class Small:
    """An adapter of two kilobytes."""

    value: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """Its three files."""
        low = {"a": np.full((2, 32), self.value, np.float16), "b": np.full((32, 2), self.value, np.float16)}
        return {
            "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 2}).encode(),
            "adapter_model.safetensors": save_tensors(low),
            "decoder.safetensors": save_tensors({"head": np.full((32,), self.value, np.float32)}),
        }

    def describe(self) -> dict[str, Any]:
        """What it says of itself."""
        return {
            "method": "lora",
            "base_model": "minilm-l6",
            "decoder_layers": 3,
            "ranks": {"encoder.layer.5.query": 2},
            "fingerprints": DIGESTS,
            "metrics": [{"metric": "ndcg@10", "slice": "all", "value": self.value, "low": None, "high": None}],
            **self.facts,
        }


# --------------------------------------------------------------------------------------------------------------- kills


def kills(root: Path, count: int, rng: random.Random) -> list[dict[str, object]]:
    """Writers killed at random moments; see the module."""
    registry = Registry(root)
    for value in (1, 2):
        registry.publish(NAME, Small(value), alias=ALIAS)
    lost, torn, wrong, cut = list[str](), list[str](), list[str](), 0
    done = {"versions": {"1", "2"}, "alias": "2", "meant": ""}
    for turn in tqdm(range(count), desc="kills", unit="kill"):
        told = _killed(root, rng)
        cut += bool(list((root / NAME / ".tmp").iterdir()))
        for line in told:
            _learn(done, line)
        problems = registry.verify() if turn % 20 == 0 or turn == count - 1 else _newest_problems(registry)
        torn += problems
        there = {*registry.numbers(NAME)}
        lost += [f"version {version} after kill {turn}" for version in done["versions"] - there]
        pointed = registry.open(f"{NAME}@{ALIAS}").version
        if pointed != done["alias"] and not _was_meant(done, pointed):
            wrong.append(f"{ALIAS} leads to {pointed} instead of {done['alias']} after kill {turn}")
        visible = {version.version for version in registry.versions(NAME)}  # what is deleted may be collected any time
        done = {"versions": visible, "alias": pointed, "meant": ""}
        if len(there) > 60:  # a verification reads all of them
            for version in sorted(visible - {pointed}, key=int)[:40]:
                registry.delete(f"{NAME}@{version}", grace=timedelta(0))
            registry.gc()
            done["versions"] = {version.version for version in registry.versions(NAME)}
    for problem in (*lost, *torn, *wrong)[:20]:
        print(problem)
    return [
        _row("kills", "kills", count, ""),
        _row("kills", "cut_short", cut, "kills that left an unfinished file"),
        _row("kills", "lost_or_torn", len(lost) + len(torn), "versions"),
        _row("kills", "wrong_alias", len(wrong), "kills"),
    ]


def _killed(root: Path, rng: random.Random) -> list[str]:
    """What a writer told of before it was killed."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        _write_forever(Registry(root), random.Random(rng.random()), writes)
    os.close(writes)
    rng.random()  # the child's draw, so that the next one has another
    first = os.read(reads, 1 << 16)  # it lives
    time.sleep(rng.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = first
    while select.select([reads], [], [], 0)[0] and (more := os.read(reads, 1 << 16)):
        found += more
    os.close(reads)
    return [line for line in found.decode().split("\n")[:-1] if line != "ready"]


def _write_forever(registry: Registry, rng: random.Random, tell: int) -> None:
    """Runs in the child: changes the registry until it is killed, and tells of each change that is done."""
    os.write(tell, b"ready\n")
    while True:
        action = rng.random()
        versions = registry.versions(NAME)
        if action < 0.5:
            os.write(tell, b"meaning new\n")
            version = registry.publish(NAME, Small(rng.random()), alias=ALIAS)
            os.write(tell, f"published {version.version}\n".encode())
        elif action < 0.75:
            chosen = rng.choice(versions)
            os.write(tell, f"meaning {chosen.version}\n".encode())
            version = registry.promote(chosen.reference)
            os.write(tell, f"promoted {version.version}\n".encode())
        elif action < 0.85:
            version = registry.publish(NAME, Small(rng.random()))
            os.write(tell, f"added {version.version}\n".encode())
        else:
            pointed = registry.open(f"{NAME}@{ALIAS}").version
            others = [version for version in versions if version.version != pointed]
            if len(others) > 3:
                os.write(tell, f"removing {others[0].version}\n".encode())
                registry.delete(others[0].reference, grace=timedelta(0))
                registry.gc()


def _learn(done: dict[str, Any], line: str) -> None:
    action, version = line.split()
    if action in ("published", "added"):
        done["versions"].add(version)
    if action in ("published", "promoted"):
        done["alias"], done["meant"] = version, ""
    if action == "meaning":
        done["meant"] = version
    if action == "removing":
        done["versions"].discard(version)


def _was_meant(done: dict[str, Any], pointed: str) -> bool:
    """Whether the change that was cut short would have led the alias there."""
    if done["meant"] == "new":
        return int(pointed) > max(map(int, done["versions"]))
    return pointed == done["meant"]


def _newest_problems(registry: Registry) -> list[str]:
    return [problem for version in registry.versions(NAME)[-3:] for problem in version.problems()]


# ----------------------------------------------------------------------------------------------------------- mutations


def mutations(root: Path, count: int, rng: random.Random) -> list[dict[str, object]]:
    """Files changed at random; see the module."""
    registry = Registry(root / "adapters")
    generate_key(root_key := _made(root) / "private.pem", public := root / "public.pem")
    for value in (1, 2):
        registry.publish(NAME, Small(value), alias=ALIAS)
        registry.sign(f"{NAME}@{value}", root_key)
    registry.tag(f"{NAME}@2", "reviewed")
    archive = root / "tea-2.peftrec"
    write_archive(version := registry.open(NAME), archive, signature=read_signatures(version))
    signed = Registry(root / "adapters", trusted_keys=[public])
    folder = registry.root / NAME
    targets = [
        *sorted((folder / "2").iterdir()),
        folder / "aliases.json",
        folder / "history.jsonl",
        folder / "2.sig.json",
        archive,
    ]
    before = _seen(signed, archive)
    refused = accepted = untyped = harmless = 0
    for number in tqdm(range(count), desc="mutations", unit="file"):
        path = targets[number % len(targets)]
        content = path.read_bytes()
        other = folder / "1" / path.name if path.parent.name == "2" else folder / "1" / "manifest.json"
        changed = rng.choice(MUTATIONS)(content, other.read_bytes(), rng)
        if changed == content:
            changed = content[:-1]
        path.write_bytes(changed)
        try:
            same = _seen(signed, archive) == before
            harmless, accepted = harmless + same, accepted + (not same)
            if not same:
                print(f"accepted: {path.name}, mutation {number}")
        except PeftrecError:
            refused += 1
        except Exception as error:  # noqa: BLE001  # what is counted is that there is none
            untyped += 1
            print(f"untyped: {path.name}, mutation {number}: {error!r}")
        path.write_bytes(content)
    return [
        _row("mutations", "mutated_files", count, "files"),
        _row("mutations", "mutated_refused", refused, "files"),
        _row("mutations", "mutated_harmless", harmless, "files, read as before"),
        _row("mutations", "mutated_accepted", accepted, "files"),
        _row("mutations", "untyped_errors", untyped, "files"),
    ]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _seen(registry: Registry, archive: Path) -> object:
    """Everything that a reader gets of a version."""
    version = registry.open(f"{NAME}@{ALIAS}")
    parcel = read_archive(archive)
    return (
        version.manifest,
        {file: version.read(file) for file in version.manifest.files},
        {file: sorted(version.tensors(file)) for file in ("adapter_model.safetensors", "decoder.safetensors")},
        registry.state(NAME),
        registry.history(NAME),
        parcel.manifest,
        dict(parcel.content),
    )


def _flipped(content: bytes, _: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _turn in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _longer(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randrange(1, 2000))


def _exchanged(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Another version's file, or the tensors of this one under each other's names."""
    try:
        tensors = load_tensors(content)
    except SafetensorError:  # not a file of tensors
        return other
    names = list(tensors)
    return (
        save_tensors(dict(zip(names, [tensors[name] for name in rng.sample(names, len(names))], strict=True)))
        if len(names) > 1
        else other
    )


def _zeros(content: bytes, _: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + bytes(len(content) - start)


def _hostile(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """JSON that is none, or too much."""
    forms: list[Callable[[], bytes]] = [
        lambda: b"[" * rng.randrange(1, 100_000),
        lambda: b'{"schema_version": 1' + b"0" * rng.randrange(1, 5000) + b"}",
        lambda: b'{"schema_version": NaN}',
        lambda: content.replace(b": ", b": -", 1),
        lambda: content.replace(b'"', b'"\\ud800', 1),
        lambda: content.replace(b"{", b'{"version": "1", ', 1),
        lambda: content.replace(b"2", b"1"),
        lambda: content.replace(b"tea", b"../"),
        lambda: content.replace(b"F16", b"F64").replace(b"F32", b"I64"),
        lambda: (2**63 - 1).to_bytes(8, "little") + content[8:],
        lambda: b"\xff\xfe" + content,
        lambda: b"null",
    ]
    return rng.choice(forms)()


MUTATIONS = (_flipped, _flipped, _cut, _longer, _exchanged, _zeros, _hostile, _hostile)


# ----------------------------------------------------------------------------------------------------------- processes


def processes(root: Path, count: int, each: int) -> list[dict[str, object]]:
    """Many writers at once; see the module."""
    begun = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        numbers = [number for found in pool.starmap(_publish_many, [(root, each)] * count) for number in found]
    took, registry = time.perf_counter() - begun, Registry(root)
    whole = {*registry.numbers(NAME)} == {*map(str, range(1, count * each + 1))} == {*numbers}
    problems = registry.verify()
    print(*problems[:20], sep="\n")
    slice_ = f"{count} processes, {each} versions each"
    return [
        _row(slice_, "versions", len(registry.numbers(NAME)), "versions"),
        _row(slice_, "lost", count * each - len({*numbers}), "versions"),
        _row(slice_, "problems", len(problems) + (not whole), ""),
        _row(slice_, "publishes_per_second", count * each / took, "1/s, starting the processes included"),
    ]


def _publish_many(root: Path, each: int) -> list[str]:
    registry = Registry(root)
    return [registry.publish(NAME, Small(number), alias=ALIAS).version for number in range(each)]


# --------------------------------------------------------------------------------------------------------------- sizes


def sizes(root: Path, counts: list[int]) -> list[dict[str, object]]:
    """Costs with ever more versions; see the module."""
    rows, bar = list[dict[str, object]](), tqdm(total=2 * max(counts), desc="versions", unit="version")
    one, many = Large(Registry(root / "one"), "one adapter"), Large(Registry(root / "many"), "as many adapters")
    for count in sorted(counts):
        for large in (one, many):
            while large.count < count:
                large.publish()
                bar.update()
            rows += large.measured()
    bar.close()
    return rows


@dataclass
class Large:
    """A registry that grows.

    Attributes:
        registry: Where.
        of: Whose versions they are, in words.
        count: Versions so far.
    """

    registry: Registry
    of: str
    count: int = 0

    def name(self, number: int) -> str:
        """Of the adapter that the version belongs to."""
        return NAME if self.of == "one adapter" else f"shop-{number:06}"

    def publish(self) -> None:
        """One more."""
        self.registry.publish(self.name(self.count), Small(self.count % 100), alias=ALIAS)
        self.count += 1

    def open(self, number: int) -> None:
        """One by its alias, as an engine does for each request."""
        self.registry.open(f"{self.name(number % self.count)}@{ALIAS}")

    def list_page(self) -> None:
        """The first page, as a person asks for it."""
        words = [
            "-c",
            "from peftrec.cli.main import main; main()",
            "registry",
            "list",
            "--registry",
            str(self.registry.root),
        ]
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    def measured(self) -> list[dict[str, object]]:
        """What it costs now."""
        slice_ = f"{self.count:,} versions of {self.of}"
        opened = [_timed(self.open, number * 37) for number in range(200)]
        listed = [_timed(self.list_page) for _ in range(5)]
        published = [_timed(self.publish) for _ in range(20)]
        return [
            _row(slice_, "publish_ms", 1e3 * statistics.median(published), "ms"),
            _row(slice_, "open_by_alias_ms", 1e3 * statistics.median(opened), "ms"),
            _row(slice_, "open_by_alias_p99_ms", 1e3 * sorted(opened)[-2], "ms"),
            _row(slice_, "list_first_page_seconds", statistics.median(listed), "s"),
        ]


def _timed(call: Callable[..., object], *arguments: object) -> float:
    begun = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begun


def _row(slice_: str, metric: str, value: float, unit: str) -> dict[str, object]:
    row: dict[str, object] = {"system": "peftrec", "dataset": "synthetic", "slice": slice_, "metric": metric}
    return row | {"value": float(value), "low": None, "high": None, "unit": unit}


if __name__ == "__main__":
    main()
