"""The words of an answer, wherever its endpoint and its server have them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.answer_text import answer_text


def chat(content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    return {"choices": [{"index": 0, "message": message}]}


PARTS = [{"type": "text", "text": "Hel"}, {"type": "image"}, {"type": "text", "text": "lo"}]
OUTPUT = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"type": "message", "content": [{"type": "output_text", "text": "Hel"}]},
    {"type": "function_call", "name": "f", "arguments": "{}"},
    {
        "type": "message",
        "content": [{"type": "refusal", "refusal": "no"}, {"type": "output_text", "text": "lo"}],
    },
]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat("Hello"), "Hello"),
        (chat(PARTS), "Hello"),
        (chat(None, tool_calls=[{"id": "1"}]), ""),
        (chat(None, refusal="I cannot"), ""),
        (chat("Hello", reasoning_content="hm"), "Hello"),
        ({"choices": [{"text": "Hello"}, {"text": "Bye"}]}, "Hello"),
        ({"choices": [{"text": ""}]}, ""),
        ({"choices": []}, ""),
        ({"object": "response", "output": OUTPUT}, "Hello"),
        ({"data": [{"embedding": [0.1]}]}, ""),
        ({"results": [{"flagged": False}]}, ""),
    ],
)
def test_what_the_model_said_is_found_in_each_form(body: Any, text: str) -> None:
    assert answer_text(body) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "text", "type", "output"]), inner
        )
    ),
)


@given(JSON)
def test_an_answer_of_any_other_form_has_some_text_or_none(body: Any) -> None:
    assert isinstance(answer_text(body), str)
