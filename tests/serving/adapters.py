"""Adapters for tests of serving."""

from dataclasses import replace

import numpy as np

from peftrec.model import Adapter


def loud(adapter: Adapter, *, seed: int = 0) -> Adapter:
    """The same with a decoder that has much to say, and says it otherwise: a short training leaves it nearly silent."""
    random = np.random.default_rng(seed)
    extras = dict(adapter.extras)
    for name, size in (("head_2", 1.0), ("candidate_in", 0.3), ("shopper_gate", 0.3)):
        extras[name] = random.normal(size=extras[name].shape, scale=size).astype(np.float16).astype(np.float32)
    pairs = {
        name: pair._replace(b=random.normal(size=pair.b.shape, scale=0.02).astype(np.float16).astype(np.float32))
        for name, pair in adapter.changes.low_rank.items()
    }
    return replace(adapter, extras=extras, changes=replace(adapter.changes, low_rank=pairs))
