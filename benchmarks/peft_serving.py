"""The ways in which plain transformers and peft serve many adapters, for benchmarks/serving.py."""

import copy
import time
from collections.abc import Mapping, Sequence

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import BertForSequenceClassification

from peftrec import Backbone
from peftrec.model.shapes import first_layer
from peftrec.tuners import Changes

TARGETS = "attention.self.query|attention.self.key|attention.self.value|attention.output.dense|intermediate.dense|output.dense"
LONGEST = 512


def classifier(backbone: Backbone) -> BertForSequenceClassification:
    """The whole BERT with a head of two classes, as tutorials fine-tune it."""
    model = BertForSequenceClassification(copy.deepcopy(backbone.bert.config))
    model.bert.load_state_dict(backbone.bert.state_dict(), strict=False)
    return model.eval().requires_grad_(False)


def plain(backbone: Backbone, pairs: Sequence[tuple[str, str]]) -> float:
    """Scores per second of the plain recipe: one text at a time, padded to 512 words, fp32."""
    model = classifier(backbone)

    def score(pair: tuple[str, str]) -> None:
        words = backbone.tokenizer(
            *pair, padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.inference_mode():
            model(**words).logits.softmax(dim=-1)

    score(pairs[0])
    begun = time.perf_counter()
    for pair in pairs:
        score(pair)
    return len(pairs) / (time.perf_counter() - begun)


def cross_encoder(backbone: Backbone, pairs: Sequence[tuple[str, str]], adapters: int, *, words: int) -> float:
    """Scores per second of peft's mixed batch of whole BERTs, one adapter per row, padded to the longest of the batch."""
    targets = ["query", "key", "value", "dense"]
    config = LoraConfig(r=16, target_modules=targets, exclude_modules=["pooler.dense"], init_lora_weights=False)
    model = get_peft_model(classifier(backbone), config, adapter_name="0")
    for number in range(1, adapters):
        model.add_adapter(str(number), config)
    model.eval()

    def score(some: Sequence[tuple[str, str]]) -> None:
        texts = [list(part) for part in zip(*some, strict=True)]
        batch = backbone.tokenizer(*texts, padding=True, truncation=True, max_length=words, return_tensors="pt")
        with torch.inference_mode():
            model(**batch, adapter_names=[str(row % adapters) for row in range(len(some))]).logits.softmax(dim=-1)

    score(pairs[:32])
    begun = time.perf_counter()
    for start in range(0, len(pairs), 32):
        score(pairs[start : start + 32])
    return len(pairs) / (time.perf_counter() - begun)


class Stack(nn.Module):
    """A decoder's layers as one module, for peft to change: shopper and candidates in one sequence, under a mask."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layer = layers

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, T, H)`` and an additive mask ``(B, 1, T, T)`` to ``(B, T, H)``."""
        for layer in self.layer:
            x = layer(x, mask)
            x = x[0] if isinstance(x, tuple) else x
        return x


class PeftDecoder:
    """peft's mixed batch on the very decoder and words that peftrec's engine runs.

    Args:
        backbone: Whose decoder it is.
        changes: Low-rank changes of each adapter, of one rank.
    """

    def __init__(self, backbone: Backbone, changes: Sequence[Changes[Tensor]]) -> None:
        rank = len(next(iter(changes[0].low_rank.values())).a)
        self.first = first_layer(backbone)
        self.config = LoraConfig(r=rank, lora_alpha=rank, target_modules=rf".*({TARGETS})")
        self.load_seconds: list[float] = []
        begun = time.perf_counter()
        self.model = get_peft_model(Stack(backbone.decoder()), self.config, adapter_name="0").eval()
        self._fill("0", changes[0], begun)
        for number, one in enumerate(changes[1:], start=1):
            begun = time.perf_counter()
            self.model.add_adapter(str(number), self.config)
            self._fill(str(number), one, begun)
        self.model.eval()

    def _fill(self, name: str, changes: Changes[Tensor], begun: float) -> None:
        modules: Mapping[str, nn.Module] = dict(self.model.base_model.model.named_modules())
        for path, pair in changes.low_rank.items():
            _, _, at, place = path.split(".", 3)
            module = modules[f"layer.{int(at) - self.first}.{place}"]
            module.lora_A[name].weight.data.copy_(pair.a)  # pyright: ignore
            module.lora_B[name].weight.data.copy_(pair.b)  # pyright: ignore
        self.load_seconds.append(time.perf_counter() - begun)

    @torch.inference_mode()
    def __call__(self, x: Tensor, mask: Tensor, names: Sequence[str]) -> Tensor:
        """Output of a batch whose rows name their adapters; without names, of the base."""
        if not names:
            with self.model.disable_adapter():
                return self.model(x, mask)
        return self.model(x, mask, adapter_names=list(names))


def joint_mask(shopper: Tensor, candidates: int) -> Tensor:
    """(B, 1, T, T) additive mask of one sequence: a candidate sees the shopper's words and itself."""
    rows, words = shopper.shape
    total = words + candidates
    seen = torch.zeros(rows, total, total, dtype=torch.bool)
    seen[:, :, :words] = shopper[:, None, :]
    seen |= torch.eye(total, dtype=torch.bool)
    return torch.zeros(rows, 1, total, total).masked_fill_(~seen[:, None], torch.finfo(torch.float32).min)
