"""What the end of a request says about its gateway, and how the gate's rows are decided."""

from __future__ import annotations

from typing import Any

import pytest

from batch_gateway.engine.gate import PROBES, Gate
from batch_gateway.engine.results import Outcome
from batch_gateway.engine.signs import ALIVE, Evidence, Sign, read_evidence
from batch_gateway.engine.spread import spread_of
from batch_gateway.engine.tickets import Ended, Ticket, Verdict
from batch_gateway.errors import (
    AuthenticationError,
    BadResponseError,
    GatewayConnectionError,
    InferenceError,
    InvalidRequestError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StaleConnectionError,
    TLSError,
    UnknownStatusError,
    error_class_for_status,
)
from batch_gateway.http.connection_errors import too_large_error


def end(gate: Gate, ticket: Ticket, sign: Sign, kind: str = "no") -> Verdict:
    evidence = ALIVE if sign is Sign.LIFE else Evidence(sign, kind)
    return gate.ended(Ended(ticket, Outcome(ticket.index, "", b"", 1, message=kind), evidence))


def feed(gate: Gate, *signs: Sign, model: str = "m") -> list[int]:
    """Each sent after the one before it ended; which were recorded."""
    recorded: list[int] = []
    for sign in signs:
        verdict = end(gate, gate.sent(len(recorded), model), sign)
        recorded += [one.ticket.number for one in verdict.record]
    return recorded


def test_a_key_that_is_refused_shuts_the_gateway_at_any_time() -> None:
    for answers in (0, 5):
        gate = Gate(3)
        feed(gate, *[Sign.LIFE] * answers)
        assert feed(gate, *[Sign.KEY] * 3) == []
        assert not gate.admits("m")
        gate.decide()
        assert gate.problem == ("the gateway began to refuse: no" if answers else "no")


def test_only_an_answer_to_a_request_that_was_sent_later_ends_a_row() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE)
    older = [gate.sent(n, "m") for n in range(9)]
    refused = gate.sent(9, "m")
    assert end(gate, refused, Sign.KEY) == Verdict()
    for ticket in older[:4]:
        assert len(end(gate, ticket, Sign.LIFE).record) == 1
    assert not gate.calm
    for ticket in older[4:6]:
        assert end(gate, ticket, Sign.KEY) == Verdict()
    assert not gate.admits("m")
    gate.decide()
    assert gate.problem == "the gateway began to refuse: no"
    # What was asked for before is still an answer.
    assert len(end(gate, older[6], Sign.LIFE).record) == 1
    assert end(gate, older[7], Sign.DOUBT) == Verdict()


def test_a_full_row_waits_for_the_later_requests_that_are_under_way() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE, Sign.KEY)
    slow = gate.sent(2, "m")
    feed(gate, Sign.KEY, Sign.KEY)
    assert not gate.admits("m")
    gate.decide()
    assert gate.problem is None
    verdict = end(gate, slow, Sign.LIFE)
    assert [one.ticket for one in verdict.record] == [slow]
    assert len(verdict.send_again) == 3
    assert gate.calm


def test_a_line_that_is_refused_again_beside_answers_is_recorded() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE, Sign.PLACE)
    assert len(end(gate, gate.sent(2, "m"), Sign.LIFE).send_again) == 1
    again = gate.sent(1, "m", 2)
    assert [one.ticket for one in end(gate, again, Sign.PLACE).record] == [again]
    assert gate.calm


def test_a_model_that_is_refused_leaves_the_others_alone() -> None:
    gate = Gate(3)
    feed(gate, *[Sign.MODEL] * 3, model="gone")
    gate.decide()
    assert gate.is_shut("gone")
    assert gate.admits("here")
    assert (gate.problem, gate.problems()) == (None, {"gone": "no"})


def test_lines_from_elsewhere_are_tried_before_a_model_is_given_up() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE, *[Sign.PLACE] * 3)
    assert gate.to_probe() == ["m"]
    assert gate.to_probe() == []
    probes = [gate.sent(n, "m") for n in range(PROBES)]
    for ticket in probes[1:]:
        end(gate, ticket, Sign.PLACE)
    gate.decide()
    assert not gate.is_shut("m")
    verdict = end(gate, probes[0], Sign.LIFE)
    assert len(verdict.send_again) == PROBES + 2


