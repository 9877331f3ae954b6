"""What all tests share: no network, a throw-away cache, real MiniLM weights, tiny BERTs for edge cases."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports a Hugging Face library, which reads these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tests fork and spawn
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # busy torch processes slow each other several times over
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(workers)))

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from peftrec.backbone import Backbone
    from peftrec.data import Dataset
    from peftrec.model import Adapter
    from peftrec.training import TrainConfig

CUT = "2017-11-27T05:00"

settings.register_profile("busy", deadline=None)  # a machine that is busy elsewhere is no error
settings.load_profile("busy")

_ROOT = Path(__file__).resolve().parents[1]
_WORDS = (
    "tea kettle pot socks milk bread red green blue small large paper box the a of and with "
    ", - . / 1 2 3 ##s ##ing ##ed"
)


def shared_data() -> Path:
    """The folder of shared data sets: ``PEFTREC_DATA``, or ``../shared/data`` beside the repository."""
    return Path(os.environ.get("PEFTREC_DATA") or _ROOT.parent / "shared" / "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shared_data().is_dir():
        return
    absent = pytest.mark.skip(reason=f"shared data not found in {shared_data()}; set PEFTREC_DATA to its folder")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(absent)


@pytest.fixture(scope="session", autouse=True)
def _throw_away_cache() -> Iterator[None]:
    """No test reads or fills the user's own item tables."""
    with tempfile.TemporaryDirectory(prefix="peftrec-tests-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFTREC_CACHE", folder)
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The shared data sets; use only in tests marked ``data``."""
    return shared_data()


@pytest.fixture(scope="session")
def backbone() -> "Backbone":
    """The real MiniLM (6 layers, width 384), loaded once; tests must not change it."""
    from peftrec.backbone import Backbone

    return Backbone.load("minilm-l6")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the folder of a random BERT: ``tiny_bert(layers=2, hidden=64, seed=0, max_positions=64, activation="gelu")``."""

    def make(
        *, layers: int = 2, hidden: int = 64, seed: int = 0, max_positions: int = 64, activation: str = "gelu"
    ) -> Path:
        import torch
        from transformers import BertConfig, BertModel, BertTokenizer

        folder = tmp_path_factory.mktemp("tiny-bert")
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS.split(), *"bcdefghijklmnopqrstuvwxyz"]
        (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
        tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True)
        tokenizer.save_pretrained(folder)
        config = BertConfig(
            vocab_size=len(words),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=2 * hidden,
            max_position_embeddings=max_positions,
            hidden_act=activation,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bert_folder(tiny_bert: Callable[..., Path]) -> Path:
    """One random BERT of 2 layers and width 64 with a vocabulary of some 50 words."""
    return tiny_bert()


@pytest.fixture
def tiny_backbone(tiny_bert_folder: Path) -> "Backbone":
    """That BERT loaded afresh: a test may change it."""
    from peftrec.backbone import Backbone

    return Backbone.load(tiny_bert_folder)


def households(chosen: Sequence[str] | None = None, *, products: int = 3000) -> "Dataset":
    """Real households, 150 if not given, and the products they buy most: small enough to train on in seconds."""
    import polars as pl

    from peftrec.data import Catalog, Coupons, Dataset, Events, Profiles, Promotions, load_dataset

    whole = load_dataset("completejourney")
    users = (whole.users[::16] if chosen is None else pl.Series(chosen, dtype=pl.String)).implode()
    events = whole.events.frame.filter(pl.col("user_id").is_in(users))
    counts = events["item_id"].value_counts(sort=True).sort("count", "item_id", descending=[True, False])
    items = counts["item_id"][:products]
    profiles = None if whole.profiles is None else whole.profiles.frame.filter(pl.col("user_id").is_in(users))
    planned = (
        None if whole.promotions is None else whole.promotions.frame.filter(pl.col("item_id").is_in(items.implode()))
    )
    coupons = None
    if whole.coupons is not None:
        covered = whole.coupons.products.filter(pl.col("item_id").is_in(items.implode()))
        coupons = Coupons(covered, whole.coupons.recipients.filter(pl.col("user_id").is_in(users)))
    return Dataset(
        "grocery",
        Catalog(whole.catalog.frame.filter(pl.col("item_id").is_in(items.implode()))),
        Events(events.filter(pl.col("item_id").is_in(items.implode()))),
        None if profiles is None else Profiles(profiles),
        whole.source,
        promotions=None if planned is None else Promotions(planned),
        coupons=coupons,
    )


@pytest.fixture(scope="session")
def grocery() -> "Dataset":
    """See :func:`households`."""
    return households()


@pytest.fixture(scope="session")
def choose_households() -> "Callable[..., Dataset]":
    """See :func:`households`, which takes their ids."""
    return households


def make_board_shop() -> "Dataset":
    """A shop with a known answer: forty shoppers, each of whom buys things of one colour, two a week for ten weeks."""
    import numpy as np

    colours, things = ("red", "green"), ("tea", "kettle", "pot", "socks", "milk", "bread", "paper", "box")
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user:02d}", f"{colours[user % 2]} {thing}", week)
        for user in range(40)
        for week in range(10)
        for thing in rng.choice(things, 2, replace=False)
    ]
    return weekly_shop("board", [f"{colour} {thing}" for colour in colours for thing in things], rows)


def weekly_shop(name: str, titles: Sequence[str], rows: Sequence[tuple[str, str, int]]) -> "Dataset":
    """A shop whose products are their titles, from who bought which of them in which week."""
    import numpy as np

    from peftrec.data import Dataset

    users, items, weeks = zip(*rows, strict=True)
    moments = np.datetime64("2024-01-01T12:00") + np.array(weeks) * np.timedelta64(7, "D")
    return Dataset.build(
        name=name,
        catalog={"item_id": titles, "title": titles},
        events={"user_id": users, "item_id": items, "timestamp": moments.astype(str).tolist()},
    )


@pytest.fixture(scope="session")
def board_shop() -> "Dataset":
    """See :func:`make_board_shop`."""
    return make_board_shop()


def quick_config() -> "TrainConfig":
    """Training in seconds."""
    from peftrec.training import TrainConfig

    return TrainConfig(anchors=2, epochs=1, feature_epochs=3, sampled_candidates=48, history=24, negatives=128)


@pytest.fixture(scope="session")
def quick() -> "TrainConfig":
    """See :func:`quick_config`."""
    return quick_config()


@pytest.fixture(scope="session")
def trained(grocery: "Dataset", backbone: "Backbone", quick: "TrainConfig") -> "Adapter":
    """An adapter trained on all but the last five weeks of ``grocery``."""
    from peftrec.training import train_adapter

    past, _ = grocery.split(at=CUT)
    return train_adapter(past, backbone, config=quick, progress=False)
