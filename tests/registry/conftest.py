"""A small adapter that needs neither torch nor a backbone."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from peftrec.registry import Registry

DIGEST = {"backbone": "a" * 64, "tokenizer": "b" * 64, "template": "c" * 64}

REPORT: dict[str, Any] = {
    "name": "tea",
    "rows_in": 1200,
    "rows_kept": 1197,
    "rows_dropped": 3,
    "products": 5,
    "rules": [
        {"rule": "missing_user", "action": "dropped", "rows": 3, "share": 0.0025, "example": "row 7: a|b"},
        {"rule": "html", "action": "repaired", "rows": 0, "share": 0.0, "example": ""},
    ],
    "switched_off": ["duplicate_event"],
}


def small_files(value: float = 1.0) -> dict[str, bytes]:
    return {
        "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 2}).encode(),
        "adapter_model.safetensors": save(
            {"a": np.full((2, 8), value, np.float16), "b": np.full((8, 2), value, np.float16)}
        ),
        "decoder.safetensors": save({"head": np.full((8,), value, np.float32)}),
    }


def small_facts() -> dict[str, Any]:
    return {
        "method": "lora",
        "base_model": "minilm-l6",
        "decoder_layers": 2,
        "ranks": {"encoder.layer.4.query": 2},
        "fingerprints": dict(DIGEST),
        "data": {"dataset": "tea", "shoppers": 12, "note": "", "cleaning": dict(REPORT)},
        "metrics": [{"metric": "ndcg@10", "slice": "all", "value": 0.25, "low": 0.2, "high": None}],
        "protocol": "weeks 1-4, then week 5",
        "seed": 7,
        "privacy": None,
        "versions": {"numpy": np.__version__},
    }


@dataclass
class Small:
    """A Publishable."""

    content: dict[str, Any] = field(default_factory=small_files)
    facts: dict[str, Any] = field(default_factory=small_facts)

    def files(self) -> dict[str, Any]:
        return self.content

    def describe(self) -> dict[str, Any]:
        return self.facts


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "adapters")


@pytest.fixture(scope="session")
def small() -> Callable[..., Small]:
    def make(value: float = 1.0, *, without: str | None = None, **facts: object) -> Small:
        return Small(small_files(value), {k: v for k, v in (small_facts() | facts).items() if k != without})

    return make
