"""Three small plots as SVG text. They are drawn here because publishing must need no plotting library, and take no second.

Colours are classes that the page's style sheet gives light and dark values. Every plot has a title and, since a picture tells
nothing to who cannot see it, a description in words.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from peftrec.registry.words import plain

T = TypeVar("T")

WIDTH = 400
"""Of a plot's own coordinates; on a page it is as wide as its place, and letters are about as large as those around it."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 26, 42
_ROW = 38
"""Height of one row of dots, two lines of words."""
_LARGEST = 1e15
"""Numbers beyond are drawn at the edge: a plot of them tells nothing, and sums of them must not overflow."""
_SMALLEST = 1e-15
_LEAST_SPAN = 0.04
"""Of a curve's axis, as a share of its values: what hardly changed must not look like a slope."""
_MOST_POINTS = 240
"""Of one line; more cannot be told apart on its width."""


@dataclass(frozen=True)
class Axis:
    """A range of numbers with round ticks.

    Attributes:
        ticks: Rising, two at least; the first and the last are the axis's ends.
        root: Whether places follow the square root, which spreads what crowds near 0; the axis then begins there.
    """

    ticks: tuple[float, ...]
    root: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, least: float | None = None, most_ticks: int = 6) -> "Axis":
        """The axis that holds all values and ends on ticks, 1, 2 or 5 times a power of ten apart.

        Args:
            values: At least one.
            least: Where the axis begins unless a value lies below, such as 0; close around the values when left out.
            most_ticks: Upper bound of their number, or one more.
        """
        held = [min(max(float(value), -_LARGEST), _LARGEST) for value in values]
        low = min(held) if least is None else min(*held, least)
        high = max(held)
        size = max(abs(low), abs(high))
        if high - low <= max(1e-9 * size, _SMALLEST):
            room = 0.1 * size if size > _SMALLEST / 1e-9 else 1.0
            low, high = low - (room if least is None else 0.0), high + room
        step = _round_up((high - low) / (most_ticks - 1) * 0.999, (1, 2, 5))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(tuple(number * step for number in range(first, last + 1)))

    @classmethod
    def of_shares(cls, values: Sequence[float]) -> "Axis":
        """The axis of shares from 0 up to the largest, by the square root: most products are unlikely to be bought."""
        high = min(_round_up(max(*values, 1e-6), (1, 2, 3, 5)), 1.0)
        within = {float(f"{place**2 * high:.0e}") for place in (0.2, 0.4, 0.6, 0.8)}  # of one digit
        return cls((0.0, *sorted(within), high), root=True)

    def place(self, value: float) -> float:
        """Where a value lies, from 0 at the lower end to 1."""
        low, high = self.ticks[0], self.ticks[-1]
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return math.sqrt(share) if self.root else share

    def label(self, tick: float) -> str:
        """A tick's number, with the digits that tell it from its neighbours; a share as percents."""
        if self.root:
            return f"{100 * tick:.3g}%"
        step = self.ticks[1] - self.ticks[0]
        if not 1e-4 <= step < 1e6:
            return f"{tick:.4g}"
        return f"{tick:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _round_up(value: float, factors: Sequence[int]) -> float:
    """The least of some factors times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(factor for factor in (*factors, 10, 20) if factor * power >= value * (1 - 1e-9))


def whisker(value: float, low: float | None, high: float | None, axis: Axis, *, told: str) -> str:
    """A number as a dot, its interval as a line with ends; as wide as its place. :func:`ruler` is drawn below."""
    parts = [_rule(axis, _ROW)]
    if low is not None and high is not None:
        ends = [f"{100 * axis.place(end):.2f}%" for end in (low, high)]
        parts.append(f'<line class="whisker" x1="{ends[0]}" x2="{ends[1]}" y1="{_ROW / 2:g}" y2="{_ROW / 2:g}"/>')
        tips = f'y1="{_ROW / 2 - 6:g}" y2="{_ROW / 2 + 6:g}"'
        parts += [f'<line class="whisker" x1="{end}" x2="{end}" {tips}/>' for end in ends]
    parts.append(f'<circle class="dot" cx="{100 * axis.place(value):.2f}%" cy="{_ROW / 2:g}" r="4.5"/>')
    title = f"<title>{escape(plain(told))}</title>"
    return f'<svg class="strip" role="img" width="100%" height="{_ROW}">{title}{"".join(parts)}</svg>'


def ruler(axis: Axis) -> str:
    """The numbers below a column of :func:`whisker`."""
    marks = "".join(
        f'<text class="tick" x="{100 * axis.place(tick):.2f}%" y="18" text-anchor="middle">{axis.label(tick)}</text>'
        for tick in axis.ticks
    )
    return f'<svg class="strip" aria-hidden="true" width="100%" height="22">{_rule(axis, 5)}{marks}</svg>'


def curve_plot(points: Sequence[tuple[float, float]], *, title: str, told: str, best: bool) -> str:
    """Numbers over the steps of a training as a line.

    Args:
        points: (step, value), by rising step, at least one.
        title: Of the plot.
        told: What it shows, in words.
        best: Mark the lowest value.
    """
    height, shown = 240, _thinned(points)
    across = Axis.around([step for step, _ in shown], least=0.0, most_ticks=5)
    values = [value for _, value in shown]
    least = _LEAST_SPAN / 2 * max(map(abs, values))
    up = Axis.around([min(values) - least, *values, max(values) + least], most_ticks=5)
    x, y = _scales(across, up, height)
    where = [(x(step), y(value)) for step, value in shown]
    parts = [_frame(across, up, height, ("step", title))]
    parts.append(f'<polyline class="line" points="{" ".join(f"{left:.1f},{top:.1f}" for left, top in where)}"/>')
    if len(where) <= 40:
        parts += [f'<circle class="point" cx="{left:.1f}" cy="{top:.1f}" r="2.5"/>' for left, top in where]
    if best:
        lowest = where[min(range(len(shown)), key=lambda at: shown[at][1])]
        parts.append(f'<circle class="best" cx="{lowest[0]:.1f}" cy="{lowest[1]:.1f}" r="7"/>')
    parts.append(f'<circle class="dot" cx="{where[-1][0]:.1f}" cy="{where[-1][1]:.1f}" r="4"/>')
    return _figure(height, title, told, parts)


def reliability_plot(groups: Sequence[Mapping[str, float]], *, told: str) -> str:
    """Promised probability against the share bought: on the diagonal, promises are kept. Larger dots are more predictions.

    Args:
        groups: Of predicted, observed, count, at least one.
        told: What it shows, in words.
    """
    height, shown = 340, _thinned(sorted(groups, key=lambda group: group["predicted"]))
    axis = Axis.of_shares([group[name] for group in shown for name in ("predicted", "observed")])
    x, y = _scales(axis, axis, height)
    most = max(*(group["count"] for group in shown), 1)
    where = [(x(group["predicted"]), y(group["observed"]), group["count"] / most) for group in shown]
    low, high = axis.ticks[0], axis.ticks[-1]
    ends = f'x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}"'
    parts = [
        _frame(axis, axis, height, ("promised probability", "share bought")),
        f'<line class="even" {ends}/>',
        f'<polyline class="line" points="{" ".join(f"{left:.1f},{top:.1f}" for left, top, _ in where)}"/>',
    ]
    parts += [
        f'<circle class="dot" cx="{left:.1f}" cy="{top:.1f}" r="{2 + 3 * math.sqrt(share):.1f}"/>'
        for left, top, share in where
    ]
    return _figure(height, "Promised probability against share bought", told, parts)


def _thinned(points: Sequence[T]) -> list[T]:
    """Evenly chosen entries, first and last among them."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    gap = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(number * gap)] for number in range(_MOST_POINTS)]


