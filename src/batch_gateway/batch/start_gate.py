"""Whether a gateway works at all, judged from its first answers.

A wrong URL or key makes every request fail. Until there is a sign of life, failures that may be
the gateway's are held back instead of being recorded, and after a few of them nothing more is
sent: a mistake in one flag must not become 100,000 error lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

import msgspec

from batch_gateway.client.circuit_breaker import is_connect_failure
from batch_gateway.client.http.connection_errors import TOO_LARGE
from batch_gateway.errors import (
    AuthenticationError,
    InferenceError,
    InvalidRequestError,
    TLSError,
)

__all__ = ["TRIAL_SECONDS", "GateState", "Phase", "Sign", "Verdict", "read_sign", "settle", "widen"]

TRIAL_SECONDS = 5.0
"""How long only a few requests are sent while none has ended. Long enough for the retries of
those few to run out, short beside the run that a slow model needs."""

_HOLD_LIMIT = 10
_LEAST_HOLD_LIMIT = 3


class Sign(Enum):
    """What the end of one request says about its gateway."""

    LIFE = auto()
    """It understood the request: a success, or an answer about the request itself."""
    NEUTRAL = auto()
    """Nothing: the request was refused before it was sent."""
    DOUBT = auto()
    """It failed in a way that may be this request's fault (5xx, 429, timeout, garbled answer)."""
    REFUSAL = auto()
    """It failed in a way that has nothing to do with the request (no connection, key, path)."""


class Phase(Enum):
    """Where a gate stands."""

    TRYING = auto()
    """No sign of life yet; requests are sent."""
    PAUSED = auto()
    """Enough doubtful failures: nothing new is sent until those under way have ended."""
    OPEN = auto()
    """It works; failures are ordinary."""
    SHUT = auto()
    """It does not; what was held back stays to be sent."""


class Verdict(Enum):
    """What to do with the request that just ended."""

    RECORD = auto()
    HOLD = auto()
    RECORD_ALL = auto()
    """Record it and everything held back."""
    DROP_ALL = auto()
    """Record neither it nor anything held back: the lines stay to be sent."""


@dataclass(frozen=True)
class GateState:
    """One gateway's gate.

    Attributes:
        limit: so many failures without a sign of life are enough, and so many requests are sent
            at first: the retries of a thousand requests would take minutes to run out.
        widened: the trial took long without a decision; all may be sent.
        resumed: an earlier run got results. A few last lines that keep failing with 5xx are then
            taken for what they seem, or such a batch could never be finished.
    """

    limit: int = _HOLD_LIMIT
    resumed: bool = False
    widened: bool = False
    phase: Phase = Phase.TRYING
    held: int = 0
    refusals: int = 0

    @classmethod
    def for_concurrency(cls, concurrency: int, *, resumed: bool) -> GateState:
        """With few requests at a time, ten failures would take too long to come together."""
        return cls(max(_LEAST_HOLD_LIMIT, min(_HOLD_LIMIT, concurrency)), resumed)

    @property
    def admits(self) -> bool:
        """Whether more requests may be sent."""
        return self.phase in (Phase.TRYING, Phase.OPEN)

    @property
    def most_in_flight(self) -> float:
        """How many requests may be under way, as far as the gate is concerned."""
        is_trial = self.phase is Phase.TRYING and not self.widened
        return self.limit if is_trial else float("inf")


def widen(state: GateState) -> GateState:
    """The state after `TRIAL_SECONDS`: answers seem to take their time."""
    return replace(state, widened=True)


def settle(
    state: GateState, sign: Sign, *, in_flight: int, unsent: bool
) -> tuple[GateState, Verdict]:
    """The state after a request ended, and what to do with it.

    `in_flight` counts the gateway's other requests under way; `unsent` tells whether more lines
    wait. Doubtful failures never shut the gate while a request is under way: slow successes may
    follow quick failures, when the first lines of a file are bad or the start was too fast.
    """
    if state.phase is Phase.OPEN:
        return state, Verdict.RECORD
    if state.phase is Phase.SHUT:
        return state, Verdict.DROP_ALL
    if sign is Sign.LIFE:
        return replace(state, phase=Phase.OPEN, held=0), Verdict.RECORD_ALL
    if sign is not Sign.NEUTRAL:
        refusals = state.refusals + (sign is Sign.REFUSAL)
        state = replace(state, held=state.held + 1, refusals=refusals)
    return _weigh(state, sign, in_flight=in_flight, unsent=unsent)


def _weigh(
    state: GateState, sign: Sign, *, in_flight: int, unsent: bool
) -> tuple[GateState, Verdict]:
    this_one = Verdict.RECORD if sign is Sign.NEUTRAL else Verdict.HOLD
    if state.refusals >= state.limit:
        return replace(state, phase=Phase.SHUT), Verdict.DROP_ALL
    if state.held >= state.limit:
        state = replace(state, phase=Phase.PAUSED)
    elif unsent:
        return state, this_one
    if in_flight or not state.held:
        return state, this_one
    if state.resumed and not state.refusals and state.held < state.limit:
        return replace(state, phase=Phase.OPEN, held=0), Verdict.RECORD_ALL
    return replace(state, phase=Phase.SHUT), Verdict.DROP_ALL


_REFUSED_BY_PLACE = frozenset({401, 402, 403, 404, 405, 407, 421, 426})
_DOUBTFUL_STATUS = frozenset({408, 429})


def read_sign(error: InferenceError) -> Sign:
    """What a failed request says about its gateway."""
    if error.code == TOO_LARGE:
        return Sign.LIFE
    status = error.status_code
    if status is None:
        return _sign_without_answer(error)
    if status == 404 and _is_about_the_model(error):
        return Sign.LIFE
    if status in _REFUSED_BY_PLACE or 300 <= status < 400:
        return Sign.REFUSAL
    if status in _DOUBTFUL_STATUS or status < 300 or status >= 500:
        return Sign.DOUBT
    return Sign.LIFE


def _sign_without_answer(error: InferenceError) -> Sign:
    if isinstance(error, InvalidRequestError):
        return Sign.NEUTRAL
    if isinstance(error, TLSError | AuthenticationError) or is_connect_failure(error):
        return Sign.REFUSAL
    return Sign.DOUBT


def _is_about_the_model(error: InferenceError) -> bool:
    """vLLM, OpenAI and llm-d name the model in such an answer; a wrong path gives a bare 404."""
    if error.code == "model_not_found":
        return True
    try:
        is_json = isinstance(msgspec.json.decode(error.body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        is_json = False
    return is_json and "model" in error.message.lower()
