"""How long a gateway asks to be left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.headers import Headers
from batch_gateway.wire.retry_after import parse_retry_after, parse_wait, reset_wait

NOW = 1_793_577_600.0  # Mon, 02 Nov 2026 00:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "9", "retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "Mon, 02 Nov 2026 00:00:30 GMT"}, 30.0),
        ({"Retry-After": "Mon, 02 Nov 2026 00:00:30"}, 30.0),
        ({"Retry-After": "Sun, 01 Nov 2026 00:00:00 GMT"}, None),
        ({"Retry-After": "0"}, None),
        ({"retry-after-ms": "0"}, None),
        ({"Retry-After": "5", "retry-after-ms": "0"}, 5.0),
        ({"Retry-After": "0.0"}, None),
        ({"Retry-After": "30s"}, 30.0),
        ({"Retry-After": "120ms"}, 0.12),
        ({"Retry-After": "1m30s"}, 90.0),
        ({"Retry-After": "1h2m3.5s"}, 3723.5),
        ({"Retry-After": "30 seconds"}, 30.0),
        ({"Retry-After": "2 minutes"}, 120.0),
        ({"Retry-After": "1 minute 30 seconds"}, 90.0),
        ({"Retry-After": "1d"}, 86400.0),
        ({"Retry-After": "0s"}, None),
        ({"Retry-After": "2026-11-02T00:00:30Z"}, 30.0),
        ({"Retry-After": "2026-11-02T02:00:30+02:00"}, 30.0),
        ({"Retry-After": "1793577630"}, 30.0),
        ({"Retry-After": "1793577630000"}, 30.0),
        ({"Retry-After": "1793577000"}, None),
        ({"Retry-After": "Mon, 02 Nov 99999 00:00:30 GMT"}, None),
        ({"Retry-After": "5 apples"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "٣"}, None),
        ({}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "2, 3"}, None),
    ],
)
def test_every_form_is_seconds(headers: dict[str, str], seconds: float | None) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert parse_retry_after(Headers(encoded), NOW) == pytest.approx(seconds)


@given(st.text(st.characters(max_codepoint=255)))
def test_any_value_is_seconds_or_nothing(value: str) -> None:
    seconds = parse_retry_after(Headers.of({"Retry-After": value}), NOW)
    assert seconds is None or seconds > 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "17ms"}, 0.017),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
        ({"x-ratelimit-remaining-requests": "0, 0;w=60", "x-ratelimit-reset-requests": "1"}, 1.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1793577630"}, 30.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1793577630000"}, 30.0),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "50"}, 50.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-02T00:00:30Z",
            },
            30.0,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "9s",
            },
            9.0,
        ),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1793577000"}, None),
    ],
)
def test_a_limit_that_is_used_up_says_when_there_is_something_again(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert reset_wait(Headers.of(headers), NOW) == pytest.approx(seconds)


@given(
    st.floats(0.001, 3599.0),
    st.sampled_from(["{:.3f}s", "{:.3f} s", "{:.3f}", "{:.3f} seconds", "{:.3f}sec"]),
)
def test_seconds_are_read_back_however_their_unit_is_written(seconds: float, form: str) -> None:
    assert parse_wait(form.format(seconds), NOW) == pytest.approx(seconds, abs=0.001)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_durations_of_several_parts_are_summed(hours: int, minutes: int, seconds: int) -> None:
    wait = hours * 3600 + minutes * 60 + seconds
    assert parse_wait(f"{hours}h{minutes}m{seconds}s", NOW) == wait
    assert parse_wait(f"{hours} hours, {minutes} minutes {seconds} seconds", NOW) == wait


@given(st.text(max_size=60) | st.from_regex(r"[0-9.smhT:Z+ -]{1,30}"))
def test_any_text_is_a_wait_that_ends_or_none(text: str) -> None:
    wait = parse_wait(text, NOW)
    assert wait is None or 0 < wait < 1e13
