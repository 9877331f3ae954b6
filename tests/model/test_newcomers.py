"""Products that nobody has bought: what is told of them, and of nothing else."""

from dataclasses import replace

import numpy as np
import torch

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.data.features import FEATURES
from peftrec.data.histories import Histories, Ragged
from peftrec.data.snapshot import Snapshot
from peftrec.model import Adapter
from peftrec.model.candidates import CandidateConfig, Candidates, Scores, describe, generate
from peftrec.model.newcomers import are_new, closeness
from peftrec.model.platform import Platform
from peftrec.model.scoring import AdapterRecommender

TOLD = (-4.0, 1.0, 3.0)


def test_closeness_by_hand():
    history = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, -1.0], [1, 0, 0]]])
    mask = torch.tensor([[True, True], [True, False]])
    products = torch.tensor([[0.6, 0.8, 0], [0, 0, 1.0]]).expand(2, 2, 3)
    found = closeness(products, history, mask)
    assert torch.allclose(found, torch.tensor([[0.8, 0], [0, 0]]))  # the other side counts as nothing in common
    assert not closeness(products, history, torch.zeros(2, 2, dtype=torch.bool)).any()
    assert closeness(products, history[:, :0], mask[:, :0]).shape == (2, 2)


def test_the_closest_products_that_nobody_bought_are_named(grocery: Dataset):
    past, _ = grocery.split(at="2017-08-01")
    moment = float(past.log.time[-1]) + 1
    snapshot, users = Snapshot.at(past, moment), np.unique(past.log.user)[:20]
    sold = np.isin(np.arange(snapshot.n_items), past.log.item)
    assert np.array_equal(snapshot.unsold, ~sold)
    assert 20 < snapshot.unsold.sum() < len(sold)  # else this would ask for nothing
    near = np.random.default_rng(0).normal(size=(len(users), snapshot.n_items)).astype(np.float32)
    histories = Histories.of(past, users, moment=moment)
    without, with_them = (
        generate(histories, snapshot, CandidateConfig(nearest=0, newcomers=count), nearest=lambda rows: Scores(near))
        for count in (0, 7)
    )
    for row in range(len(users)):
        more = np.setdiff1d(with_them.items[row], without.items[row])
        best = np.flatnonzero(~sold)[np.argsort(-near[row, ~sold])[:7]]
        assert set(more) == set(best)
    new = are_new(torch.from_numpy(with_them.features.astype(np.float16))).numpy()
    assert np.array_equal(new, ~sold[with_them.items.values])


def test_their_logit_is_the_adapter_s_curve_and_others_keep_theirs(
    grocery: Dataset, trained: Adapter, backbone: Backbone
):
    past, _ = grocery.split(at="2017-08-01")
    silent, knowing = (
        replace(trained, extras={**trained.extras, "newcomer": np.array([curve], np.float32)})
        for curve in ((0, 0, 0), TOLD)
    )
    platform, users = Platform.of(past, backbone, progress=False), np.unique(past.log.user)[:3]
    histories = Histories.of(past, users, moment=past.now)
    snapshot = platform.snapshot(past.now)
    asked = np.concatenate([np.flatnonzero(snapshot.unsold)[:40], np.flatnonzero(~snapshot.unsold)[:60]])
    found = describe(histories, snapshot, Ragged.grid(np.tile(asked, (3, 1)).astype(np.int32)))

    def logits(adapter: Adapter, features: np.ndarray) -> np.ndarray:
        reader = AdapterRecommender(adapter, precision="fp32").reader
        profiles = np.zeros((3, backbone.hidden), np.float32)
        reading = reader.read(histories, platform, snapshot, profiles, profiles, limit=10_000)
        return np.stack(reader.score(reading, platform, Candidates(found.items, features)))

    before, after = (logits(adapter, found.features) for adapter in (silent, knowing))
    np.testing.assert_allclose(before[:, 40:], after[:, 40:], atol=1e-5)  # fewer are read at once
    for row, user in enumerate(users):
        own = np.unique(past.log.item[past.log.user == user])
        closest = (platform.items(asked[:40]) @ platform.items(own).T).max(axis=1).clip(min=0)
        rate, slope, curve = TOLD
        np.testing.assert_allclose(after[row, :40], rate + slope * closest + curve * closest**2, atol=1e-4)
    # What the shopper has looked at already is told by what they did.
    looked = found.features.copy()
    looked[:, FEATURES.index("touched")] = 1
    np.testing.assert_allclose(logits(silent, looked), logits(knowing, looked), atol=1e-5)
