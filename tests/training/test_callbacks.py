"""Memory is handed back when enough of it has come together."""

from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from peftrec.training import callbacks
from peftrec.training.callbacks import Trim


@pytest.fixture
def trim(monkeypatch: pytest.MonkeyPatch) -> tuple[Trim, list[int], list[int]]:
    """One with a slack of 100 bytes, what the process holds at each look, and how often it was trimmed."""
    callback, held, calls = Trim(slack=100), list[int](), list[int]()
    monkeypatch.setattr(callback, "_process", SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=held.pop(0))))
    monkeypatch.setattr(callbacks, "give_back", lambda: calls.append(0))
    return callback, held, calls


def step(callback: Trim) -> None:
    callback.on_step_end(TrainingArguments(), TrainerState(), TrainerControl())


def test_memory_is_handed_back_once_the_slack_is_used_up(trim: tuple[Trim, list[int], list[int]]):
    callback, held, calls = trim
    held += [1000, 900]  # more than the slack above nothing: trimmed, and 900 are left
    step(callback)
    assert calls == [0]
    held += [1000]
    step(callback)  # 100 more, which it may hold
    assert calls == [0]
    held += [1001, 950]
    step(callback)
    held += [1050]
    step(callback)
    assert calls == [0, 0]
    assert not held
