"""How requests end that do not end well: every stream is closed, and every pod let go."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
import pytest

from batch_gateway import (
    AdaptiveConcurrency,
    AuthenticationError,
    BadResponseError,
    DeadlineExceededError,
    EndpointPickerConfig,
    GatewayConnectionError,
    InferenceError,
    InvalidRequestError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    UnknownStatusError,
)
from batch_gateway.client.layers.circuit_breaker import is_connect_failure
from tests.picker.asking import LIMIT_S, client, request
from tests.picker.pod import Received, running_pod, whole
from tests.picker.scripted_picker import Script, Talk, echoing, scripted_picker
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

ANSWER = b'{"choices":[{"text":"Hi"}]}'


async def silence(*_: Any) -> None:
    await asyncio.Event().wait()


def refusing_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def test_an_evicted_request_is_aborted_at_its_pod_and_sent_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        if len(picker.talks) == 1:
            await pod.arrived.wait()
            await talk.refuse(429, "evicted", b"request evicted by flow control")
        else:
            await pod.lost.wait()
            await talk.echo()

    async def answer(writer: asyncio.StreamWriter, received: Received) -> None:
        if len(pod.received) == 1:
            await silence()
        await whole(ANSWER)(writer, received)

    async with (
        running_pod(answer) as pod,
        scripted_picker(script) as picker,
        client(picker.url, retry=QUICK) as one,
    ):
        response = await one.generate(request())
        await picker.all_ended()
    assert response.body == ANSWER
    assert response.attempts == 2


async def test_an_eviction_without_retries_is_a_429_with_its_reason() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await pod.arrived.wait()
        await talk.refuse(429, "evicted-queue-pressure")

    async with (
        running_pod(silence) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
    ):
        with pytest.raises(RateLimitError) as caught:
            await one.generate(request())
        async with asyncio.timeout(LIMIT_S):
            await pod.lost.wait()
        await picker.all_ended()
    assert caught.value.dropped_reason == "evicted-queue-pressure"
    assert caught.value.is_retryable


@pytest.mark.parametrize("stage", ["choosing", "answering", "handing back"])
async def test_cancelling_the_task_cancels_the_stream_and_closes_the_pods_connection(
    stage: str,
) -> None:
    reached = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.question()
        if stage != "choosing":
            await talk.choose(pod.endpoint)
            await talk.send_body(talk.body)
        if stage == "handing back":
            await talk.read()
            await talk.read()
        if stage != "answering":
            reached.set()
        await silence()

    async def answer(writer: asyncio.StreamWriter, received: Received) -> None:
        if stage == "answering":
            reached.set()
            await silence()
        await whole(ANSWER)(writer, received)

    async with (
        running_pod(answer) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
    ):
        task = asyncio.create_task(one.generate(request()))
        async with asyncio.timeout(LIMIT_S):
            await reached.wait()
            task.cancel()
            await asyncio.wait([task])
            if stage == "answering":
                await pod.lost.wait()
        assert task.cancelled()
        await picker.all_ended()
    assert picker.ends == ["cancelled"]


@pytest.mark.parametrize("stage", ["choosing", "answering"])
async def test_the_deadline_ends_the_stream(stage: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.question()
        if stage == "answering":
            await talk.choose(pod.endpoint)
            await talk.send_body(talk.body)
        await silence()

    async with (
        running_pod(silence) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
    ):
        with pytest.raises(DeadlineExceededError):
            await one.generate(request(deadline=0.1))
        await picker.all_ended()
    assert picker.ends == ["cancelled"]


async def test_a_choice_may_have_a_limit_of_its_own() -> None:
    async def script(talk: Talk) -> None:
        await silence()

    settings = EndpointPickerConfig(pick_timeout=0.1)
    async with (
        scripted_picker(script) as picker,
        client(picker.url, endpoint_picker=settings) as one,
    ):
        with pytest.raises(RequestTimeoutError, match="did not choose a pod in time"):
            await one.generate(request())
        await picker.all_ended()


async def test_a_pod_that_breaks_off_ends_the_stream_and_is_named() -> None:
    async def answer(writer: asyncio.StreamWriter, _: Received) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        writer.close()

    async with (
        running_pod(answer) as pod,
        scripted_picker(echoing(pod.endpoint)) as picker,
        client(picker.url) as one,
    ):
        with pytest.raises(BadResponseError, match=f"127.0.0.1:{pod.port} sent a truncated"):
            await one.generate(request())
        await picker.all_ended()
    assert len(pod.received) == 1


async def test_a_pods_error_is_reported_and_told_as_over_http() -> None:
    answer = whole(b'{"error":{"message":"no such adapter"}}', status=400)
    async with running_pod(answer) as pod, scripted_picker(echoing(pod.endpoint)) as picker:
        async with client(picker.url) as one:
            with pytest.raises(InvalidRequestError, match="HTTP 400: no such adapter"):
                await one.generate(request())
        await picker.all_ended()
    assert picker.talks[0].heard[2].response_headers.headers.headers[0].raw_value == b"400"


async def test_the_next_pod_is_tried_only_where_none_was_reached() -> None:
    async with running_pod(whole(ANSWER)) as pod:
        choice = f"127.0.0.1:{refusing_port()},{pod.endpoint}"
        async with scripted_picker(echoing(choice)) as picker:
            async with client(picker.url) as one:
                assert (await one.generate(request())).body == ANSWER
            await picker.all_ended()
    served = picker.talks[0].heard[2].metadata_context.filter_metadata["envoy.lb"].fields
    assert served["x-gateway-destination-endpoint-served"].string_value == pod.endpoint


async def test_a_request_that_may_have_reached_a_pod_goes_to_no_other() -> None:
    async def answer(writer: asyncio.StreamWriter, _: Received) -> None:
        writer.close()

    async with running_pod(answer) as first, running_pod(whole(ANSWER)) as second:
        script = echoing(f"{first.endpoint},{second.endpoint}")
        async with scripted_picker(script) as picker, client(picker.url) as one:
            with pytest.raises(GatewayConnectionError):
                await one.generate(request())
    assert (len(first.received), len(second.received)) == (1, 0)


@pytest.mark.parametrize(
    ("code", "kind", "status", "retryable"),
    [
        (grpc.StatusCode.UNAVAILABLE, ServerError, 503, True),
        (grpc.StatusCode.INTERNAL, ServerError, 500, True),
        (grpc.StatusCode.UNKNOWN, ServerError, 500, True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RateLimitError, 429, True),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError, 400, False),
        (grpc.StatusCode.UNAUTHENTICATED, AuthenticationError, 401, False),
        (grpc.StatusCode.PERMISSION_DENIED, AuthenticationError, 403, False),
        (grpc.StatusCode.ABORTED, UnknownStatusError, 409, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, RequestTimeoutError, None, True),
    ],
)
async def test_a_status_of_the_picker_is_told_as_the_http_status_that_means_the_same(
    code: grpc.StatusCode, kind: type[InferenceError], status: int | None, retryable: bool
) -> None:
    async def script(talk: Talk) -> None:
        await talk.question()
        await talk.context.abort(code, "no pods in the pool")

    async with scripted_picker(script) as picker, client(picker.url) as one:
        with pytest.raises(kind) as caught:
            await one.generate(request())
    error = caught.value
    assert (error.status_code, error.is_retryable) == (status, retryable)
    assert f"127.0.0.1:{picker.port} answered {code.name}: no pods in the pool" in error.message


def ending(code: grpc.StatusCode, words: str) -> Script:
    async def script(talk: Talk) -> None:
        await talk.question()
        await talk.context.abort(code, words)

    return script


EXHAUSTED, INTERNAL = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("code", "words"),
    [
        # GAIE's lightweight picker, by itself and as Go passes it on.
        (EXHAUSTED, "request body size limit of 10485760 bytes exceeded"),
        (
            INTERNAL,
            "failed to handle request: rpc error: code = ResourceExhausted desc ="
            " request body size limit of 10485760 bytes exceeded",
        ),
        # gRPC's own limit: grpc-go, gRPC core, grpc-node, grpc-java, grpc-dotnet, tonic.
        (EXHAUSTED, "grpc: received message larger than max (5242880 vs. 4194304)"),
        (EXHAUSTED, "grpc: trying to send message larger than max (5242880 vs. 4194304)"),
        (EXHAUSTED, "SERVER: Received message larger than max (5242880 vs. 4194304)"),
        (EXHAUSTED, "Attempted to send message with a size larger than 4194304"),
        (EXHAUSTED, "gRPC message exceeds maximum size 4194304: 5242880"),
        (EXHAUSTED, "Received message exceeds the maximum configured message size."),
        (
            grpc.StatusCode.OUT_OF_RANGE,
            "Error, decoded message length too large: found 5242880 bytes, the limit is: 4194304",
        ),
        # Envoy's and Go's words for HTTP bodies, as pickers and proxies pass them on.
        (grpc.StatusCode.UNAVAILABLE, "payload too large"),
        (grpc.StatusCode.UNKNOWN, "http: request body too large"),
    ],
)
async def test_a_body_that_is_too_large_for_the_picker_is_a_413_and_costs_no_pace(
    code: grpc.StatusCode, words: str
) -> None:
    pace = AdaptiveConcurrency(initial=8)
    async with (
        scripted_picker(ending(code, words)) as picker,
        client(picker.url, retry=QUICK, concurrency=pace) as one,
    ):
        before = one.concurrency_limit
        with pytest.raises(InvalidRequestError) as caught:
            await one.generate(request())
        assert one.concurrency_limit == before
    error = caught.value
    assert (error.status_code, error.attempts, error.is_retryable) == (413, 1, False)
    assert words[-30:] in error.message


async def test_a_rate_that_is_exceeded_is_no_body_that_is_too_large() -> None:
    words = "Request too large for m on tokens per min (TPM): Limit 30000, Requested 30100."
    async with scripted_picker(ending(EXHAUSTED, words)) as picker, client(picker.url) as one:
        with pytest.raises(RateLimitError):
            await one.generate(request())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        # As lightweight pickers say it, which wrap every error of theirs.
        (INTERNAL, "internal error: rpc error: code = Unavailable desc = no pods available"),
        (INTERNAL, "rpc error: code = Unavailable desc = no endpoints available"),
        (
            grpc.StatusCode.UNKNOWN,
            "rpc error: code = Unknown desc = rpc error: code = Unavailable desc ="
            " failed to find endpoint candidates for serving the request",
        ),
        (grpc.StatusCode.UNAVAILABLE, "no healthy endpoints available"),
        (grpc.StatusCode.UNAVAILABLE, "no pods found"),
    ],
)
async def test_a_picker_without_pods_says_so_in_whichever_words(
    code: grpc.StatusCode, words: str
) -> None:
    async with scripted_picker(ending(code, words)) as picker, client(picker.url) as one:
        with pytest.raises(ServerError) as caught:
            await one.generate(request())
    error = caught.value
    assert (error.status_code, error.dropped_reason) == (503, "rejected-no-endpoints")
    assert error.is_retryable
    assert words in error.message


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        ("rpc error: code = InvalidArgument desc = no model", InvalidRequestError, 400),
        ("rpc error: code = PermissionDenied desc = no", AuthenticationError, 403),
        ("x: rpc error: code = ResourceExhausted desc = busy", RateLimitError, 429),
        ("rpc error: code = DeadlineExceeded desc = slow", RequestTimeoutError, None),
        ("rpc error: code = Canceled desc = context canceled", ServerError, 503),
        ("rpc error: code = NoSuchCode desc = what", ServerError, 500),
        ("no code at all", ServerError, 500),
    ],
)
async def test_an_error_that_a_picker_passes_on_is_what_happened_and_not_its_own(
    words: str, kind: type[InferenceError], status: int | None
) -> None:
    async with scripted_picker(ending(INTERNAL, words)) as picker, client(picker.url) as one:
        with pytest.raises(kind) as caught:
            await one.generate(request())
    assert caught.value.status_code == status


async def test_a_server_that_is_no_picker_is_told_as_a_wrong_address() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with client(f"grpc://127.0.0.1:{port}") as one:
            with pytest.raises(UnknownStatusError, match="but no endpoint picker") as caught:
                await one.generate(request())
    finally:
        await server.stop(None)
    assert not caught.value.is_retryable


async def test_a_picker_that_is_not_there_is_a_gateway_that_is_not_there() -> None:
    async with client(f"grpc://127.0.0.1:{refusing_port()}") as one:
        with pytest.raises(GatewayConnectionError, match="connection refused") as caught:
            await one.generate(request())
    assert is_connect_failure(caught.value)


async def test_a_path_or_header_that_cannot_be_sent_is_the_pickers_fault() -> None:
    async with running_pod(whole(ANSWER)) as pod:
        wrong = [(":path", "/v1 x"), (":path", "v1"), (":method", "HEAD"), (":authority", "a\nb")]
        for name, value in (*wrong, ("x-a", "b\r\nx-c: d"), ("x a", "b")):
            script = echoing(pod.endpoint, set_headers={name: value})
            async with scripted_picker(script) as picker, client(picker.url) as one:
                with pytest.raises(BadResponseError, match="the endpoint picker set"):
                    await one.generate(request())
                await picker.all_ended()
    assert pod.received == []


async def test_closing_the_client_ends_every_stream() -> None:
    async def script(talk: Talk) -> None:
        await talk.question()
        started.set()
        await silence()

    started = asyncio.Event()
    async with scripted_picker(script) as picker:
        one = client(picker.url)
        task = asyncio.create_task(one.generate(request()))
        await started.wait()
        await one.aclose()
        with pytest.raises(GatewayConnectionError, match="the client was closed"):
            await task
        with pytest.raises(GatewayConnectionError, match="the client was closed"):
            await one.generate(request())
        await picker.all_ended()
