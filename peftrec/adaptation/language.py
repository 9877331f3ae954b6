"""The language stage: BERT learns how products are described and which of them go together."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from transformers import BertModel

from peftrec.adaptation.batches import Batches, Vectors
from peftrec.adaptation.config import LanguageConfig
from peftrec.adaptation.loop import History, train_language
from peftrec.adaptation.masking import Reader
from peftrec.adaptation.packed import read_packed
from peftrec.adaptation.pairs import Baskets
from peftrec.adaptation.stage import HeadStage, LanguageStage, MaskedHead, guessing_loss
from peftrec.backbone import Backbone
from peftrec.backbone.encoder import encode, encoder_for, progress_bar
from peftrec.data.dataset import Dataset
from peftrec.errors import ConfigError, NotEnoughDataError

Kind = TypeVar("Kind", bound=nn.Module)

LANGUAGE, HEAD = "language", "head"
"""Names of the stages, on their bars and of their folders of checkpoints."""


@dataclass(frozen=True, eq=False)
class LanguageResult:
    """What the language stage ends in.

    Attributes:
        bert: The new BERT: float32, in evaluation mode, without gradients.
        head: The masked-language head that was trained with it.
        steps: Steps of the training.
        history: The log: dicts with ``step``, ``loss`` and the objectives ``masked``, ``next``, ``contrastive`` and
            ``distillation``, as far as they were trained; with ``eval_`` before each on the texts held out.
    """

    bert: BertModel
    head: MaskedHead
    steps: int
    history: History


def adapt_language(
    backbone: Backbone,
    datasets: Sequence[Dataset],
    config: LanguageConfig | None = None,
    *,
    folder: str | Path,
    resume: bool = False,
    progress: bool = True,
) -> LanguageResult:
    """Trains the whole BERT on the product texts of some platforms; the backbone stays as it is.

    Whole words of a text are masked and guessed, and read behind another text it is told whether the two follow each other
    in one visit (Devlin et al., 2019): in domain and on the task's own texts, both lift what is built on top (Gururangan
    et al., 2020). Mean-pooled vectors would lose their sense of similarity meanwhile; so products bought together are
    drawn closer than others (InfoNCE, van den Oord et al., 2018), and all are held near where they were.

    Args:
        backbone: Where it starts.
        datasets: The platforms, whose names differ; parts to train on, not those to be evaluated.
        config: See :class:`LanguageConfig`.
        folder: Keeps the checkpoints of this stage in ``language/``.
        resume: Continue from the last checkpoint of the very same training, if there is one; the weights come out as if
            it had never been interrupted. Else checkpoints are removed.
        progress: Show bars.

    Returns:
        The new weights; the same for the same data, settings and seed on the same machine.

    Raises:
        NotEnoughDataError: No platforms, or one with less than two distinct texts to train on.
        ConfigError: The backbone's tokenizer has no mask word, or the checkpoints to resume from are those of another training.
        TrainingError: A gradient or loss became no number, or a checkpoint could not be written.
    """
    config = config or LanguageConfig()
    train, validation = _batches(backbone, datasets, config, progress=progress)
    stage = _seeded(lambda: LanguageStage(copy.deepcopy(backbone.bert).requires_grad_(True), config), config)
    place, digest = Path(folder) / LANGUAGE, _digest(LANGUAGE, backbone, datasets, config)
    history = train_language(
        stage, train, validation, config, folder=place, digest=digest, resume=resume, progress=progress
    )
    bert = merged(stage.bert, backbone.bert, share=config.merge)
    return LanguageResult(bert, stage.masked_head.eval().requires_grad_(False), len(train), history)


def fit_head(
    backbone: Backbone,
    datasets: Sequence[Dataset],
    config: LanguageConfig | None = None,
    *,
    folder: str | Path,
    resume: bool = False,
    progress: bool = True,
) -> MaskedHead:
    """Fits a masked-language head on the frozen backbone, with the texts, masks and steps of :func:`adapt_language`.

    It tells how much of an adapted BERT's guessing is the head's merit. Arguments and errors are those of
    :func:`adapt_language`; checkpoints are kept in ``head/``.
    """
    config = replace(config or LanguageConfig(), contrastive_weight=0.0, distillation_weight=0.0)
    train, validation = _batches(backbone, datasets, config, progress=progress)
    stage = _seeded(lambda: HeadStage(copy.deepcopy(backbone.bert)), config)
    place, digest = Path(folder) / HEAD, _digest(HEAD, backbone, datasets, config)
    train_language(stage, train, validation, config, folder=place, digest=digest, resume=resume, progress=progress)
    return stage.masked_head.eval().requires_grad_(False)


def _digest(stage: str, backbone: Backbone, datasets: Sequence[Dataset], config: LanguageConfig) -> str:
    """sha256 of all that decides what a stage ends in."""
    of_backbone = (backbone.encoder_fingerprint, backbone.tokenizer_fingerprint, backbone.template_fingerprint)
    parts = [stage, *of_backbone, *(f"{dataset.name} {dataset.digest}" for dataset in datasets), repr(config)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@torch.inference_mode()
def masked_loss(
    backbone: Backbone,
    texts: Sequence[str],
    *,
    head: MaskedHead,
    bert: BertModel | None = None,
    config: LanguageConfig | None = None,
    seed: int = 0,
) -> float:
    """Mean cross-entropy, in nats per piece, of whole words masked in texts; the same masks for the same seed and texts.

    Args:
        backbone: Its tokenizer is used.
        texts: Read one by one, best those that training did not see.
        head: Of ``bert``.
        bert: The backbone's own if not given.
        config: Its ``mask_share``, ``max_words`` and ``batch_size``.
        seed: Of the masks.

    Raises:
        NotEnoughDataError: No text has a word that can be masked.
    """
    config, bert = config or LanguageConfig(), backbone.bert if bert is None else bert
    reader, rng = Reader(backbone, max_words=config.max_words), np.random.default_rng(seed)
    device, total, count = bert.embeddings.word_embeddings.weight.device, 0.0, 0
    order = sorted(texts, key=lambda text: (len(text), text))
    for start in range(0, len(order), config.batch_size):
        pieces = reader.read(order[start : start + config.batch_size])
        masked = reader.mask(pieces, share=config.mask_share, rng=rng)
        inputs = {name: value.to(device) for name, value in pieces.inputs(masked.ids).items()}
        places, labels = (torch.from_numpy(array).to(device) for array in (masked.places, masked.labels))
        loss = guessing_loss(head, bert, read_packed(bert, inputs, places), labels)
        total, count = total + float(loss) * len(labels), count + len(labels)
    if not count:
        raise NotEnoughDataError(
            f"{len(texts)} texts without a word that can be masked",
            expected="texts whose words the tokenizer knows",
            remedy="give texts of products",
        )
    return total / count


def merged(adapted: BertModel, original: BertModel, *, share: float) -> BertModel:
    """A BERT whose weights lie ``share`` of the way from the original's to the adapted's: float32, frozen.

    Both ends of a fine-tuning lie in one valley of the loss, so the mean of weights keeps much of both (Wortsman et al.,
    2022).
    """
    found = copy.deepcopy(original).float()
    new = adapted.state_dict()
    for name, weight in found.state_dict().items():
        if weight.is_floating_point():
            weight.lerp_(new[name].to(weight), share)
    return found.eval().requires_grad_(False)


def held_out(share: float) -> Callable[[str], bool]:
    """Tells which texts are held out: those whose sha256 is among the lowest ``share`` of all possible ones."""
    return lambda text: int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) < share * 2**64


def _batches(
    backbone: Backbone, datasets: Sequence[Dataset], config: LanguageConfig, *, progress: bool
) -> tuple[Batches, Batches | None]:
    reader, template = Reader(backbone, max_words=config.max_words), backbone.templates.product
    left_out = held_out(config.validation_share)
    train = [Baskets.of(one, template, keep=lambda text: not left_out(text)) for one in datasets]
    test = [Baskets.of(one, template, keep=left_out) for one in datasets] if config.validation_share else []
    test = [one for one in test if len(one.texts) > 1]
    _check_platforms(train)
    texts = [text for one in (*train, *test) for text in one.texts]
    vectors = _original(backbone, texts, config, progress=progress) if config.distillation_weight else Vectors()
    batches = Batches(train, reader, config, vectors=vectors, epochs=config.epochs, sampling=config.sampling)
    return batches, Batches(test, reader, config, vectors=vectors, epochs=1, sampling=1) if test else None


def _check_platforms(train: Sequence[Baskets]) -> None:
    names = [one.name for one in train]
    if len({*names}) < len(names):
        raise ConfigError(
            f"platforms of one name: {', '.join(sorted(names))}",
            expected="a name of its own for each platform",
            remedy="name them with dataclasses.replace(dataset, name=...)",
        )
    short = [one.name for one in train if len(one.texts) < 2]
    if short or not train:
        raise NotEnoughDataError(
            f"less than two distinct product texts to train on: {', '.join(short) or 'no platform'}",
            expected="platforms whose products have titles",
            remedy="leave the platform out, or lower LanguageConfig.validation_share",
        )


def _original(backbone: Backbone, texts: Sequence[str], config: LanguageConfig, *, progress: bool) -> Vectors:
    """The vector of each text before adaptation, from as many of its words as training reads."""
    distinct = list(dict.fromkeys(texts))
    bert, longest = encoder_for(backbone.bert, config.precision), min(config.max_words, backbone.max_length)
    with progress_bar(len(distinct), show=progress) as bar:
        vectors = encode(distinct, bert, backbone.tokenizer, max_length=longest, advance=bar.update)
    return dict(zip(distinct, vectors, strict=True))


def _seeded(make: Callable[[], Kind], config: LanguageConfig) -> Kind:
    """A module whose random weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return make()