def test_the_same_words_from_every_first_line_are_held_and_other_words_tell_them_apart() -> None:
    same = Gate(3)
    feed(same, *[Sign.OWN] * 3)
    assert same.to_probe() == [None]
    same.decide()
    assert same.problem == "each of the first 3 requests failed in the same way: no"
    other = Gate(3)
    feed(other, *[Sign.OWN] * 2)
    verdict = end(other, other.sent(2, "m"), Sign.OWN, "another")
    assert len(verdict.record) == 3
    assert feed(other, *[Sign.OWN] * 9) == list(range(4, 13))
    few = Gate(3)
    feed(few, *[Sign.OWN] * 2)
    assert len(few.finish().record) == 2


def test_doubtful_failures_at_the_start_wait_for_all_that_is_under_way() -> None:
    gate = Gate(3)
    older = gate.sent(0, "m")
    feed(gate, *[Sign.DOUBT] * 3)
    assert not gate.admits("m")
    gate.decide()
    assert gate.problem is None
    assert len(end(gate, older, Sign.LIFE).record) == 4
    dead = Gate(3)
    feed(dead, *[Sign.DOUBT] * 3)
    dead.decide()
    assert dead.problem == "no"


def test_the_last_lines_of_a_resumed_batch_may_fail_by_themselves() -> None:
    gate = Gate(3, resumed=True)
    feed(gate, Sign.DOUBT)
    assert len(gate.finish().record) == 1
    refused = Gate(3, resumed=True)
    feed(refused, Sign.KEY)
    assert refused.finish() == Verdict([], [])
    assert refused.problem == "no"


def test_when_no_line_is_left_a_single_refusal_of_a_gateway_that_lives_is_its_lines_own() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE, Sign.PLACE)
    assert len(gate.finish().send_again) == 1
    assert len(end(gate, gate.sent(1, "m", 2), Sign.PLACE).record) == 1
    tail = Gate(5)
    feed(tail, Sign.LIFE, *[Sign.PLACE] * 3)
    assert tail.finish() == Verdict([], [])
    assert tail.problems() == {"m": "the gateway began to refuse: no"}


def test_refusals_between_answers_of_one_burst_are_their_lines_own() -> None:
    gate = Gate(10)
    tickets = [gate.sent(n, "m") for n in range(20)]
    for ticket in tickets:
        end(gate, ticket, Sign.PLACE if ticket.number % 5 == 0 else Sign.LIFE)
    again = gate.finish().send_again
    assert len(again) == 4
    for held in again:
        assert end(gate, gate.sent(held.ticket.index, "m", 2), Sign.PLACE).record


def test_who_allows_every_failure_has_them_recorded_but_for_keys_and_quotas() -> None:
    gate = Gate(3, records_all=True)
    signs = [Sign.OWN, Sign.PLACE, Sign.MODEL] * 5
    assert feed(gate, *signs) == list(range(1, 16))
    assert feed(gate, Sign.KEY, Sign.USED_UP) == []


def test_only_a_few_are_sent_until_an_answer_or_until_patience_ends() -> None:
    gate = Gate.for_concurrency(1_000)
    assert gate.most_in_flight == 10
    gate.widen()
    assert gate.most_in_flight == float("inf")
    alive = Gate.for_concurrency(1_000)
    feed(alive, Sign.LIFE)
    assert alive.most_in_flight == float("inf")
    assert Gate.for_concurrency(1).limit == 3


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1_000, 12_345])
def test_a_spread_has_numbers_from_all_over(size: int) -> None:
    found = spread_of(range(size), 16)
    assert min(size, 8) <= len(found) <= 16
    assert found == sorted(set(found))
    if size >= 16:
        assert found[0] == 0
        assert found[-1] >= size * 0.75


