"""Plots of limit, throughput and latency over time, and of the trade-off where people share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.worlds.record import BIN
from benchmarks.worlds.suite import Run
from benchmarks.worlds.world import World

__all__ = ["plot_trade_off", "plot_world"]

_COLOURS = {"adaptive": "#1f6feb", "adaptive, streamed": "#1a7f37", "AIMD": "#cf6a1d"}
_MOST_POINTS = 400


def plot_world(world: World, runs: dict[str, Run], path: Path) -> None:
    """Three panels over time, one line a contender."""
    plt = _pyplot()
    figure, panels = plt.subplots(3, 1, figsize=(8, 6.4), sharex=True)
    for name, found in runs.items():
        for panel, (series, scale) in zip(
            panels, (("limit", 1.0), ("tokens", 1 / BIN), ("latency", 1.0)), strict=True
        ):
            times, values = _thinned(found.timeline[series], scale)
            panel.plot(times, values, label=name, color=_COLOURS[name], linewidth=1.1)
    for panel, title in zip(panels, ("limit", "output tokens/s", "latency, s"), strict=True):
        panel.set_ylabel(title)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.25)
    panels[0].set_title(f"{world.name}: {world.title}", fontsize=10)
    panels[0].legend(fontsize=8, loc="upper right")
    panels[2].set_xlabel("seconds")
    _save(plt, figure, path)


def plot_trade_off(points: dict[str, tuple[float, float]], path: Path) -> None:
    """Interactive p99 time to first token against the share of leftover capacity."""
    plt = _pyplot()
    figure, panel = plt.subplots(figsize=(8, 4.6))
    fixed = sorted((point, name) for name, point in points.items() if name.startswith("fixed"))
    panel.plot([p[0] for p, _ in fixed], [p[1] for p, _ in fixed], "o-", color="#888", ms=4)
    for point, name in fixed:
        panel.annotate(
            name.removeprefix("fixed "),
            point,
            fontsize=7,
            xytext=(3, 4),
            textcoords="offset points",
        )
    for name, colour in _COLOURS.items():
        panel.plot(*points[name], "s", color=colour, ms=8, label=name)
    panel.axhspan(0, 1.25, xmin=0, color="#1a7f37", alpha=0.08)
    panel.axvline(0.75, color="#1a7f37", linewidth=0.8, linestyle=":")
    panel.set_yscale("log")
    panel.set_xlabel("share of the leftover capacity that the batch uses (grey: fixed limits)")
    panel.set_ylabel("interactive p99 TTFT,\nmultiple of without the batch")
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8, loc="upper left")
    _save(plt, figure, path)


def _thinned(values: list[float], scale: float) -> tuple[list[float], list[float]]:
    group = max(1, len(values) // _MOST_POINTS)
    whole = len(values) // group * group
    means = [scale * sum(values[i : i + group]) / group for i in range(0, whole, group)]
    return [i * group * BIN for i in range(len(means))], means


def _save(plt: Any, figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    # Without a date and with fixed ids, the same figures give the same file.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("plots need matplotlib: pip install matplotlib") from error
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "worlds"
    import matplotlib.pyplot as plt

    return plt
