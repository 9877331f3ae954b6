"""Serving: one int8 backbone, adapters as arguments of requests."""

from peftrec.serving.engine import Engine, Recommendation

__all__ = ["Engine", "Recommendation"]
