"""No more than so many requests and tokens a minute, evenly spread.

The generic cell rate algorithm (ITU-T I.371, ATM Forum TM 4.1) keeps one number for a limit: the
theoretical arrival time, when the next cell would be due if cells came evenly. A request may be
early by the burst allowance and otherwise waits. There is no window at whose edge twice the rate
could pass, and nothing to sweep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from batch_gateway.config_checks import normalise_duration, require_kinds, require_number
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.wire.retry_after import parse_wait
from batch_gateway.wire.usage import Usage

__all__ = ["GCRA", "RateLimit", "Rates", "TokenEstimator"]

_MINUTE = 60.0
# English text and JSON come to about four bytes a token; the estimator corrects itself.
_BYTES_PER_TOKEN = 4.0
_FIRST_OUTPUT_GUESS = 256.0
_LEARNING_RATE = 0.1
_LATENESS = 0.05
_MAX = b'"max_'
_MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*([0-9]{1,9})')


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """How much may be sent to a gateway.

    Attributes:
        requests_per_minute, tokens_per_minute: None for no limit. Tokens are those of prompts
            and answers; they are estimated before a request is sent and corrected by the
            answer's `usage`.
        burst: so many seconds' worth may go at once after a pause.
        learn: take limits from the answers' `x-ratelimit-*` headers too, where they are lower.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst: Duration = 1.0
    learn: bool = False

    def __post_init__(self) -> None:
        require_kinds(self, "rate_limit.")
        for name in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None:
                require_number(
                    f"rate_limit.{name}", getattr(self, name), above_zero=True, finite=True
                )
        normalise_duration(self, "burst", prefix="rate_limit.")
        if self.requests_per_minute is None and self.tokens_per_minute is None and not self.learn:
            raise ConfigError("rate_limit", "limits nothing: give a rate, or learn=True")


class GCRA:
    """One limit. Pure: `now` is given, and nothing waits."""

    def __init__(self, per_minute: float, burst: float) -> None:
        self._burst = burst
        self._due = float("-inf")
        self.per_minute = per_minute

    def wait(self, now: float) -> float:
        """Seconds until something may pass; 0 for none."""
        wait = self._due - self._burst - now
        return wait if wait > 0 else 0.0

    def take(self, cost: float, now: float) -> None:
        """Something passes that costs so much."""
        self._due = max(self._due, now) + cost * _MINUTE / self.per_minute

    def time_of(self, cost: float) -> float:
        """Seconds that the limit needs for it."""
        return cost * _MINUTE / self.per_minute

    def correct(self, difference: float) -> None:
        """What has passed turned out to cost so much more, or, below zero, less."""
        self._due += difference * _MINUTE / self.per_minute

    def hold(self, until: float) -> None:
        """Let nothing through before `until`."""
        self._due = max(self._due, until + self._burst)


class TokenEstimator:
    """How many tokens a request will cost, learned from what earlier ones did cost."""

    def __init__(self) -> None:
        self._per_byte = 1 / _BYTES_PER_TOKEN
        self._output = _FIRST_OUTPUT_GUESS

    def estimate(self, body: bytes) -> float:
        output = self._output
        # From the end, where such parameters stand; everything before is the prompt.
        place = body.rfind(_MAX)
        found = None
        if place >= 0:
            found = _MAX_TOKENS.match(body, place) or _MAX_TOKENS.search(body)
        if found:
            output = min(output, float(found.group(1)))
        return len(body) * self._per_byte + output

    def learn(self, body: bytes, input_tokens: int, output_tokens: int) -> None:
        """Take in what the answer to `body` did cost."""
        self._output += _LEARNING_RATE * (output_tokens - self._output)
        if body:
            self._per_byte += _LEARNING_RATE * (input_tokens / len(body) - self._per_byte)


