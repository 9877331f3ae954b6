"""Every tuner does what the suite asks."""

from peftrec.tuners import AdaLoRAConfig, BiasOnlyConfig, BottleneckConfig, FullConfig, HeadOnlyConfig, LoRAConfig
from tests.conformance import TunerConformance


class TestLoRA(TunerConformance):
    tuner = LoRAConfig(rank=4)


class TestRankStabilisedLoRA(TunerConformance):
    tuner = LoRAConfig(rank=(8,), alpha=4.0, rank_stabilised=True, targets=("query", "value", "output"))


class TestAdaLoRA(TunerConformance):
    tuner = AdaLoRAConfig(rank=4)


class TestHoulsby(TunerConformance):
    tuner = BottleneckConfig(width=8, placement="houlsby")


class TestPfeiffer(TunerConformance):
    tuner = BottleneckConfig(width=8)


class TestParallel(TunerConformance):
    tuner = BottleneckConfig(width=8, placement="parallel", activation="relu", scale_by=2.0)


class TestHeadOnly(TunerConformance):
    tuner = HeadOnlyConfig()
    alone = False


class TestBiasOnly(TunerConformance):
    tuner = BiasOnlyConfig()
    rate = 0.05


class TestFull(TunerConformance):
    tuner = FullConfig()
