"""AdaLoRA: ranks are taken until the budget is met, and a training that took none is no AdaLoRA."""

import pytest

from peftrec.backbone import Backbone
from peftrec.errors import ConfigError, TrainingError
from peftrec.model.shapes import first_layer
from peftrec.tuners import AdaLoRAConfig
from tests.conformance import FORMS, STEPS, checkerboard_model, learn


def test_what_is_left_is_the_budget(tiny_backbone: Backbone):
    tuner, model = AdaLoRAConfig(rank=3, targets=("query", "value", "output")), checkerboard_model(tiny_backbone)
    attached = tuner.attach(model.decoder, seed=0, steps=STEPS)
    learn(model, attached, FORMS["decoder"], rate=0.01)
    ranks = attached.export(first_layer(tiny_backbone)).ranks
    assert sum(ranks.values()) == tuner.rank * len(model.decoder) * len(tuner.targets)
    assert max(ranks.values()) <= tuner.first_rank


def test_without_what_takes_ranks_it_is_refused(tiny_backbone: Backbone):
    """As in a training loop that never calls ``update_and_allocate``: peft would say nothing."""
    model = checkerboard_model(tiny_backbone)
    attached = AdaLoRAConfig(rank=2).attach(model.decoder, seed=0, steps=STEPS)
    learn(model, type(attached)(attached.export, penalty=attached.penalty), FORMS["decoder"], rate=0.01)
    with pytest.raises(TrainingError, match=r"ended with .* of the .* ranks it began with"):
        attached.export(first_layer(tiny_backbone))


def test_a_rank_that_begins_above_the_width_is_told_by_its_name(tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match="initial_rank=90"):
        AdaLoRAConfig(rank=60).attach(tiny_backbone.decoder(), seed=0, steps=100)