class Rates:
    """The limits of one gateway on requests and on tokens. Pure: `now` is given.

    Whoever waits has taken nothing yet, so that one that leaves the line leaves no gap in it.

    Attributes:
        learns: whether `learn` is to be told the headers of answers and refusals.
    """

    def __init__(self, policy: RateLimit) -> None:
        self._policy = policy
        self.learns = policy.learn
        self._estimator = TokenEstimator()
        self._requests = self._limit(policy.requests_per_minute)
        self._tokens = self._limit(policy.tokens_per_minute)
        self._expected = float("inf")

    def _limit(self, per_minute: float | None) -> GCRA | None:
        return None if per_minute is None else GCRA(per_minute, seconds(self._policy.burst))

    def wait(self, now: float) -> float:
        """Seconds until the next may go; 0 for now."""
        requests, tokens = self._requests, self._tokens
        if tokens is None:
            return 0.0 if requests is None else requests.wait(now)
        wait = tokens.wait(now)
        return wait if requests is None else max(wait, requests.wait(now))

    def least_wait(self, ahead: int, now: float) -> float:
        """Seconds until one may go before which `ahead` others go, as far as that is certain."""
        wait = self.wait(now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(now) + self._requests.time_of(ahead))
        # How many tokens those ahead will cost is a guess, often by far too high.
        return wait

    def expect(self, at: float) -> None:
        """A timer was set to when the next may go."""
        self._expected = at

    def take(self, body: bytes, now: float) -> float:
        """A request goes; how many tokens it is thought to cost."""
        # Timers are a little late, which would add up.
        now = min(now, max(self._expected, now - _LATENESS))
        self._expected = float("inf")
        if self._requests is not None:
            self._requests.take(1.0, now)
        if self._tokens is None:
            return 0.0
        estimate = self._estimator.estimate(body)
        self._tokens.take(estimate, now)
        return estimate

    def give_back(self, estimate: float) -> None:
        """A request that was let go was not sent after all."""
        if self._requests is not None:
            self._requests.correct(-1.0)
        if self._tokens is not None:
            self._tokens.correct(-estimate)

    def failed(self, estimate: float) -> None:
        """A request was refused or failed: nothing was generated, or nobody knows how much."""
        if self._tokens is not None:
            self._tokens.correct(-estimate)

    def answered(self, body: bytes, usage: Usage | None, estimate: float) -> None:
        """The answer to `body` says what it did cost."""
        if self._tokens is not None and usage is not None:
            self._estimator.learn(body, usage.input_tokens, usage.output_tokens)
            self._tokens.correct(usage.total_tokens - estimate)

    def learn(self, headers: Mapping[str, str], now: float, wall_time: float) -> None:
        """Limits a minute, and how to go on when nothing is left (OpenAI's rate limit headers)."""
        policy, wall = self._policy, wall_time
        self._requests = self._learned(
            self._requests, policy.requests_per_minute, _told(headers, "requests", wall), now
        )
        self._tokens = self._learned(
            self._tokens, policy.tokens_per_minute, _told(headers, "tokens", wall), now
        )

    def _learned(
        self, limit: GCRA | None, configured: float | None, told: _Told, now: float
    ) -> GCRA | None:
        if told.per_minute:
            rate = told.per_minute if configured is None else min(told.per_minute, configured)
            if limit is None:
                limit = self._limit(rate)
            else:
                limit.per_minute = rate
        if limit is not None and told.remaining == 0:
            limit.hold(now + min(told.reset, _MINUTE))
        return limit


class _Told(NamedTuple):
    """A limit that a gateway names, what is left of it, and the seconds until there is more."""

    per_minute: float | None
    remaining: float | None
    reset: float


def _told(headers: Mapping[str, str], what: str, wall_time: float) -> _Told:
    per_minute, remaining = (
        _number(headers.get(f"x-ratelimit-{name}-{what}")) for name in ("limit", "remaining")
    )
    reset = headers.get(f"x-ratelimit-reset-{what}", "") if remaining == 0 else ""
    return _Told(per_minute, remaining, parse_wait(reset, wall_time) or 0.0)


def _number(text: str | None) -> float | None:
    # Some gateways send a policy after the number: "100, 100;w=60".
    found = re.match(r"\s*([0-9]{1,15})", text or "")
    return float(found.group(1)) if found else None
