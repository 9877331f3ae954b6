from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from peftrec.errors import ConfigError
from peftrec.text import batches, tokenise


@pytest.fixture(scope="module")
def tokenizer(tiny_bert_folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_bert_folder)


def test_words_are_those_of_the_tokenizer(tokenizer: PreTrainedTokenizerFast):
    assert tokenise(["tea kettles"], tokenizer) == [
        tokenizer.convert_tokens_to_ids(["[CLS]", "tea", "kettle", "##s", "[SEP]"])
    ]


def test_an_empty_text_is_the_special_words_alone(tokenizer: PreTrainedTokenizerFast):
    assert tokenise(["", "   "], tokenizer) == [[tokenizer.cls_token_id, tokenizer.sep_token_id]] * 2
    assert tokenise([], tokenizer) == []


def test_a_long_text_is_cut_and_still_ends_in_sep(tokenizer: PreTrainedTokenizerFast):
    (ids,) = tokenise(["tea " * 1_000_000], tokenizer, max_length=8)
    assert len(ids) == 8
    assert ids[-1] == tokenizer.sep_token_id


def test_unpaired_surrogates_are_read(tokenizer: PreTrainedTokenizerFast):
    assert tokenise(["tea \ud83d"], tokenizer) == tokenise(["tea ?"], tokenizer)


def test_tokenising_leaves_no_setting_behind(tokenizer: PreTrainedTokenizerFast):
    tokenise(["tea"], tokenizer, max_length=3)
    assert tokenise(["tea " * 20], tokenizer) == tokenise(["tea " * 20], tokenizer, max_length=128)


@pytest.mark.parametrize("setting", [{"max_length": 2}, {"token_budget": 0}])
def test_impossible_settings_are_refused(tokenizer: PreTrainedTokenizerFast, setting: dict[str, int]):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        list(batches(["tea"], tokenizer, **setting))


@given(counts=st.lists(st.integers(0, 40), max_size=60), budget=st.integers(1, 200))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_hold_every_text_once_within_the_budget(
    tokenizer: PreTrainedTokenizerFast, counts: list[int], budget: int
):
    texts = ["tea " * count for count in counts]
    cut = list(batches(texts, tokenizer, token_budget=budget))
    rows = np.concatenate([batch.rows for batch in cut] or [np.empty(0, np.int64)])
    assert sorted(rows.tolist()) == list(range(len(texts)))
    widths = [batch.ids.shape[1] for batch in cut]
    assert widths == sorted(widths, reverse=True)
    for batch in cut:
        assert batch.ids.size <= budget or len(batch.rows) == 1
        for row, ids, mask in zip(batch.rows, batch.ids, batch.mask, strict=True):
            (expected,) = tokenise([texts[row]], tokenizer)
            assert ids[mask == 1].tolist() == expected
            assert (ids[mask == 0] == tokenizer.pad_token_id).all()
        assert batch.padded == bool((batch.mask == 0).any())


def test_texts_of_like_length_waste_little(tokenizer: PreTrainedTokenizerFast):
    rng = np.random.default_rng(0)
    texts = ["tea " * int(count) for count in rng.integers(1, 30, size=3000)]
    cut = list(batches(texts, tokenizer))
    assert sum(batch.lengths.sum() for batch in cut) / sum(batch.ids.size for batch in cut) > 0.9
