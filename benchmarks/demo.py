"""What a first visit costs: `peftrec demo` from start to end, and how soon `peftrec registry list` answers after it.

Encodes, trains, publishes, serves and measures as a new user's machine would, with nothing kept from earlier runs. Run it
alone on the machine::

    python benchmarks/demo.py
    python benchmarks/demo.py --keep adapters   # also copy what it put into production to a registry
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import write

from peftrec import Backbone, Registry
from peftrec.model import Adapter

TIMES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="also publish the adapters to this registry")
    parser.add_argument("--report", metavar="FILE", type=Path, help="copy the report there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        seconds = _timed("demo", "--out", str(out), PEFTREC_CACHE=str(Path(folder) / "cache"))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        listing = statistics.median(
            _timed("registry", "list", "--registry", str(out / "adapters")) for _ in range(TIMES)
        )
        if options.keep:
            _keep(out / "adapters", options.keep)
        if options.report:
            shutil.copy(out / "report.html", options.report)
    figures = (("demo_seconds", seconds, "s"), ("demo_peak_gib", peak, "GiB"), ("registry_list_seconds", listing, "s"))
    rows = [
        {"system": "peftrec", "dataset": "completejourney", "slice": "all", "metric": metric, "value": value}
        | {"low": None, "high": None, "unit": unit}
        for metric, value, unit in figures
    ]
    for metric, value, unit in figures:
        print(f"{metric}: {value:.2f} {unit}")
    write("demo", rows, seed=0)


def _timed(*words: str, **environment: str) -> float:
    """Seconds that a command of peftrec takes, the start of Python included."""
    start = time.perf_counter()
    command = [sys.executable, "-c", "from peftrec.cli.main import main; main()", *words]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return time.perf_counter() - start


def _keep(source: Path, target: Path) -> None:
    """Publishes what is in production under the next numbers; versions before it go, since they never change."""
    backbone, demo, kept = Backbone.load("minilm-l6"), Registry(source), Registry(target)
    for name in demo.names():
        new = kept.publish(name, Adapter.load(demo.open(f"{name}@production"), backbone), alias="production")
        for old in (path for path in new.path.parent.iterdir() if path.is_dir() and path.name != new.version):
            shutil.rmtree(old)


if __name__ == "__main__":
    main()
