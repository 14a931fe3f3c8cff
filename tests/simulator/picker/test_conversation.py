"""The sequence of messages of one request, as llm-d's picker has it."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter

import pytest

from batch_gateway.testing import PoolHandle, simulated_pool
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingRequest

from .data_plane import CHAT, Call, DataPlane, data_plane, request_headers, set_headers


def steps(pool: PoolHandle) -> list[str]:
    marks = {"data-plane": ">", "picker": "<"}
    return [
        f"{marks[m.sender]} {m.kind}{' end' if m.end else ''}"
        for m in pool.decisions()[-1].messages
    ]


def test_a_request_is_placed_served_and_recorded(pool: PoolHandle, plane: DataPlane) -> None:
    answer = json.loads(plane.carry(headers={"x-request-id": "r-1"}))
    assert answer["choices"][0]["message"]["content"]
    decision = pool.decisions()[0]
    assert decision.request_id == "r-1"
    assert decision.path == "/v1/chat/completions"
    assert decision.model == decision.target_model == "tiny"
    assert decision.endpoints[0] in pool.addresses
    assert decision.served == decision.endpoints[0]
    assert decision.status == 200
    assert decision.outcome == "completed"
    assert decision.prompt_tokens == answer["usage"]["prompt_tokens"] > 0
    assert decision.completion_tokens == answer["usage"]["completion_tokens"] > 0
    assert 0 < decision.received_at <= decision.picked_at <= decision.response_at
    assert decision.response_at <= decision.ended_at
    assert steps(pool) == [
        "> request_headers",
        "> request_body end",
        "< request_headers",
        "< request_body end",
        "> response_headers",
        "< response_headers",
        "> response_body end",
        "< response_body end",
    ]


def test_headers_are_passed_on_but_for_those_that_steer_the_picker(plane: DataPlane) -> None:
    given = {
        "x-request-id": "r-1",
        "authorization": "Bearer sk-1",
        "x-llm-d-inference-objective": "batch",
        "x-gateway-inference-fairness-id": "team",
        "x-gateway-destination-endpoint-subset": "nonsense",
    }
    picked = plane.pick(headers=given)
    body = json.dumps(CHAT).encode()
    assert picked.body == body
    assert picked.headers == {
        "x-gateway-destination-endpoint": picked.endpoints[0],
        "content-length": str(len(body)),
        ":method": "POST",
        ":path": "/v1/chat/completions",
        ":scheme": "http",
        ":authority": "gateway",
        "content-type": "application/json",
        "x-request-id": "r-1",
        "authorization": "Bearer sk-1",
    }


def test_a_request_without_an_id_gets_one(pool: PoolHandle, plane: DataPlane) -> None:
    made = plane.pick().headers["x-request-id"]
    assert len(made) == 36
    assert pool.decisions()[0].request_id == made


def test_nothing_is_answered_before_the_body_is_whole(pool: PoolHandle, plane: DataPlane) -> None:
    call = plane.call()
    call.send_request({**CHAT, "user": "x" * 200_000}, chunk=50_000)
    assert json.loads(call.receive_pick().body)["user"] == "x" * 200_000
    assert call.finish() == []
    assert steps(pool) == [
        "> request_headers",
        *["> request_body"] * 4,
        "> request_body end",
        "< request_headers",
        *["< request_body"] * 3,
        "< request_body end",
    ]
    assert pool.decisions()[0].outcome == "unreported"


def test_a_request_without_a_body_goes_anywhere(pool: PoolHandle, plane: DataPlane) -> None:
    seen: Counter[str] = Counter()
    for _ in range(60):
        call = plane.call()
        message = request_headers({"x-request-id": "r"})
        message.request_headers.end_of_stream = True
        call.send(message)
        (answer,) = call.finish()
        headers = set_headers(answer.request_headers.response.header_mutation)
        assert set(headers) == {"x-gateway-destination-endpoint"}
        seen[headers["x-gateway-destination-endpoint"]] += 1
    assert set(seen) == set(pool.addresses)


def test_a_model_is_rewritten_on_the_way_there_and_back() -> None:
    with (
        simulated_pool(pods=2, models=["tiny-v2"]) as pool,
        data_plane(pool.url) as plane,
    ):
        pool.configure_picker(rewrites={"tiny": "tiny-v2"})
        answer = json.loads(plane.carry())
        assert answer["model"] == "tiny"
        decision = pool.decisions()[0]
        assert (decision.model, decision.target_model) == ("tiny", "tiny-v2")
        picked = plane.pick()
        assert json.loads(picked.body) == {**CHAT, "model": "tiny-v2"}
        assert picked.headers["content-length"] == str(len(picked.body))


@pytest.mark.parametrize("header", ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"])
def test_a_header_asks_for_another_model(plane: DataPlane, header: str) -> None:
    assert json.loads(plane.pick(headers={header: "other"}).body)["model"] == "other"


def stream(call: Call, parts: list[bytes]) -> list[bytes]:
    call.send_request({**CHAT, "stream": True})
    picked = call.receive_pick()
    call.send_response(
        200, {"content-type": "text/event-stream"}, parts, served=picked.endpoints[0]
    )
    echoes = [e for e in call.finish() if e.HasField("response_body")]
    return [e.response_body.response.body_mutation.streamed_response.body for e in echoes]


def test_events_are_echoed_as_they_come_and_their_tokens_counted(
    pool: PoolHandle, plane: DataPlane
) -> None:
    pool.configure_picker(rewrites={"tiny": "tiny-v2"})
    usage = b'{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}'
    parts = [
        b'data: {"model":"tiny-v2","choices":[]}\n\n',
        b'data: {"model":"tiny-v2","usage":' + usage[:20],
        usage[20:] + b"}\n\n",
        b"data: [DONE]\n\n",
    ]
    echoed = stream(plane.call(), parts)
    assert len(echoed) == len(parts)
    assert b"".join(echoed) == b"".join(parts).replace(b"tiny-v2", b"tiny")
    decision = pool.decisions()[0]
    assert decision.streamed
    assert (decision.prompt_tokens, decision.completion_tokens) == (9, 3)
    assert decision.cached_tokens == 4


def test_usage_inside_a_response_event_is_found(pool: PoolHandle, plane: DataPlane) -> None:
    event = {"type": "response.completed", "response": {"usage": {"input_tokens": 2}}}
    stream(plane.call(), [b"data: " + json.dumps(event).encode()])
    assert pool.decisions()[0].prompt_tokens == 2


def test_trailers_are_answered(plane: DataPlane) -> None:
    call = plane.call()
    call.send_request()
    call.receive_pick()
    call.send_response(200, {}, [b"{}"], served="x")
    message = ProcessingRequest()
    message.response_trailers.SetInParent()
    call.send(message)
    assert [m.WhichOneof("response") for m in call.finish()][-1] == "response_trailers"


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"model": 3}', b'{"model": ""}'])
def test_a_request_that_cannot_be_read_is_refused(
    pool: PoolHandle, plane: DataPlane, body: bytes
) -> None:
    status, headers, text = plane.refusal(body)
    assert (status, headers) == (400, {})
    assert text.startswith(b"inference error: BadRequest - ")
    assert pool.decisions()[0].outcome == "refused"
    assert pool.decisions()[0].status == 400


def test_who_breaks_off_is_recorded_as_gone(pool: PoolHandle, plane: DataPlane) -> None:
    call = plane.call()
    call.send_request()
    call.receive_pick()
    call.cancel()
    plane.pick()
    while not pool.decisions()[0].outcome:
        plane.pick()
    assert pool.decisions()[0].outcome == "abandoned"


def test_every_pod_shows_what_was_decided(pool: PoolHandle, plane: DataPlane) -> None:
    plane.carry(headers={"x-request-id": "r-7"})
    url = pool.pods[2].url + "/simulator/decisions"
    with urllib.request.urlopen(url, timeout=10) as response:
        (decision,) = json.load(response)
    assert decision["request_id"] == "r-7"
    assert decision["outcome"] == "completed"
