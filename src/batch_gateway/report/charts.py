"""Charts as geometry: paths on a canvas of 1000 by 1000, and labels in percent beside it.

The page stretches a canvas to whatever room it has, while its labels stay text of normal size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batch_gateway.histogram import Histogram
from batch_gateway.report.scales import (
    axis_labels,
    clock_text,
    duration_text,
    duration_ticks,
    log_ticks,
    number_text,
    time_ticks,
    value_ticks,
)
from batch_gateway.report.strips import State, Strip, strip

__all__ = ["Chart", "Mark", "Series", "distribution_chart", "time_chart"]

Writer = Callable[[float], str]

_CANVAS = 1000.0
_QUANTILES = ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity over the slices of a run; None where there is nothing to show.

    Attributes:
        style: the class that gives it its colour.
        is_area: filled down to what is below it, or to zero; otherwise a line.
    """

    name: str
    style: str
    values: Sequence[float | None]
    is_area: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at `percent` of an axis, from the left or from the bottom."""

    percent: float
    label: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A path of the canvas."""

    path: str
    style: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of the canvas with a text that pointing at it shows."""

    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Everything that a template needs to draw one.

    Attributes:
        description: what it shows, for those who do not see it.
        legend: (name, style) of each series.
        bands: stretches with a meaning of their own, such as a pause.
        strips: bands below it, on the same axis of time.
        header, rows: the same as a table.
    """

    title: str
    unit: str
    description: str
    shapes: Sequence[Shape]
    legend: Sequence[tuple[str, str]]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[Mark]
    bands: Sequence[Mark] = ()
    strips: Sequence[Strip] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    @property
    def widest_label(self) -> str:
        """Of the vertical axis."""
        return max((tick.label for tick in self.y_ticks), key=len)


def time_chart(
    title: str,
    unit: str,
    series: Sequence[Series],
    *,
    width: float,
    seconds: float,
    write: str = "number",
    bands: Sequence[tuple[int, int, str]] = (),
    states: Sequence[tuple[str, Sequence[State | None]]] = (),
) -> Chart:
    """A chart of slices `width` seconds wide that ends at `seconds`.

    Areas are stacked in the order given. `bands` are (first slice, slices, text), whose
    legend is the text up to a colon. `states` are (name, what was so in each slice), each drawn as
    a strip below. `write` says how values are written, "number" or "duration".
    """
    text = duration_text if write == "duration" else number_text
    slices = max((len(one.values) for one in series), default=0)
    end = max(seconds, width * max(slices - 1, 0) + width * 0.05)
    stacked = _stacked(series)
    highest = max((v for values in stacked for v in values if v is not None), default=0.0)
    ticks = duration_ticks(highest) if write == "duration" else value_ticks(highest)
    labels = axis_labels(ticks, write)
    edges = [min(index * width, end) / end * _CANVAS for index in range(slices + 1)]
    spoken = [_spoken(series, index, width, unit, text) for index in range(slices)]
    return Chart(
        title=title,
        unit=unit,
        description=f"{title} over {duration_text(seconds)}, {_extent(series, text, unit)}",
        shapes=[*_shapes(series, stacked, edges, ticks[-1])],
        legend=[
            *((one.name, one.style) for one in series),
            *dict.fromkeys((note.partition(":")[0], "pause") for _, _, note in bands),
            *dict.fromkeys((one.name, one.style) for _, all_ in states for one in all_ if one),
        ],
        x_ticks=[Tick(at / end * 100, clock_text(at)) for at in time_ticks(end)],
        y_ticks=[
            Tick(at / ticks[-1] * 100, label) for at, label in zip(ticks, labels, strict=True)
        ],
        marks=[
            Mark(edges[index], edges[index + 1] - edges[index], spoken[index])
            for index in range(slices)
        ],
        bands=[
            Mark(edges[first], edges[first + count] - edges[first], note)
            for first, count, note in bands
        ],
        strips=[strip(name, found, [x / 10 for x in edges], width) for name, found in states],
        header=["from", *(one.name for one in series), *(name for name, _ in states)],
        rows=[
            [
                clock_text(index * width),
                *(_value(one, index, text) for one in series),
                *(one.text if (one := found[index]) else "—" for _, found in states),
            ]
            for index in range(slices)
        ],
    )


