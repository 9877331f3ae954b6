"""A small shop, a tiny BERT with another tokenizer, and what the tests of adaptation ask again and again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from peftrec.adaptation import LanguageConfig
from peftrec.adaptation.batches import Batches
from peftrec.adaptation.masking import Reader
from peftrec.adaptation.pairs import Baskets
from peftrec.backbone import Backbone
from peftrec.data import Catalog, Dataset, Events

SMALL = LanguageConfig(
    epochs=2, batch_size=4, learning_rate=1e-3, contrastive_weight=0.1, checkpoint_steps=3, validation_share=0.2
)
LONG = replace(SMALL, epochs=10)
WORDS = ("tea", "kettle", "pot", "socks", "milk", "bread", "paper", "box")
PIECES = "<s> <pad> </s> <unk> <mask> ▁ ▁red ▁te a ▁ket tle s , 茶 壶"
COLOURS = ("red", "green", "blue", "small", "large")


def small_shop(name: str = "shop", *, products: int = 40) -> Dataset:
    """Baskets of four products each, named from the vocabulary of the tiny BERT."""
    rng = np.random.default_rng(0)
    titles = [f"{colour} {word}s, {other}" for word in WORDS for colour in COLOURS for other in WORDS][:products]
    ids = [f"{index:03d}" for index in range(products)]
    bought = [(f"u{visit}", ids[item]) for visit in range(60) for item in rng.choice(products, 4, replace=False)]
    user, item = zip(*bought, strict=True)
    events = Events.from_table({"user_id": user, "item_id": item, "timestamp": ["2024-01-01"] * len(bought)})
    return Dataset(name, Catalog.from_table({"item_id": ids, "title": titles}), events)


def batches(backbone: Backbone, config: LanguageConfig = SMALL, *shops: Dataset) -> Batches:
    platforms = [Baskets.of(one, backbone.templates.product) for one in shops or [small_shop()]]
    vectors = {text: np.ones(backbone.hidden, np.float32) for one in platforms for text in one.texts}
    reader = Reader(backbone, max_words=config.max_words)
    return Batches(platforms, reader, config, vectors=vectors, epochs=config.epochs, sampling=config.sampling)


def weights(bert: BertModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in bert.state_dict().items() if value.is_floating_point()}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def pieces_bert(folder: Path) -> Path:
    """Makes the folder of a BERT of one type with a SentencePiece tokenizer."""
    vocabulary = PIECES.split() + [f"▁{word}" for word in (*WORDS[2:], *COLOURS[1:])]
    inner = Tokenizer(models.Unigram([(piece, -float(at > 5)) for at, piece in enumerate(vocabulary)], unk_id=3))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = zip(("bos", "cls", "eos", "sep", "unk", "pad", "mask"), (0, 0, 2, 2, 3, 1, 4), strict=True)
    named = {f"{name}_token": vocabulary[at] for name, at in special}
    PreTrainedTokenizerFast(tokenizer_object=inner, **named).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        type_vocab_size=1,
        pad_token_id=1,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
