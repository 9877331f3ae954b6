"""An adapted backbone on disk: whole or not at all, bit-equal when it is read, refused where a byte has changed."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel, PreTrainedTokenizerFast

from peftrec.backbone import Backbone, Shopping, refuse_occupied
from peftrec.errors import BackboneNotFoundError, BackboneWriteError, ConfigError, UnsupportedBackboneError
from peftrec.text import ProductTemplate, SceneTemplate, Templates
from tests.backbone import berts

TEXTS = ["tea kettle", "red socks", ""]
SETTINGS = {"history": 24, "scene": False, "candidates": {}, "numbers": "0" * 64}


@pytest.fixture
def adapted(tiny_backbone: Backbone) -> Backbone:
    """With a decoder of its own, of values that are not the encoder's."""
    decoder = tiny_backbone.decoder()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in decoder.parameters():
            weight.add_(torch.randn_like(weight))
    extras = {"item_map": np.eye(64, dtype=np.float32), "shopper": np.ones((1, 64), np.float32)}
    return replace(
        tiny_backbone, shopping=Shopping(decoder, extras, SETTINGS), origin={"stages": [{"stage": "shopping"}]}
    )


def _equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_saved_is_read_bit_by_bit(adapted: Backbone, tmp_path: Path):
    again = Backbone.load(adapted.save(tmp_path / "shops"))
    assert again.name == "shops"
    assert again.shopping is not None
    assert adapted.shopping is not None
    assert np.array_equal(again.encode(TEXTS, precision="fp32"), adapted.encode(TEXTS, precision="fp32"))
    assert _equal(again.decoder(), adapted.decoder())
    assert not _equal(again.decoder(), replace(again, shopping=None).decoder())
    assert {name: value.tolist() for name, value in again.shopping.extras.items()} == {
        name: value.tolist() for name, value in adapted.shopping.extras.items()
    }
    assert again.shopping.settings == SETTINGS
    assert again.origin == adapted.origin
    for name in ("fingerprint", "encoder_fingerprint", "tokenizer_fingerprint", "decoder_layers"):
        assert getattr(again, name) == getattr(adapted, name)


def test_the_templates_come_back(adapted: Backbone, tmp_path: Path):
    templates = Templates(product=ProductTemplate(skip=("brand",)), scene=SceneTemplate(parts=((0, "day"),), ahead=3))
    folder = replace(adapted, templates=templates).save(tmp_path / "shops")
    assert Backbone.load(folder).templates == templates
    facts = json.loads((folder / "backbone.json").read_text())
    facts["templates"]["product"]["skip"] = []
    (folder / "backbone.json").write_text(json.dumps(facts))
    with pytest.raises(BackboneNotFoundError, match="not what was saved there: templates"):
        Backbone.load(folder)
    facts["templates"]["product"] = {"columns": ["title"]}
    (folder / "backbone.json").write_text(json.dumps(facts))
    with pytest.raises(BackboneNotFoundError, match="cannot be read"):
        Backbone.load(folder)


def test_the_fingerprint_covers_the_decoder_and_the_item_table_does_not(adapted: Backbone, tiny_backbone: Backbone):
    assert adapted.fingerprint != tiny_backbone.fingerprint == tiny_backbone.encoder_fingerprint
    assert adapted.encoder_fingerprint == tiny_backbone.encoder_fingerprint
    assert adapted.shopping is not None
    other = replace(adapted.shopping, extras={**adapted.shopping.extras, "shopper": np.zeros((1, 64), np.float32)})
    assert replace(adapted, shopping=other).fingerprint != adapted.fingerprint


def test_transformers_opens_the_encoder(adapted: Backbone, tmp_path: Path):
    bert = BertModel.from_pretrained(adapted.save(tmp_path / "shops"), add_pooling_layer=False)
    assert _equal(bert, adapted.bert)


def test_peft_opens_adapters_on_a_bert_with_the_decoder_on_top(adapted: Backbone):
    bert, first = adapted.tuned_bert(), adapted.layers - adapted.decoder_layers
    assert _equal(torch.nn.ModuleList(bert.encoder.layer[first:]), adapted.decoder())
    assert _equal(
        torch.nn.ModuleList(bert.encoder.layer[:first]), torch.nn.ModuleList(adapted.bert.encoder.layer[:first])
    )


def test_a_plain_bert_is_saved_too(tiny_backbone: Backbone, tmp_path: Path):
    again = Backbone.load(tiny_backbone.save(tmp_path / "plain"))
    assert again.shopping is None
    assert again.fingerprint == tiny_backbone.fingerprint
    assert not (tmp_path / "plain" / "decoder.safetensors").exists()


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    **berts.TOKENIZERS,
    "cased": lambda: berts.wordpiece(berts.ENGLISH + " Tea Red", do_lower_case=False),
    "accents kept": lambda: berts.wordpiece(berts.ENGLISH + " é", strip_accents=False),
    "short": lambda: berts.wordpiece(model_max_length=16),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("used", [False, True])
