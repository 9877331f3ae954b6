"""The language stage on a tiny BERT, and on the real MiniLM for a few steps."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor
from transformers import BertModel

from peftrec.adaptation import LanguageConfig, MaskedHead, adapt_language, copurchase_auc, fit_head, masked_loss
from peftrec.adaptation.language import held_out, merged
from peftrec.adaptation.masking import Reader
from peftrec.adaptation.pairs import Baskets
from peftrec.backbone import Backbone
from peftrec.data import Catalog, Dataset, Events
from peftrec.errors import ConfigError, NotEnoughDataError
from tests.adaptation.worlds import SMALL, equal, pieces_bert, small_shop, weights


@pytest.fixture(scope="module")
def pieces_backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.load(pieces_bert(tmp_path_factory.mktemp("pieces")))


@pytest.mark.parametrize(
    "setting",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"batch_size": 2.5},
        {"learning_rate": math.inf},
        {"learning_rate": math.nan},
        {"mask_share": 1.0},
        {"nsp_weight": -1},
        {"contrastive_weight": math.nan},
        {"distillation_weight": -0.1},
        {"temperature": 0},
        {"merge": 0},
        {"merge": 1.1},
        {"sampling": 2},
        {"max_words": 2},
        {"validation_share": 1},
        {"warmup_share": 1},
        {"checkpoint_steps": 0},
        {"precision": "fp16"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_that_cannot_work_are_refused(setting: dict[str, object]):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        LanguageConfig(**setting)


def test_platforms_that_cannot_be_learnt_from_are_refused(tiny_backbone: Backbone, tmp_path: Path):
    with pytest.raises(NotEnoughDataError, match="no platform"):
        adapt_language(tiny_backbone, [], SMALL, folder=tmp_path, progress=False)
    most = replace(SMALL, validation_share=0.999)
    with pytest.raises(NotEnoughDataError, match="shop"):
        adapt_language(tiny_backbone, [small_shop()], most, folder=tmp_path, progress=False)
    with pytest.raises(ConfigError, match="one name: shop, shop"):
        adapt_language(tiny_backbone, [small_shop(), small_shop()], SMALL, folder=tmp_path, progress=False)


def test_a_tokenizer_without_a_mask_word_is_refused(tiny_backbone: Backbone):
    tiny_backbone.tokenizer.mask_token = None
    with pytest.raises(ConfigError, match="no mask word"):
        Reader(tiny_backbone, max_words=32)


def test_the_result_is_a_frozen_bert_and_the_backbone_stays(tiny_backbone: Backbone, tmp_path: Path):
    before = weights(tiny_backbone.bert)
    result = adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, progress=False)
    assert equal(before, weights(tiny_backbone.bert))
    bert = result.bert
    assert not bert.training
    assert bert.pooler is None
    assert bert.config._attn_implementation == "sdpa"
    assert not any(weight.requires_grad for weight in bert.parameters())
    assert {weight.dtype for weight in bert.parameters()} == {torch.float32}
    after = weights(bert)
    assert after.keys() == before.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) == len(before)
    assert result.steps == result.history[-1]["step"]
    assert {"step", "loss", "masked", "next", "contrastive", "distillation"} in [{*entry} for entry in result.history]
    held = [entry for entry in result.history if "eval_loss" in entry]
    assert len(held) >= 4
    assert {*held[0]} == {
        "step",
        "eval_loss",
        *(f"eval_{name}" for name in ("masked", "next", "contrastive", "distillation")),
    }
    weights_of = {
        "eval_masked": 1.0,
        "eval_next": SMALL.nsp_weight,
        "eval_contrastive": SMALL.contrastive_weight,
        "eval_distillation": SMALL.distillation_weight,
    }
    total = sum(weight * held[-1][name] for name, weight in weights_of.items())
    assert held[-1]["eval_loss"] == pytest.approx(total, rel=0.01)


def test_terms_without_weight_are_not_in_the_log(tiny_backbone: Backbone, tmp_path: Path):
    bare = replace(SMALL, nsp_weight=0, contrastive_weight=0, distillation_weight=0, epochs=1)
    result = adapt_language(tiny_backbone, [small_shop()], bare, folder=tmp_path, progress=False)
    assert {name for entry in result.history for name in entry} == {
        "step",
        "loss",
        "masked",
        "eval_loss",
        "eval_masked",
    }


def test_equal_seeds_give_equal_weights(tiny_backbone: Backbone, tmp_path: Path):
    def train(config: LanguageConfig) -> dict[str, Tensor]:
        torch.rand(1)  # what was drawn before must not matter
        return weights(adapt_language(tiny_backbone, [small_shop()], config, folder=tmp_path, progress=False).bert)

    once = train(SMALL)
    assert equal(once, train(SMALL))
    assert not equal(once, train(replace(SMALL, seed=1)))


def couples() -> Dataset:
    """Products that are always bought two by two."""
    shop = small_shop()
    ids = shop.catalog.ids.to_list()
    bought = [(f"u{visit}", item) for visit in range(20) for item in ids[visit::20]]
    user, item = zip(*bought, strict=True)
    return replace(
        shop,
        events=Events.from_table({"user_id": user, "item_id": item, "timestamp": ["2024-01-01"] * len(bought)}),
    )


def test_distillation_keeps_vectors_and_contrast_draws_couples_together(tiny_backbone: Backbone, tmp_path: Path):
    pairs = Baskets.of(couples(), tiny_backbone.templates.product).copurchases(100)
    before = tiny_backbone.encode(pairs.texts, precision="fp32", progress=False)

    def trained(contrastive: float, distillation: float) -> tuple[float, float]:
        terms = {"contrastive_weight": contrastive, "distillation_weight": distillation}
        config = replace(SMALL, epochs=10, precision="fp32", validation_share=0, **terms)
        bert = adapt_language(tiny_backbone, [couples()], config, folder=tmp_path, progress=False).bert
        after = replace(tiny_backbone, bert=bert).encode(pairs.texts, precision="fp32", progress=False)
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        return float(np.mean(np.sum(before * after, axis=1) / lengths)), copurchase_auc(after, pairs).auc

    alone, held, drawn = trained(0, 0), trained(0, 5), trained(5, 0)
    assert alone[0] < 0.95 < held[0]
    assert drawn[1] > max(alone[1], held[1]) + 0.2


def test_merged_weights_lie_between_the_two(tiny_bert: Callable[..., Path]):
    one, other = (Backbone.load(tiny_bert(seed=seed)).bert for seed in (1, 2))
    half = merged(one, other, share=0.25)
    for name, value in weights(half).items():
        expected = 0.25 * weights(one)[name] + 0.75 * weights(other)[name]
        assert torch.allclose(value, expected, atol=1e-7)
    assert equal(weights(merged(one, other, share=1.0)), weights(one))


def test_merging_is_part_of_the_training(tiny_backbone: Backbone, tmp_path: Path):
    def train(merge: float) -> BertModel:
        config = replace(SMALL, epochs=1, merge=merge)
        return adapt_language(tiny_backbone, [small_shop()], config, folder=tmp_path, progress=False).bert

    assert equal(weights(train(0.5)), weights(merged(train(1.0), tiny_backbone.bert, share=0.5)))


def test_another_tokenizer_and_several_platforms(pieces_backbone: Backbone, tmp_path: Path):
    shops = [small_shop("one"), small_shop("two", products=12)]
    result = adapt_language(pieces_backbone, shops, SMALL, folder=tmp_path, progress=False)
    assert all(math.isfinite(value) for entry in result.history for value in entry.values())
    assert not equal(weights(result.bert), weights(pieces_backbone.bert))


def test_held_out_texts_are_chosen_by_their_hash():
    texts = [f"text {number}" for number in range(4000)]
    tenth = [text for text in texts if held_out(0.1)(text)]
    assert binomtest(len(tenth), len(texts), 0.1).pvalue > 0.01
    assert {*tenth} <= {text for text in texts if held_out(0.2)(text)}
    assert not any(map(held_out(0.0), texts))


def test_nothing_is_held_out_where_nothing_is_asked_for(tiny_backbone: Backbone, tmp_path: Path):
    config = replace(SMALL, validation_share=0, epochs=1)
    result = adapt_language(tiny_backbone, [small_shop()], config, folder=tmp_path, progress=False)
    assert not any("eval_loss" in entry for entry in result.history)
    assert result.steps == 10


def test_the_masked_loss_of_an_ignorant_head_is_that_of_guessing(tiny_backbone: Backbone):
    head = MaskedHead(tiny_backbone.bert.config)
    torch.nn.init.zeros_(head.transform.LayerNorm.weight)
    found = masked_loss(tiny_backbone, ["red tea", "blue socks, box"], head=head)
    assert found == pytest.approx(math.log(tiny_backbone.bert.config.vocab_size), rel=1e-5)
    with pytest.raises(NotEnoughDataError, match="1 texts without a word"):
        masked_loss(tiny_backbone, ["\u4e00"], head=head)


def test_the_masked_loss_depends_on_its_seed_and_not_on_the_order(tiny_backbone: Backbone):
    torch.manual_seed(0)
    head, texts = (
        MaskedHead(tiny_backbone.bert.config),
        ["red tea", "blue socks, box", "small green kettles", "milk pot"],
    )
    once = masked_loss(tiny_backbone, texts, head=head, seed=3)
    assert once == masked_loss(tiny_backbone, texts[::-1], head=head, seed=3)
    assert once != masked_loss(tiny_backbone, texts, head=head, seed=4)


def test_a_head_is_fitted_on_the_frozen_backbone(tiny_backbone: Backbone, tmp_path: Path):
    before, config = weights(tiny_backbone.bert), replace(SMALL, epochs=10, learning_rate=3e-3)
    texts = [text for text in Baskets.of(small_shop(), tiny_backbone.templates.product).texts if held_out(0.2)(text)]
    first = fit_head(tiny_backbone, [small_shop()], replace(config, epochs=0.1), folder=tmp_path, progress=False)
    head = fit_head(tiny_backbone, [small_shop()], config, folder=tmp_path, progress=False)
    assert equal(before, weights(tiny_backbone.bert))
    assert not any(weight.requires_grad for weight in head.parameters())
    after = masked_loss(tiny_backbone, texts, head=head, config=config)
    assert after < masked_loss(tiny_backbone, texts, head=first, config=config) - 0.3
    assert [path.name for path in tmp_path.iterdir()] == ["head"]
    shutil.rmtree(tmp_path / "head")


@pytest.mark.slow
def test_minilm_learns_to_guess_products_it_did_not_read(grocery: Dataset, backbone: Backbone, tmp_path: Path):
    frame = grocery.catalog.frame.head(160)
    events = grocery.events.frame.join(frame.select("item_id"), on="item_id", how="semi")
    shop = Dataset("grocery", Catalog(frame), Events(events))
    config = LanguageConfig(epochs=6, batch_size=16, validation_share=0.2, learning_rate=2e-4)
    left_out = held_out(config.validation_share)
    texts = [text for text in Baskets.of(shop, backbone.templates.product).texts if left_out(text)]
    before = fit_head(backbone, [shop], replace(config, epochs=0.1), folder=tmp_path, progress=False)
    result = adapt_language(backbone, [shop], config, folder=tmp_path, progress=False)
    start = masked_loss(backbone, texts, head=before, config=config)
    assert masked_loss(backbone, texts, head=result.head, bert=result.bert, config=config) < start - 1
    vectors = [
        backbone.encode(texts, progress=False),
        replace(backbone, bert=result.bert).encode(texts, progress=False),
    ]
    one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in vectors)
    assert np.sum(one * other, axis=1).mean() > 0.8  # still near where they were
