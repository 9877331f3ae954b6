"""Names for weights and words: an adapter fits the backbone it was trained on and no other.

A fingerprint depends on what is computed, never on how it is stored: the same tensors give the same fingerprint from
one file or from shards, from a masked-language checkpoint or from the bare BERT inside it.
"""

import hashlib
import json
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerFast

_ARCHITECTURE = ("num_attention_heads", "hidden_act", "layer_norm_eps")  # they change the answer, but leave no tensor


def weights_fingerprint(bert: "BertModel") -> str:
    """Sha256 over the architecture and over every parameter: name, dtype, shape and bytes, sorted by name.

    The pooler is left out: peftrec never runs it, and a masked-language checkpoint does not hold one.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps({name: getattr(bert.config, name) for name in _ARCHITECTURE}).encode())
    for name, tensor in sorted(bert.named_parameters()):
        if name.startswith("pooler."):
            continue
        values = tensor.detach().cpu().contiguous()
        digest.update(f"\n{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """Sha256 over the canonical JSON of the fast tokenizer, without truncation and padding (set anew by each call)."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    for setting in ("truncation", "padding"):
        rules.pop(setting, None)
    text = json.dumps(rules, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
