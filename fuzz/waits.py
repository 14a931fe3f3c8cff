"""Coverage-guided fuzzing of waits and durations that people and gateways write.

    pip install atheris
    python -m fuzz.waits --seconds 300

An input is a text: a duration or a size of a setting, a Retry-After, a moment, or words
around one. A finding is written to `crash-…` in the working directory: make it a seed in
`fuzz/seeds/waits`, under a name that says what it is, and the tests will check it
from then on.
"""

from __future__ import annotations

import math
from pathlib import Path

from batch_gateway.byte_size import parse_byte_size
from batch_gateway.durations import format_duration, parse_duration
from batch_gateway.errors import ConfigError
from batch_gateway.wire.retry_after import parse_retry_after, reset_wait, wait_in_words
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "waits"
NOW = 1_700_000_000.0
WORDS = (
    *("ms", "1h30m", "90s", "µs", "2.5", ".5h", "1e9", "inf", "nan", "-", "_", "KiB", "GB"),
    *("try again in ", "retry after ", " milliseconds", "GMT", "T00:00:00Z", "0, 0;w=60"),
)


def check(data: bytes) -> None:
    """Fail when a text is read as anything but a wait that is possible, none, or a ConfigError."""
    text = data.decode(errors="replace")
    try:
        wanted = parse_duration(text)
    except ConfigError as error:
        assert "duration" in str(error)
    else:
        assert wanted >= 0
        assert format_duration(wanted)
    try:
        assert parse_byte_size(text) >= 0
    except ConfigError as error:
        assert "size" in str(error)
    left = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": text}
    for wait in (
        parse_retry_after({"retry-after": text}, NOW),
        parse_retry_after({"retry-after-ms": text}, NOW),
        reset_wait(left, NOW),
        wait_in_words(text),
    ):
        assert wait is None or (wait > 0 and math.isfinite(wait)), (text, wait)


if __name__ == "__main__":
    run(check, "waits and durations", SEEDS, WORDS)
