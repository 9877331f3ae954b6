"""SASRec of the benchmarks reads each shopper alone, whatever stands beside it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from peftrec.data import Dataset

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "sasrec.py"


@pytest.fixture
def sasrec(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("sasrec_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_a_row_is_read_the_same_beside_a_longer_one(sasrec: ModuleType):
    torch.manual_seed(0)
    stage = sasrec.Stage(sasrec.SASRec(width=16, length=6), known=9).eval()
    short, long = torch.tensor([[3, 5, 0, 0]]), torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        alone, both = stage.read(short[:, :2]), stage.read(torch.cat([short, long]))
        other = stage.read(torch.tensor([[7, 5]]))
    torch.testing.assert_close(both[:2], alone)
    assert len(both) == 6
    assert not torch.allclose(other[1], alone[1])  # the last word sees the one before it


def test_dropout_drops_its_share_and_keeps_the_mean(sasrec: ModuleType):
    torch.manual_seed(0)
    x = torch.ones(1000, 333)
    found = sasrec.dropout(x, 0.2, True)
    assert (found == 0).float().mean() == pytest.approx(51 / 256, abs=0.005)
    assert found.mean() == pytest.approx(1, abs=0.005)
    assert sasrec.dropout(x, 0.2, False) is x


def test_it_learns_an_order_and_serves_who_bought_nothing(sasrec: ModuleType):
    items = [f"p{at}" for at in range(8)]
    rows = [(f"u{user:03}", items[(user + day) % 8], day, "purchase") for user in range(96) for day in range(6)]
    users, bought, days, events = zip(*rows, ("v", "p0", 0, "view"), strict=True)
    shop = Dataset.build(
        name="circle",
        catalog={"item_id": items, "title": items},
        events={
            "user_id": users,
            "item_id": bought,
            "timestamp": [f"2024-01-{1 + day:02}" for day in days],
            "event": events,
        },
    )
    score = sasrec.SASRec(width=32, dropout=0.0, length=8, epochs=150, steps=150).fit(shop)
    names = shop.users.to_list()
    found = score(np.arange(len(names), dtype=np.int32))
    order = shop.catalog.indices(items)
    expected = [order[(int(name[1:]) + 6) % 8] for name in names if name != "v"]
    best = found.argmax(axis=1)[[at for at, name in enumerate(names) if name != "v"]]
    assert (best == expected).mean() > 0.95
    nobody = score(np.array([names.index("v")], np.int32))[0]
    assert np.array_equal(nobody[order], [72] * 8)  # how often each was sold
