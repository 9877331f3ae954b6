"""A hidden signal is gone everywhere, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest

from peftrec.data import Dataset
from peftrec.data.histories import PURCHASE
from peftrec.data.signals import SIGNALS, present, without
from peftrec.data.simulate import simulate_browsing
from peftrec.errors import ConfigError


@pytest.fixture(scope="module")
def parts(grocery: Dataset) -> tuple[Dataset, Dataset]:
    return simulate_browsing(grocery).split(at="2017-11-01")


def test_a_log_tells_its_signals(grocery: Dataset, parts: tuple[Dataset, Dataset]):
    assert set(present(parts[0])) == {*SIGNALS}
    assert set(SIGNALS) - set(present(grocery)) == {"events", "dwell"}


@pytest.mark.parametrize("signal", SIGNALS)
def test_one_signal_is_gone_and_indices_stay(parts: tuple[Dataset, Dataset], signal: str):
    _, future = parts
    hidden = without(future, signal)
    assert set(present(hidden)) == {*SIGNALS} - {signal} - ({"dwell"} if signal == "events" else set[str]())
    assert hidden.users.equals(future.users)
    assert hidden.catalog.ids.equals(future.catalog.ids)
    assert hidden.past is not None
    assert future.past is not None
    assert signal not in present(hidden.past)
    for old, new in ((future, hidden), (future.past, hidden.past)):
        kept = old.log.event == PURCHASE if signal == "events" else np.ones(len(old.log), bool)
        assert np.array_equal(new.log.user, old.log.user[kept])
        assert np.array_equal(new.log.item, old.log.item[kept])
        assert np.array_equal(new.log.time, old.log.time[kept])


def test_a_hidden_path_leaves_no_pages_and_no_entries(parts: tuple[Dataset, Dataset]):
    log = without(parts[0], "path").log
    assert (log.page == 1).all()
    assert (log.entry == -1).all()
    assert (log.channel == -1).all()


def test_an_unknown_signal_is_refused(grocery: Dataset):
    with pytest.raises(ConfigError, match="'weather'"):
        without(grocery, "weather")
    assert "profiles" not in present(replace(grocery, profiles=None))
