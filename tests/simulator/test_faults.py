"""Faults by header, by model name and by rate, as a client sees them."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from batch_gateway.errors import ConfigError
from batch_gateway.simulator.fault_replies import reply_without_answer
from batch_gateway.simulator.faults import FAULTS, FaultKind, fault_from_model, parse_fault
from batch_gateway.simulator.wire_faults import ANSWERLESS
from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway

from .asking import CHAT, ask, ask_on

REASON = "x-llm-d-request-dropped-reason"


@contextmanager
def raw_answer(gateway: GatewayHandle, fault: str) -> Iterator[socket.socket]:
    """A socket on which a request with a fault was sent."""
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}]}'
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\n"
        f"X-Simulate-Fault: {fault}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as sock:
        sock.sendall(head.encode() + body)
        yield sock


def read_to_end(sock: socket.socket) -> tuple[bytes, bool]:
    """Everything, and whether it ended with a reset."""
    received = b""
    while True:
        try:
            data = sock.recv(65_536)
        except ConnectionResetError:
            return received, True
        if not data:
            return received, False
        received += data


# -- another answer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "reason", "body"),
    [
        ("saturated", 429, "rejected-saturated", "ResourceExhausted"),
        ("ttl-expired", 429, "rejected-ttl-expired", "ResourceExhausted"),
        ("no-endpoints", 503, "rejected-no-endpoints", "ServiceUnavailable"),
        ("shutting-down", 503, "rejected-shutting-down", "ServiceUnavailable"),
        ("evicted", 429, "evicted", "ResourceExhausted"),
        ("shed", 429, None, "system saturated, sheddable request dropped"),
        ("admission-refused", 500, None, "request cannot be admitted"),
        ("parse-error", 400, None, "BadRequest"),
    ],
)
def test_refuses_the_way_llm_d_does(
    gateway: GatewayHandle, name: str, status: int, reason: str | None, body: str
) -> None:
    answer = ask(gateway.url, X_Simulate_Fault=name)
    assert answer.status == status
    assert answer.headers.get(REASON) == reason
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.body.decode()
    assert text.startswith("inference error: ")
    assert body in text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504])
def test_any_status_can_be_asked_for(gateway: GatewayHandle, status: int) -> None:
    answer = ask(gateway.url, X_Simulate_Fault=f"status-{status}")
    assert answer.status == status
    assert answer.json()["error"]["message"]


def test_hints_for_retries_are_sent_as_they_were_asked_for(gateway: GatewayHandle) -> None:
    answer = ask(
        gateway.url,
        X_Simulate_Fault="status-429;retry-after=2;retry-after-ms=1500;should-retry=false",
    )
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["retry-after-ms"] == "1500"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "start"),
    [
        ("html-502", 502, "text/html", b"<html>"),
        ("empty-500", 500, "text/plain", b""),
        ("empty-body", 200, "application/json", b""),
        ("not-json", 200, "application/json", b"The model"),
        ("truncated-json", 200, "application/json", b'{"id":'),
    ],
)
def test_bodies_that_are_no_answer(
    gateway: GatewayHandle, fault: str, status: int, content_type: str, start: bytes
) -> None:
    answer = ask(gateway.url, X_Simulate_Fault=fault)
    assert (answer.status, answer.headers["content-type"]) == (status, content_type)
    assert answer.body.startswith(start)
    if start != b"":
        with pytest.raises(ValueError, match=r"."):
            answer.json()
    else:
        assert answer.body == b""


def test_refuse_then_ok_counts_the_attempts_of_each_request_id(gateway: GatewayHandle) -> None:
    fault = "refuse-then-ok=2;status=429;retry-after-ms=5"
    statuses = [
        ask(gateway.url, X_Request_ID=name, X_Simulate_Fault=fault).status
        for name in ("a", "a", "b", "a", "b", "b")
    ]
    assert statuses == [429, 429, 429, 200, 429, 200]


def test_without_an_id_the_same_body_is_the_same_request(gateway: GatewayHandle) -> None:
    statuses = [ask(gateway.url, X_Simulate_Fault="refuse-then-ok").status for _ in range(2)]
    assert statuses == [503, 200]


def test_any_fault_can_be_limited_to_the_first_attempts(gateway: GatewayHandle) -> None:
    with pytest.raises(ConnectionError):
        ask(gateway.url, X_Request_ID="a", X_Simulate_Fault="reset-before-headers;times=1")
    again = ask(gateway.url, X_Request_ID="a", X_Simulate_Fault="reset-before-headers;times=1")
    assert again.status == 200


# -- by model name and by rate -------------------------------------------------------------


def test_a_model_name_asks_for_a_fault() -> None:
    with simulated_gateway(models=["tiny"]) as gateway:
        assert ask(gateway.url, body=CHAT | {"model": "fault-status-503"}).status == 503
        body = CHAT | {"model": "fault-refuse-then-ok-1"}
        assert [ask(gateway.url, body=body).status for _ in range(2)] == [503, 200]
        unknown = ask(gateway.url, body=CHAT | {"model": "fault-nonsense"})
        assert unknown.status == 400
        assert "there are status-NNN, refuse-then-ok" in unknown.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "name", "argument"),
    [
        ("fault-status-500", "status", 500),
        ("fault-delay-0.2", "delay", 0.2),
        ("fault-stall-body", "stall-body", 0),
        ("fault-stall", "stall", 0),
        ("fault-slow-headers-2", "slow-headers", 2),
        ("fault-status-429;retry-after=3", "status", 429),
    ],
)
def test_model_names_carry_an_argument(model: str, name: str, argument: float) -> None:
    fault = fault_from_model(model)
    assert fault is not None
    assert (fault.name, fault.argument) == (name, argument)
    assert fault_from_model("gpt-4") is None


def test_rates_strike_the_same_requests_whatever_their_order() -> None:
    struck: list[set[str]] = []
    for order in (range(60), reversed(range(60))):
        with simulated_gateway(faults={"status-503": 0.3, "status-429": 0.2}) as gateway:
            names = [f"r{i}" for i in order]
            struck.append({n for n in names if ask(gateway.url, X_Request_ID=n).status != 200})
            assert set(gateway.journal()["by_status"]) == {"200", "429", "503"}
    assert struck[0] == struck[1]
    assert 18 < len(struck[0]) < 42


def test_a_retry_meets_its_own_chance_and_rates_change_live() -> None:
    with simulated_gateway(faults={"status-503": 0.5}) as gateway:
        statuses = {ask(gateway.url, X_Request_ID="a").status for _ in range(20)}
        assert statuses == {200, 503}
        gateway.set_faults({"no-endpoints": 1.0})
        assert ask(gateway.url).headers[REASON] == "rejected-no-endpoints"
        gateway.set_faults({})
        assert ask(gateway.url).status == 200


# -- on the wire ---------------------------------------------------------------------------


def test_reset_before_headers_sends_nothing(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "reset-before-headers") as sock:
        assert read_to_end(sock) == (b"", True)


def test_close_without_answer_sends_nothing_in_good_order(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "close-without-answer") as sock:
        assert read_to_end(sock) == (b"", False)


def test_reset_during_headers_cuts_the_head(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "reset-during-headers") as sock:
        received, reset = read_to_end(sock)
    assert reset
    assert received.startswith(b"HTTP/1.1 200")
    assert b"\r\n\r\n" not in received


def test_reset_after_headers_sends_the_whole_head(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "reset-after-headers") as sock:
        received, reset = read_to_end(sock)
    assert reset
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("fault", "missing"), [("half-body", None), ("short-length", 16), ("short-length=3", 3)]
)
def test_bodies_shorter_than_their_length(
    gateway: GatewayHandle, fault: str, missing: int | None
) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(gateway.url, X_Simulate_Fault=fault)
    assert caught.value.expected == missing or missing is None
    assert caught.value.partial.startswith(b'{"id":')


def test_long_length_sends_more_than_it_promised(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "long-length=5") as sock:
        sock.settimeout(10)
        received = b""
        while not received.endswith(b"}xxxxx"):
            received += sock.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"content-length: {len(body) - 5}".encode() in head


@pytest.mark.parametrize("fault", ["endless-body", "huge-head"])
def test_endless_answers_go_on_until_the_client_leaves(gateway: GatewayHandle, fault: str) -> None:
    received = 0
    with raw_answer(gateway, fault) as sock:
        while received < 3_000_000:
            received += len(sock.recv(65_536))
    wait_until_idle(gateway)
    assert gateway.journal()["aborted"] == 1


@pytest.mark.parametrize(("fault", "sees"), [("stall", b""), ("stall-body", b"HTTP/1.1 200 OK")])
def test_a_stalled_answer_waits_for_the_client_to_give_up(
    gateway: GatewayHandle, fault: str, sees: bytes
) -> None:
    with raw_answer(gateway, fault) as sock:
        sock.settimeout(0.3 if sees == b"" else 10)
        if sees:
            assert sock.recv(15) == sees
        else:
            with pytest.raises(TimeoutError):
                sock.recv(1)
        assert gateway.journal()["in_flight"] == 1
    wait_until_idle(gateway)
    assert gateway.journal()["in_flight"] == 0


def test_slow_headers_arrive_line_by_line(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "slow-headers=0.01") as sock:
        pieces = [sock.recv(65_536) for _ in range(3)]
    assert pieces[0] == b"HTTP/1.1 200 OK\r\n"
    assert all(piece.endswith(b"\r\n") for piece in pieces)


def test_malformed_head_is_not_http(gateway: GatewayHandle) -> None:
    with pytest.raises(http.client.BadStatusLine):
        ask(gateway.url, X_Simulate_Fault="malformed-head")


def test_close_idle_closes_after_a_good_answer(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "close-idle") as sock:
        received, reset = read_to_end(sock)
    assert not reset
    assert b"connection: close" not in received
    assert gateway.journal()["completed"] == 1


def test_close_on_next_request_never_looks_at_that_request(gateway: GatewayHandle) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    first = ask_on(connection, X_Request_ID="a", X_Simulate_Fault="close-on-next-request")
    assert first.status == 200
    with pytest.raises(ConnectionError):
        ask_on(connection, X_Request_ID="b")
    connection.close()
    assert set(gateway.journal()["requests"]) == {"a"}


@pytest.mark.parametrize("fault", ["until-close", "chunked=7", "delay=0.01"])
def test_good_answers_in_unusual_forms(gateway: GatewayHandle, fault: str) -> None:
    plain, unusual = ask(gateway.url), ask(gateway.url, X_Simulate_Fault=fault)
    assert unusual.status == 200
    assert unusual.json()["choices"] == plain.json()["choices"]
    assert gateway.journal()["completed"] == 2


def test_an_informational_answer_comes_before_the_good_one(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "informational;after=0.01") as sock:
        received = b""
        while not received.endswith(b"}"):
            received += sock.recv(65_536)
    heads = [line for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert heads == [b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 200 OK"]


def test_a_fault_can_wait_before_it_strikes(gateway: GatewayHandle) -> None:
    with raw_answer(gateway, "status-500;after=60") as sock:
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    with raw_answer(gateway, "status-500;after=0.01") as sock:
        assert sock.recv(12) == b"HTTP/1.1 500"


# -- how they are written ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("nonsense", "there is no fault 'nonsense'"),
        ("status-99", "there is no fault 'status-99'"),
        ("stall=3", "takes no argument"),
        ("delay=soon", "is not a number"),
        ("stall;twice", "there is no fault option 'twice'"),
        ("stall;times=x", "is not a number"),
        ("refuse-then-ok=1;status=abc", "is not an HTTP status"),
    ],
)
def test_a_mistyped_fault_is_explained(gateway: GatewayHandle, spec: str, problem: str) -> None:
    answer = ask(gateway.url, X_Simulate_Fault=spec)
    assert answer.status == 400
    assert problem in answer.json()["error"]["message"]
    with pytest.raises(ConfigError, match="faults: "):
        SimulatorConfig(faults={spec: 0.1})


def test_every_fault_of_the_table_is_carried_out(gateway: GatewayHandle) -> None:
    streaming: dict[str, Any] = CHAT | {"stream": True}
    for name, description in FAULTS.items():
        fault = parse_fault(name)
        if name in ANSWERLESS or name in ("stall-body", "endless-body", "slow-headers"):
            continue
        body = streaming if description.kind is FaultKind.STREAM else CHAT
        try:
            ask(gateway.url, body=body, X_Request_ID=name, X_Simulate_Fault=name, timeout=10)
        except (http.client.HTTPException, ConnectionError):
            assert reply_without_answer(fault) is None
        assert gateway.journal()["requests"][name]["received"] == 1


def wait_until_idle(gateway: GatewayHandle) -> None:
    import time

    deadline = time.monotonic() + 10
    while gateway.journal()["in_flight"] and time.monotonic() < deadline:
        time.sleep(0.005)
