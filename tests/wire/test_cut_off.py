"""Whether an answer is whole, in the words of every server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.answer_figures import CUT_OFF, read_figures
from batch_gateway.wire.answer_judge import usual_answer
from batch_gateway.wire.endpoint import CHAT, COMPLETIONS
from batch_gateway.wire.usage import Usage

USAGE = {"prompt_tokens": 5, "completion_tokens": 7}


def chat(*reasons: object) -> dict[str, Any]:
    choices = [{"index": i, "finish_reason": reason} for i, reason in enumerate(reasons)]
    return {"object": "chat.completion", "choices": choices, "usage": USAGE}


def response(status: str, details: object) -> dict[str, Any]:
    return {"object": "response", "status": status, "incomplete_details": details, "usage": USAGE}


@pytest.mark.parametrize(
    ("answer", "cut_off"),
    [
        (chat("stop"), None),
        (chat("tool_calls"), None),
        (chat("eos_token"), None),
        (chat(None), None),
        (chat(), None),
        (chat("length"), "length"),
        (chat("content_filter"), "content_filter"),
        (chat("stop", "length", "stop"), "length"),
        (chat("model_length"), "length"),  # Mistral
        (chat("MAX_TOKENS"), "length"),  # Gemini
        (chat("max_tokens"), "length"),  # Anthropic, by an adapter
        (chat("SAFETY"), "content_filter"),  # Gemini
        (chat("RECITATION"), "content_filter"),
        (chat("sensitive"), "content_filter"),  # Zhipu
        (chat("model_context_window_exceeded"), "length"),  # Zhipu
        (chat("guardrail_intervened"), "content_filter"),  # Bedrock
        (chat("ERROR_TOXIC"), "content_filter"),  # Cohere
        (chat({"type": "length", "length": 16}), "length"),  # SGLang
        (chat({"type": "stop", "matched": 2}), None),
        (response("completed", None), None),
        (response("incomplete", {"reason": "max_output_tokens"}), "length"),
        (response("incomplete", {"reason": "content_filter"}), "content_filter"),
        (response("incomplete", None), "incomplete"),
        (response("incomplete", {"reason": "something else"}), "incomplete"),
        ({"object": "list", "data": [], "usage": USAGE}, None),
        # What makes no sense does not cost the tokens.
        (chat(7), None),
        ({"choices": "none", "usage": USAGE}, None),
        (
            chat("length") | {"usage": {"prompt_tokens": 5.0, "completion_tokens": "7"}},
            "length",
        ),
    ],
)
def test_an_answer_that_is_not_whole_says_so(answer: dict[str, Any], cut_off: str | None) -> None:
    assert read_figures(json.dumps(answer).encode()) == (
        Usage(5, 7),
        cut_off,
    )


@given(st.binary())
def test_no_bytes_make_it_raise(body: bytes) -> None:
    usage, cut_off = read_figures(body)
    assert usage is None or usage.total_tokens >= 0
    assert cut_off in (None, *CUT_OFF)


USAGES = [USAGE, USAGE | {"prompt_tokens_details": {"cached_tokens": 3}}, {}, None, 7, [USAGE]]
USAGES += [{"prompt_tokens": 5.0, "completion_tokens": "7"}, {"prompt_tokens": -1}, {"tokens": 3}]


@pytest.mark.parametrize("usage", [*USAGES, ...], ids=str)
@pytest.mark.parametrize("reasons", [["stop"], ["length"], [None], ["stop", "length"], ["odd"]])
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, "/elsewhere"])
def test_what_the_judge_has_read_of_an_answer_says_the_same_as_its_body(
    endpoint: str, reasons: list[str | None], usage: object
) -> None:
    said = {"message": {"content": "Hello."}, "text": "Hello."}
    answer: dict[str, object] = {"choices": [said | {"finish_reason": why} for why in reasons]}
    if usage is not ...:
        answer["usage"] = usage
    body = json.dumps(answer).encode()
    assert read_figures(body, usual_answer(endpoint, body)) == read_figures(body)
