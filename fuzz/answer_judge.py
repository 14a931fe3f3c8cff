"""Coverage-guided fuzzing of the judge of answers, and of the token counts in answers.

    pip install atheris
    python -m fuzz.answer_judge --seconds 300

An input is a body as it may come with a 2xx status; its first byte says which endpoint's it is. A
finding is written to `crash-…` in the working directory: make it a seed in
`fuzz/seeds/answer_judge`, under a name that says what it is, and the tests will check it from then
on.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

from batch_gateway.wire.answer_judge import Fault, judge_answer, judge_value
from batch_gateway.wire.json_check import BYTE_ORDER_MARK
from batch_gateway.wire.usage import parse_usage
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "answer_judge"
ENDPOINTS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
    *("/v1/responses", "/v1/moderations", "/rerank"),
)
WORDS = (
    *('{"choices":[', '"message":{', '"text":"', '"finish_reason":"abort"', '{"data":['),
    *('"embedding":[', '{"results":[', '"output":[', '"status":"completed"', '"error":', "null"),
    *('"errors":[', '"object":"error"', '"success":false', '"base_resp":{"status_code":1008'),
    *('"error_code":', '"code":429', '"detail":', '"fault":{', '"type":"error"', "NaN"),
    *('"usage":{"prompt_tokens":1.0', '"x_groq":{', "\\ud800", "1e999", "\ufeff", "-Infinity"),
)


def judged(endpoint: str, body: bytes) -> Fault | None:
    """The verdict, which is the same each time and fit to be shown."""
    fault = judge_answer(endpoint, body)
    assert judge_answer(endpoint, body) == fault
    if fault is not None:
        assert 0 < len(fault.problem) < 500, fault.problem
        assert not any(unicodedata.category(c) == "Cc" for c in fault.problem), fault.problem
        assert fault.status is None or 400 <= fault.status <= 599
        assert fault.retry_after is None or fault.retry_after > 0
    return fault


def check(data: bytes) -> None:
    """Fail when an input breaks a promise of the judge.

    It never raises. What it takes for an answer is a JSON object in UTF-8, for every other parser
    as well; it stays one with a field more that says nothing, and is none with an error in it. The
    quick test and the thorough one agree.
    """
    endpoint, body = ENDPOINTS[(data[:1] or b"\0")[0] % len(ENDPOINTS)], data[1:]
    fault = judged(endpoint, body)
    parse_usage(body)
    if fault is not None:
        return
    text = body.removeprefix(BYTE_ORDER_MARK).strip()
    value = json.loads(text.decode())
    assert isinstance(value, dict)
    assert judge_value(endpoint, value) is None
    more = b"," if value else b""
    assert judged(endpoint, text[:-1] + more + b'"x_more":{"error":null}}') is None
    assert judged(endpoint, text[:-1] + more + b'"error":{"message":"no"}}') is not None


if __name__ == "__main__":
    run(check, "the judge of answers", SEEDS, WORDS)
