"""Versions change under load: every answer is one that the version it claims gives, and nothing fails."""

import threading
import time
from pathlib import Path

import numpy as np

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.model import Adapter
from peftrec.registry import Registry
from peftrec.serving import Batcher, Engine, Recommendation
from peftrec.serving.requests import Request
from tests.serving.adapters import loud

CUT, SECONDS = "2017-11-27T05:00", 4.0


def test_an_alias_that_moves_under_load(backbone: Backbone, grocery: Dataset, trained: Adapter, tmp_path: Path):
    past, _ = grocery.split(at=CUT)
    registry = Registry(tmp_path)
    versions = [registry.publish("shop", loud(trained, seed=seed)).reference for seed in range(3)]
    registry.promote(versions[0], alias="live")
    size = Engine(backbone, registry).slots.get(versions[0]).size
    engine = Engine(backbone, registry, memory=int(2.5 * size))  # one of three has to leave at every turn
    engine.attach(past, adapter="shop")
    users = past.users[:6].to_list()

    def asked(name: str, user: str) -> Request:
        return Request(adapter=name, user=user, exclude_bought=True)

    right = {(name, user): engine.recommend_batch([asked(name, user)])[0] for name in versions for user in users}
    wrong, seen, failed, stop = list[str](), set[str](), list[BaseException](), threading.Event()

    def ask(seed: int, batcher: Batcher) -> None:
        random = np.random.default_rng(seed)
        while not stop.is_set():
            name, user = ["shop@live", *versions][random.integers(4)], users[random.integers(len(users))]
            try:
                answer = batcher.recommend(asked(name, user))
            except BaseException as error:  # noqa: BLE001  # whatever it is, it counts
                failed.append(error)
                return
            claimed = str(answer[0].adapter)
            seen.add(claimed)
            if not _same(answer, right[claimed, user]) or (name != "shop@live" and name != claimed):
                wrong.append(f"{name} {claimed} {user}")

    with Batcher(engine) as batcher:
        threads = [threading.Thread(target=ask, args=(seed, batcher)) for seed in range(3)]
        for thread in threads:
            thread.start()
        end, turn = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            turn += 1
            registry.promote(versions[turn % 3], alias="live")
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert not wrong
    assert seen == set(versions)


def _same(one: list[Recommendation], other: list[Recommendation]) -> bool:
    chances = [[entry.probability for entry in answer] for answer in (one, other)]
    return {entry.item_id for entry in one} == {entry.item_id for entry in other} and np.allclose(*chances, atol=1e-3)
