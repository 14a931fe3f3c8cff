"""The simulator's answers are all that the `openai` package's own types ask for.

The SDK itself takes anything; clients built on it check, and refuse what lacks a field.
"""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse, ModerationCreateResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from batch_gateway.testing import GatewayHandle
from tests.simulator.asking import CHAT, ask
from tests.simulator.test_streaming import events

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
ANSWERS: list[tuple[Any, str, dict[str, Any]]] = [
    (ChatCompletion, "chat/completions", CHAT),
    (ChatCompletion, "chat/completions", CHAT | {"n": 2, "logprobs": True, "top_logprobs": 2}),
    (ChatCompletion, "chat/completions", CHAT | {"tools": [TOOL], "tool_choice": "required"}),
    (Completion, "completions", {"model": "m", "prompt": "x", "logprobs": 1}),
    (CreateEmbeddingResponse, "embeddings", {"model": "m", "input": ["x", "y"]}),
    (ModerationCreateResponse, "moderations", {"model": "m", "input": "x"}),
    (Response, "responses", {"model": "m", "input": "x"}),
]
STREAMS: list[tuple[Any, str, dict[str, Any]]] = [
    (ChatCompletionChunk, "chat/completions", {"stream_options": {"include_usage": True}} | CHAT),
    (ChatCompletionChunk, "chat/completions", CHAT | {"tools": [TOOL], "tool_choice": "required"}),
    (ResponseStreamEvent, "responses", {"model": "m", "input": "x"}),
]


@pytest.mark.parametrize(("kind", "path", "body"), ANSWERS)
def test_an_answer_has_every_field(
    gateway: GatewayHandle, kind: Any, path: str, body: dict[str, Any]
) -> None:
    answer = ask(gateway.url, f"/v1/{path}", body)
    assert answer.status == 200
    TypeAdapter(kind).validate_python(answer.json())


@pytest.mark.parametrize(("kind", "path", "body"), STREAMS)
def test_an_event_of_a_stream_has_every_field(
    gateway: GatewayHandle, kind: Any, path: str, body: dict[str, Any]
) -> None:
    adapter = TypeAdapter(kind)
    said = events(ask(gateway.url, f"/v1/{path}", body | {"stream": True}))
    assert len(said) > 1
    for event in said:
        assert event == "[DONE]" or adapter.validate_json(event)