def failure(status: int, body: bytes = b"", message: str = "", **more: Any) -> InferenceError:
    return error_class_for_status(status)(message, status_code=status, body=body, **more)


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (failure(400), Sign.OWN),
        (failure(413), Sign.OWN),
        (failure(422), Sign.OWN),
        (failure(409), Sign.OWN),
        (failure(410), Sign.PLACE),
        (failure(418), Sign.PLACE),
        (failure(451), Sign.PLACE),
        (failure(400, message="API key not valid. Please pass a valid API key."), Sign.KEY),
        (failure(400, message="API key expired. Please renew the API key."), Sign.KEY),
        (failure(400, message="Incorrect API key provided: xa***wx."), Sign.KEY),
        (failure(403, code="invalid_api_key"), Sign.KEY),
        (failure(404, b'{"message": "x"}', "The model `x` does not exist"), Sign.MODEL),
        (UnknownStatusError("no", status_code=404, code="model_not_found"), Sign.MODEL),
        (failure(400, b'{"error": {}}', "Invalid model name passed in model=x"), Sign.MODEL),
        (failure(404, b'{"detail":"Not Found"}', "Not Found"), Sign.PLACE),
        (failure(404, b"<html>no model here", "no model here"), Sign.PLACE),
        (failure(301), Sign.PLACE),
        (failure(401), Sign.KEY),
        (failure(402), Sign.USED_UP),
        (failure(403), Sign.PLACE),
        (failure(405), Sign.PLACE),
        (failure(407), Sign.KEY),
        (failure(408), Sign.DOUBT),
        (RateLimitError("slow down", status_code=429), Sign.LOAD),
        (RateLimitError("no", status_code=429, code="insufficient_quota"), Sign.USED_UP),
        (ServerError("oh", status_code=503), Sign.DOUBT),
        (BadResponseError("not JSON", status_code=200), Sign.DOUBT),
        (RequestTimeoutError("late"), Sign.DOUBT),
        (too_large_error("it", 1000, 200), Sign.OWN),
        (StaleConnectionError("closed", cause=ConnectionResetError()), Sign.DOUBT),
        (GatewayConnectionError("cut short"), Sign.DOUBT),
        (GatewayConnectionError("refused", cause=ConnectionRefusedError()), Sign.UNREACHED),
        (GatewayConnectionError("no name", cause=OSError(-2, "unknown")), Sign.UNREACHED),
        (TLSError("expired"), Sign.UNREACHED),
        (AuthenticationError("no key"), Sign.KEY),
        (InvalidRequestError("refused here"), Sign.NOTHING),
    ],
    ids=repr,
)
def test_what_a_failure_says_about_its_gateway(error: InferenceError, sign: Sign) -> None:
    assert read_evidence(error).sign is sign


def test_refusals_for_load_cost_no_line_while_nothing_is_answered() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE)
    assert feed(gate, *[Sign.LOAD] * 29) == []
    assert gate.admits("m")
    verdict = end(gate, gate.sent(99, "m"), Sign.LIFE)
    assert (len(verdict.record), len(verdict.send_again)) == (1, 29)
    again = end(gate, gate.sent(1, "m", sendings=2), Sign.LOAD)
    assert len(again.record) == 1
    feed(gate, *[Sign.LOAD] * 30)
    assert not gate.admits("m")
    gate.decide()
    assert gate.problem == "the gateway began to refuse: no"


def test_a_limit_for_a_minute_is_waited_for_however_many_requests_meet_it() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE)
    under_way = [gate.sent(n, "m") for n in range(64)]
    for number in range(12 * 64 - 1):
        end(gate, under_way.pop(0), Sign.LOAD)
        assert gate.admits("m")
        under_way.append(gate.sent(64 + number, "m"))
    end(gate, under_way.pop(0), Sign.LOAD)
    assert not gate.admits("m")


def test_a_model_whose_every_line_fails_in_the_same_words_is_shut_beside_one_that_lives() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE, model="good")
    assert feed(gate, *[Sign.OWN] * 3, model="bad") == []
    assert gate.admits("good")
    assert not gate.admits("bad")
    assert gate.to_probe() == ["bad"]
    gate.decide()
    assert list(gate.problems()) == ["bad"]
    assert gate.maybe_the_lines


def test_a_model_that_answers_ever_has_its_bad_lines_recorded() -> None:
    gate = Gate(3)
    feed(gate, Sign.LIFE, model="good")
    assert feed(gate, Sign.OWN, Sign.OWN, Sign.LIFE, Sign.OWN, model="m") == [4, 2, 3, 5]


def test_words_are_the_same_whatever_request_they_name() -> None:
    one, other, third = (
        read_evidence(failure(400, message=f"no such parameter (request id: {request})")).kind
        for request in (
            "20261128211500123",
            "req-7f3a9c0d11",
            "0b8e5a3e-96a1-4f5e-8a3b-5a6b7c8d9e0f",
        )
    )
    assert one == other == third
    long, longer = (
        read_evidence(failure(400, message=f"{n} tokens are too many")).kind for n in (5000, 6000)
    )
    assert long != longer
