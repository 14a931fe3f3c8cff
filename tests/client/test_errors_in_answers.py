"""Failures that come with a 2xx status: `generate` says what a plain refusal would have said."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    AuthenticationError,
    BadResponseError,
    CacheConfig,
    CoalescePolicy,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InvalidRequestError,
    RateLimitError,
    ServerError,
    UnknownStatusError,
    Usage,
)
from batch_gateway.client.interfaces.interpret_answer import interpret_aside
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.redaction import Redactor
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock
from tests.http.behaviour.scripted_server import Peer, answer, serving
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

TRIES = QUICK.max_retries + 1
GOOD = b'{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
ABORTED = GOOD.replace(b"stop", b"abort")
REQUEST = InferenceRequest(params={"model": "m", "messages": [{"role": "user", "content": "?"}]})
EMBEDDING = InferenceRequest(params={"model": "m", "input": ["a"]})


@dataclass
class Gateway:
    """Gives the answers of a list in turn, the last of them again and again."""

    answers: list[bytes]
    bodies: list[bytes] = field(default_factory=list[bytes])

    async def __call__(self, peer: Peer) -> None:
        while True:
            self.bodies.append((await peer.request()).body)
            peer.send(self.answers[min(len(self.bodies), len(self.answers)) - 1])


@asynccontextmanager
async def client_of(gateway: Gateway, **config: Any) -> AsyncIterator[HTTPInferenceClient]:
    async with serving(gateway) as server:
        settings = HTTPInferenceClientConfig(server.base_url, **{"retry": QUICK, **config})
        async with HTTPInferenceClient(settings) as client:
            yield client


async def failure_of(
    body: bytes, *headers: bytes, status: bytes = b"200 OK", request: InferenceRequest = REQUEST
) -> InferenceError:
    async with client_of(Gateway([answer(body, *headers, status=status)])) as client:
        with pytest.raises(InferenceError) as caught:
            await client.generate(request)
    return caught.value


@pytest.mark.parametrize("status", [b"200 OK", b"201 Created", b"202 x", b"203 x", b"206 x"])
@pytest.mark.parametrize(
    ("error", "kind", "code", "attempts"),
    [
        ({"message": "bad key", "code": 401}, AuthenticationError, "401", 1),
        ({"message": "no", "code": 400}, InvalidRequestError, "400", 1),
        ({"message": "no", "type": "invalid_request_error"}, InvalidRequestError, None, 1),
        ({"message": "gone", "code": 404}, UnknownStatusError, "404", 1),
        ({"message": "slow", "code": "429"}, RateLimitError, "429", TRIES),
        ({"message": "slow", "code": "rate_limit_exceeded"}, RateLimitError, None, TRIES),
        ({"message": "Provider returned error", "code": 502}, ServerError, "502", TRIES),
    ],
)
async def test_an_error_with_a_status_of_its_own_is_worth_what_that_is(
    status: bytes,
    error: dict[str, Any],
    kind: type[InferenceError],
    code: str | None,
    attempts: int,
) -> None:
    for body in ({"error": error}, {"choices": [{"error": error, "finish_reason": "error"}]}):
        found = await failure_of(json.dumps(body).encode(), status=status)
        assert type(found) is kind
        assert found.attempts == attempts
        assert found.status_code is not None
        assert found.status_code >= 400
        assert str(error["message"]) in found.message
        assert found.message.startswith(f"HTTP {status[:3].decode()} ")
        assert code is None or found.code == code


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"error":"text"}', "text"),
        (b'{"id":null,"choices":null,"error":{}}', "it has no 'choices'"),
        (b'{"detail":"backend overloaded"}', "backend overloaded"),
        (b'{"error_code":17,"error_msg":"daily limit"}', "daily limit"),
        (b'{"base_resp":{"status_code":1008,"status_msg":"no balance"}}', "no balance"),
        (b"{}", "it has no 'choices'"),
        (b'{"choices":[]}', "its 'choices' are empty"),
        (ABORTED, "aborted"),
    ],
)
async def test_what_is_no_answer_for_no_known_reason_is_a_bad_response(
    body: bytes, says: str
) -> None:
    error = await failure_of(body)
    assert type(error) is BadResponseError
    assert (error.status_code, error.attempts) == (200, TRIES)
    assert says in error.message
    assert error.body == body


async def test_embeddings_of_nothing_are_right_only_where_nothing_was_asked_for() -> None:
    none = b'{"object":"list","data":[]}'
    assert "its 'data' are empty" in (await failure_of(none, request=EMBEDDING)).message
    nothing = InferenceRequest(params={"model": "m", "input": []}, endpoint="/v1/embeddings")
    async with client_of(Gateway([answer(none)])) as client:
        assert (await client.generate(nothing)).body == none


async def test_a_wait_and_a_wish_count_as_they_do_with_a_refusal() -> None:
    body = b'{"error":{"message":"slow down","code":429}}'
    error = await failure_of(body, b"retry-after-ms: 7", b"x-should-retry: false")
    assert error.retry_after == pytest.approx(0.007)
    assert error.attempts == 1


async def test_an_aborted_generation_is_sent_again() -> None:
    gateway = Gateway([answer(ABORTED), answer(GOOD)])
    async with client_of(gateway) as client:
        response = await client.generate(REQUEST)
    assert (response.body, response.attempts) == (GOOD, 2)


async def test_a_key_in_an_error_is_taken_out_before_its_words_are_cut() -> None:
    secret = "sk-" + "very-secret-" * 20
    words = "x" * 200 + secret
    for body in (json.dumps({"error": words}), f"no JSON {secret}"):
        gateway = Gateway([answer(body.encode())])
        async with client_of(gateway, api_key=secret, retry=None) as client:
            with pytest.raises(BadResponseError) as caught:
                await client.generate(REQUEST)
        for text in (caught.value.message, str(caught.value), caught.value.body.decode()):
            assert secret[:20] not in text


async def test_what_is_no_answer_is_not_cached(tmp_path: Path) -> None:
    gateway = Gateway([answer(ABORTED), answer(b'{"error":"busy"}'), answer(GOOD)])
    cache = CacheConfig(tmp_path / "answers")
    async with client_of(gateway, cache=cache, retry=None) as client:
        for _ in range(2):
            with pytest.raises(BadResponseError):
                await client.generate(REQUEST)
        responses = [await client.generate(REQUEST) for _ in range(2)]
    assert [response.from_cache for response in responses] == [False, True]
    assert responses[1].body == GOOD


async def test_an_answer_can_be_read_with_half_an_emoji_in_it() -> None:
    body = GOOD.replace(b"Hi", b"Hi \\ud83d")
    async with client_of(Gateway([answer(body)])) as client:
        response = await client.generate(REQUEST)
    assert response.body == body
    assert response.json()["choices"][0]["message"]["content"] == "Hi \ud83d"


@pytest.mark.parametrize(
    "joint",
    [
        b'{"data":[]}',
        b"{}",
        b'[{"embedding":[1]},{"embedding":[1]}]',
        b'{"error":{"message":"an input is too long","code":400}}',
        b'{"data":[{"index":0,"embedding":[1]},{"index":1,"error":{"code":400}}]}',
    ],
)
async def test_a_joint_answer_that_is_none_harms_nobody(joint: bytes) -> None:
    class Embedder(Gateway):
        async def __call__(self, peer: Peer) -> None:
            while True:
                asked = json.loads((await peer.request()).body)["input"]
                alone = b'{"data":[{"index":0,"embedding":["%s"]}]}' % str(asked).encode()
                peer.send(answer(joint if isinstance(asked, list) else alone))

    async with client_of(Embedder([]), coalesce=CoalescePolicy(2)) as client:
        requests = (
            InferenceRequest(
                params={"model": "m", "input": name}, endpoint="/v1/embeddings", request_id=name
            )
            for name in ("a", "b")
        )
        first, second = await asyncio.gather(*map(client.generate, requests))
    assert (first.json()["data"][0]["embedding"], first.coalesced) == (["a"], 1)
    assert (second.json()["data"][0]["embedding"], second.coalesced) == (["b"], 1)


async def test_a_joint_refusal_for_load_is_everybodys() -> None:
    body = b'{"error":{"message":"slow down","code":429}}'
    config: dict[str, Any] = {"coalesce": CoalescePolicy(2), "retry": None}
    async with client_of(Gateway([answer(body)]), **config) as client:
        requests = (
            InferenceRequest(params={"model": "m", "input": name}, endpoint="/v1/embeddings")
            for name in ("a", "b")
        )
        ends = await asyncio.gather(*map(client.generate, requests), return_exceptions=True)
    assert [type(end) for end in ends] == [RateLimitError, RateLimitError]


class NotingClock(ManualClock):
    """Notes which threads ask for the time."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def monotonic(self) -> float:
        self.threads.add(threading.get_ident())
        return super().monotonic()


