"""The second stage: the decoder, whole, learns shopping on the pooled logs of all platforms.

What an adapter trains on one platform is trained here on all of them, in the same order and by the same losses: the
retrieval map, the forest and the feature network, then the decoder with all that stands beside it, every layer of it free to
move. A batch holds rows of one platform, drawn with a chance that grows slower than the platform (temperature sampling;
Devlin, 2018, multilingual BERT), so that a small shop is not drowned.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from peftrec.backbone import Backbone, Shopping
from peftrec.data.dataset import Dataset
from peftrec.errors import ConfigError, NotEnoughDataError
from peftrec.model.adapter import numbers_digest
from peftrec.model.platform import Platform
from peftrec.model.purchase import PurchaseModel
from peftrec.training.anchors import anchors_of
from peftrec.training.augmenting import text_variants
from peftrec.training.checks import check_log
from peftrec.training.config import TrainConfig
from peftrec.training.feature_path import events_of, fit_feature_path, labelled_of
from peftrec.training.platform_rows import BETAS, PlatformRows, candidates_bar
from peftrec.training.reporting import check_report_to
from peftrec.training.rows import Labelled, RowDataset, Rows
from peftrec.training.stages import DecoderStage
from peftrec.training.train import starting_extras
from peftrec.training.trainer import RetrievalRows, as_is, run_stage, train_retrieval

SHOPPING = "shopping"
"""Name of the stage, on its bar and of its folder of checkpoints."""

EVENT_WORDS = 200_000
"""Words of histories that their statistics are measured on."""

Fetch = Callable[[list[int]], dict[str, object]]


@dataclass(frozen=True, kw_only=True)
class ShoppingConfig:
    """Settings of the stage that teaches the decoder shopping.

    Attributes:
        sampling: A platform is drawn with a chance in proportion to its rows to this power: 1 is their share, 0 treats all
            platforms alike.
        decoder_learning_rate: Peak rate of the decoder's layers.
        training: How rows are made, and the rate, length and losses of the training.
    """

    sampling: float = 0.5
    decoder_learning_rate: float = 1e-4
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=1.0, anchors=3, young_share=0.5, sampled_candidates=128)
    )

    def __post_init__(self) -> None:
        if not 0 <= self.sampling <= 1:
            raise ConfigError(f"sampling={self.sampling!r}", expected="from 0 to 1", remedy="the default is 0.5")
        if not self.decoder_learning_rate > 0:
            raise ConfigError(
                f"decoder_learning_rate={self.decoder_learning_rate!r}",
                expected="a number above 0",
                remedy="the default is 1e-4",
            )


class PooledBatches(TorchDataset[dict[str, object]]):
    """Whole batches, each of one platform; which rows of which is drawn once, so that a resumed training meets the same.

    Args:
        fetch: For each platform, what builds a batch of some of its rows.
        sizes: Rows of each platform.
        batch_size: Rows of a batch.
        sampling: See :class:`ShoppingConfig`.
        rng: Draws.
    """

    def __init__(
        self,
        fetch: Sequence[Fetch],
        sizes: Sequence[int],
        *,
        batch_size: int,
        sampling: float,
        rng: np.random.Generator,
    ) -> None:
        self.fetch = fetch
        self.plan: list[tuple[int, list[int]]] = []
        batches = sum(-(-size // batch_size) for size in sizes)
        for platform, (size, share) in enumerate(zip(sizes, shares(sizes, sampling), strict=True)):
            wanted = batch_size * max(1, round(batches * share))
            rounds = [rng.permutation(size) for _ in range(-(-wanted // size))] if size else []
            rows = np.concatenate(rounds)[:wanted] if rounds else np.empty(0, np.int64)
            self.plan += [(platform, rows[at : at + batch_size].tolist()) for at in range(0, len(rows), batch_size)]

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.plan)

    def __getitems__(self, index: list[int]) -> dict[str, object]:
        """One batch; ``index`` holds one place."""
        platform, rows = self.plan[index[0]]
        return self.fetch[platform](rows)


def shares(sizes: Sequence[int], sampling: float) -> NDArray[np.float64]:
    """Chance of each platform, in proportion to ``size ** sampling``; none for an empty one."""
    weight = np.where(np.array(sizes) > 0, np.maximum(np.array(sizes, np.float64), 1) ** sampling, 0)
    return weight / max(weight.sum(), 1e-12)


@dataclass(frozen=True)
class ShoppingResult:
    """What the stage ends in.

    Attributes:
        shopping: The decoder and the values that adapters start from.
        steps: Of the decoder's training.
        curve: The log of the decoder's training.
    """

    shopping: Shopping
    steps: int
    curve: list[dict[str, float]]


def adapt_shopping(
    backbone: Backbone,
    datasets: Sequence[Dataset],
    config: ShoppingConfig,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
) -> ShoppingResult:
    """Trains the decoder and all that adapters start from.

    Args:
        backbone: Its encoder reads the products and stays as it is; its decoder is where training starts.
        datasets: The platforms, each cut where its test window begins.
        config: See :class:`ShoppingConfig`.
        folder: For checkpoints.
        resume: Continue from the last of them; what comes before the decoder is fitted anew, to the same values.
        progress: Show bars.

    Raises:
        NotEnoughDataError: A platform has too few shoppers with a history and a later purchase.
        TrainingError: A loss became no number, or a checkpoint could not be written.
    """
    check_report_to(config.training.report_to, kept=True)
    training, rng = config.training, np.random.default_rng(config.training.seed)
    sources = [_read(dataset, backbone, training, progress=progress) for dataset in datasets]
    model = PurchaseModel(backbone.decoder().requires_grad_(True), starting_extras(backbone, seed=training.seed))
    _train_retrieval(model, sources, config, rng, folder=folder, progress=progress)
    _choose_popularity(model, sources)
    with candidates_bar(sum(source.shoppers for source in sources), show=progress) as bar:
        offered = [source.offered(model.extras, bar) for source in sources]
    variants = [
        text_variants(source.platform, backbone, training.augmentation, source.rng, progress=progress)
        for source in sources
    ]
    fit_feature_path(
        model,
        _pooled(sources, offered, config.sampling, rng),
        _words(offered, rng),
        training,
        rng,
        folder=folder,
        progress=progress,
    )
    validation = [source.validation(parts) for source, parts in zip(sources, offered, strict=True)]
    trainer = run_stage(
        DecoderStage(model, training),
        _batches(
            [
                source.rows(parts, variants=other)
                for source, parts, other in zip(sources, offered, variants, strict=True)
            ],
            config,
            rng,
        ),
        training,
        folder=folder,
        name=SHOPPING,
        collate=as_is,  # pyright: ignore[reportArgumentType]
        epochs=training.epochs,
        batch_size=1,
        learning_rate=training.learning_rate,
        rates={"model.decoder.": config.decoder_learning_rate},
        validation=_batches(validation, config, rng) if any(map(len, validation)) else None,
        bf16=training.precision == "bf16",
        resume=resume,
        progress=progress,
    )
    return ShoppingResult(_exported(model, training), trainer.state.global_step, trainer.state.log_history)


def check_shoppers(dataset: Dataset, config: ShoppingConfig) -> None:
    """Refuses a log that is too short or small for the stage, before hours are spent on another one.

    Raises:
        NotEnoughDataError: Names the platform.
    """
    check_log(dataset)
    with _naming(dataset):
        anchors_of(dataset, config.training.on(dataset))


def _read(dataset: Dataset, backbone: Backbone, training: TrainConfig, *, progress: bool) -> PlatformRows:
    with _naming(dataset):
        return PlatformRows.of(Platform.of(dataset, backbone, progress=progress), training.on(dataset))


@contextmanager
def _naming(dataset: Dataset) -> Generator[None]:
    try:
        yield
    except NotEnoughDataError as error:
        raise NotEnoughDataError(
            f"'{dataset.name}': {error.found}",
            expected=error.expected,
            remedy="leave it out of the shopping stage, or use a longer log or a shorter horizon",
        ) from error


def _train_retrieval(
    model: PurchaseModel,
    sources: Sequence[PlatformRows],
    config: ShoppingConfig,
    rng: np.random.Generator,
    *,
    folder: Path,
    progress: bool,
) -> None:
    rows = [RetrievalRows(source.rows(source.parts)) for source in sources]
    mixed = PooledBatches(
        [one.__getitems__ for one in rows],
        [len(one) for one in rows],
        batch_size=256,
        sampling=config.sampling,
        rng=rng,
    )
    train_retrieval(model, mixed, config.training, folder=folder, progress=progress, batch_size=1)


def _choose_popularity(model: PurchaseModel, sources: Sequence[PlatformRows]) -> None:
    """Sets the weight of log popularity that is best on average over platforms."""
    hits = np.array([[source.popularity_hits(model.extras)[beta] for beta in BETAS] for source in sources], np.float64)
    hits = hits[hits.any(axis=1)]
    if len(hits):
        model.extras["popularity"].data.fill_(BETAS[int((hits / hits.max(axis=1, keepdims=True)).sum(axis=0).argmax())])


def _pooled(
    sources: Sequence[PlatformRows], offered: Sequence[list[Rows]], sampling: float, rng: np.random.Generator
) -> Labelled:
    """As many candidates as there are, but drawn from each platform with its chance.

    Those of shoppers held out are left out: a platform's adapter asks them, where it has the same seed, whether its own
    numbers say more than those learned here.
    """
    kept = [~source.held_out for source in sources]
    found = [labelled_of(parts, keep=keep) for parts, keep in zip(offered, kept, strict=True)]
    sizes = [len(one.bought) for one in found]
    drawn = [
        rng.choice(size, wanted, replace=wanted > size)
        for size, wanted in zip(sizes, np.round(sum(sizes) * shares(sizes, sampling)).astype(int), strict=True)
    ]
    chosen = [[values[at] for values in one] for one, at in zip(found, drawn, strict=True)]
    return Labelled(*(np.concatenate(values) for values in zip(*chosen, strict=True)))


def _words(offered: Sequence[list[Rows]], rng: np.random.Generator) -> NDArray[np.floating]:
    """As many words of histories from each platform, where it has that many."""
    found = [events_of(parts) for parts in offered]
    return np.concatenate([one[rng.permutation(len(one))[: EVENT_WORDS // len(found)]] for one in found])


def _batches(rows: Sequence[RowDataset], config: ShoppingConfig, rng: np.random.Generator) -> PooledBatches:
    return PooledBatches(
        [lambda at, one=one: one.collate([one[row] for row in at]) for one in rows],
        [len(one) for one in rows],
        batch_size=config.training.batch_size,
        sampling=config.sampling,
        rng=rng,
    )


def _exported(model: PurchaseModel, training: TrainConfig) -> Shopping:
    def plain(value: Tensor) -> NDArray[np.float32]:
        return value.detach().float().cpu().numpy()

    decoder = model.decoder.eval().requires_grad_(False)
    settings = {
        "history": training.history,
        "candidates": asdict(training.candidates),
        "scene": training.scene,
        "numbers": numbers_digest(),
    }
    return Shopping(decoder, {name: plain(value) for name, value in model.extras.items()}, settings)
