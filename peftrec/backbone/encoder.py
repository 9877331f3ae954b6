"""The item encoder: a text through the whole frozen BERT, then the mean over its words.

``[CLS]`` and ``[SEP]`` count as words, as they did when the MiniLM family was trained; padding never does. Vectors are
left at their natural length. No batch is padded further than its longest text, and batches hold texts of like length.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from peftrec.backbone.arithmetic import Precision
from peftrec.backbone.int8 import Int8Embedding, int8_linears
from peftrec.errors import ConfigError
from peftrec.text import WordBatch, batches
from peftrec.text.words import GPU_TOKEN_BUDGET, MAX_LENGTH, TOKEN_BUDGET

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerFast

_SLOW_AFTER_S = 2.0


def encoder_for(bert: "BertModel", precision: str) -> "BertModel":
    """A BERT that computes in the given precision, sharing every unchanged weight with ``bert``.

    Raises:
        ConfigError: An unknown precision, or one that int8 weights do not have any more.
    """
    if is_int8(bert) and precision in ("fp32", "bf16"):
        raise ConfigError(
            f"precision={precision!r} of a backbone whose weights are int8",
            expected='"int8"',
            remedy="leave it out, or take the backbone that it was made from",
        )
    if precision == "fp32":
        return bert
    if precision == "bf16":
        return copy.deepcopy(bert).bfloat16()
    if precision == "int8":
        shared = {id(tensor): tensor for tensor in (*bert.parameters(), *bert.buffers())}
        twin = copy.deepcopy(bert, shared)
        if not is_int8(bert):
            int8_linears(twin.encoder)
            twin.embeddings.word_embeddings = Int8Embedding(bert.embeddings.word_embeddings)
        return twin
    raise ConfigError(
        f"precision={precision!r}",
        expected="one of " + ", ".join(get_args(Precision)),
        remedy="leave it at its default",
    )


def is_int8(bert: "BertModel") -> bool:
    """Whether the weights themselves are int8."""
    return isinstance(bert.embeddings.word_embeddings, Int8Embedding)


@torch.inference_mode()
def encode(
    texts: Sequence[str],
    bert: "BertModel",
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int = MAX_LENGTH,
    token_budget: int | None = None,
    advance: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """One vector per text, in the order of ``texts``.

    Args:
        texts: Any texts; an empty one is read as ``[CLS] [SEP]``, a repeated one is read once.
        bert: From :func:`encoder_for`, on any device.
        tokenizer: The backbone's.
        max_length: Words read of each text.
        token_budget: Words in one batch; as many as suit the device when left out.
        advance: Called after each batch with the number of distinct texts it held.

    Returns:
        (n, hidden) float32.
    """
    place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    vectors = np.empty((len(place), bert.config.hidden_size), dtype=np.float32)
    device = bert.embeddings.word_embeddings.weight.device
    if token_budget is None:
        token_budget = TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET
    for batch in batches(list(place), tokenizer, max_length=max_length, token_budget=token_budget):
        vectors[batch.rows] = _pooled(bert, batch, device).cpu().numpy()
        if advance is not None:
            advance(len(batch.rows))
    return vectors if len(place) == len(texts) else vectors[[place[text] for text in texts]]


def progress_bar(total: int, *, show: bool) -> "tqdm[NoReturn]":
    """A bar that appears only when the work takes longer than two seconds."""
    return tqdm(total=total, unit="text", desc="reading products", delay=_SLOW_AFTER_S, disable=not show, leave=False)


def _pooled(bert: nn.Module, batch: WordBatch, device: torch.device) -> Tensor:
    """``(batch, words) -> (batch, hidden)`` float32, the mean over the words that are no padding."""
    ids = torch.from_numpy(batch.ids).to(device)
    if not batch.padded:  # without a mask, attention takes its fastest path
        return bert(input_ids=ids).last_hidden_state.float().mean(dim=1)
    mask = torch.from_numpy(batch.mask).to(device)
    words = bert(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (batch, words, hidden)
    weight = mask.unsqueeze(2).float()
    return (words * weight).sum(dim=1) / weight.sum(dim=1)
