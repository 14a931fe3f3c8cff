"""A request through an endpoint picker: what is asked, where it goes and as what."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from batch_gateway import (
    EndpointPickerConfig,
    InferenceRequest,
    RateLimitError,
    SchedulingHints,
    ServerError,
)
from tests.picker.asking import LIMIT_S, client, request
from tests.picker.pod import running_pod, whole
from tests.picker.scripted_picker import Talk, echoing, scripted_picker

pytestmark = pytest.mark.anyio

ANSWER = b'{"model":"tuned","choices":[{"text":"Hi"}]}'


async def test_the_picker_is_told_all_and_the_pod_gets_what_it_makes_of_it() -> None:
    async def script(talk: Talk) -> None:
        asked.update(await talk.question())
        moved = {":path": "/v1/moved", "x-prefiller-host-port": "10.0.0.9:80", "X-Mine": "theirs"}
        await talk.choose(pod.endpoint, set_headers=moved, remove_headers=["user-agent"])
        await talk.send_body(b'{"model":"tuned"}')
        reported.append(await talk.echo(rewrite=lambda body: body.replace(b"tuned", b"m")))

    asked: dict[str, str] = {}
    reported: list[bytes] = []
    async with running_pod(whole(ANSWER)) as pod, scripted_picker(script) as picker:
        hints = SchedulingHints(objective="batch")
        async with client(picker.url, api_key="sk-secret", scheduling=hints) as one:
            response = await one.generate(request(request_id="req-1", headers={"X-Mine": "mine"}))
        await picker.all_ended()
    assert response.body == ANSWER.replace(b"tuned", b"m")
    assert reported == [ANSWER]
    assert picker.ends == ["ended"]
    told = picker.talks[0].heard
    assert [one.WhichOneof("request") for one in told] == [
        "request_headers",
        "request_body",
        "response_headers",
        "response_body",
    ]
    assert not told[0].request_headers.end_of_stream
    assert told[0].HasField("protocol_config")
    assert not any(message.HasField("protocol_config") for message in told[1:])
    assert asked.pop("user-agent").startswith("batch-gateway/")
    assert asked == {
        ":method": "POST",
        ":path": "/v1/completions",
        ":authority": f"127.0.0.1:{picker.port}",
        ":scheme": "http",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-secret",
        "content-type": "application/json",
        "content-length": "27",
        "x-request-id": "req-1",
        "x-mine": "mine",
        "x-llm-d-inference-objective": "batch",
        "x-gateway-inference-objective": "batch",
    }
    [received] = pod.received
    assert received.line == "POST /v1/moved HTTP/1.1"
    assert received.body == b'{"model":"tuned"}'
    for name in (":method", ":path", ":authority", ":scheme", "content-length"):
        del asked[name]
    assert received.headers == {
        **asked,
        "Host": pod.endpoint,
        "Content-Length": "17",
        "x-mine": "theirs",
        "x-prefiller-host-port": "10.0.0.9:80",
        "x-gateway-destination-endpoint": pod.endpoint,
    }


async def test_the_answer_is_reported_with_its_status_headers_and_server() -> None:
    pod_answer = whole(ANSWER, x_inference_pod="pod-1")
    async with running_pod(pod_answer) as pod, scripted_picker(echoing(pod.endpoint)) as picker:
        async with client(picker.url) as one:
            response = await one.generate(request())
        await picker.all_ended()
    assert response.headers["x-inference-pod"] == "pod-1"
    head = picker.talks[0].heard[2]
    told = {h.key: h.raw_value for h in head.response_headers.headers.headers}
    assert told[":status"] == b"200"
    assert told["x-inference-pod"] == b"pod-1"
    served = head.metadata_context.filter_metadata["envoy.lb"].fields
    assert served["x-gateway-destination-endpoint-served"].string_value == pod.endpoint


@pytest.mark.parametrize("only", ["metadata", "header"])
async def test_either_way_of_naming_the_pod_is_enough(only: str) -> None:
    async with running_pod(whole(ANSWER)) as pod:
        script = echoing(pod.endpoint, metadata=only == "metadata", header=only == "header")
        async with scripted_picker(script) as picker, client(picker.url) as one:
            assert (await one.generate(request())).body == ANSWER


async def test_a_subset_is_named_on_headers_and_body() -> None:
    async with running_pod(whole(ANSWER)) as pod, scripted_picker(echoing(pod.endpoint)) as picker:
        settings = EndpointPickerConfig(endpoint_subset=["10.0.0.1:80", pod.endpoint])
        async with client(picker.url, endpoint_picker=settings) as one:
            await one.generate(request())
        await picker.all_ended()
    for message in picker.talks[0].heard[:2]:
        hint = message.metadata_context.filter_metadata["envoy.lb.subset_hint"].fields
        listed = hint["x-gateway-destination-endpoint-subset"].list_value.values
        assert [value.string_value for value in listed] == ["10.0.0.1:80", pod.endpoint]


async def test_bodies_of_many_megabytes_go_through_in_pieces() -> None:
    text = "y" * 6_000_000
    body = b'{"choices":[{"text":"%s"}]}' % (b"z" * 5_000_000)
    async with (
        running_pod(whole(body)) as pod,
        scripted_picker(echoing(pod.endpoint)) as picker,
        client(picker.url) as one,
    ):
        asked = InferenceRequest(params={"model": "m", "prompt": text})
        response = await one.generate(asked)
    assert response.body == body
    assert pod.received[0].body == picker.talks[0].body
    assert len(pod.received[0].body) > 6_000_000


async def test_a_host_can_be_given_to_picker_and_pods() -> None:
    async with running_pod(whole(ANSWER)) as pod, scripted_picker(echoing(pod.endpoint)) as picker:
        settings = EndpointPickerConfig(authority="llm.example")
        async with client(picker.url + "/pool", endpoint_picker=settings) as one:
            await one.generate(request())
    told = {h.key: h.raw_value for h in picker.talks[0].heard[0].request_headers.headers.headers}
    assert (told[":authority"], told[":path"]) == (b"llm.example", b"/pool/v1/completions")
    assert pod.received[0].headers["Host"] == "llm.example"
    assert pod.received[0].line == "POST /pool/v1/completions HTTP/1.1"


async def test_method_and_host_are_the_pickers_to_change() -> None:
    changes = {":method": "PUT", ":authority": "other.example", ":scheme": "https"}
    async with running_pod(whole(ANSWER)) as pod:
        script = echoing(pod.endpoint, set_headers=changes)
        async with scripted_picker(script) as picker, client(picker.url) as one:
            await one.generate(request())
    assert pod.received[0].line == "PUT /v1/completions HTTP/1.1"
    assert pod.received[0].headers["Host"] == "other.example"


async def test_a_refusal_is_told_as_over_http() -> None:
    async def script(talk: Talk) -> None:
        await talk.question()
        await talk.refuse(429, "rejected-saturated", b"inference error: 429 - queue is full")

    async with scripted_picker(script) as picker, client(picker.url) as one:
        with pytest.raises(RateLimitError) as caught:
            await one.generate(request())
        await picker.all_ended()
    assert caught.value.dropped_reason == "rejected-saturated"
    assert caught.value.status_code == 429
    assert caught.value.message.startswith("HTTP 429: ")


async def test_a_refusal_while_the_body_is_still_sent_ends_the_sending() -> None:
    async def script(talk: Talk) -> None:
        await talk.read()
        await talk.refuse(429, "rejected-saturated")
        await talk.read()

    async with scripted_picker(script) as picker, client(picker.url) as one:
        large = InferenceRequest(params={"model": "m", "prompt": "y" * 9_000_000})
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(RateLimitError):
                await one.generate(large)
        await picker.all_ended()


async def test_a_picker_that_closes_after_its_choice_has_the_answer_pass_unseen() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)

    async with (
        running_pod(whole(ANSWER)) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
    ):
        assert (await one.generate(request())).body == ANSWER
        await picker.all_ended()
    assert picker.ends == ["ended"]


async def test_empty_body_answers_before_the_choice_leave_the_body_as_it_was() -> None:
    async def script(talk: Talk) -> None:
        await talk.question()
        await talk.say(request_body={})
        await talk.choose(pod.endpoint, value_field="value")
        await talk.read()
        await talk.say(response_headers={})
        await talk.read()
        await talk.say(response_body={})

    async with (
        running_pod(whole(ANSWER)) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
    ):
        assert (await one.generate(request())).body == ANSWER
    assert pod.received[0].body == b'{"model":"m","prompt":"Hi"}'


async def test_a_picker_that_never_hands_back_is_waited_for_only_so_long() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        while await talk.read():
            pass

    async with running_pod(whole(ANSWER)) as pod, scripted_picker(script) as picker:
        settings = EndpointPickerConfig(echo_timeout=0.1)
        async with client(picker.url, endpoint_picker=settings) as one:
            for _ in range(3):
                assert (await one.generate(request())).body == ANSWER
            await picker.all_ended()


async def test_a_picker_that_does_not_listen_is_told_a_long_answer_only_so_long() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await asyncio.Event().wait()

    body = b'{"choices":[{"text":"%s"}]}' % (b"z" * 5_000_000)
    settings = EndpointPickerConfig(echo_timeout=0.1)
    async with (
        running_pod(whole(body)) as pod,
        scripted_picker(script) as picker,
        client(picker.url, endpoint_picker=settings) as one,
    ):
        assert (await one.generate(request())).body == body
        await picker.all_ended()


async def test_a_picker_that_is_lost_while_a_pod_answers_does_not_lose_the_answer() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await pod.arrived.wait()
        await talk.context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    async def answer(writer: asyncio.StreamWriter, received: Any) -> None:
        await picker.all_ended()
        await whole(ANSWER)(writer, received)

    async with (
        running_pod(answer) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
    ):
        assert (await one.generate(request())).body == ANSWER


async def test_an_answer_half_rewritten_is_an_error_that_may_be_retried() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await talk.read()
        await talk.say(response_headers={})
        await talk.read()
        half = {"body": b'{"model":"m"', "end_of_stream": False}
        await talk.say(response_body={"response": {"body_mutation": {"streamed_response": half}}})

    async with (
        running_pod(whole(ANSWER)) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
    ):
        with pytest.raises(ServerError, match="in the middle of the answer") as caught:
            await one.generate(request())
    assert caught.value.is_retryable


async def test_an_answer_that_is_handed_back_without_end_is_an_error() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await talk.read()
        await talk.say(response_headers={})
        more = {"body": b"x" * 50_000, "end_of_stream": False}
        while True:
            await talk.say(
                response_body={"response": {"body_mutation": {"streamed_response": more}}}
            )

    async with (
        running_pod(whole(ANSWER)) as pod,
        scripted_picker(script) as picker,
        client(picker.url, max_response_bytes=100_000) as one,
    ):
        with pytest.raises(ServerError, match="handed back more of an answer than max_response"):
            await one.generate(request())