def _scales(across: Axis, up: Axis, height: int) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From numbers to coordinates."""
    wide, high = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    return (
        lambda value: _LEFT + wide * across.place(value),
        lambda value: _TOP + high * (1 - up.place(value)),
    )


def _frame(across: Axis, up: Axis, height: int, names: tuple[str, str]) -> str:
    """Lines and numbers at the ticks of both axes, and what is on them."""
    (x, y), (right, base) = _scales(across, up, height), (WIDTH - _RIGHT, height - _BOTTOM)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{up.label(tick)}</text>'
        for tick in up.ticks
    ]
    parts += [
        f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{base}" y2="{base + 4}"/>'
        f'<text class="tick" x="{x(tick):.1f}" y="{base + 17}" text-anchor="middle">{across.label(tick)}</text>'
        for tick in across.ticks
    ]
    parts += [
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>',
        f'<text class="name" x="{right}" y="{base + 34}" text-anchor="end">{escape(names[0])} →</text>',
        f'<text class="name" x="0" y="11">↑ {escape(names[1])}</text>',
    ]
    return "".join(parts)


def _rule(axis: Axis, height: int) -> str:
    lines = (f"{100 * axis.place(tick):.2f}%" for tick in axis.ticks)
    return "".join(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{height}"/>' for at in lines)


def _figure(height: int, title: str, told: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {height}">'
        f"<title>{escape(plain(title))}</title><desc>{escape(plain(told))}</desc>{''.join(parts)}</svg>"
    )
