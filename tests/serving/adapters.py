"""Adapters for tests of serving."""

from dataclasses import replace

import numpy as np
import torch

from peftrec.backbone import Backbone
from peftrec.model import Adapter, CandidateConfig, cross
from peftrec.model.cross import CrossEncoder
from peftrec.model.shapes import first_layer
from peftrec.tuners import Tuner


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


def worded(backbone: Backbone, tuner: Tuner, seed: int) -> Adapter:
    """A cross-encoder that was never trained."""
    random = torch.Generator().manual_seed(seed)
    layers = backbone.upper_layers()
    attached = tuner.attach(layers, seed=seed, steps=10)
    for value in layers.parameters():
        if value.requires_grad:
            value.data.normal_(std=0.05, generator=random)
    extras = cross.initial(backbone.hidden)
    extras["classifier"].normal_(std=0.05, generator=random)
    model = CrossEncoder(backbone, layers, extras)
    changes = attached.export(first_layer(backbone))
    few = CandidateConfig(history=3, popular=3, neighbours=3, together=3, nearest=3)
    return Adapter.of(model, backbone, tuner, changes, form="cross_encoder", words=64, candidates=few)
