"""Coverage-guided fuzzing of batch files: what is taken for a request, and what is refused.

    pip install atheris
    python -m fuzz.request_lines --seconds 300

An input is a batch file. A finding is
written to `crash-…` in the working directory: make it a seed in
`fuzz/seeds/request_lines`, under a name that says what it is, and the tests will check it
from then on.
"""

from __future__ import annotations

import json
from pathlib import Path

from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.source import BytesSource
from batch_gateway.errors import InputError
from batch_gateway.wire.lines import BATCH_ENDPOINTS
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "request_lines"
WORDS = (
    *('{"custom_id":"', '","method":"POST","url":"', "/v1/chat/completions", "/v1/embeddings"),
    *('"body":{', '"model":"m"', '"messages":[{"role":"user","content":"', '"stream":true'),
    *("\n", "\r\n", "\\ud83d", "\\u0000", "NaN", "1e999", "[" * 50, "null", "\ufeff", "\u2028"),
)


def check(data: bytes) -> None:
    """Fail when a file is neither refused in words, nor a plan of all of its lines."""
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    try:
        plan = make_plan(BytesSource(data))
    except InputError as error:
        assert str(error)
        for problem in error.problems:
            assert 0 < len(problem) < 1000, problem
        return
    with plan:
        assert plan.total == len(lines)
        assert sum(plan.models.values()) == plan.total
        seen = set[str]()
        for index in plan.order():
            line = json.loads(plan.read(index))
            assert plan.read(index) == lines[index].strip()
            assert line["url"] in BATCH_ENDPOINTS
            assert line["body"]["model"] == plan.model_of(index)
            seen.add(line["custom_id"])
        assert len(seen) == plan.total


if __name__ == "__main__":
    run(check, "batch files", SEEDS, WORDS)