@pytest.mark.parametrize(("size", "aside"), [(100, False), (2_000_000, True)])
async def test_the_loop_goes_on_while_a_large_answer_is_looked_at(size: int, aside: bool) -> None:
    body = b'{"choices":[{"text":"%s"}],"usage":{"prompt_tokens":3}}' % (b"x" * size)
    request = PreparedRequest(request_id="r", model="m", endpoint="/v1/completions", body=b"{}")
    clock = NotingClock()
    response = await interpret_aside(
        HTTPResponse(200, Headers(), body), request, clock, Redactor([])
    )
    assert (response.body, response.usage) == (body, Usage(3))
    assert (threading.get_ident() not in clock.threads) is aside


async def test_a_byte_order_mark_is_taken_off() -> None:
    async with client_of(Gateway([answer(b"\xef\xbb\xbf" + GOOD)])) as client:
        response = await client.generate(REQUEST)
    assert response.body == GOOD
    assert response.attempts == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        *((GOOD.decode().encode(codec), codec[:6].upper()) for codec in ("utf-16", "utf-32-le")),
        (GOOD[:-1] + b',"logprob":NaN}', "NaN"),
        (GOOD[:-1] + b',"logprob":-Infinity}', "-Infinity"),
    ],
)
async def test_what_would_come_again_is_not_asked_for_again(body: bytes, says: str) -> None:
    error = await failure_of(body)
    assert type(error) is BadResponseError
    assert (error.attempts, error.is_retryable) == (1, False)
    assert says in error.message
    assert error.body == body
