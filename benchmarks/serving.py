"""What serving many adapters from one backbone costs, beside what plain transformers and peft need for it.

Real MiniLM, the published grocery adapter and variations of it (rank 16 on all maps of three layers, noise on top), shoppers of
The Complete Journey with up to 128 products of history each, 200 products to score for each. Parts, each of which can be run
alone; rows of others are kept:

``throughput``  Scores per second. The plain recipe (``BertForSequenceClassification``, one text at a time padded to 512); peft's
                mixed batch (``adapter_names``) of whole BERTs with dynamic padding; the engine's ``score_batch`` in each
                precision, everything included. Then like for like: peft's mixed batch on the very decoder and words that
                the engine runs, and the engine's own, for different numbers of adapters in a batch of 32.
``load``        From a version on disk to one in service while 1,000 are resident, and what a swap between resident ones costs.
``memory``      Bytes of weights in int8 and fp32, of a resident adapter and its files, of 1,000.
``recommend``   Top 10 of all products with about 200 candidates, one request at a time; throughput from 1 to 1,000 adapters;
                how many of the exact closest products the index names.
``encode``      Product texts per second, beside sentence-transformers, ONNX Runtime int8 and OpenVINO int8.
``int8``        int8 against fp32 in the evaluation protocol: AUC, and how much of the top 10 is shared.
``swap``        Mixed load from two threads while an alias moves every 100 ms; each answer is checked against the version that
                it claims.

Run it alone on the machine::

    python benchmarks/serving.py --parts throughput load memory
"""

import argparse
import gc
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import psutil
import torch
from encoders import peers
from like_for_like import like_for_like
from peft_serving import cross_encoder, plain
from results import kept, write
from sampling import some
from scipy import sparse
from timing import alternately, median, multiplies_bf16, resident, row
from torch import Tensor
from tqdm import tqdm

from peftrec import Backbone, Engine, Registry, evaluate, load_dataset
from peftrec.data.histories import PURCHASE, Ragged
from peftrec.model import Adapter, CandidateConfig
from peftrec.model import extras as ops
from peftrec.model.candidates import describe
from peftrec.model.cross import WORDS
from peftrec.model.platform import padded
from peftrec.model.quantiles import encoded
from peftrec.serving.answers import named
from peftrec.serving.batch import Group, shoppers_of
from peftrec.serving.loaded import Loaded
from peftrec.serving.loading import load_adapter
from peftrec.serving.precision import PRECISIONS
from peftrec.serving.requests import Recommendation, Request
from peftrec.serving.retrieving import retrievals

PARTS = ("throughput", "load", "memory", "recommend", "encode", "int8", "swap")
CUT = "2017-11-27T05:00"
ADAPTERS = Path(__file__).parents[1] / "adapters"
BATCH, HISTORY, CANDIDATES, RESIDENT = 32, 128, 200, 1_000
ROUNDING = 5e-4
"""Of a chance: what is put together with others in a batch is rounded otherwise, by up to 1.1e-4 in int8 (measured)."""

SMALL = CandidateConfig(history=80, popular=80, neighbours=60, together=60, nearest=50)
"""About 200 candidates."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=10, help="of mixed load in the part swap")
    parser.add_argument("--shoppers", type=int, default=600, help="asked in the part int8")
    parser.add_argument("--name", default="serving", help="of the result, where machines are compared")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), options)
        for part in options.parts:
            begun = time.perf_counter()
            found = list(getattr(run, part)())
            for one in found:
                print(f"{part:10} {one['system']!s:28} {one['metric']!s:36} {one['value']:.5g} {one['unit']}")
            print(f"{part} took {time.perf_counter() - begun:.0f} s", flush=True)
            rows += [one | {"part": part} for one in found]
            gc.collect()
    rows = [*kept(options.name, lambda one: one["part"] not in options.parts), *rows]
    write(options.name, rows, seed=options.seed)


def varied(adapter: Adapter, seed: int) -> Adapter:
    """Another shop's adapter: the same, with noise of a tenth of its size on tuner and heads, of a hundredth on the item map."""
    random = np.random.default_rng(seed)

    def noisy(value: np.ndarray, share: float) -> np.ndarray:
        return value + random.normal(size=value.shape, scale=share * float(value.std()) + 1e-6)

    heads = {name: noisy(adapter.extras[name], 0.1) for name in ("head_1", "head_2", "features_logit")}
    heads["item_map"] = noisy(adapter.extras["item_map"], 0.01)
    pairs = {name: pair._replace(b=noisy(pair.b, 0.1)) for name, pair in adapter.changes.low_rank.items()}
    changed = replace(adapter, extras={**adapter.extras, **heads}, changes=replace(adapter.changes, low_rank=pairs))
    return changed.rounded()


