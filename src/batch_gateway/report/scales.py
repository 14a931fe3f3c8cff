"""Round numbers along an axis, and how numbers and durations are written."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batch_gateway.durations import format_duration

__all__ = [
    "axis_labels",
    "clock_text",
    "duration_text",
    "duration_ticks",
    "log_ticks",
    "number_text",
    "time_ticks",
    "value_ticks",
]

_TIME_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30,
    60, 120, 300, 600, 900, 1800,
    3600, 7200, 10800, 21600, 43200, 86400,
)  # fmt: skip
_LONG_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_LOG_STEPS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20,
    60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 72000,
)  # fmt: skip


def value_ticks(highest: float, wanted: int = 4) -> list[float]:
    """Round values from 0 to at least `highest`, at steps of 1, 2 or 5 times a power of ten."""
    if not highest > 0:
        return [0.0, 1.0]
    rough = highest / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= rough * 0.999_999)
    return [step * number for number in range(math.ceil(highest / step * 0.999_999) + 1)]


def duration_ticks(highest: float) -> list[float]:
    """Round durations from 0 to at least `highest` seconds."""
    if highest <= 100:
        return value_ticks(highest)
    step = next((step for step in _LONG_STEPS if highest / step <= 5), 0)
    if not step:
        step = 86_400 * math.ceil(highest / 86_400 / 5)
    return [float(step * number) for number in range(math.ceil(highest / step) + 1)]


def time_ticks(seconds: float, wanted: int = 6) -> list[float]:
    """Round moments from 0 to at most `seconds`."""
    step = next((step for step in _TIME_STEPS if seconds / step <= wanted), 0.0)
    if not step:
        step = 86_400 * math.ceil(seconds / 86_400 / wanted)
    return [step * number for number in range(int(seconds / step * 1.000_001) + 1)]


def log_ticks(low: float, high: float, wanted: int = 7) -> list[float]:
    """Round durations between `low` and `high` for a logarithmic axis, evenly thinned out."""
    inside = [step for step in _LOG_STEPS if low <= step <= high]
    every = math.ceil(len(inside) / wanted) or 1
    return inside[::every]


def axis_labels(ticks: Sequence[float], write: str) -> list[str]:
    """The ticks from 0 on as text, all in one unit: "5k" beside "10k", "50 ms" beside "100 ms".

    `write` says what they are, "number" or "duration" in seconds.
    """
    step, highest = ticks[1], ticks[-1]
    if write == "duration":
        units = (highest < 1, 0.001, " ms"), (step < 60, 1, " s"), (step < 3600, 60, " min")
        otherwise = 3600, " h"
    else:
        units = (highest < 10_000, 1, ""), (highest < 1e6, 1e3, "k"), (highest < 1e9, 1e6, "M")
        otherwise = 1e9, "G"
    size, unit = next(((size, unit) for fits, size, unit in units if fits), otherwise)
    return ["0", *(f"{at / size:,g}{unit}" for at in ticks[1:])]


def number_text(value: float) -> str:
    """Three or four significant digits: "0.25", "12.5", "950", "8,231", "10.4k", "1.25M"."""
    if value >= 999_950_000:
        return f"{value / 1e9:.2f}".rstrip("0").rstrip(".") + "G"
    if value >= 999_950:
        return f"{value / 1e6:.2f}".rstrip("0").rstrip(".") + "M"
    if value >= 10_000:
        return f"{value / 1e3:.1f}".rstrip("0").rstrip(".") + "k"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def duration_text(seconds: float | None) -> str:
    """Such as "850 ms", "1.2 s", "4m10s"; a dash for None."""
    if seconds is None:
        return "—"
    if not seconds:
        return "0"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    text = format_duration(seconds)
    for unit in ("ms", "s"):
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "").isdigit():
            return f"{number} {unit}"
    return text


def clock_text(seconds: float) -> str:
    """A moment of a run: "0", "0.5 s", "45 s", "12:30", "1:05:00"."""
    if seconds < 60:
        return f"{seconds:.1f}".rstrip("0").rstrip(".") + (" s" if seconds else "")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
