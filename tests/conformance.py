"""What every tuner must do, on both forms of the model. A new one is tested by one class::

class TestMine(TunerConformance):
    tuner = MyConfig()
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from peftrec.backbone import Backbone
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.data import Dataset
from peftrec.data.features import FEATURES
from peftrec.data.tokens import EVENT_FEATURES
from peftrec.errors import ConfigError, IncompatibleAdapterError
from peftrec.model import Adapter, cross
from peftrec.model import extras as ops
from peftrec.model.cross import CrossEncoder, Pairs
from peftrec.model.decoder import Layer, read_shopper
from peftrec.model.extras import Shoppers
from peftrec.model.purchase import NEVER, PurchaseModel
from peftrec.model.shapes import first_layer
from peftrec.registry import Registry
from peftrec.serving import Engine
from peftrec.training import CrossEncoderConfig, TrainConfig, train_adapter, train_cross_encoder
from peftrec.tuners import Arrays, Attached, Tuner, tuner_of

PRODUCTS, STEPS, WORDS = 8, 100, 48
QUICK = TrainConfig(
    horizon_days=7, anchors=2, epochs=4, feature_epochs=1, batch_size=8, sampled_candidates=16, precision="fp32"
)


class TunerConformance:
    """Tests of one tuner.

    Attributes:
        tuner: The one.
        rate: Of the optimiser that makes it learn the checkerboard.
        alone: Whether it learns that without the heads; if not, they are trained with it.
    """

    tuner: Tuner
    rate: float = 1e-2
    alone: bool = True

    @pytest.fixture(scope="class", params=["decoder", "cross_encoder"])
    @classmethod
    def form(cls, request: pytest.FixtureRequest) -> "Form":
        return FORMS[request.param]

    @pytest.fixture(scope="class")
    @classmethod
    def learned(cls, form: "Form", tiny_bert_folder: Path) -> "Learned":
        backbone = awake(Backbone.load(tiny_bert_folder))
        model = form.model(backbone)
        before = {id(value): value.detach().clone() for value in model.decoder.parameters()}
        model.extras.requires_grad_(not cls.alone)
        attached = cls.tuner.attach(model.decoder, seed=0, steps=form.steps)
        learn(model, attached, form, rate=cls.rate)
        return Learned(form, backbone, model.eval(), attached.export(first_layer(backbone)), before)

    def test_a_fresh_one_changes_nothing(self, form: "Form", tiny_backbone: Backbone):
        model = form.model(tiny_backbone)
        before = form.logits(model.eval())
        self.tuner.attach(model.decoder, seed=0, steps=STEPS)
        assert torch.equal(form.logits(model.eval()), before)

    def test_it_learns_a_checkerboard(self, learned: "Learned"):
        found, answer = learned.form.logits(learned.model), board()
        assert found[answer > 0].min() > found[answer == 0].max()

    def test_exported_equals_trained_and_saved_equals_loaded(self, learned: "Learned", tmp_path: Path):
        made = Adapter.of(
            learned.model, learned.backbone, self.tuner, learned.changes, form=learned.form.name, words=WORDS
        )
        x, mask = units(3, 6, learned.backbone.hidden, seed=3), torch.ones(3, 6, dtype=torch.bool)
        Registry(tmp_path).publish("board", made)
        loaded = Adapter.load(Registry(tmp_path).open("board"), learned.backbone)
        with torch.inference_mode():
            trained, plain = (
                read_shopper([Layer.of(layer) for layer in layers.eval()], 8 * x, mask)[0]
                for layers in (learned.model.decoder, learned.backbone.decoder())
            )
            exported, read = (read_shopper(one.layers(), 8 * x, mask)[0] for one in (made, loaded))
        torch.testing.assert_close(exported, trained, atol=2e-2, rtol=0)  # rounded to half precision
        assert torch.equal(read, exported)
        assert loaded.config == self.tuner
        assert loaded.form == learned.form.name
        assert loaded.changes.ranks == made.changes.ranks
        if made.changes.arrays():
            assert (plain - trained).abs().max() > 0.1

    def test_training_goes_on_from_what_it_ended_in(self, learned: "Learned"):
        form, first = learned.form, first_layer(learned.backbone)
        model = form.model(learned.backbone)
        model.extras.load_state_dict(learned.model.extras.state_dict())
        attached = self.tuner.attach(model.decoder, seed=1, steps=STEPS)
        if attached.load is None:
            pytest.skip(f"{self.tuner.method} cannot")
        attached.load(learned.changes, first)
        torch.testing.assert_close(form.logits(model.eval()), form.logits(learned.model), atol=1e-4, rtol=1e-4)
        with pytest.raises(ConfigError, match="values to start from with the unknown elsewhere"):
            attached.load(replace(learned.changes, **_elsewhere(learned.changes)), first)

    def test_it_trains_what_it_says_and_nothing_else(self, learned: "Learned"):
        own = {
            id(value): name for name, value in learned.model.decoder.named_parameters() if id(value) in learned.before
        }
        values = dict(learned.model.decoder.named_parameters())
        changed = {name for at, name in own.items() if not torch.equal(values[name], learned.before[at])}
        trainable = {name for name, value in values.items() if value.requires_grad}
        assert changed == trainable & {*own.values()}
        assert len(changed) == len(learned.changes.differences)
        layers = {first_layer(learned.backbone) + at: one for at, one in enumerate(learned.backbone.decoder())}
        assert len(self.tuner.shapes(layers, learned.changes.ranks)) == len(learned.changes.arrays())

    def test_same_seed_same_start(self, form: "Form", tiny_backbone: Backbone):
        def drawn(seed: int) -> dict[str, Tensor]:
            model = form.model(tiny_backbone)
            torch.manual_seed(torch.initial_seed() + 1)  # other draws meanwhile must not matter
            self.tuner.attach(model.decoder, seed=seed, steps=STEPS)
            return {name: value for name, value in model.decoder.named_parameters() if value.requires_grad}

        one, same, other = drawn(1), drawn(1), drawn(2)
        assert one.keys() == same.keys()
        assert all(torch.equal(one[name], same[name]) for name in one)
        fresh = {name for name in one if name not in dict(form.model(tiny_backbone).decoder.named_parameters())}
        assert not fresh or any(not torch.equal(one[name], other[name]) for name in fresh)

    def test_settings_come_back(self):
        assert tuner_of({"method": self.tuner.method, **self.tuner.describe()}) == self.tuner

    @pytest.mark.slow
    def test_a_shop(self, form: "Form", board_shop: Dataset, tiny_backbone: Backbone, tmp_path: Path):
        texts = [f"thing {number}" for number in range(5)]
        vectors = tiny_backbone.encode(texts)
        one, same, other = (form.train(board_shop, tiny_backbone, self.tuner, seed) for seed in (0, 0, 1))
        assert weights_fingerprint(tiny_backbone.bert) == tiny_backbone.fingerprint
        assert np.array_equal(tiny_backbone.encode(texts), vectors)  # read anew, not looked up
        users = np.arange(8, dtype=np.int32)
        items = np.tile(np.arange(len(board_shop.catalog), dtype=np.int32), (8, 1))
        first, again, different = (
            adapter.recommender(precision="fp32").score_pool(board_shop, users, items) for adapter in (one, same, other)
        )
        assert np.abs(first - again).mean() <= 0.1 * np.abs(first - different).mean()
        registry = Registry(tmp_path)
        registry.publish("board", one.with_facts(protocol="none"))
        engine = Engine(tiny_backbone, registry, precision="fp32")
        if not self.tuner.servable:
            with pytest.raises(IncompatibleAdapterError, match="weights that all platforms share"):
                engine.recommender("board")
            return
        served = engine.recommender("board").score_pool(board_shop, users, items)
        np.testing.assert_allclose(served, first, atol=1e-5)


def _elsewhere(changes: Arrays) -> dict[str, Any]:
    """The first kind of changes there is, with one more at a place that does not exist."""
    for kind in ("low_rank", "bottlenecks", "differences"):
        values = getattr(changes, kind)
        if values:
            return {kind: {**values, "elsewhere": next(iter(values.values()))}}
    return {"differences": {"elsewhere": np.zeros(1, np.float32)}}


@dataclass(frozen=True)
class Form:
    """A form of the model.

    Attributes:
        name: In adapters.
        model: One with random heads, before anything is tuned.
        logits: (shopper, product) of the checkerboard.
        train: An adapter of a shop, by tuner and seed.
        steps: That the checkerboard takes.
    """

    name: str
    model: Callable[[Backbone], Any]
    logits: Callable[[Any], Tensor]
    train: Callable[[Dataset, Backbone, Tuner, int], Adapter]
    steps: int


@dataclass(frozen=True)
class Learned:
    """A model that learned the checkerboard.

    Attributes:
        form: Of the model.
        backbone: Under it.
        model: In evaluation mode.
        changes: What the tuner exported.
        before: The decoder's own parameters before, by their ids.
    """

    form: Form
    backbone: Backbone
    model: Any
    changes: Arrays
    before: dict[int, Tensor]


def awake(backbone: Backbone) -> Backbone:
    """Raises the weights of a random BERT to the size of trained ones: as they are drawn, its words hardly see each other."""
    for module in backbone.bert.encoder.modules():
        if isinstance(module, nn.Linear):
            module.weight.data /= module.weight.data.std() * module.in_features**0.5
    return backbone


def units(*shape: int, seed: int) -> Tensor:
    """Random unit vectors."""
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def board() -> Tensor:
    """(shopper, product): whether the product is of the shopper's colour."""
    at = torch.arange(PRODUCTS)
    return ((at[:, None] + at[None]) % 2 == 0).float()