def test_tokenizers_of_every_kind_come_back(tmp_path: Path, kind: str, *, used: bool):
    told = ["Red Tea, <s>tea</s> [SEP] kettle", "茶壶 milk 牛奶", "é e\u0301 \ud83d 𒀀", "tea " * 90, ""]
    backbone = Backbone.load(berts.save(tmp_path / "bert", KINDS[kind]()))
    if used:  # a call leaves its truncation in the tokenizer
        backbone.tokenizer(["tea"], truncation=True, max_length=8, padding=True)
    vectors = backbone.encode(told, precision="fp32")
    again = Backbone.load(backbone.save(tmp_path / "once"))
    twice = Backbone.load(again.save(tmp_path / "twice"))
    for one in (again, twice):
        assert one.tokenizer_fingerprint == backbone.tokenizer_fingerprint
        assert one.fingerprint == backbone.fingerprint
        assert np.array_equal(one.encode(told, precision="fp32"), vectors)
        pair = [of.tokenizer(["tea"], ["red kettle"]) for of in (one, backbone)]
        assert dict(pair[0]) == dict(pair[1])
        assert one.tokenizer.special_tokens_map == backbone.tokenizer.special_tokens_map


def test_the_depth_of_an_adapted_decoder_is_fixed(adapted: Backbone, tmp_path: Path):
    folder = adapted.save(tmp_path / "shops")
    assert Backbone.load(folder, decoder_layers=1).decoder_layers == 1
    with pytest.raises(ConfigError, match="decoder_layers=2"):
        Backbone.load(folder, decoder_layers=2)


def test_nothing_is_overwritten(adapted: Backbone, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(BackboneWriteError, match="exists already"):
            adapted.save(place)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    refuse_occupied(tmp_path / "empty")
    Backbone.load(adapted.save(tmp_path / "empty"))


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing(adapted: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(BackboneWriteError, match="free some space"):
            adapted.save(tmp_path / "shops")
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from peftrec import Backbone
backbone = Backbone.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
backbone.save(sys.argv[2])
"""


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_disk_that_is_full_for_real_leaves_nothing(tmp_path: Path, file: str):
    """Libraries with errors of their own write both: one is too large, the other is not."""
    thin = {"hidden_size": 2, "num_attention_heads": 1, "intermediate_size": 2}
    words = berts.wordpiece(" ".join(f"a{'b' * number}" for number in range(300))) if file == "tokenizer.json" else None
    bert = berts.save(tmp_path / "bert", words or berts.wordpiece(), **(thin if words else {}))
    limit = (bert / file).stat().st_size // 2
    command = [sys.executable, "-c", FULL, str(bert), str(tmp_path / "shops"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"BackboneWriteError: {tmp_path / 'shops'} cannot be written: File too large" in done.stderr
    assert "raise the limit on file sizes" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]
    assert [path.name for path in bert.iterdir() if path.stat().st_size > limit] == [file]


@pytest.mark.parametrize("file", ["model.safetensors", "decoder.safetensors", "tokenizer.json"])
def test_a_changed_byte_is_refused(adapted: Backbone, tmp_path: Path, file: str):
    folder = adapted.save(tmp_path / "shops")
    content = bytearray((folder / file).read_bytes())
    if file == "tokenizer.json":
        content = bytearray(content.replace(b"kettle", b"kettel"))
    else:
        content[-3] ^= 1  # within the last tensor
    (folder / file).write_bytes(content)
    with pytest.raises(BackboneNotFoundError, match="is not what was saved there"):
        Backbone.load(folder)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, None])
def test_a_damaged_decoder_is_refused(adapted: Backbone, tmp_path: Path, content: bytes | None):
    folder = adapted.save(tmp_path / "shops")
    path = folder / "decoder.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BackboneNotFoundError, match="cannot be read"):
        Backbone.load(folder)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda facts: facts | {"format": 99}, UnsupportedBackboneError),
        (lambda facts: {"format": 99}, UnsupportedBackboneError),
        (lambda facts: facts | {"decoder_layers": 9}, BackboneNotFoundError),
        (lambda facts: {"format": 1}, BackboneNotFoundError),
        (lambda facts: [], BackboneNotFoundError),
    ],
)
def test_facts_that_make_no_sense_are_refused(adapted: Backbone, tmp_path: Path, change, error: type[Exception]):
    path = adapted.save(tmp_path / "shops") / "backbone.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(error):
        Backbone.load(path.parent)
