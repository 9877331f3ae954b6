"""The purchase logit: counts alone for what was bought before, the decoder's correction for the rest."""

from collections.abc import Callable

import pytest
import torch

from peftrec.backbone import Backbone
from peftrec.data.features import FEATURES
from peftrec.data.tokens import EVENT_FEATURES
from peftrec.model import extras as ops
from peftrec.model.extras import Shoppers
from peftrec.model.purchase import NEVER, PurchaseModel

ROWS, WORDS, CANDIDATES = 3, 5, 40


@pytest.fixture
def model(tiny_backbone: Backbone) -> PurchaseModel:
    random = torch.Generator().manual_seed(0)
    extras = ops.initial(tiny_backbone.hidden, gain=5.0, generator=random)
    for name in ("head_1", "head_2", "candidate_in", "shopper_gate"):
        extras[name].normal_(generator=random)  # zeros would hide the decoder
    return PurchaseModel(tiny_backbone.decoder(), extras).eval()


@pytest.fixture
def inputs(tiny_backbone: Backbone) -> tuple[Shoppers, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)

    def units(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, tiny_backbone.hidden, generator=random), dim=-1)

    shoppers = Shoppers(
        vectors=units(ROWS, WORDS),
        kind=torch.full((ROWS, WORDS), 4),
        entry=torch.full((ROWS, WORDS), -1),
        features=torch.rand(ROWS, WORDS, len(EVENT_FEATURES), generator=random),
        weight=torch.full((ROWS, WORDS), 1 / WORDS),
        mask=torch.ones(ROWS, WORDS, dtype=torch.bool),
        profile=torch.zeros(ROWS, tiny_backbone.hidden),
        scene=torch.zeros(ROWS, tiny_backbone.hidden),
    )
    features = torch.rand(ROWS, CANDIDATES, len(FEATURES), generator=random)
    features[..., NEVER] = (torch.rand(ROWS, CANDIDATES, generator=random) < 0.5).float()
    features[0, :, NEVER] = 0  # this shopper has bought all of them
    return shoppers, units(ROWS, CANDIDATES), features


@torch.no_grad()
def test_the_decoder_corrects_products_never_bought_and_no_others(model: PurchaseModel, inputs):
    shoppers, vectors, features = inputs
    logits = model.score(model.read(shoppers), vectors, features).logits
    alone = ops.feature_path(model.extras, features)[1]
    new = features[..., NEVER] > 0
    assert torch.equal(logits[~new], alone[~new])
    assert (logits[new] - alone[new]).abs().min() > 0


@torch.no_grad()
def test_each_candidate_gets_its_own_correction(model: PurchaseModel, inputs):
    shoppers, vectors, features = inputs
    logits = model.score(model.read(shoppers), vectors, features).logits
    order = torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(2))
    shuffled = model.score(model.read(shoppers), vectors[:, order], features[:, order]).logits
    torch.testing.assert_close(shuffled, logits[:, order], atol=1e-4, rtol=1e-4)
    for row in range(ROWS):
        one = Shoppers(**{name: value[row : row + 1] for name, value in vars(shoppers).items()})
        alone = model.score(model.read(one), vectors[row : row + 1], features[row : row + 1]).logits
        torch.testing.assert_close(alone, logits[row : row + 1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_nothing_new_needs_no_decoder(model: PurchaseModel, inputs, monkeypatch: pytest.MonkeyPatch):
    shoppers, vectors, features = inputs
    reading = model.read(shoppers)
    features[..., NEVER] = 0
    monkeypatch.setattr("peftrec.model.purchase.read_candidates", lambda *_: pytest.fail("the decoder was asked"))
    assert model.score(reading, vectors, features).logits.shape == (ROWS, CANDIDATES)


@torch.no_grad()
def test_bf16_stays_close(model: PurchaseModel, inputs):
    shoppers, vectors, features = inputs
    exact = model.score(model.read(shoppers), vectors, features).logits
    with torch.autocast("cpu", torch.bfloat16):
        scored = model.score(model.read(shoppers), vectors, features)
    rounded = scored.logits.float()
    assert scored.output.dtype == torch.bfloat16  # words stay so from layer to layer
    assert torch.corrcoef(torch.stack([exact.ravel(), rounded.ravel()]))[0, 1] > 0.99


def test_a_batch_of_known_products_can_be_trained_on(model: PurchaseModel, inputs):
    from peftrec.training import TrainConfig
    from peftrec.training.rows import Batch
    from peftrec.training.stages import DecoderStage

    shoppers, vectors, features = inputs
    features[..., NEVER] = 0
    none = vectors[:, :0]
    ones = torch.ones(ROWS, CANDIDATES)
    batch = Batch(shoppers, vectors, features, ones, none, ones[:, :0].bool(), vectors[0, :4])
    stage = DecoderStage(model, TrainConfig(retrieval_weight=0.0)).train()
    loss = stage(batch, torch.zeros(ROWS, CANDIDATES))["loss"]
    loss.backward()
    assert loss.isfinite()


@torch.no_grad()
@pytest.mark.parametrize("rounded", [False, True])
def test_stacked_adapters_answer_as_each_alone(tiny_backbone: Backbone, inputs, rounded: bool):
    make: Callable[[int], dict[str, torch.Tensor]] = lambda seed: ops.initial(  # noqa: E731
        tiny_backbone.hidden, gain=1.0, generator=torch.Generator().manual_seed(seed)
    )
    several = [make(seed) for seed in range(ROWS)]
    stack = {name: torch.stack([one[name] for one in several]) for name in several[0]}
    features = inputs[2]
    with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
        summary, logits = ops.feature_path(stack, features)
        for row, one in enumerate(several):
            alone = ops.feature_path(one, features[row : row + 1])
            torch.testing.assert_close(summary[row : row + 1], alone[0], atol=2e-2 if rounded else 1e-5, rtol=0)
            torch.testing.assert_close(logits[row : row + 1], alone[1], atol=2e-2 if rounded else 1e-5, rtol=0)