def checkerboard_model(backbone: Backbone) -> PurchaseModel:
    """A decoder with random heads, before anything is tuned; all numbers but the kind of event are zero."""
    random = torch.Generator().manual_seed(0)
    extras = ops.initial(backbone.hidden, gain=8.0, generator=random)
    for name in ("head_1", "head_2", "shopper_gate"):
        extras[name].normal_(std=0.3, generator=random)
    return PurchaseModel(backbone.decoder(), extras)


def board_logits(model: PurchaseModel) -> Tensor:
    """(shopper, product): shopper i has bought one thing that tells its colour; products are others."""
    hidden = model.extras["item_map"].shape[0]
    history, products = units(PRODUCTS, 1, hidden, seed=1), units(PRODUCTS, hidden, seed=2)
    none = torch.zeros(PRODUCTS, hidden)
    shoppers = Shoppers(
        vectors=history,
        kind=torch.full((PRODUCTS, 1), 4),
        entry=torch.full((PRODUCTS, 1), -1),
        features=torch.zeros(PRODUCTS, 1, len(EVENT_FEATURES)),
        weight=torch.ones(PRODUCTS, 1),
        mask=torch.ones(PRODUCTS, 1, dtype=torch.bool),
        profile=none,
        scene=none,
    )
    features = torch.zeros(PRODUCTS, PRODUCTS, len(FEATURES))
    features[..., NEVER] = 1
    with torch.set_grad_enabled(model.training):
        return model.score(model.read(shoppers), products.expand(PRODUCTS, -1, -1), features).logits


