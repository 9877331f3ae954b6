"""Numbers take their place among quantiles, whichever way it is found."""

import pytest
import torch

from peftrec.model.quantiles import KNOTS, _places, encoded, knots_of, standard

WIDTH = 6


def tables(seed: int) -> dict[str, torch.Tensor]:
    rows = measured(seed, 5000)
    mean, scale = rows.mean(dim=0, keepdim=True), 1 / rows.std(dim=0, keepdim=True).clamp(min=1e-3)
    return {"feature_mean": mean, "feature_scale": scale, "feature_knots": knots_of(rows)}


def measured(seed: int, count: int) -> torch.Tensor:
    rows = torch.rand(count, WIDTH, generator=torch.Generator().manual_seed(seed)).pow(3)
    rows[:, 1] = 2.0  # says nothing
    rows[:, 2] = (rows[:, 2] > 0.5).float()  # two values
    rows[:, 3] = (rows[:, 3] * 8).round()
    return rows


def test_places_rise_from_the_least_to_the_greatest_with_unit_variance():
    rows = measured(0, 5000)
    place = encoded(tables(0), rows)[:, WIDTH:]
    order = rows[:, 0].argsort()
    assert (place[order, 0].diff() >= 0).all()
    torch.testing.assert_close(place[:, 0].std(), torch.tensor(1.0), atol=0.02, rtol=0)
    assert torch.equal(place[:, 1], torch.zeros(5000))
    assert place[:, 2].unique().tolist() == pytest.approx([-(3**0.5), 3**0.5], abs=1e-6)
    far = encoded(tables(0), rows[:2] * torch.tensor([[1e6], [-1e6]]))
    assert far[:, WIDTH].tolist() == pytest.approx([3**0.5, -(3**0.5)], abs=1e-6)
    assert far[:, 0].tolist() == [6, -6]


def test_a_processor_gives_the_bits_that_a_gpu_s_way_gives():
    several = [tables(seed) for seed in range(3)]
    stack = {name: torch.stack([one[name] for one in several]) for name in several[0]}
    x = measured(7, 3 * 200).view(3, 200, WIDTH) * 1.5 - 0.2
    x[:, :KNOTS] = stack["feature_knots"]  # exactly on the knots as well
    expected = torch.cat(
        [standard(x, stack["feature_mean"], stack["feature_scale"]), _places(stack["feature_knots"], x)], dim=-1
    )
    assert torch.equal(encoded(stack, x), expected)
    for row, one in enumerate(several):
        assert torch.equal(encoded(one, x[row]), expected[row])
    shared = encoded(several[0], x)
    assert torch.equal(shared[0], expected[0])
    assert not torch.equal(shared[1], expected[1])
