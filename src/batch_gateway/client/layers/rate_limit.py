"""No more than so many requests and tokens a minute, evenly spread.

The generic cell rate algorithm (ITU-T I.371, ATM Forum TM 4.1) keeps one number for a limit: the
theoretical arrival time, when the next cell would be due if cells came evenly. A request may be
early by the burst allowance and otherwise waits. There is no window at whose edge twice the rate
could pass, and nothing to sweep.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.clock import Clock
from batch_gateway.config_checks import normalise_duration, require_kinds, require_number
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError, DeadlineExceededError, InferenceError
from batch_gateway.wire.retry_after import parse_wait

__all__ = ["GCRA", "RateLimit", "RateLimitTransport", "TokenEstimator"]

_MINUTE = 60.0
# English text and JSON come to about four bytes a token; the estimator corrects itself.
_BYTES_PER_TOKEN = 4.0
_FIRST_OUTPUT_GUESS = 256.0
_LEARNING_RATE = 0.1
_LOOK_EVERY = 1.0
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


class RateLimitTransport:
    """A layer that sends in an even stream, first come first served.

    Whoever waits has taken nothing yet, so that one that leaves the line leaves no gap in it.
    `on_wait` is told the seconds of every wait, when it is over.
    """

    def __init__(
        self,
        inner: Transport,
        policy: RateLimit,
        clock: Clock,
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._clock = clock
        self._on_wait = on_wait
        self._estimator = TokenEstimator()
        self._requests = self._limit(policy.requests_per_minute)
        self._tokens = self._limit(policy.tokens_per_minute)
        # Held by the first in line.
        self._turn = asyncio.Lock()
        self._in_line = 0

    def _limit(self, per_minute: float | None) -> GCRA | None:
        return None if per_minute is None else GCRA(per_minute, seconds(self._policy.burst))

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        estimate = self._estimator.estimate(request.body) if self._tokens is not None else 0.0
        now = self._clock.monotonic()
        if self._in_line or self._due_in(now) > 0:
            await self._line_up(request, estimate, now)
        else:
            self._take(estimate, now)
        try:
            response = await self._inner.send(request)
        except InferenceError as error:
            # Nothing was generated, or nobody knows how much.
            if self._tokens is not None:
                self._tokens.correct(-estimate)
            if self._policy.learn and error.rate_limits:
                self._learn(error.rate_limits)
            raise
        self._settle(request, response, estimate)
        return response

    def _due_in(self, now: float) -> float:
        """Seconds until the next may go."""
        requests, tokens = self._requests, self._tokens
        if tokens is None:
            return 0.0 if requests is None else requests.wait(now)
        wait = tokens.wait(now)
        return wait if requests is None else max(wait, requests.wait(now))

    def _take(self, estimate: float, now: float) -> None:
        if self._requests is not None:
            self._requests.take(1.0, now)
        if self._tokens is not None:
            self._tokens.take(estimate, now)

    async def _line_up(self, request: PreparedRequest, estimate: float, now: float) -> None:
        self._check_deadline(request, self._expected_wait(now), now)
        remaining = request.deadline - now
        self._in_line += 1
        try:
            async with asyncio.timeout(None if remaining == float("inf") else remaining):
                await self._take_in_turn(request, estimate)
        except TimeoutError as error:
            if isinstance(error, InferenceError):
                raise
            raise self._too_late(request, "did not let it go before its deadline") from error
        finally:
            self._in_line -= 1
        if self._on_wait is not None:
            self._on_wait(self._clock.monotonic() - now)

    async def _take_in_turn(self, request: PreparedRequest, estimate: float) -> None:
        async with self._turn:
            due = float("inf")
            while (wait := self._due_in(now := self._clock.monotonic())) > 0:
                self._check_deadline(request, wait, now)
                due = now + wait
                # What was sent may cost less than was thought, or the gateway name a limit.
                await self._clock.sleep(min(wait, _LOOK_EVERY))
            # Timers are a little late, which would add up.
            self._take(estimate, min(now, max(due, now - _LATENESS)))

    def _expected_wait(self, now: float) -> float:
        """Until all who are in line have gone, as far as that is certain."""
        wait = self._due_in(now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(now) + self._requests.time_of(self._in_line))
        # How many tokens those in line will cost is a guess, often by far too high.
        return wait

    def _check_deadline(self, request: PreparedRequest, wait: float, now: float) -> None:
        if now + wait >= request.deadline:
            raise self._too_late(
                request, f"would let it go only in {wait:.1f}s, after its deadline"
            )

    def _too_late(self, request: PreparedRequest, what: str) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"the rate limit {what}",
            request_id=request.request_id,
            attempts=request.attempt - 1,
        )

    def _settle(
        self, request: PreparedRequest, response: InferenceResponse, estimate: float
    ) -> None:
        if self._tokens is not None and (usage := response.usage) is not None:
            self._estimator.learn(request.body, usage.input_tokens, usage.output_tokens)
            self._tokens.correct(usage.total_tokens - estimate)
        if self._policy.learn:
            self._learn(response.headers)

    def _learn(self, headers: Mapping[str, str]) -> None:
        """Limits a minute, and how to go on when nothing is left (OpenAI's rate limit headers)."""
        policy, now = self._policy, self._clock.monotonic()
        self._requests = self._learned(
            self._requests, policy.requests_per_minute, headers, "requests", now
        )
        self._tokens = self._learned(self._tokens, policy.tokens_per_minute, headers, "tokens", now)

    def _learned(
        self,
        limit: GCRA | None,
        configured: float | None,
        headers: Mapping[str, str],
        what: str,
        now: float,
    ) -> GCRA | None:
        told = _number(headers.get(f"x-ratelimit-limit-{what}"))
        if told:
            rate = told if configured is None else min(told, configured)
            if limit is None:
                limit = self._limit(rate)
            else:
                limit.per_minute = rate
        if limit is not None and _number(headers.get(f"x-ratelimit-remaining-{what}")) == 0:
            reset = headers.get(f"x-ratelimit-reset-{what}", "")
            wait = parse_wait(reset, self._clock.wall_time()) or 0.0
            limit.hold(now + min(wait, _MINUTE))
        return limit

    async def aclose(self) -> None:
        await self._inner.aclose()


def _number(text: str | None) -> float | None:
    # Some gateways send a policy after the number: "100, 100;w=60".
    found = re.match(r"\s*([0-9]{1,15})", text or "")
    return float(found.group(1)) if found else None
