"""How long a gateway asks to be left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.headers import Headers
from batch_gateway.wire.retry_after import parse_retry_after

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
    assert parse_retry_after(Headers.of(headers), NOW) == seconds


@given(st.text(st.characters(max_codepoint=255)))
def test_any_value_is_seconds_or_nothing(value: str) -> None:
    seconds = parse_retry_after(Headers.of({"Retry-After": value}), NOW)
    assert seconds is None or seconds > 0
