"""The command line as a person uses it."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command

from peftrec.cli.main import app
from peftrec.model import Adapter
from peftrec.registry import Registry


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from peftrec.cli.main import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(trained: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    Registry(folder).publish("grocery", trained, alias="production")
    return folder


@pytest.mark.parametrize(
    "words", [[], ["demo"], ["train"], ["evaluate"], ["recommend"], ["data"], ["data", "inspect"], ["registry"]]
)
def test_help_teaches(words: list[str]):
    done = run(*words, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_every_command_and_every_option_is_explained():
    waiting, seen = [("peftrec", get_command(app))], 0
    while waiting:
        name, command = waiting.pop()
        assert command.help, name
        assert all(getattr(parameter, "help", None) for parameter in command.params), name
        waiting += [(f"{name} {word}", inner) for word, inner in getattr(command, "commands", {}).items()]
        seen += 1
    assert seen == 37  # peftrec, its five commands, data and its two, registry and its twenty-seven


def test_registry_commands(folder: Path):
    listed = json.loads(run("registry", "list", "--registry", str(folder), "--json").stdout)
    assert [row["name"] for row in listed] == ["grocery"]
    assert "production" in run("registry", "list", "--registry", str(folder)).stdout
    assert "Trained on" in run("registry", "show", "grocery", "--registry", str(folder)).stdout
    assert run("registry", "verify", "--registry", str(folder)).returncode == 0


def test_a_changed_byte_is_found(folder: Path, tmp_path: Path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / "grocery" / "1" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    done = run("registry", "verify", "--registry", str(copy))
    assert done.returncode == 1
    assert "adapter_model.safetensors" in done.stdout


def test_one_damaged_adapter_does_not_hide_the_others(folder: Path, tmp_path: Path):
    copy = tmp_path / "registry"
    shutil.copytree(folder, copy)
    shutil.copytree(copy / "grocery", copy / "broken")  # says in its manifest that it is grocery
    rows = json.loads(run("registry", "list", "--registry", str(copy), "--json").stdout)
    assert [row["name"] for row in rows] == ["broken", "grocery"]
    assert "grocery" in rows[0]["problem"]
    assert "problem" not in rows[1]
    assert "damaged" in run("registry", "list", "--registry", str(copy)).stdout


def test_listing_never_waits_for_torch(folder: Path):
    code = (
        "import sys; from typer.testing import CliRunner; from peftrec.cli.main import app; "
        f"CliRunner().invoke(app, ['registry', 'list', '--registry', {str(folder)!r}]); "
        "sys.exit('torch' in sys.modules or 'polars' in sys.modules)"
    )
    start = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert time.perf_counter() - start < 30  # a hang, not a benchmark


def test_errors_are_worded_and_without_a_traceback(folder: Path):
    done = run("registry", "show", "grocry", "--registry", str(folder))
    assert done.returncode == 1
    assert "closest: grocery" in done.stderr
    assert "Traceback" not in done.stderr
