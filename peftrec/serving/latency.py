"""How long a shopper waits for an engine, for an adapter's card."""

import platform
import time
from collections.abc import Sequence

import numpy as np
import torch

from peftrec.errors import RequestError
from peftrec.serving.engine import Engine

_WARM_UP = 5


def measure_latency(engine: Engine, adapter: str, users: Sequence[str], *, k: int = 10) -> dict[str, object]:
    """Asks for one shopper after the other and takes the time from request to answer.

    Args:
        engine: With the adapter's platform attached. The first five requests, which load the adapter, do not count.
        adapter: In any form that the engine takes.
        users: Ids of shoppers of the platform's log, six or more.
        k: Products that are asked for.

    Returns:
        ``p50_ms``, ``p99_ms``, ``requests``, ``k``, ``precision`` and ``machine``, as a manifest's ``latency`` holds them.

    Raises:
        RequestError: There are less than six shoppers. Otherwise as :meth:`Engine.recommend`.
    """
    if len(users) <= _WARM_UP:
        raise RequestError(
            f"{len(users)} shoppers to measure with",
            expected=f"more than {_WARM_UP}: the first ones warm up",
            remedy="pass some hundred ids, such as dataset.users[:200]",
        )
    times = list[float]()
    for user in users:
        begun = time.perf_counter()
        engine.recommend(adapter, user=user, k=k)
        times.append(1e3 * (time.perf_counter() - begun))
    p50, p99 = np.percentile(times[_WARM_UP:], [50, 99])
    return {
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "requests": len(times) - _WARM_UP,
        "k": k,
        "precision": engine.precision,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
