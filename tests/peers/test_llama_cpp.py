"""The client before a real model: llama.cpp's own server with SmolLM2."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    AuthenticationError,
    DeadlineExceededError,
    ErrorCategory,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    InvalidRequestError,
    RequestTimeoutError,
    RetryPolicy,
    UnknownStatusError,
)
from tests.peers.llama import Llama, running_llama

pytestmark = pytest.mark.peer("llama.cpp")

LIMIT_S = 60.0

QUESTION = {"model": "smollm2", "messages": [{"role": "user", "content": "Say hi"}]}
# As many tokens as may be: left to chance, one answer in some hundreds ends by itself before that.
EXACTLY = {"ignore_eos": True, "temperature": 0}
# Many seconds of work, unless it notices that nobody waits for it.
ENDLESS_TOKENS = 900
ENDLESS = {
    "model": "smollm2",
    "prompt": "Once",
    "max_tokens": ENDLESS_TOKENS,
    "ignore_eos": True,
}


def client_of(llama: Llama, **settings: Any) -> HTTPInferenceClient:
    return HTTPInferenceClient(
        HTTPInferenceClientConfig(llama.url, **{"api_key": llama.key, "retry": None, **settings})
    )


def ask(llama: Llama, *all_params: dict[str, Any], **settings: Any) -> list[InferenceResponse]:
    """The answers to these requests, sent together; the first error is raised."""

    async def everything() -> list[InferenceResponse]:
        async with asyncio.timeout(LIMIT_S), client_of(llama, **settings) as client:
            requests = [InferenceRequest(params=params) for params in all_params]
            return list(await asyncio.gather(*map(client.generate, requests)))

    return asyncio.run(everything())


def refusal(llama: Llama, request: InferenceRequest, **settings: Any) -> InferenceError:
    async def one() -> None:
        async with asyncio.timeout(LIMIT_S), client_of(llama, **settings) as client:
            await client.generate(request)

    with pytest.raises(InferenceError) as caught:
        asyncio.run(one())
    return caught.value


def test_a_chat_is_answered_by_a_real_model(llama: Llama) -> None:
    [answer] = ask(llama, {**QUESTION, **EXACTLY, "max_tokens": 8})
    [choice] = answer.json()["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert answer.usage is not None
    assert answer.usage.output_tokens == 8
    assert answer.usage.total_tokens == answer.usage.input_tokens + 8


def test_a_completion_without_chance_is_the_same_twice(llama: Llama) -> None:
    params = {"model": "smollm2", "prompt": "The sky is", "max_tokens": 8, "temperature": 0}
    [first] = ask(llama, params)
    [second] = ask(llama, params)
    assert first.json()["choices"][0]["text"]
    assert first.json()["choices"] == second.json()["choices"]


def test_more_requests_than_it_has_slots_for_are_all_answered(llama: Llama) -> None:
    prompts = [f"Number {n} is" for n in range(20)]
    answers = ask(
        llama,
        *({"model": "smollm2", "prompt": prompt, **EXACTLY, "max_tokens": 4} for prompt in prompts),
    )
    assert [answer.usage.output_tokens for answer in answers if answer.usage] == [4] * 20


def test_embeddings_come_back_one_for_each_input(tmp_path: Path) -> None:
    params = {"model": "smollm2", "input": ["red", "blue"], "encoding_format": "float"}
    with running_llama(tmp_path, "embed") as server:
        [answer] = ask(server, params)
    assert [item["index"] for item in answer.json()["data"]] == [0, 1]
    assert [len(item["embedding"]) for item in answer.json()["data"]] == [576, 576]
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens > 0


def test_it_is_reached_through_its_unix_socket(llama: Llama) -> None:
    settings = {"unix_socket": llama.socket}
    [answer] = ask(llama, {**QUESTION, "max_tokens": 2}, **settings)
    assert answer.status_code == 200


def test_a_connection_that_it_closes_after_a_hundred_requests_costs_none(llama: Llama) -> None:
    async def one_after_another() -> list[Any]:
        async with (
            asyncio.timeout(LIMIT_S),
            client_of(llama, max_connections=1) as client,
        ):
            texts = [f"number {n}" for n in range(250)]
            return [await client.generate(tokenize(text)) for text in texts]

    def tokenize(text: str) -> InferenceRequest:
        return InferenceRequest(model="smollm2", endpoint="/tokenize", params={"content": text})

    answers = asyncio.run(one_after_another())
    assert all(answer.json()["tokens"] for answer in answers)
    assert {answer.headers.get("connection") for answer in answers} == {None, "close"}


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"messages": "hi"}, "Expected 'messages' to be an array"),
    ({"messages": [{"role": "user", "content": 5}]}, "Expected 'content' to be a string or an"),
    ({**QUESTION, "temperature": "hot"}, "type must be number, but is string"),
    ({"prompt": 5}, '"prompt" elements must be a string, a list of tokens'),
]


@pytest.mark.parametrize(("params", "words"), MALFORMED)
def test_a_malformed_request_is_refused_in_the_servers_words(
    llama: Llama, params: dict[str, Any], words: str
) -> None:
    request = InferenceRequest(params={"model": "smollm2", **params})
    error = refusal(llama, request, retry=RetryPolicy())
    assert isinstance(error, InvalidRequestError)
    assert (error.category, error.status_code) == (ErrorCategory.INVALID_REQ, 400)
    assert (error.is_retryable, error.attempts) == (False, 1)
    assert words in error.message
    assert error.message.startswith("HTTP 400: ")
    assert len(error.message) < 200
    # A number in the body; codes are text here.
    assert error.code == "400"


def test_bytes_that_are_not_json_are_refused_by_the_server(llama: Llama) -> None:
    request = InferenceRequest(params=b"{bad", model="smollm2", endpoint="/v1/chat/completions")
    error = refusal(llama, request)
    assert isinstance(error, InvalidRequestError)
    assert "parse error at line 1, column 2" in error.message


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(llama: Llama) -> None:
    request = InferenceRequest(params={"model": "smollm2", "prompt": "word " * 1100})
    error = refusal(llama, request, retry=RetryPolicy())
    assert isinstance(error, InvalidRequestError)
    assert (error.status_code, error.attempts) == (400, 1)
    assert "(1101 tokens) exceeds the available context size (1024 tokens)" in error.message
    assert b"exceed_context_size_error" in error.body


def test_a_wrong_key_is_refused_once_and_not_shown(llama: Llama) -> None:
    request = InferenceRequest(params=QUESTION)
    settings = {"api_key": "sk-wrong", "retry": RetryPolicy()}
    error = refusal(llama, request, **settings)
    assert isinstance(error, AuthenticationError)
    assert (error.status_code, error.attempts) == (401, 1)
    assert error.message == "HTTP 401: Invalid API Key"
    assert "sk-wrong" not in f"{error!r} {error.body!r}"


def test_a_path_that_it_does_not_serve_is_said(llama: Llama) -> None:
    request = InferenceRequest(params=QUESTION, endpoint="/v2/chat")
    error = refusal(llama, request, retry=RetryPolicy())
    assert isinstance(error, UnknownStatusError)
    assert (error.status_code, error.attempts, error.is_retryable) == (404, 1, False)
    assert error.message == f"HTTP 404: File Not Found; asked for {llama.url}/v2/chat"


def test_a_cancelled_request_frees_its_slot(llama: Llama) -> None:
    async def cancelled() -> None:
        async with asyncio.timeout(LIMIT_S), client_of(llama) as client:
            asked = asyncio.create_task(client.generate(InferenceRequest(params=ENDLESS)))
            await asyncio.to_thread(llama.wait_until_busy)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await asyncio.to_thread(llama.wait_until_idle)
            # The same client goes on, on another connection.
            answer = await client.generate(InferenceRequest(params={**QUESTION, "max_tokens": 2}))
            assert answer.status_code == 200

    before = llama.generated_tokens()
    asyncio.run(cancelled())
    assert llama.generated_tokens() < before + ENDLESS_TOKENS


def test_a_timeout_frees_the_slot(llama: Llama) -> None:
    before = llama.generated_tokens()
    request = InferenceRequest(params=ENDLESS)
    error = refusal(llama, request, timeout=0.5)
    assert isinstance(error, RequestTimeoutError)
    assert not isinstance(error, DeadlineExceededError)
    assert (error.category, error.is_retryable) == (ErrorCategory.SERVER_ERROR, True)
    llama.wait_until_idle()
    assert llama.generated_tokens() < before + ENDLESS_TOKENS


def test_a_deadline_frees_the_slot_and_is_not_retried(llama: Llama) -> None:
    before = llama.generated_tokens()
    request = InferenceRequest(params=ENDLESS, deadline=0.5)
    error = refusal(llama, request, retry=RetryPolicy())
    assert isinstance(error, DeadlineExceededError)
    assert (error.attempts, error.is_retryable) == (1, False)
    llama.wait_until_idle()
    assert llama.generated_tokens() < before + ENDLESS_TOKENS
