"""Where a training keeps its checkpoints, and whose they are."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peftrec.errors import ConfigError

RUN_FILE = "run.sha256"
"""What says in a folder of checkpoints whose they are."""


@contextmanager
def workspace(folder: str | Path | None) -> Iterator[Path]:
    """A folder for checkpoints: the one that is named, which stays, or a temporary one."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="peftrec-") as temporary:
        yield Path(temporary)


def claim(place: Path, digest: str, *, resume: bool) -> None:
    """Makes sure that checkpoints are those of this very training: others fit in shape and would be taken for its own.

    Args:
        place: The folder; without ``resume``, the checkpoints in it are removed.
        digest: Of all that decides what the training ends in.
        resume: Whether to go on from what is there.

    Raises:
        ConfigError: The folder holds the checkpoints of another training.
    """
    mark = place / RUN_FILE
    if resume and mark.is_file():
        if mark.read_text(encoding="utf-8") != digest:
            raise ConfigError(
                f"{place} holds the checkpoints of another training",
                expected="the same data, backbone, tuner, settings and seed as before",
                remedy="train into another folder, or leave resume out to start anew here",
            )
        return
    for stage in place.iterdir():  # only what a training makes: a folder of checkpoints for each stage
        if stage.is_dir() and any(stage.glob("checkpoint-*")):
            shutil.rmtree(stage, ignore_errors=True)
    mark.write_text(digest, encoding="utf-8")
