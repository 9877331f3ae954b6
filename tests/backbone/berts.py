"""Folders of small random BERTs of every kind that shops use: by depth, width and the way their tokenizer cuts words."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast, PreTrainedTokenizerFast

ENGLISH = "tea kettle pot socks milk red green small large of and with the a b c d e g k l m n o p r s t ##s ##ed , . 1"
CHINESE = "茶壶袜子牛奶红绿小大的和杯水果平板电脑手机很好用屏幕清晰，。"
PIECES = (
    "▁tea ▁kettle ▁pot ▁socks ▁milk ▁red ▁green ▁small s t e a k l o p m i r d n 茶壶 牛奶 手机 很好 屏幕 茶 壶 , . 1"
)


def wordpiece(words: str = ENGLISH, **settings: object) -> PreTrainedTokenizerFast:
    """``[CLS] text [SEP]``; Chinese characters are words of their own."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split()]
    return BertTokenizerFast(vocab={word: row for row, word in enumerate(vocabulary)}, **settings)


def chinese() -> PreTrainedTokenizerFast:
    """WordPiece over single characters, as BERTs for Chinese have it."""
    return wordpiece(" ".join([*CHINESE, *ENGLISH.split()]))


def sentencepiece() -> PreTrainedTokenizerFast:
    """As XLM-R has it: ``<s> text </s>``, 1 for padding, ``▁`` for a space, the longest likely parts."""
    pieces = [(word, 0.0) for word in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [("▁", -3.0), *((piece, -2.0 - row / 10) for row, piece in enumerate(PIECES.split())), ("<mask>", 0.0)]
    rules = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    rules.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    rules.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    rules.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "cls_token": "<s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=rules, bos_token="<s>", eos_token="</s>", **names)


TOKENIZERS = {"wordpiece": wordpiece, "chinese": chinese, "sentencepiece": sentencepiece}


def config(**changes: object) -> BertConfig:
    """Of a small BERT."""
    usual: dict[str, object] = {
        "hidden_size": 36,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 72,
        "max_position_embeddings": 64,
    }
    return BertConfig(**{**usual, **changes})


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, *, kind: type = BertModel, **changes: object) -> Path:
    """Writes a random BERT and its tokenizer.

    Args:
        folder: Is made.
        tokenizer: Its size is the table's, unless ``vocab_size`` is given.
        kind: The class of ``transformers`` that writes the weights.
        changes: For :func:`config`.
    """
    made = config(**{"vocab_size": len(tokenizer), **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(made).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
