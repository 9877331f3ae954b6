"""What every tuner must do. A new one is tested by one class::

class TestMine(TunerConformance):
    tuner = MyConfig()
"""

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
from peftrec.model import Adapter, Platform
from peftrec.model import extras as ops
from peftrec.model.adapter import first_layer
from peftrec.model.decoder import read_shopper
from peftrec.model.extras import Shoppers
from peftrec.model.purchase import NEVER, PurchaseModel
from peftrec.registry import Registry
from peftrec.serving import Engine
from peftrec.training import TrainConfig, train_adapter
from peftrec.tuners import Arrays, Attached, Tuner, tuner_of

PRODUCTS, STEPS = 8, 100
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

    @pytest.fixture(scope="class")
    @classmethod
    def learned(cls, tiny_bert_folder: Path) -> "Learned":
        backbone = awake(Backbone.load(tiny_bert_folder))
        model = checkerboard_model(backbone)
        before = {id(value): value.detach().clone() for value in model.decoder.parameters()}
        model.extras.requires_grad_(not cls.alone)
        attached = cls.tuner.attach(model.decoder, seed=0, steps=STEPS)
        learn(model, attached, rate=cls.rate)
        return Learned(backbone, model.eval(), attached.export(first_layer(backbone)), before)

    def test_a_fresh_one_changes_nothing(self, tiny_backbone: Backbone):
        model = checkerboard_model(tiny_backbone)
        before = board_logits(model)
        self.tuner.attach(model.decoder, seed=0, steps=STEPS)
        assert torch.equal(board_logits(model.eval()), before)

    def test_it_learns_a_checkerboard(self, learned: "Learned"):
        found, answer = board_logits(learned.model), board()
        assert found[answer > 0].min() > found[answer == 0].max()

    def test_exported_equals_trained_and_saved_equals_loaded(self, learned: "Learned", tmp_path: Path):
        made = Adapter.of(learned.model, learned.backbone, self.tuner, learned.changes)
        x, mask = units(3, 6, learned.backbone.hidden, seed=3), torch.ones(3, 6, dtype=torch.bool)
        Registry(tmp_path).publish("board", made)
        loaded = Adapter.load(Registry(tmp_path).open("board"), learned.backbone)
        with torch.inference_mode():
            trained, plain = (
                read_shopper(PurchaseModel(decoder, learned.model.extras).eval().layers(), 8 * x, mask)[0]
                for decoder in (learned.model.decoder, learned.backbone.decoder())
            )
            exported, read = (read_shopper(one.layers(), 8 * x, mask)[0] for one in (made, loaded))
        torch.testing.assert_close(exported, trained, atol=2e-2, rtol=0)  # rounded to half precision
        assert torch.equal(read, exported)
        assert loaded.config == self.tuner
        assert loaded.changes.ranks == made.changes.ranks
        if made.changes.arrays():
            assert (plain - trained).abs().max() > 0.1

    def test_training_goes_on_from_what_it_ended_in(self, learned: "Learned"):
        model, first = checkerboard_model(learned.backbone), first_layer(learned.backbone)
        model.extras.load_state_dict(learned.model.extras.state_dict())
        attached = self.tuner.attach(model.decoder, seed=1, steps=STEPS)
        if attached.load is None:
            pytest.skip(f"{self.tuner.method} cannot")
        attached.load(learned.changes, first)
        torch.testing.assert_close(board_logits(model.eval()), board_logits(learned.model), atol=1e-4, rtol=1e-4)
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

    def test_same_seed_same_start(self, tiny_backbone: Backbone):
        def drawn(seed: int) -> dict[str, Tensor]:
            model = checkerboard_model(tiny_backbone)
            torch.manual_seed(torch.initial_seed() + 1)  # other draws meanwhile must not matter
            self.tuner.attach(model.decoder, seed=seed, steps=STEPS)
            return {name: value for name, value in model.decoder.named_parameters() if value.requires_grad}

        one, same, other = drawn(1), drawn(1), drawn(2)
        assert one.keys() == same.keys()
        assert all(torch.equal(one[name], same[name]) for name in one)
        fresh = {name for name in one if name not in dict(checkerboard_model(tiny_backbone).decoder.named_parameters())}
        assert not fresh or any(not torch.equal(one[name], other[name]) for name in fresh)

    def test_settings_come_back(self):
        assert tuner_of({"method": self.tuner.method, **self.tuner.describe()}) == self.tuner

    @pytest.mark.slow
    def test_a_shop(self, board_shop: Dataset, tiny_backbone: Backbone, tmp_path: Path):
        vectors = Platform.of(board_shop, tiny_backbone, progress=False).vectors.copy()
        one, same = (train_adapter(board_shop, tiny_backbone, self.tuner, QUICK, progress=False) for _ in range(2))
        other = train_adapter(board_shop, tiny_backbone, self.tuner, replace(QUICK, seed=1), progress=False)
        assert weights_fingerprint(tiny_backbone.bert) == tiny_backbone.fingerprint
        assert np.array_equal(Platform.of(board_shop, tiny_backbone, progress=False).vectors, vectors)
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
class Learned:
    """A model that learned the checkerboard.

    Attributes:
        backbone: Under it.
        model: In evaluation mode.
        changes: What the tuner exported.
        before: The decoder's own parameters before, by their ids.
    """

    backbone: Backbone
    model: PurchaseModel
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


def learn(model: PurchaseModel, attached: Attached, *, rate: float, steps: int = STEPS) -> None:
    """Trains what requires gradients on the board, with the callbacks that a Trainer would call."""
    model.train()
    weights = [value for value in model.parameters() if value.requires_grad]
    optimiser, state = torch.optim.Adam(weights, lr=rate), State()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for state.global_step in range(steps):
            loss = nn.functional.binary_cross_entropy_with_logits(board_logits(model), board())
            loss = loss + (attached.penalty() if attached.penalty is not None else 0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for callback in attached.callbacks:
                callback.on_optimizer_step(None, state, None)  # pyright: ignore[reportArgumentType]


class State:
    """Of a Trainer, as far as callbacks of tuners look."""

    global_step = 0
