"""Round numbers along an axis, and how numbers and durations are written."""

from __future__ import annotations

import math

from batch_gateway.durations import format_duration

__all__ = ["duration_text", "log_ticks", "number_text", "time_ticks", "value_ticks"]

_TIME_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30,
    60, 120, 300, 600, 900, 1800,
    3600, 7200, 10800, 21600, 43200, 86400,
)  # fmt: skip
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
