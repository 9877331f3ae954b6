"""Plots of an evaluation, as SVG text to be put into a page."""

import io
from typing import TYPE_CHECKING, Any

from peftrec.errors import MissingExtraError
from peftrec.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, OTHERS = "#0b6e4f", "#9aa5b1"
LEAST_REACH = 0.01
"""Of the axis of losses, as a share of the greatest: what changes by less than noise does shall not look like a fall."""


def _figure(width: float, height: float) -> "tuple[Figure, Any]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "the package matplotlib is not installed",
            expected="matplotlib, which draws the plots",
            remedy='pip install "peftrec[demo]"',
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def ranking_plot(evaluation: Evaluation, slice_: str) -> str:
    """NDCG@10 of every system with its 95 % interval, best on top."""
    found = {name: evaluation.value(name, "ndcg@10", slice_) for name in evaluation.systems}
    names = sorted(found, key=lambda name: found[name].value)
    figure, axes = _figure(7, 0.9 + 0.32 * len(names))
    for place, name in enumerate(names):
        value, low, high = found[name]
        colour = OURS if name.startswith("peftrec") else OTHERS
        axes.barh(place, value, color=colour, height=0.65)
        axes.plot([low, high], [place, place], color="#222222", linewidth=1.2)
        axes.text(high, place, f"  {value:.3f}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("NDCG@10 over the full catalogue, 95 % interval")
    return _svg(figure)


def reliability_plot(evaluation: Evaluation, system: str) -> str:
    """Predicted against observed purchase probability."""
    curve = evaluation.reliability(system)
    figure, axes = _figure(4.2, 3.8)
    top = max(float(curve.predicted.max()), float(curve.observed.max())) * 1.05
    axes.plot([0, top], [0, top], color=OTHERS, linestyle="--", linewidth=1, label="perfect")
    axes.plot(curve.predicted, curve.observed, color=OURS, marker="o", markersize=4, label=system)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share bought")
    axes.legend(frameon=False)
    return _svg(figure)


def learning_plot(curve: "list[dict[str, float]]") -> str:
    """Loss on held-out shoppers over the steps of training."""
    figure, axes = _figure(4.2, 3.8)
    points = [(point["step"], point["eval_loss"]) for point in curve if "eval_loss" in point]
    axes.plot(*zip(*points, strict=True), color=OURS, marker="o", markersize=4)
    losses = [loss for _, loss in points]
    reach = LEAST_REACH * max(losses)
    if max(losses) - min(losses) < reach:
        middle = (max(losses) + min(losses)) / 2
        axes.set_ylim(middle - reach / 2, middle + reach / 2)
    axes.set_xlabel("step of decoder training")
    axes.set_ylabel("purchase loss, held-out shoppers")
    return _svg(figure)
