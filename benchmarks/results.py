"""The one form in which every benchmark writes its result."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from peftrec.backbone import native_precision

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("peftrec", "torch", "transformers", "peft", "lightgbm", "implicit", "scikit-learn", "numpy", "polars")


def _commit() -> str:
    """The commit of the code that runs, marked where files differ from it."""
    told = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    return subprocess.run(told, capture_output=True, text=True, check=False, cwd=FOLDER.parent).stdout.strip()


def _tiles() -> str:
    """Whether the processor multiplies whole tiles, which makes bf16 twice as fast as its vectors do."""
    return " by AMX" if torch.cpu.get_capabilities().get("amx_bf16") else ""


COMMIT = _commit()
"""Read when the benchmark starts: by its end the folder may have moved on."""

BEGUN = time.perf_counter()


def _arguments() -> list[str]:
    """What the benchmark was called with; of paths the last part alone."""
    return [Path(one).name if "/" in one else one for one in sys.argv[1:]]


def kept(name: str, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, object]]:
    """Rows of the result on disk that a run does not measure anew, with commit and machine of the run that did."""
    path = FOLDER / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": []}
    told = {key: before.get(key) for key in ("commit", "machine")}
    return [told | row for row in before["rows"] if keep(row)]


def write(name: str, rows: Sequence[dict[str, object]], *, seed: int, chosen: Mapping[str, str] | None = None) -> Path:
    """Writes ``results/<name>.json`` and prints it as one line.

    Args:
        name: Of the benchmark.
        rows: With ``system, dataset, slice, metric, value, low, high, unit``, and ``against`` for a paired difference.
        seed: Of everything drawn.
        chosen: Settings that tuned baselines ended up with, by system.
    """
    result = {
        "benchmark": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {native_precision()}{_tiles()}",
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "commit": COMMIT,
        "arguments": _arguments(),
        "seed": seed,
        "seconds": round(time.perf_counter() - BEGUN),
        **({"chosen": dict(chosen)} if chosen else {}),
        "rows": list(rows),
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key not in ("rows", "chosen")}))
    return path
