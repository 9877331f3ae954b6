"""An adapted backbone on disk: a BERT's folder, a decoder beside it, and ``backbone.json`` that seals them.

``backbone.json`` holds the format's number, the depth of the decoder, the templates, the fingerprints of encoder, tokenizer,
templates and the whole, and the origin. What is loaded must have those fingerprints: a changed byte in a weight is refused.
"""

import contextlib
import copy
import glob
import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import BertModel

from peftrec.backbone.loading import quiet
from peftrec.backbone.shopping import DECODER_FILE, Shopping
from peftrec.disk import sync_folder, worded_write_errors, write_durably
from peftrec.errors import BackboneNotFoundError, BackboneWriteError, UnsupportedBackboneError
from peftrec.text import Templates

if TYPE_CHECKING:
    from peftrec.backbone.backbone import Backbone

FACTS_FILE = "backbone.json"
FORMAT = 1
"""Of the folder; another number means another form."""

NAMES = ("backbone", "encoder", "tokenizer", "templates")
"""Of the fingerprints."""


@dataclass(frozen=True)
class Saved:
    """What a folder tells beside the BERT.

    Attributes:
        decoder_layers: Depth of the decoder.
        templates: How texts were written when it was adapted.
        fingerprints: ``backbone``, ``encoder``, ``tokenizer``, ``templates``.
        origin: Parents, data and stages.
        shopping: The decoder of its own, if there is one.
    """

    decoder_layers: int
    templates: Templates
    fingerprints: Mapping[str, str]
    origin: Mapping[str, object]
    shopping: Shopping | None


def save(backbone: "Backbone", folder: Path) -> Path:
    """Writes the folder, whole or not at all; see :meth:`peftrec.Backbone.save`."""
    folder = folder.expanduser().resolve()  # "." has no name, and "~" is the home that Backbone.load reads from
    refuse_occupied(folder)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    with worded_write_errors(folder, BackboneWriteError):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            _write(backbone, new)
            new.rename(folder)  # onto an empty folder or none
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def remove_unfinished(folder: Path) -> None:
    """Removes what a kill left of a save into this folder; for the one process that may save there."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.new"):
        shutil.rmtree(left, ignore_errors=True)


def refuse_occupied(folder: Path) -> None:
    """Raises where there is something already.

    Raises:
        BackboneWriteError: The path is a file, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackboneWriteError(
            f"{folder} exists already",
            expected="a new folder, or an empty one",
            remedy="name another folder, or remove this one; a backbone that adapters stand on is never overwritten",
        )


def read(folder: Path, bert: BertModel) -> Saved | None:
    """What is beside the BERT in a folder; ``None`` for the folder of a BERT that peftrec did not write.

    Raises:
        BackboneNotFoundError: ``backbone.json`` or the decoder is damaged.
        UnsupportedBackboneError: The folder was written by another version of peftrec.
    """
    path = folder / FACTS_FILE
    if not path.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _check_format(path, int(facts["format"]))
        depth, templates = int(facts["decoder_layers"]), Templates.of(facts["templates"])
        fingerprints = {name: str(facts["fingerprints"][name]) for name in NAMES}
        origin, owns = dict(facts["origin"]), bool(facts["shopping"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"cannot be read: {error!r}") from error
    if not 1 <= depth <= bert.config.num_hidden_layers:
        raise _damaged(path, f"tells of a decoder of {depth} layers")
    shopping = _shopping(folder / DECODER_FILE, bert, depth) if owns else None
    return Saved(depth, templates, fingerprints, origin, shopping)


def _check_format(path: Path, version: int) -> None:
    if version != FORMAT:
        raise UnsupportedBackboneError(
            f"{path} has format {version}", expected=f"format {FORMAT}", remedy="load it with the peftrec that wrote it"
        )


def check(folder: Path, loaded: "Backbone", saved: Saved) -> None:
    """Compares what was loaded with the fingerprints of ``backbone.json``.

    Raises:
        BackboneNotFoundError: They differ; all that do are named.
    """
    found = _fingerprints(loaded)
    changed = [name for name, value in saved.fingerprints.items() if found[name] != value]
    if changed:
        told = ", ".join(f"{name} {found[name][:12]} instead of {saved.fingerprints[name][:12]}" for name in changed)
        raise _damaged(folder, f"is not what was saved there: {told}")


def _shopping(path: Path, bert: BertModel, depth: int) -> Shopping:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror or error}") from error
    top = bert.encoder.layer[bert.config.num_hidden_layers - depth :]
    return Shopping.from_bytes(content, nn.ModuleList(copy.deepcopy(layer) for layer in top))


def _write(backbone: "Backbone", folder: Path) -> None:
    with quiet(), _system_errors():
        backbone.bert.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
    if backbone.shopping is not None:
        write_durably(folder / DECODER_FILE, backbone.shopping.to_bytes())
    facts = {
        "format": FORMAT,
        "decoder_layers": backbone.decoder_layers,
        "templates": asdict(backbone.templates),
        "fingerprints": _fingerprints(backbone),
        "shopping": backbone.shopping is not None,
        "origin": backbone.origin,
    }
    write_durably(folder / FACTS_FILE, json.dumps(facts, indent=1, ensure_ascii=False).encode())
    for path in folder.iterdir():  # what the libraries wrote must be on the disk before the folder gets its name
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_folder(folder)


@contextlib.contextmanager
def _system_errors() -> Generator[None]:
    """Lets the system's errors through as such: safetensors and tokenizers wrap them in errors of their own."""
    try:
        yield
    except Exception as error:  # tokenizers raises bare Exception
        number = re.search(r"\(os error (\d+)\)", str(error))
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _fingerprints(backbone: "Backbone") -> dict[str, str]:
    found = (
        backbone.fingerprint,
        backbone.encoder_fingerprint,
        backbone.tokenizer_fingerprint,
        backbone.template_fingerprint,
    )
    return dict(zip(NAMES, found, strict=True))


def _damaged(path: Path, what: str) -> BackboneNotFoundError:
    return BackboneNotFoundError(
        f"{path} {what}",
        expected="the folder of a backbone as Backbone.save() wrote it",
        remedy="copy the folder again, or adapt the backbone again",
    )
