"""Coverage-guided fuzzing of the reader of error bodies.

    pip install atheris
    python -m fuzz.error_body --seconds 300

An input is a body as a server might send it; its first byte says with which status. A finding is
written to `crash-…` in the working directory: make it a seed in `fuzz/seeds/error_body`, under a
name that says what it is, and the tests will check it from then on.
"""

from __future__ import annotations

from pathlib import Path

from batch_gateway.wire.error_body import MESSAGE_LIMIT, parse_error_body
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "error_body"
STATUSES = (400, 401, 404, 429, 500, 502, 503, 599, 200)
WORDS = (
    *('{"error":{', '"message":"', '"code":', '"errors":[', '"detail":', '"msg":"', '"loc":['),
    *('"metadata":{"raw":"{\\"error\\":', '"provider_name":"', '"details":[{"retryDelay":"39s"}]'),
    *(
        '"status":"RESOURCE_EXHAUSTED"',
        '"fault":{"faultstring":"',
        '"type":"',
        "null",
        "NaN",
        "1e999",
    ),
    *("data: ", "event: error\n", "error: ", "[DONE]", "\n\n", "\r\n", "\ufeff"),
    *(
        "<title>",
        "</title>",
        "<h1>",
        "<Error><Code>",
        "<Message>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
    ),
    *(
        "<script>",
        "</",
        "&#x2b;",
        "&amp;",
        "try again in 6m0s",
        "\\u202e",
        "\\ud800",
        "\\",
        "{",
        "[",
    ),
)


def check(data: bytes) -> None:
    """Fail when an input breaks a promise of the reader.

    It raises nothing, and what it finds is short, on one line, printable and in its bounds.
    """
    detail = parse_error_body(STATUSES[data[0] % len(STATUSES)] if data else 500, data[1:])
    assert 0 < len(detail.message) <= MESSAGE_LIMIT
    for text in (detail.message, detail.code or "-", detail.type or "-", detail.param or "-"):
        assert text == text.strip() != ""
        assert not any(sign in text for sign in "\r\n\t\x00\x1b\x85\u2028\u202e\ufeff")
        text.encode()
    assert len(detail.code or "") <= 100
    assert detail.status is None or 400 <= detail.status <= 599
    assert detail.number is None or detail.number == detail.status
    assert detail.retry_after is None or detail.retry_after > 0


if __name__ == "__main__":
    run(check, "error bodies", SEEDS, WORDS)
