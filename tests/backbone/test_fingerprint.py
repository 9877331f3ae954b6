import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from peftrec.backbone import Backbone
from peftrec.backbone.fingerprint import tokenizer_fingerprint, weights_fingerprint

MINILM = "acf56a5df3ba61661b80f11eb7e56493d3d73f8dae78b94525c4284da5517581"


def test_minilm_has_its_known_fingerprint(backbone: Backbone):
    # Written down: a change of the way fingerprints are made would orphan every published adapter.
    assert backbone.fingerprint == MINILM


def test_a_fingerprint_is_quick(backbone: Backbone):
    times: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        weights_fingerprint(backbone.bert)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_saving_again_changes_nothing(tiny_backbone: Backbone, tmp_path: Path):
    tiny_backbone.bert.save_pretrained(tmp_path, max_shard_size="20KB")
    tiny_backbone.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1  # in shards, where it came from one file
    again = Backbone.load(tmp_path)
    assert again.fingerprint == tiny_backbone.fingerprint
    assert again.tokenizer_fingerprint == tiny_backbone.tokenizer_fingerprint


def test_a_masked_language_checkpoint_has_the_fingerprint_of_its_bert(tiny_bert_folder: Path, tmp_path: Path):
    bare = Backbone.load(tiny_bert_folder)
    larger = BertForMaskedLM(BertConfig.from_pretrained(tiny_bert_folder))
    larger.bert.load_state_dict(bare.bert.state_dict())
    larger.save_pretrained(tmp_path)
    bare.tokenizer.save_pretrained(tmp_path)
    assert Backbone.load(tmp_path).fingerprint == bare.fingerprint


@pytest.mark.parametrize("part", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.LayerNorm.bias"])
def test_one_flipped_weight_is_another_fingerprint(tiny_backbone: Backbone, part: str):
    with torch.no_grad():
        flat = tiny_backbone.bert.get_parameter(part).view(-1)
        flat[3] += 2**-20
    assert weights_fingerprint(tiny_backbone.bert) != tiny_backbone.fingerprint


def test_what_leaves_no_tensor_counts_too(tiny_backbone: Backbone):
    config = BertConfig.from_dict({**tiny_backbone.bert.config.to_dict(), "num_attention_heads": 2})
    other = BertModel(config, add_pooling_layer=False)
    other.load_state_dict(tiny_backbone.bert.state_dict())
    assert weights_fingerprint(other) != tiny_backbone.fingerprint


def test_other_weights_are_another_fingerprint(tiny_bert: Callable[..., Path], tiny_backbone: Backbone):
    other = Backbone.load(tiny_bert(seed=1))
    assert other.fingerprint != tiny_backbone.fingerprint
    assert other.tokenizer_fingerprint == tiny_backbone.tokenizer_fingerprint


def test_the_tokenizers_fingerprint_ignores_calls_and_notices_words(tiny_backbone: Backbone):
    tokenizer = tiny_backbone.tokenizer
    tokenizer(["tea", "tea kettle"], padding=True, truncation=True, max_length=3)
    assert tokenizer_fingerprint(tokenizer) == tiny_backbone.tokenizer_fingerprint
    tokenizer.add_tokens(["espresso"])
    assert tokenizer_fingerprint(tokenizer) != tiny_backbone.tokenizer_fingerprint
