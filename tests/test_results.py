"""Committed results: in the agreed form, and what README.md says is what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))


def test_there_are_results():
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_form_is_the_agreed_one(path: Path):
    result = json.loads(path.read_text(encoding="utf-8"))
    optional = {"seconds", "arguments", "chosen"}
    assert set(result) - optional == {"benchmark", "created", "machine", "versions", "commit", "seed", "rows"}
    assert not any("/" in argument for argument in result.get("arguments", ()))
    assert result["benchmark"] == path.stem
    for row in result["rows"]:
        assert set(row) - {"against", "part", "commit", "machine", "adapters", "device"} == {
            "system",
            "dataset",
            "slice",
            "metric",
            "value",
            "low",
            "high",
            "unit",
        }
        assert isinstance(row["value"], int | float)


def test_the_readme_says_what_was_measured():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