def cross_model(backbone: Backbone) -> CrossEncoder:
    """A cross-encoder with a random head."""
    extras, random = cross.initial(backbone.hidden), torch.Generator().manual_seed(0)
    extras["classifier"].normal_(std=0.3, generator=random)
    return CrossEncoder(backbone, backbone.upper_layers(), extras)


def cross_logits(model: CrossEncoder) -> Tensor:
    """(shopper, product): each shopper has bought what one word says, each product is another word."""
    shopper, product = torch.meshgrid(torch.arange(PRODUCTS), torch.arange(PRODUCTS), indexing="ij")
    special = torch.full((PRODUCTS**2,), 2), torch.full((PRODUCTS**2,), 3)
    words = [special[0], 5 + shopper.flatten(), special[1], 5 + PRODUCTS + product.flatten(), special[1]]
    ids = torch.stack(words, dim=1)
    types = torch.tensor([0, 0, 0, 1, 1]).expand_as(ids)
    with torch.set_grad_enabled(model.training):
        return model(Pairs(ids, types, torch.ones_like(ids, dtype=torch.bool))).unflatten(0, (PRODUCTS, PRODUCTS))


def _decoder_of(shop: Dataset, backbone: Backbone, tuner: Tuner, seed: int) -> Adapter:
    return train_adapter(shop, backbone, tuner, replace(QUICK, seed=seed), progress=False)


def _cross_encoder_of(shop: Dataset, backbone: Backbone, tuner: Tuner, seed: int) -> Adapter:
    training = replace(QUICK, seed=seed, feature_epochs=TrainConfig().feature_epochs, sampled_candidates=8)
    config = CrossEncoderConfig(words=WORDS, training=training)
    return train_cross_encoder(shop, backbone, tuner, config, progress=False)


FORMS = {
    "decoder": Form("decoder", checkerboard_model, board_logits, _decoder_of, STEPS),
    "cross_encoder": Form("cross_encoder", cross_model, cross_logits, _cross_encoder_of, 3 * STEPS),
}


def learn(model: Any, attached: Attached, form: Form, *, rate: float) -> None:
    """Trains what requires gradients on the board, with the callbacks that a Trainer would call."""
    model.train()
    weights = [value for value in model.parameters() if value.requires_grad]
    optimiser, state = torch.optim.Adam(weights, lr=rate), State()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for state.global_step in range(form.steps):
            loss = nn.functional.binary_cross_entropy_with_logits(form.logits(model), board())
            loss = loss + (attached.penalty() if attached.penalty is not None else 0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for callback in attached.callbacks:
                callback.on_optimizer_step(None, state, None)  # pyright: ignore[reportArgumentType]


class State:
    """Of a Trainer, as far as callbacks of tuners look."""

    global_step = 0
