"""The frozen BERT that every shop shares."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import BertModel, PreTrainedTokenizerFast

from peftrec.backbone import loading, saving
from peftrec.backbone.arithmetic import Precision, native_precision
from peftrec.backbone.encoder import encode, encoder_for, is_int8, progress_bar
from peftrec.backbone.fingerprint import tokenizer_fingerprint, weights_fingerprint
from peftrec.backbone.int8 import int8_linears, packed
from peftrec.backbone.shopping import Shopping, read_by
from peftrec.errors import ConfigError
from peftrec.text import Templates
from peftrec.text.words import MAX_LENGTH

if TYPE_CHECKING:
    from peftrec.backbone.items import ItemTable
    from peftrec.data import Dataset


MOSTLY = 0.5
"""Share of a platform's products by which it is known again; catalogues change."""

LEAST_COSINE = 0.98
"""How alike vectors of texts must be where weights are rounded to int8."""

_TEXTS = ("Copper tea kettle, 2 l, whistling, for gas", "Organic whole milk", "Running shoes, waterproof, size 39")


@dataclass(frozen=True, eq=False)
class Backbone:
    """One frozen BERT: all layers read a product's words, the top ``decoder_layers`` of them read a shopper's products.

    Build it with :meth:`load`, or adapt one to products and shoppers with :func:`peftrec.adapt`. Nothing in it is ever
    trained: tuners and heads live in adapters.

    Attributes:
        name: What it was loaded from: a short name, the last part of a folder's path, or a hub id.
        bert: All layers, float32, in evaluation mode, without gradients.
        tokenizer: The fast tokenizer that belongs to the weights.
        decoder_layers: How many of the top layers the behaviour decoder copies.
        encoder_fingerprint: Sha256 of the weights that read products; what an item table depends on.
        tokenizer_fingerprint: Sha256 of the tokenizer's rules and vocabulary.
        templates: How products, profiles and scenes become text.
        shopping: A decoder of its own and the values that adapters start from, if it was adapted to shopping.
        origin: What an adapted backbone was made of: parents, data and stages, as plain values.
    """

    name: str
    bert: BertModel = field(repr=False)
    tokenizer: PreTrainedTokenizerFast = field(repr=False)
    decoder_layers: int
    encoder_fingerprint: str
    tokenizer_fingerprint: str
    templates: Templates = field(default_factory=Templates, repr=False)
    shopping: Shopping | None = field(default=None, repr=False)
    origin: Mapping[str, object] = field(default_factory=dict, repr=False)
    _encoders: dict[str, BertModel] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def load(cls, name_or_path: str | Path, *, decoder_layers: int | None = None) -> "Backbone":
        """Loads a backbone.

        Args:
            name_or_path: ``"minilm-l6"``, the folder of a BERT, or a hub id. Code from the hub is never run.
            decoder_layers: Depth of the behaviour decoder, 1 to the number of layers; half of them by default.

        Raises:
            MissingExtraError: The package that carries a short name's weights is not installed.
            BackboneNotFoundError: No such folder or hub id, or files that are damaged or incomplete.
            UnsupportedBackboneError: The checkpoint is no BERT encoder.
            ConfigError: ``decoder_layers`` is out of range.
        """
        source = loading.locate(name_or_path)
        bert = loading.load_bert(source)
        tokenizer = loading.load_tokenizer(source, vocabulary=bert.config.vocab_size)
        folder = Path(source) if Path(source).is_dir() else None
        saved = None if folder is None else saving.read(folder, bert)
        if saved is not None and decoder_layers not in (None, saved.decoder_layers):
            raise ConfigError(
                f"decoder_layers={decoder_layers!r}",
                expected=f"{saved.decoder_layers}, the layers of the decoder that was adapted with {name_or_path}",
                remedy="leave it out",
            )
        depth = decoder_layers if saved is None else saved.decoder_layers
        loaded = cls(
            name=folder.name if folder and str(name_or_path) not in loading.SHORT_NAMES else str(name_or_path),
            bert=bert,
            tokenizer=tokenizer,
            decoder_layers=_checked_depth(depth, layers=bert.config.num_hidden_layers),
            encoder_fingerprint=weights_fingerprint(bert),
            tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
            templates=Templates() if saved is None else saved.templates,
            shopping=None if saved is None else saved.shopping,
            origin={} if saved is None else saved.origin,
        )
        if saved is not None:
            saving.check(folder, loaded, saved)
        return loaded

    def save(self, folder: str | Path) -> Path:
        """Writes the backbone as a folder that :meth:`load` and, for the encoder, ``BertModel.from_pretrained`` open.

        The folder appears whole or not at all: ``config.json``, ``model.safetensors``, the tokenizer, the decoder if it has
        one of its own, and ``backbone.json`` with templates, fingerprints and origin.

        Raises:
            BackboneWriteError: There is something in the folder's place already, or the disk is full or read-only.
            ConfigError: It is :meth:`quantised`.
        """
        self.check_float()
        return saving.save(self, Path(folder))

    def quantised(self) -> "Backbone":
        """A copy to serve with that holds int8 weights and nothing else: about a quarter of the memory.

        It has the fingerprints of the backbone that it was made from, so that it serves the same adapters. It reads texts in
        int8 (:meth:`encode`) and can be neither trained on nor saved.

        Raises:
            ConfigError: What it makes of texts, or of shoppers, says something else than what this backbone does.
        """
        if is_int8(self.bert):
            return self
        shopping = self.shopping
        if shopping is not None:
            shopping = replace(shopping, decoder=int8_linears(shopping.layers()))
        bert = copy.deepcopy(encoder_for(self.bert, "int8"))  # nothing is shared: each may move to another device
        twin = replace(self, bert=bert, shopping=shopping)
        twin.__dict__["fingerprint"] = self.fingerprint  # of the weights that adapters were trained on
        pairs = [("vectors of texts", self.bert, twin.bert)]
        if shopping is not None:
            pairs.append(("outputs of the decoder", self.tuned_bert(), twin.tuned_bert()))
        for what, exact, rounded in pairs:
            cosine = self._alike(exact, rounded)
            if not cosine >= LEAST_COSINE:
                raise ConfigError(
                    f"int8 gives {what} whose cosine to those of {self.name!r} is {cosine:.4f} on average",
                    expected=f"at least {LEAST_COSINE}",
                    remedy="serve this backbone as it is",
                )
        return twin

    def _alike(self, exact: BertModel, rounded: BertModel) -> float:
        """Mean cosine of what two BERTs make of some texts."""
        one, other = (encode(_TEXTS, bert, self.tokenizer, max_length=self.max_length) for bert in (exact, rounded))
        return float(((one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).mean())

    @property
    def is_quantised(self) -> bool:
        """Whether it holds int8 weights and nothing else."""
        return is_int8(self.bert)

    @property
    def precision(self) -> Precision:
        """Arithmetic in which it reads texts unless told otherwise."""
        return "int8" if self.is_quantised else native_precision()

    @property
    def size(self) -> int:
        """Bytes of all weights in memory."""
        modules = [self.bert, *([] if self.shopping is None else [self.shopping.decoder])]
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    @property
    def hidden(self) -> int:
        """Floats in a vector."""
        return self.bert.config.hidden_size

    def check_float(self) -> None:
        """Refuses int8 weights where something is to be trained or saved.

        Raises:
            ConfigError: It is :meth:`quantised`.
        """
        if self.is_quantised:
            raise ConfigError(
                f"the backbone {self.name!r} holds int8 weights",
                expected="one in single precision, to train or to save",
                remedy="take the backbone that it was made from; what that learns is served by the int8 one",
            )

    @property
    def layers(self) -> int:
        """Layers of the whole BERT."""
        return self.bert.config.num_hidden_layers

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of everything that adapters stand on: the encoder, and the decoder where it has one of its own."""
        if self.shopping is None:
            return self.encoder_fingerprint
        return hashlib.sha256(f"{self.encoder_fingerprint}\n{self.shopping.fingerprint}".encode()).hexdigest()

    @property
    def platforms(self) -> frozenset[str]:
        """Names of the platforms whose shoppers its decoder has read; of all its adaptations since the decoder was made."""
        return frozenset(str(facts["dataset"]) for facts in read_by(self.origin))

    def has_read(self, dataset: "Dataset") -> bool:
        """Whether its decoder has read the shoppers of a platform: one of this name that had mostly the same products.

        Sources give the same name to all that comes in their form, such as every category of Amazon's. Backbones that do not
        tell the products they were adapted on go by the name alone.
        """
        samples = [facts.get("sample") for facts in read_by(self.origin) if facts["dataset"] == dataset.name]
        return any(sample is None or dataset.catalog.share_of(sample) >= MOSTLY for sample in samples)

    @cached_property
    def template_fingerprint(self) -> str:
        """Sha256 of the three templates."""
        return self.templates.fingerprint

    @property
    def max_length(self) -> int:
        """Words read of each text, ``[CLS]`` and ``[SEP]`` included."""
        return min(MAX_LENGTH, self.bert.config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.bert.embeddings.word_embeddings.weight.device

    def to(self, device: str | torch.device) -> "Backbone":
        """The same backbone with its weights moved to a device, in place."""
        self._encoders.clear()
        self.bert.to(device)  # pyright: ignore[reportArgumentType]  # transformers narrows nn.Module.to
        if self.shopping is not None:
            self.shopping.decoder.to(device)
        return self

    def decoder(self) -> nn.ModuleList:
        """A fresh copy of the behaviour decoder's layers (``BertLayer``), lowest first: float32, frozen.

        They are the top ``decoder_layers`` layers of the BERT, or what adapting to shopping made of them. Each call copies
        anew: a tuner may attach itself to the copy, and the backbone stays as it is.
        """
        return self.upper_layers() if self.shopping is None else self.shopping.layers()

    def upper_layers(self) -> nn.ModuleList:
        """A fresh copy of the BERT's own top ``decoder_layers`` layers, which read words, whatever the decoder has learned."""
        top = self.bert.encoder.layer[self.layers - self.decoder_layers :]
        return nn.ModuleList(copy.deepcopy(layer) for layer in top).eval().requires_grad_(False)

    def tuned_bert(self) -> BertModel:
        """A copy of the BERT whose upper layers are the decoder's: what ``peft.PeftModel`` opens a published adapter on.

        A cross-encoder's stands on :attr:`bert` itself, whose layers read words.
        """
        bert = copy.deepcopy(self.bert)
        first = self.layers - self.decoder_layers
        for index, layer in enumerate(self.decoder()):
            bert.encoder.layer[first + index] = layer
        return bert

    def encode(
        self, texts: Sequence[str], *, precision: Precision | None = None, progress: bool = True
    ) -> NDArray[np.float32]:
        """One vector per text: the mean over its words after the last layer.

        Args:
            texts: Any texts, the longest cut to :attr:`max_length` words; an empty one is read as ``[CLS] [SEP]``.
            precision: ``fp32``, ``bf16`` or ``int8``; the faster of the first two when left out, or int8 where weights are.
            progress: Show a bar when the work takes longer than two seconds.

        Returns:
            (n, hidden) float32, in the order of ``texts``, equal texts having equal vectors.

        Raises:
            ConfigError: An unknown precision, or one that int8 weights do not have any more.
        """
        precision = precision or self.precision
        if precision not in self._encoders:
            encoder = encoder_for(self.bert, precision)
            if precision == "int8" and not self.is_quantised:  # else its weights are shared, and would be held twice
                packed(encoder)
            self._encoders[precision] = encoder
        bert = self._encoders[precision]
        with progress_bar(len(texts), show=progress) as bar:
            return encode(texts, bert, self.tokenizer, max_length=self.max_length, advance=bar.update)

    def items(
        self, texts: Sequence[str], *, table: "ItemTable | None" = None, progress: bool = True
    ) -> NDArray[np.float32]:
        """Like :meth:`encode`, through the item table on disk: only texts never seen before are encoded.

        Args:
            texts: Any texts; repeated ones cost nothing.
            table: Another table than the default one of this backbone.
            progress: Show a bar when the work takes longer than two seconds.

        Returns:
            (n, hidden) float32, in the order of ``texts``.

        Raises:
            ItemTableError: The table's folder cannot be read or written.
        """
        from peftrec.backbone.items import ItemTable  # it imports this module

        return (table or ItemTable(self)).vectors(texts, progress=progress)


def _checked_depth(depth: int | None, *, layers: int) -> int:
    if depth is None:
        return max(1, layers // 2)
    if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= layers:
        raise ConfigError(
            f"decoder_layers={depth!r}",
            expected=f"a whole number from 1 to {layers}, the layers of this backbone",
            remedy=f"leave it out for {max(1, layers // 2)}",
        )
    return depth
