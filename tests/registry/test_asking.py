"""Finding versions, their lineage and their differences; and what a promotion may ask for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from peftrec.errors import AdapterNotFoundError, ConfigError, GateRefusedError, RegistryError
from peftrec.evaluation.metrics import LOWER_IS_BETTER as MEASURED
from peftrec.registry import Gate, Registry
from peftrec.registry.gate import LOWER_IS_BETTER
from peftrec.registry.search import differences

Make = Callable[..., Any]


class Interval(NamedTuple):
    value: float
    low: float
    high: float


class Measured:
    """A comparison with a known answer."""

    def __init__(self, low: float, *systems: str) -> None:
        self.low, self.systems, self.period = low, systems, "five weeks"

    def compare(self, a: str, b: str, metric: str = "", slice: str = "") -> Interval:
        assert (a, b, metric, slice) == ("tea@2", "tea@1", "ndcg@10", "all")
        return Interval(self.low + 0.002, self.low, self.low + 0.004)


def metric(value: float, name: str = "ndcg@10", slice_: str = "all") -> dict[str, Any]:
    return {"metric": name, "slice": slice_, "value": value, "low": None, "high": None}


@pytest.fixture
def shops(registry: Registry, small: Make) -> Registry:
    registry.publish("tea", small(1, metrics=[metric(0.2), metric(0.03, "ece")]), alias="production")
    registry.publish("tea", small(2, metrics=[metric(0.4), metric(0.1, slice_="never_bought")]), parent="tea@1")
    registry.publish("toys", small(3, metrics=[], method="adalora"), alias="canary", parent="tea@2")
    registry.tag("toys@1", "reviewed")
    return registry


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ((), ["tea@1", "tea@2", "toys@1"]),
        (("method=lora",), ["tea@1", "tea@2"]),
        (("method != lora",), ["toys@1"]),
        (("method~LORA",), ["tea@1", "tea@2", "toys@1"]),
        (("metrics.ndcg@10>0.3",), ["tea@2"]),
        (("metrics.ndcg@10>=0.2", "metrics.ndcg@10<0.4"), ["tea@1"]),
        (("metrics.ndcg@10.never_bought=0.1",), ["tea@2"]),
        (("metrics.ece<=0.05",), ["tea@1"]),
        (("data.dataset=tea", "data.shoppers>=12"), ["tea@1", "tea@2", "toys@1"]),
        (("data.shoppers>12",), []),
        (("ranks.encoder.layer.4.query=2",), ["tea@1", "tea@2", "toys@1"]),
        (("tag=reviewed",), ["toys@1"]),
        (("tag!=reviewed",), ["tea@1", "tea@2"]),
        (("alias=production",), ["tea@1"]),
        (("parent~tea",), ["tea@2", "toys@1"]),
        (("nothing=there",), []),
        (("privacy!=x",), ["tea@1", "tea@2", "toys@1"]),
        (("seed<many",), []),
        (("version>=2",), ["tea@2"]),
        (("parent=null",), ["tea@1"]),
        (("parent!=null", "method=lora"), ["tea@2"]),
    ],
)
def test_find(shops: Registry, conditions: tuple[str, ...], found: list[str]) -> None:
    assert [version.reference for version in shops.find(*conditions)] == found


def test_find_looks_where_it_is_told(shops: Registry) -> None:
    assert [version.reference for version in shops.find(names=["toys"])] == ["toys@1"]
    with pytest.raises(AdapterNotFoundError, match="tae"):
        shops.find(names=["tae"])
    with pytest.raises(RegistryError, match="a field, one of"):
        shops.find("method")


def test_lineage(shops: Registry) -> None:
    found = shops.lineage("toys")
    assert [(one.reference, one.note) for one in found] == [("toys@1", ""), ("tea@2", ""), ("tea@1", "")]
    (shops.root / "tea" / "2").rename(shops.root / "tea" / "gone")
    *_, last = shops.lineage("toys")
    assert (last.reference, last.version) == ("tea@2", None)
    assert last.note == "tea@2 is not there"


def test_pages_of_names(registry: Registry, small: Make) -> None:
    for name in ("a", "b", "c", "d"):
        registry.publish(name, small())
    (registry.root / "bb").mkdir()
    assert registry.names(limit=2) == ["a", "b"]
    assert registry.names(after="b", limit=2) == ["c", "d"]
    assert registry.names(after="d") == []


def test_open_by_digest(shops: Registry) -> None:
    version = shops.open("tea@2")
    assert shops.open(f"tea@sha256:{version.digest[:10]}") == version
    assert version.digest in (version.path / "manifest.json").read_text()
    with pytest.raises(AdapterNotFoundError, match="no versions have this digest"):
        shops.open(f"tea@sha256:{'0' * 10}")


def test_differences(shops: Registry) -> None:
    found = differences(shops.open("tea@1").manifest, shops.open("tea@2").manifest)
    assert found["version"] == ("1", "2")
    assert found["parent"] == (None, "tea@1")
    assert found["metrics.ndcg@10.all"] == (0.2, 0.4)
    assert found["metrics.ndcg@10.never_bought"] == (None, 0.1)
    assert "seed" not in found


def test_a_gate_lets_better_versions_through(shops: Registry) -> None:
    both = ("tea@1", "tea@2")
    for evaluation, told in (
        (None, "no evaluation of tea@2 and tea@1"),
        (Measured(0.001, "tea@1"), "holds tea@1, not tea@2"),
        (Measured(-0.001, *both), r"the gain in ndcg@10 on all over tea@1 is \+0.0010 \(-0.0010 to \+0.0030\)"),
    ):
        with pytest.raises(GateRefusedError, match=told):
            shops.promote("tea@2", gate=Gate(), evaluation=evaluation)
    assert shops.open("tea").version == "1"
    shops.promote("tea@2", gate=Gate(), evaluation=Measured(0.001, *both))
    assert shops.open("tea").version == "2"
    evidence = shops.history("tea")[-1].details["evidence"]
    assert (evidence["low"], evidence["against"], evidence["period"]) == (0.001, "tea@1", "five weeks")
    assert evidence["bytes"] == shops.open("tea@2").size
    shops.promote("tea@2", gate=Gate())  # nothing to be better than


def test_a_gate_for_versions_no_worse(shops: Registry) -> None:
    shops.promote("tea@2", gate=Gate(least_gain=-0.002), evaluation=Measured(-0.001, "tea@1", "tea@2"))


@pytest.mark.parametrize("metric", LOWER_IS_BETTER)
def test_lower_is_better_of_some_metrics(shops: Registry, metric: str) -> None:
    class Loss(Measured):
        def compare(self, a: str, b: str, metric: str = "", slice: str = "") -> Interval:
            return Interval(self.low + 0.002, self.low, self.low + 0.004)

    with pytest.raises(GateRefusedError, match=r"\(-0.3040 to -0.3000\)"):
        shops.promote("tea@2", gate=Gate(metric=metric), evaluation=Loss(0.3, "tea@1", "tea@2"))
    shops.promote("tea@2", gate=Gate(metric=metric), evaluation=Loss(-0.3, "tea@1", "tea@2"))
    assert {*LOWER_IS_BETTER} == {*MEASURED}


def test_nothing_is_better_than_what_cannot_be_opened(shops: Registry) -> None:
    (shops.root / "tea" / "1" / "Thumbs.db").touch()
    with pytest.raises(GateRefusedError, match="cannot be opened"):
        shops.promote("tea@2", gate=Gate(), evaluation=Measured(0.1, "tea@1", "tea@2"))
    shops.promote("tea@2", gate=Gate(least_gain=None, most_bytes=10**6))


def test_no_number_is_no_gain(shops: Registry) -> None:
    with pytest.raises(GateRefusedError, match="not told by any shopper"):
        shops.promote("tea@2", gate=Gate(), evaluation=Measured(float("nan"), "tea@1", "tea@2"))


def test_bounds_are_told_together(shops: Registry) -> None:
    gate = Gate(least_gain=None, most_ece=0.02, most_bytes=10)
    with pytest.raises(
        GateRefusedError, match=r"calibration error is 0.0300, at most 0.02 is asked; it has .* bytes, at most 10"
    ):
        shops.promote("tea@1", gate=gate)
    with pytest.raises(GateRefusedError, match="tell no calibration error"):
        shops.promote("tea@2", gate=gate)
    shops.promote("tea@1", gate=Gate(least_gain=None, most_ece=0.03, most_bytes=10**6))


def test_a_first_version_has_nothing_to_beat(shops: Registry) -> None:
    shops.promote("toys@1", gate=Gate())
    assert shops.open("toys").version == "1"


@pytest.mark.parametrize(
    "settings",
    [
        {"least_gain": None},
        {"most_ece": 0.0},
        {"most_bytes": -1},
        {"most_ece": float("nan")},
        {"least_gain": float("inf")},
    ],
)
def test_a_gate_that_asks_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least one condition"):
        Gate(**settings)