def distribution_chart(title: str, histogram: Histogram) -> Chart:
    """How many requests took how long, on a logarithmic axis. `histogram` must not be empty."""
    buckets = histogram.buckets(2)
    # A single bucket would fill the page with one bar that says nothing.
    low, high = buckets[0][0] / 1.5, buckets[-1][1] * 1.5
    span = math.log(high / low)

    def x(seconds: float) -> float:
        # Beyond what the buckets tell apart, a duration stands at the edge.
        return math.log(min(max(seconds, low), high) / low) / span * _CANVAS

    # There is no half of a request.
    ticks = [at for at in value_ticks(max(count for _, _, count in buckets)) if at == int(at)]
    bars = " ".join(
        _rectangle(x(begin), x(end), 0, count / ticks[-1]) for begin, end, count in buckets if count
    )
    shapes = [Shape(bars, "bars latency")]
    legend = [("requests", "latency")]
    for number, (share, name) in enumerate(_QUANTILES):
        at = histogram.quantile(share)
        assert at is not None  # noqa: S101 - it is not empty
        shapes.append(Shape(f"M{x(at):.1f} 0V{_CANVAS:.0f}", f"line quantile q{number}"))
        legend.append((f"{name} {duration_text(at)}", f"quantile q{number}"))
    rows = [
        [f"{duration_text(begin)} to {duration_text(end)}", f"{count:,}"]
        for begin, end, count in buckets
    ]
    return Chart(
        title=title,
        unit="",
        description=f"{title}: " + ", ".join(name for name, _ in legend[1:]),
        shapes=shapes,
        legend=legend,
        x_ticks=[Tick(x(at) / 10, _short_duration(at)) for at in log_ticks(low, high)],
        y_ticks=[
            Tick(at / ticks[-1] * 100, label)
            for at, label in zip(ticks, axis_labels(ticks, "number"), strict=True)
        ],
        marks=[
            Mark(x(begin), x(end) - x(begin), f"{row[0]}: {row[1]}")
            for (begin, end, _), row in zip(buckets, rows, strict=True)
        ],
        header=["took", "requests"],
        rows=rows,
    )


def _stacked(series: Sequence[Series]) -> list[list[float | None]]:
    """The upper edge of each series: areas stand on one another, lines on zero."""
    tops: list[list[float | None]] = []
    floor = [0.0] * max((len(one.values) for one in series), default=0)
    for one in series:
        if one.is_area:
            floor = [low + (value or 0.0) for low, value in zip(floor, one.values, strict=True)]
            tops.append(list(floor))
        else:
            tops.append(list(one.values))
    return tops


def _shapes(
    series: Sequence[Series],
    tops: Sequence[Sequence[float | None]],
    edges: Sequence[float],
    highest: float,
) -> list[Shape]:
    shapes: list[Shape] = []
    below: Sequence[float | None] = [0.0] * (len(edges) - 1)
    for one, top in zip(series, tops, strict=True):
        if one.is_area:
            shapes.append(Shape(_area(edges, below, top, highest), f"area {one.style}"))
            below = top
        else:
            shapes.append(Shape(_steps(edges, top, highest), f"line {one.style}"))
    return shapes


def _area(
    edges: Sequence[float],
    below: Sequence[float | None],
    above: Sequence[float | None],
    highest: float,
) -> str:
    return " ".join(
        _rectangle(edges[index], edges[index + 1], (low or 0) / highest, (high or 0) / highest)
        for index, (low, high) in enumerate(zip(below, above, strict=True))
        if (high or 0) > (low or 0)
    )


def _rectangle(left: float, right: float, low: float, high: float) -> str:
    """Heights are shares of the canvas."""
    top, bottom = (1 - high) * _CANVAS, (1 - low) * _CANVAS
    return f"M{left:.1f} {bottom:.1f}V{top:.1f}H{right:.1f}V{bottom:.1f}Z"


def _steps(edges: Sequence[float], values: Sequence[float | None], highest: float) -> str:
    """A line through the middles of the slices that have a value; lone ones become a dash."""
    parts: list[str] = []
    for index, value in enumerate(values):
        if value is None:
            continue
        y = (1 - value / highest) * _CANVAS
        middle = (edges[index] + edges[index + 1]) / 2
        alone = (index == 0 or values[index - 1] is None) and (
            index + 1 == len(values) or values[index + 1] is None
        )
        if alone:
            parts.append(f"M{edges[index]:.1f} {y:.1f}H{edges[index + 1]:.1f}")
        else:
            begins = index == 0 or values[index - 1] is None
            parts.append(f"{'M' if begins else 'L'}{middle:.1f} {y:.1f}")
    return "".join(parts)


def _spoken(series: Sequence[Series], index: int, width: float, unit: str, text: Writer) -> str:
    values = [f"{one.name} {_value(one, index, text)}" for one in series]
    when = f"{clock_text(index * width)} to {clock_text((index + 1) * width)}"
    return f"{when}: {', '.join(values)}" + (f" ({unit})" if unit else "")


def _value(one: Series, index: int, text: Writer) -> str:
    value = one.values[index]
    return "—" if value is None else text(value)


def _extent(series: Sequence[Series], text: Writer, unit: str) -> str:
    parts: list[str] = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if known:
            parts.append(f"{one.name} between {text(min(known))} and {text(max(known))}")
    return "; ".join(parts) + (f" ({unit})" if unit and parts else "")


def _short_duration(seconds: float) -> str:
    """A round duration: "20 ms", "0.5 s", "2 s", "5 min", "2 h"."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
