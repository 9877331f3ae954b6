"""Run as a program by ``test_writing.py``: publishes in a process of its own.

``publisher.py many ROOT COUNT`` publishes COUNT versions. ``publisher.py kills ROOT COUNT`` forks COUNT publishers that
never stop by themselves, kills each at another moment and looks at the registry after each. ``publisher.py limit ROOT``
may not write files of more than a few kilobytes.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
from conftest import Small
from safetensors.numpy import save

from peftrec.errors import PeftrecError
from peftrec.registry import Registry


def many(registry: Registry, count: int) -> list[str]:
    return [registry.publish("tea", Small(), alias="production").version for _ in range(count)]


def kills(registry: Registry, count: int) -> list[str]:
    registry.publish("tea", Small(), alias="production")
    found: list[str] = []
    temporaries = 0
    for turn in range(count):
        newest_before, before = len(registry.versions("tea")), registry.open("tea").version
        child = os.fork()
        if child == 0:
            while True:
                registry.publish("tea", Small(), alias="production")
        time.sleep(0.01 + 0.0037 * turn)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        temporaries += len(list((registry.root / "tea").glob(".tmp/new-*")))
        found += registry.verify()
        newest, pointed = registry.versions("tea")[-1], registry.open("tea")
        found += newest.problems()
        ahead = int(newest.version) - int(pointed.version)
        # Of the child's versions, at most the last may lack its alias.
        unmoved = pointed.version == before and int(newest.version) <= newest_before + 1
        if ahead not in (0, 1) and not unmoved:
            found.append(f"production points to {pointed.version}, newest is {newest.version}")
    return [*found, f"{len(registry.versions('tea'))} versions, {temporaries} cut short"]


def limit(registry: Registry) -> list[str]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    adapter = Small()
    adapter.content["decoder.safetensors"] = save({"head": np.zeros(50_000, np.float32)})
    try:
        registry.publish("tea", adapter)
    except PeftrecError as error:
        return [type(error).__name__, str(error)]
    return ["published"]


if __name__ == "__main__":
    where = Registry(Path(sys.argv[2]))
    if sys.argv[1] == "limit":
        print(json.dumps(limit(where)))
    else:
        print(json.dumps({"many": many, "kills": kills}[sys.argv[1]](where, int(sys.argv[3]))))
