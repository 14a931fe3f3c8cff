"""Streams of a real model: what is put together is what llama.cpp answers without streaming."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batch_gateway import (
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
    InvalidRequestError,
    RequestTimeoutError,
)
from tests.peers.llama import Llama

pytestmark = pytest.mark.peer("llama.cpp")

LIMIT_S = 60.0

HELLO = {"messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 8, "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ENDLESS_TOKENS = 900
ENDLESS = {"prompt": "Once", "max_tokens": ENDLESS_TOKENS, "ignore_eos": True}


def client_of(llama: Llama, **settings: Any) -> HTTPInferenceClient:
    return HTTPInferenceClient(
        HTTPInferenceClientConfig(llama.url, **{"api_key": llama.key, "retry": None, **settings})
    )


def request(params: dict[str, Any]) -> InferenceRequest:
    return InferenceRequest(params={"model": "smollm2", **params})


def answer(llama: Llama, params: dict[str, Any], **settings: Any) -> InferenceResponse:
    async def one() -> InferenceResponse:
        async with asyncio.timeout(LIMIT_S), client_of(llama, **settings) as client:
            return await client.generate(request(params))

    return asyncio.run(one())


def said(value: Any) -> Any:
    """An answer without what differs between any two of them: names, times and cache hits."""
    if isinstance(value, list):
        return [said(one) for one in value]
    if not isinstance(value, dict):
        return round(value, 3) if isinstance(value, float) else value
    passing = ("id", "created", "timings", "prompt_tokens_details", "__verbose")
    return {name: said(part) for name, part in value.items() if name not in passing}


@pytest.mark.parametrize(
    "params",
    [
        HELLO,
        {**HELLO, "logprobs": True, "top_logprobs": 2},
        {**HELLO, "n": 2},
        {**HELLO, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 60},
        {**HELLO, "stop": ["!"]},
        {"prompt": "The sky is", "max_tokens": 8, "temperature": 0},
        {"prompt": "The sky is", "max_tokens": 4, "temperature": 0, "logprobs": 2},
        {"prompt": "\U0001f600\U0001f680 caf\u00e9", "max_tokens": 12, "temperature": 0},
    ],
    ids=["chat", "logprobs", "choices", "tools", "stop", "completion", "its logprobs", "emoji"],
)
def test_an_assembled_answer_is_the_one_without_streaming(
    llama: Llama, params: dict[str, Any]
) -> None:
    whole = answer(llama, params)
    streamed = answer(llama, params, stream_upstream=True)
    assert said(streamed.json()) == said(whole.json())
    assert streamed.json().keys() == whole.json().keys()
    assert streamed.usage is not None
    assert streamed.time_to_first_token is not None
    assert 0 < streamed.time_to_first_token <= streamed.duration


def test_tokens_arrive_one_by_one(llama: Llama) -> None:
    async def read() -> tuple[list[str], HTTPInferenceClient]:
        async with asyncio.timeout(LIMIT_S), client_of(llama) as client:
            stream = client.stream(request(HELLO))
            texts = [chunk.text async for chunk in stream]
            assert stream.finish_reason in ("stop", "length")
            assert stream.usage is not None
            assert stream.usage.output_tokens >= len([text for text in texts if text])
            return texts, client

    texts, _ = asyncio.run(read())
    whole = answer(llama, HELLO).json()["choices"][0]["message"]["content"]
    assert "".join(texts) == whole
    assert len(texts) > 3


@pytest.mark.parametrize("way", ["leave", "idle"])
def test_a_stream_that_is_given_up_frees_its_slot(llama: Llama, way: str) -> None:
    async def give_up() -> None:
        # Far below the time between two tokens.
        idle = 0.000_001 if way == "idle" else 60
        settings = {"stream_idle_timeout": idle}
        async with asyncio.timeout(LIMIT_S), client_of(llama, **settings) as client:
            async with client.stream(request(ENDLESS)) as stream:
                assert await anext(stream)
                if way == "idle":
                    with pytest.raises(RequestTimeoutError, match="sent nothing for"):
                        [_ async for _ in stream]
            await asyncio.to_thread(llama.wait_until_idle)

    before = llama.generated_tokens()
    asyncio.run(give_up())
    assert llama.generated_tokens() < before + ENDLESS_TOKENS


def test_a_refusal_is_the_same_as_without_streaming(llama: Llama) -> None:
    params = {"prompt": "word " * 1100}
    for settings in ({}, {"stream_upstream": True}):
        with pytest.raises(InvalidRequestError, match="exceeds the available context size") as no:
            answer(llama, params, **settings)
        assert no.value.status_code == 400
