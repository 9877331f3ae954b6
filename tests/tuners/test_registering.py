"""A method's name belongs to one tuner, and a saved setting to a method that is known."""

from typing import ClassVar

import pytest

from peftrec.errors import ConfigError
from peftrec.tuners import TUNERS, LoRAConfig
from peftrec.tuners.tuner import register, tuner_of


def test_a_name_that_is_taken_is_refused():
    class Another:
        method: ClassVar[str] = "lora"

    with pytest.raises(ValueError, match="method 'lora' is taken by LoRAConfig, so Another"):
        register(Another)
    assert TUNERS["lora"] is LoRAConfig
    assert register(LoRAConfig) is LoRAConfig  # a module that is imported again


def test_an_unknown_method_is_told_with_those_there_are():
    with pytest.raises(ConfigError, match=r"(?s)method 'magic'.*adalora, bias_only, bottleneck"):
        tuner_of({"method": "magic"})
