"""When a gateway is given up at the start, and when not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.batch.start_gate import (
    GateState,
    Phase,
    Sign,
    Verdict,
    read_sign,
    settle,
    widen,
)
from batch_gateway.client.http.connection_errors import too_large_error
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

SIGNS = st.sampled_from(list(Sign))


def feed(state: GateState, *signs: Sign, in_flight: int = 9) -> tuple[GateState, Verdict]:
    verdict = Verdict.RECORD
    for sign in signs:
        state, verdict = settle(state, sign, in_flight=in_flight, unsent=True)
    return state, verdict


def test_ten_refusals_shut_the_gate_at_once() -> None:
    state, verdict = feed(GateState(), *[Sign.REFUSAL] * 9)
    assert (state.phase, verdict) == (Phase.TRYING, Verdict.HOLD)
    state, verdict = feed(state, Sign.REFUSAL)
    assert (state.phase, verdict) == (Phase.SHUT, Verdict.DROP_ALL)


def test_ten_doubtful_failures_wait_for_what_is_under_way() -> None:
    state, verdict = feed(GateState(), *[Sign.DOUBT] * 10)
    assert (state.phase, verdict) == (Phase.PAUSED, Verdict.HOLD)
    assert not state.admits
    alive, verdict = feed(state, Sign.LIFE)
    assert (alive.phase, verdict) == (Phase.OPEN, Verdict.RECORD_ALL)
    dead, verdict = feed(state, Sign.DOUBT, in_flight=0)
    assert (dead.phase, verdict) == (Phase.SHUT, Verdict.DROP_ALL)


def test_after_a_sign_of_life_failures_are_ordinary() -> None:
    state, verdict = feed(GateState(), Sign.REFUSAL, Sign.LIFE, *[Sign.REFUSAL] * 50)
    assert (state.phase, verdict) == (Phase.OPEN, Verdict.RECORD)


def test_a_short_batch_that_only_fails_is_given_up_when_its_last_line_failed() -> None:
    state, verdict = settle(GateState(), Sign.DOUBT, in_flight=1, unsent=False)
    assert verdict is Verdict.HOLD
    state, verdict = settle(state, Sign.REFUSAL, in_flight=0, unsent=False)
    assert (state.phase, verdict) == (Phase.SHUT, Verdict.DROP_ALL)


def test_the_last_lines_of_a_resumed_batch_may_fail_by_themselves() -> None:
    resumed = GateState(resumed=True)
    state, verdict = settle(resumed, Sign.DOUBT, in_flight=0, unsent=False)
    assert (state.phase, verdict) == (Phase.OPEN, Verdict.RECORD_ALL)
    state, verdict = settle(resumed, Sign.REFUSAL, in_flight=0, unsent=False)
    assert (state.phase, verdict) == (Phase.SHUT, Verdict.DROP_ALL)


def test_only_a_few_are_sent_until_an_answer_or_until_patience_ends() -> None:
    state = GateState.for_concurrency(1_000, resumed=False)
    assert state.most_in_flight == 10
    assert widen(state).most_in_flight == float("inf")
    assert feed(state, Sign.LIFE)[0].most_in_flight == float("inf")
    assert GateState.for_concurrency(1, resumed=False).limit == 3


@given(st.lists(SIGNS, max_size=40), st.integers(1, 12), st.booleans())
def test_every_line_is_recorded_or_left_and_never_recorded_after_the_end(
    signs: list[Sign], concurrency: int, resumed: bool
) -> None:
    state = GateState.for_concurrency(concurrency, resumed=resumed)
    lines, in_flight, held, recorded, left = list(signs), 0, 0, 0, 0
    under_way: list[Sign] = []
    while under_way or (lines and state.admits):
        while lines and state.admits and len(under_way) < concurrency:
            under_way.append(lines.pop())
        sign = under_way.pop(0)
        in_flight = len(under_way)
        state, verdict = settle(state, sign, in_flight=in_flight, unsent=bool(lines))
        if verdict is Verdict.HOLD:
            held += 1
        elif verdict is Verdict.RECORD:
            recorded += 1
        elif verdict is Verdict.RECORD_ALL:
            recorded, held = recorded + held + 1, 0
        else:
            left, held = left + held + 1, 0
    assert recorded + left + len(lines) == len(signs)
    assert held == 0
    assert (state.phase is Phase.SHUT) == (left > 0)
    if Sign.LIFE not in signs and not resumed:
        assert recorded <= signs.count(Sign.NEUTRAL)
        assert left <= state.limit + concurrency


def failure(status: int, body: bytes = b"", message: str = "") -> InferenceError:
    return error_class_for_status(status)(message, status_code=status, body=body)


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (failure(400), Sign.LIFE),
        (failure(413), Sign.LIFE),
        (failure(422), Sign.LIFE),
        (failure(404, b'{"message": "x"}', "The model `x` does not exist"), Sign.LIFE),
        (UnknownStatusError("no", status_code=404, code="model_not_found"), Sign.LIFE),
        (failure(404, b'{"detail":"Not Found"}', "Not Found"), Sign.REFUSAL),
        (failure(404, b"<html>no model here", "no model here"), Sign.REFUSAL),
        (failure(301), Sign.REFUSAL),
        (failure(401), Sign.REFUSAL),
        (failure(403), Sign.REFUSAL),
        (failure(405), Sign.REFUSAL),
        (failure(408), Sign.DOUBT),
        (RateLimitError("slow down", status_code=429), Sign.DOUBT),
        (ServerError("oh", status_code=503), Sign.DOUBT),
        (BadResponseError("not JSON", status_code=200), Sign.DOUBT),
        (RequestTimeoutError("late"), Sign.DOUBT),
        (too_large_error("it", 1000, 200), Sign.LIFE),
        (StaleConnectionError("closed", cause=ConnectionResetError()), Sign.DOUBT),
        (GatewayConnectionError("cut short"), Sign.DOUBT),
        (GatewayConnectionError("refused", cause=ConnectionRefusedError()), Sign.REFUSAL),
        (GatewayConnectionError("no name", cause=OSError(-2, "unknown")), Sign.REFUSAL),
        (TLSError("expired"), Sign.REFUSAL),
        (AuthenticationError("no key"), Sign.REFUSAL),
        (InvalidRequestError("refused here"), Sign.NEUTRAL),
    ],
    ids=repr,
)
def test_what_a_failure_says_about_its_gateway(error: InferenceError, sign: Sign) -> None:
    assert read_sign(error) is sign
