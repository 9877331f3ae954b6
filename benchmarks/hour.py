"""Runs, one after the other, every benchmark that fits into an hour on this machine; what fits is told before it begins.

How long each takes is read off its last result, or estimated where there is none. Data sets that come as files are looked for
in one folder: ``online_retail/``, ``amazon_office/``, and a wheel of recbole for MovieLens::

    python benchmarks/hour.py --data FOLDER
    python benchmarks/hour.py --data FOLDER --minutes 20 --dry-run
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """One call of a benchmark.

    Attributes:
        result: Name of what it writes.
        command: The script and its options, but for where its data is.
        needs: File pattern in that folder without which it cannot run; nothing where empty.
        minutes: Estimate where there is no result yet.
    """

    result: str
    command: tuple[str, ...]
    needs: str = ""
    minutes: float = 10.0

    @property
    def expected(self) -> float:
        """Seconds that it last took, or the estimate."""
        path = HERE / "results" / f"{self.result}.json"
        found = json.loads(path.read_text(encoding="utf-8")).get("seconds") if path.is_file() else None
        return float(found or 60 * self.minutes)


RUNS = (
    Run("quality_completejourney", ("quality.py",), minutes=45),
    Run("quality_movielens", ("quality.py", "--dataset", "movielens"), "recbole-*.whl"),
    Run("training_step_online_retail", ("training_step.py",), "online_retail/*.parquet", minutes=1),
    Run("quality_amazon_office", ("quality.py", "--dataset", "amazon_office"), "amazon_office", minutes=25),
    Run("quality_online_retail", ("quality.py", "--dataset", "online_retail"), "online_retail/*.parquet", minutes=25),
    Run("new_products_amazon_office", ("new_products.py",), "amazon_office"),
    Run("ablations_online_retail", ("ablations.py", "--dataset", "online_retail"), "online_retail/*.parquet", 40),
    Run("segments_completejourney", ("segments.py", "--by", "age"), minutes=25),
    Run("registry", ("registry.py",)),
    Run("data", ("data.py",)),
    Run("rolling_online_retail", ("rolling.py", "--dataset", "online_retail"), "online_retail/*.parquet", minutes=27),
    Run("rolling_completejourney", ("rolling.py",), minutes=45),
)
"""The most telling first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets that come as files")
    parser.add_argument("--minutes", type=float, default=60.0, help="time there is; what still runs then is stopped")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would run")
    options = parser.parse_args()
    left = 60 * options.minutes
    chosen: list[list[str]] = []
    for run in RUNS:
        found = sorted(options.data.glob(run.needs)) if run.needs and options.data else []
        if run.needs and not found:
            print(f"left out: {' '.join(run.command)}, whose data ({run.needs}) is not in {options.data or '--data'}")
        elif run.expected > left:
            print(f"left out: {' '.join(run.command)}, {run.expected / 60:.0f} minutes")
        else:
            left -= run.expected
            chosen.append([*run.command, *(["--data", str(found[0])] if found else [])])
            print(f"to run: {' '.join(chosen[-1])}, {run.expected / 60:.0f} minutes")
    ends, failed = time.perf_counter() + 60 * options.minutes, list[str]()
    for script, *settings in [] if options.dry_run else chosen:
        begun = time.perf_counter()
        left = max(ends - begun, 0)
        try:
            subprocess.run([sys.executable, str(HERE / script), *settings], check=True, timeout=left)
            told = "done"
        except subprocess.CalledProcessError as error:
            told = f"failed with {error.returncode}"
        except subprocess.TimeoutExpired:
            told = f"stopped, since {options.minutes:g} minutes are over,"
        if told != "done":
            failed.append(script)
        minutes = (time.perf_counter() - begun) / 60
        print(f"{script} {' '.join(settings)}: {told} after {minutes:.1f} minutes", flush=True)
    if failed:
        sys.exit(f"no new result of {', '.join(failed)}")


if __name__ == "__main__":
    main()