class Run:
    """What all parts share.

    Args:
        folder: For registries.
        options: Of the command.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.options, self.folder = options, folder
        self.backbone = Backbone.load("minilm-l6")
        self.past, self.future = load_dataset("completejourney").split(at=CUT)
        published = Registry(ADAPTERS).open("grocery")
        self.adapter = replace(Adapter.load(published, self.backbone), candidates=SMALL)
        self.registry = Registry(folder / "adapters")
        counts = np.bincount(self.past.log.user, minlength=len(self.past.users))
        self.users = self.past.users.gather(np.argsort(-counts, kind="stable")[:RESIDENT]).to_list()

    def publish(self, count: int) -> None:
        """Makes sure that there are so many versions of the adapter."""
        have = len(self.registry.versions("grocery")) if "grocery" in self.registry.names() else 0
        for seed in tqdm(range(have, count), desc="publishing", leave=False):
            self.registry.publish("grocery", varied(self.adapter, seed))

    def engine(self, precision: str = "int8", *, memory: str | int = "8GB", index: str = "auto") -> Engine:
        """An engine with the platform attached."""
        engine = Engine(self.backbone, self.registry, precision=precision, memory=memory, index=index)
        engine.attach(self.past, adapter="grocery")
        return engine

    def throughput(self) -> Iterator[dict[str, object]]:
        """Scores per second of all systems."""
        self.publish(RESIDENT)
        pairs = self._pairs(64)
        slow = {"plain_recipe": plain(self.backbone, pairs[:8])}
        slow["peft_cross_encoder"] = cross_encoder(self.backbone, pairs, BATCH, words=WORDS)
        for system, value in slow.items():
            yield row(system, "scores_per_second", value, "1/s")
        best = 0.0
        for precision in PRECISIONS[::-1]:
            if precision == "bf16" and not multiplies_bf16():
                continue  # emulated: it would take minutes and tell nothing
            value = self._engine_scores(precision)
            best = max(best, value)
            yield row(f"peftrec {precision}", "scores_per_second", value, "1/s")
        yield row("peftrec", "speedup_over_plain_recipe", best / slow["plain_recipe"], "times")
        yield row("peftrec", "speedup_over_peft_cross_encoder", best / slow["peft_cross_encoder"], "times")
        yield from like_for_like(self.backbone, [self._tuner(number + 1) for number in range(RESIDENT)], *self._words())

    def _pairs(self, count: int) -> list[tuple[str, str]]:
        """History and product as texts, the latest first, as a cross-encoder reads them."""
        platform = self.engine("fp32")._shops.get("grocery").platform  # pyright: ignore
        texts = self.backbone.templates.product.render(self.past.catalog.frame).to_list()
        rng, pairs = np.random.default_rng(self.options.seed), []
        for user in self.users[:count]:
            log = self.past.log
            own = log.item[log.user == platform.dataset.users.search_sorted(user)][::-1]
            kept = list(dict.fromkeys(own.tolist()))[:HISTORY]
            pairs.append((", ".join(texts[item] for item in kept), texts[rng.integers(len(texts))]))
        return pairs

    def _engine_scores(self, precision: str) -> float:
        engine = self.engine(precision)
        rng = np.random.default_rng(self.options.seed)
        asked = engine._prepare(Request(adapter="grocery@1", user=self.users[0]))
        sold = self.past.catalog.ids.gather(asked.snapshot.popular).to_list()
        requests = [Request(adapter=f"grocery@{at + 1}", user=user) for at, user in enumerate(self.users[:BATCH])]
        items = [[sold[at] for at in rng.choice(len(sold), CANDIDATES, replace=False)] for _ in requests]
        engine.score_batch(requests, items)
        seconds = median(lambda: engine.score_batch(requests, items), 5)
        return BATCH * CANDIDATES / seconds

    def _words(self) -> tuple[Tensor, Tensor, Tensor]:
        """Real words of 32 shoppers and of 200 products for each that they have never bought, as the decoder reads them."""
        engine = self.engine("fp32")
        rows = [engine._prepare(Request(adapter="grocery@1", user=user)) for user in self.users[:BATCH]]
        extras = {name: torch.from_numpy(value) for name, value in self.adapter.extras.items()}
        words = ops.shopper_words(extras, shoppers_of(Group.of(rows)))
        products, numbers = [], []
        for one in rows:
            popular = one.snapshot.popular
            new = popular[~np.isin(popular, one.history.item)][:CANDIDATES]
            found = describe(one.history, one.snapshot, Ragged.join([new]))
            products.append(one.platform.items(new))
            numbers.append(found.features)
        vectors, features = (torch.from_numpy(padded(values)[0]) for values in (products, numbers))
        with torch.inference_mode():
            summary, _ = ops.feature_network(extras, encoded(extras, features))
            return words.x, words.mask, ops.candidate_words(extras, vectors, summary)

    def _tuner(self, number: int) -> Loaded:
        """What an engine holds of an adapter's tuner; extras are the same work for everybody."""
        return Loaded.of(replace(load_adapter(self.registry.open(f"grocery@{number}"), self.backbone), extras={}))

    def load(self) -> Iterator[dict[str, object]]:
        """Versions that nobody has asked for yet, into an engine that holds a thousand."""
        fresh = 300
        self.publish(RESIDENT + fresh)
        engine = self.engine()
        for number in range(1, RESIDENT + 1):
            engine.slots.get(f"grocery@{number}")
        times = []
        for number in range(RESIDENT + 1, RESIDENT + fresh + 1):
            begun = time.perf_counter()
            engine.pin(f"grocery@{number}")
            times.append(1e3 * (time.perf_counter() - begun))
        yield row("peftrec", "resident", engine.slots.counts().resident, "adapters")
        yield row("peftrec", "adapter_load_p50_ms", float(np.percentile(times, 50)), "ms", adapters=RESIDENT)
        yield row("peftrec", "adapter_load_p99_ms", float(np.percentile(times, 99)), "ms", adapters=RESIDENT)
        user = self.users[0]
        numbers = iter(np.random.default_rng(0).integers(1, RESIDENT, 10**5))
        same, other = alternately(
            lambda: engine.recommend("grocery@1", user=user),
            lambda: engine.recommend(f"grocery@{next(numbers)}", user=user),
            times=100,
        )
        yield row("peftrec", "swap_over_same", other / same - 1, "")

    def memory(self) -> Iterator[dict[str, object]]:
        """Bytes, and what the process grows by."""
        small = self.backbone.quantised()
        yield row("peftrec", "int8_backbone_bytes_ratio", small.size / self.backbone.size, "")
        yield row("peftrec", "int8_backbone_bytes", small.size, "bytes")
        self.publish(RESIDENT)
        engine = Engine(self.backbone, self.registry, memory="8GB")
        version = self.registry.open("grocery@1")
        files = sum(
            (version.path / name).stat().st_size for name in ("adapter_model.safetensors", "decoder.safetensors")
        )
        before = resident()
        for number in range(1, RESIDENT + 1):
            engine.slots.get(f"grocery@{number}")
        held = engine.slots.counts().bytes
        yield row("peftrec", "resident_over_file", held / RESIDENT / files, "")
        yield row("peftrec", "resident_bytes", held, "bytes", adapters=RESIDENT)
        grown = psutil.Process().memory_info().rss - before
        yield row("peftrec", "process_growth_gib", grown / 2**30, "GiB", adapters=RESIDENT)

    def recommend(self) -> Iterator[dict[str, object]]:
        """One request at a time, then batches of ever more adapters."""
        self.publish(RESIDENT)
        engine = self.engine()
        requests = [Request(adapter="grocery@1", user=user) for user in self.users[:300]]
        counts = [len(_candidates(engine, request)) for request in requests[:32]]
        yield row("peftrec", "products", len(self.past.catalog), "products")
        yield row("peftrec", "candidates", float(np.mean(counts)), "products per request")
        for request in requests[:20]:
            engine.recommend_batch([request])
        times = []
        for request in requests:
            begun = time.perf_counter()
            engine.recommend_batch([request])
            times.append(1e3 * (time.perf_counter() - begun))
        for name, share in (("p50", 50), ("p99", 99)):
            yield row("peftrec", f"recommend_{name}_ms", float(np.percentile(times, share)), "ms")
        for number in range(1, RESIDENT + 1):
            engine.slots.get(f"grocery@{number}")
        speed = self._speeds(engine)
        for count, value in speed.items():
            yield row("peftrec", "requests_per_second", value, "1/s", adapters=count)
        yield row("peftrec", "throughput_1000_over_1", speed[RESIDENT] / speed[1], "")
        yield from self._recall()
        begun = time.perf_counter()
        engine.update_products("grocery", {"item_id": ["new"], "title": ["organic oat milk, barista, 1 l"]})
        engine.score("grocery@1", ["new"], user=self.users[0])
        yield row("peftrec", "new_product_seconds", time.perf_counter() - begun, "s")

    def _speeds(self, engine: Engine) -> dict[int, float]:
        """Requests per second with so many adapters at hand, in turns, so that a slow minute hits all alike."""
        rng, times = np.random.default_rng(0), {1: list[float](), BATCH: list[float](), RESIDENT: list[float]()}
        for turn in range(8):
            for count, taken in times.items():
                numbers = rng.integers(1, count + 1, BATCH)
                users = self.users[turn * BATCH : (turn + 1) * BATCH]
                requests = [Request(adapter=f"grocery@{n}", user=user) for n, user in zip(numbers, users, strict=True)]
                begun = time.perf_counter()
                engine.recommend_batch(requests)
                taken.append(time.perf_counter() - begun)
        return {count: BATCH / float(np.median(taken[1:])) for count, taken in times.items()}

    def _recall(self) -> Iterator[dict[str, object]]:
        """Share of the exact closest products that the index names, over the whole catalogue."""
        shares, engines = [], [self.engine(index=name) for name in ("faiss", "exact")]
        for user in self.users[:100]:
            found = []
            for one in engines:
                asked = one._prepare(Request(adapter="grocery@1", user=user))
                near = retrievals([asked], one._decoding.read([asked]).vectors)[0]
                found.append(near.top(0, 100, np.ones(len(self.past.catalog), bool)))
            shares.append(np.isin(found[1], found[0]).mean())
        yield row("peftrec", "index_recall@100", float(np.mean(shares)), "")

    def encode(self) -> Iterator[dict[str, object]]:
        """Texts per second of every encoder, on the same texts, in turns."""
        texts = self.backbone.templates.product.render(self.past.catalog.frame).unique().sort().to_list()
        chosen = [texts[at] for at in np.random.default_rng(0).choice(len(texts), 2_000, replace=False)]
        systems: dict[str, Callable[[Sequence[str]], np.ndarray]] = dict(
            peers(self.backbone, threads=torch.get_num_threads())
        )
        for precision in ("fp32", "bf16", "int8"):
            systems[f"peftrec {precision}"] = lambda texts, precision=precision: self.backbone.encode(
                texts,
                precision=precision,
                progress=False,  # pyright: ignore
            )
        exact = self.backbone.encode(chosen, precision="fp32", progress=False)
        times: dict[str, list[float]] = {name: [] for name in systems}
        slow = {name for name in systems if "bf16" in name and not multiplies_bf16()}
        for turn in range(4):
            for name, encode in systems.items():
                if name in slow:
                    continue  # emulated
                begun = time.perf_counter()
                found = encode(chosen)
                times[name].append(time.perf_counter() - begun)
                if not turn:
                    cosine = (found * exact).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
                    yield row(name, "cosine_to_fp32", float(cosine.mean()), "")
        speed = {name: len(chosen) / float(np.median(taken[1:])) for name, taken in times.items() if taken}
        for name, value in speed.items():
            yield row(name, "texts_per_second", value, "1/s")
        ours = max(value for name, value in speed.items() if name.startswith("peftrec"))
        others = max(value for name, value in speed.items() if not name.startswith("peftrec"))
        yield row("peftrec", "encode_speedup_over_best_peer", ours / others, "times")

    def int8(self) -> Iterator[dict[str, object]]:
        """What rounding costs in quality, on the test window."""
        self.registry.publish("whole", Adapter.load(Registry(ADAPTERS).open("grocery"), self.backbone))
        asked = some(self.future, self.options.shoppers, seed=self.options.seed)
        systems = {}
        for precision in ("fp32", "int8"):
            systems[precision] = Engine(self.backbone, self.registry, precision=precision).recommender("whole")
            systems[precision].name = precision
        result = evaluate(list(systems.values()), asked, baselines=None, seed=self.options.seed)
        print(result)
        found = result.compare("int8", "fp32", "auc", "all")
        yield row("peftrec", "int8_auc_delta", found.value, "") | {"low": found.low, "high": found.high}
        ranked = result.compare("int8", "fp32", "ndcg@10", "all")
        yield row("peftrec", "int8_ndcg@10_delta", ranked.value, "") | {"low": ranked.low, "high": ranked.high}
        users = np.intersect1d(asked.log.user, self.past.log.user)
        scores = [one.score_catalog(self.past, users) for one in systems.values()]
        yield row("peftrec", "int8_top10_overlap", _overlap(*scores), "")
        bought = self.past.log.event == PURCHASE
        known = sparse.csr_matrix(
            (np.ones(bought.sum()), (self.past.log.user[bought], self.past.log.item[bought])),
            shape=(len(self.past.users), len(self.past.catalog)),
        )[users]
        for one in scores:  # there the decoder decides
            one[known.nonzero()] = -np.inf
        yield row("peftrec", "int8_top10_overlap", _overlap(*scores), "") | {"slice": "never_bought"}

    def swap(self) -> Iterator[dict[str, object]]:
        """Answers under load while an alias moves, against what each version answers alone."""
        self.publish(8)
        size = self.engine().slots.get("grocery@1").size
        engine, users = self.engine(memory=int(5.5 * size)), self.users[:20]  # three of eight are always on disk
        versions = [f"grocery@{number}" for number in range(1, 9)]
        right = {
            (name, user): engine.recommend(name, user=user, exclude_bought=True, k=30)
            for name in versions
            for user in users
        }
        apart = [
            not _alike(right[a, user][:10], right[b, user]) for a, b in combinations(versions, 2) for user in users
        ]
        yield row("peftrec", "hot_swap_told_apart", float(np.mean(apart)), "0..1")
        self.registry.promote("grocery@1", alias="live")
        stop, wrong, answered, failed = threading.Event(), [], [], []

        def ask(seed: int) -> None:
            rng = np.random.default_rng(seed)
            while not stop.is_set():
                names = [
                    ["grocery@live", versions[rng.integers(8)]][rng.integers(2)] for _ in range(rng.integers(1, 5))
                ]
                asked = [users[rng.integers(len(users))] for _ in names]
                try:
                    answers = engine.recommend_batch(
                        [Request(adapter=n, user=u, exclude_bought=True) for n, u in zip(names, asked, strict=True)]
                    )
                except Exception as error:  # noqa: BLE001  # whatever it is, it counts
                    failed.append(repr(error))
                    continue
                for name, user, answer in zip(names, asked, answers, strict=True):
                    claimed = str(answer[0].adapter)
                    answered.append(claimed)
                    same = _alike(answer, right[claimed, user]) and (name == "grocery@live" or name == claimed)
                    if not same:
                        wrong.append((name, claimed, user))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(2)]
        process, swaps, memory = psutil.Process(), 0, []
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60 * self.options.minutes
        with tqdm(total=int(60 * self.options.minutes), desc="mixed load", unit="s", leave=False) as bar:
            while time.monotonic() < end:
                due = time.monotonic() + 0.1
                swaps += 1
                self.registry.promote(versions[swaps % 8], alias="live")
                memory.append(process.memory_info().rss)
                time.sleep(max(0.0, due - time.monotonic()))
                bar.n = int(60 * self.options.minutes - (end - time.monotonic()))
                bar.refresh()
        stop.set()
        for thread in threads:
            thread.join()
        fifth = len(memory) // 5
        growth = (np.median(memory[-fifth:]) - np.median(memory[fifth : 2 * fifth])) / 2**20
        yield row("peftrec", "hot_swap_answers", len(answered), "answers")
        yield row("peftrec", "hot_swap_versions_seen", len(set(answered)), "versions")
        yield row("peftrec", "hot_swaps", swaps, "swaps")
        yield row("peftrec", "hot_swap_wrong_answers", len(wrong), "answers")
        yield row("peftrec", "hot_swap_errors", len(failed), "requests")
        yield row("peftrec", "hot_swap_evictions", engine.slots.counts().evictions, "adapters")
        yield row("peftrec", "hot_swap_memory_growth_mib", float(growth), "MiB")


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Mean share of the ten best that two systems' (users, products) scores have in common."""
    tops = [np.argsort(-scores, axis=1, kind="stable")[:, :10] for scores in (one, other)]
    return float(np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(*tops, strict=True)]))


def _alike(answer: Sequence[Recommendation], right: Sequence[Recommendation]) -> bool:
    """Whether an answer is the head of the right one, but for rounding: what is as likely may change places.

    ``right`` goes on behind the answer's end.
    """
    chances = {entry.item_id: entry.probability for entry in right}
    last = right[len(answer) - 1].probability - ROUNDING
    return all(
        last <= chances.get(entry.item_id, -1.0) and abs(entry.probability - chances[entry.item_id]) <= ROUNDING
        for entry in answer
    )


def _candidates(engine: Engine, request: Request) -> np.ndarray:
    asked = engine._prepare(request)
    return named(asked, retrievals([asked], engine._decoding.read([asked]).vectors)[0]).items.values


if __name__ == "__main__":
    main()
