"""Serving: one int8 backbone, adapters as arguments of requests."""

from peftrec.serving.batcher import Batcher
from peftrec.serving.engine import Engine, Recommendation
from peftrec.serving.latency import measure_latency
from peftrec.serving.rules import Rules

__all__ = ["Batcher", "Engine", "Recommendation", "Rules", "measure_latency"]
