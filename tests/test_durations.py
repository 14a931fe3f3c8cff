"""Durations as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import ConfigError
from batch_gateway.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("300ms", 0.3),
        ("2us", 2e-6),
        ("2µs", 2e-6),
        ("10ns", 1e-8),
        ("0", 0),
        ("90", 90),
        (" 5m ", 300),
        (5, 5.0),
        (0.25, 0.25),
        ("inf", float("inf")),
        (10**400, float("inf")),
    ],
)
def test_numbers_and_go_style_strings_are_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5 minutes", "m", "5mm", "1h-3m", "-5s", -1, None, True, [], "nan", float("nan"), "-inf"],
)
def test_anything_else_is_refused_by_name(text: object) -> None:
    with pytest.raises(ConfigError, match=r"^timeout: .*is not a duration") as caught:
        parse_duration(text, "timeout")
    assert caught.value.field == "timeout"


@given(st.text())
def test_any_text_is_a_duration_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_duration(text) >= 0


@given(st.integers(0, 50), st.integers(0, 59), st.integers(0, 59))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    expected = hours * 3600 + minutes * 60 + seconds
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0.0004, "0ms"), (0.85, "850ms"), (12.34, "12.3s"), (250, "4m10s"), (7500, "2h05m")],
        (float("inf"), "∞"),
    ],
)
def test_a_duration_is_shown_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
