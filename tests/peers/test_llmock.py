"""The client before llmock, a server that breaks in every way it knows and then grades us.

Its verdicts fail a client that retries before Retry-After, retries what can never succeed, sends
more than ten times, or takes half a stream for an answer; they warn of one that gives up at once
or does not back off.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    AuthenticationError,
    ErrorCategory,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    InvalidRequestError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
)
from tests.peers.grader import Grader, running_grader

pytestmark = pytest.mark.peer("llmock")

KEY = "sk-a-key-that-nobody-may-see"
LIMIT_S = 30.0

Outcome = InferenceResponse | InferenceError


def chat(content: str, **more: Any) -> InferenceRequest:
    params = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], **more}
    return InferenceRequest(params=params)


def ask(grader: Grader, *requests: InferenceRequest, path: str = "", **settings: Any) -> list[Any]:
    """What becomes of these requests, sent together through one client."""
    config = HTTPInferenceClientConfig(grader.url + path, **{"api_key": KEY, **settings})

    async def everything() -> list[Outcome]:
        async with asyncio.timeout(LIMIT_S), HTTPInferenceClient(config) as client:
            return list(await asyncio.gather(*(outcome(client, one) for one in requests)))

    return asyncio.run(everything())


async def outcome(client: HTTPInferenceClient, request: InferenceRequest) -> Outcome:
    try:
        return await client.generate(request)
    except InferenceError as error:
        return error


def test_what_the_model_says_is_handed_over_as_it_is(grader: Grader) -> None:
    grader.script(
        {"type": "reply", "text": "Grüße, 世界"},
        {"type": "tool_fault", "kind": "malformed_arguments"},
    )
    [greeting] = ask(grader, chat("hello"))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    [call] = ask(grader, chat("weather?", tools=[tool]))
    assert greeting.json()["choices"][0]["message"]["content"] == "Grüße, 世界"
    # Arguments that are no JSON are the model's words inside a whole answer: not ours to refuse.
    assert call.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert grader.is_blameless(attempts=2)


def test_a_rate_limit_is_waited_out(grader: Grader) -> None:
    grader.fail(429, retry_after=0.3, times=3)
    [answer] = ask(grader, chat("hello"))
    assert (answer.status_code, answer.attempts) == (200, 4)
    assert answer.duration >= 3 * 0.3
    assert grader.is_blameless(attempts=4)


def test_whole_seconds_of_retry_after_are_waited_out(grader: Grader) -> None:
    """Without a number of its own llmock asks for one second, in both headers."""
    grader.fail(503)
    [answer] = ask(grader, chat("hello"))
    assert answer.attempts == 2
    assert answer.duration >= 1.0
    assert grader.is_blameless(attempts=2)


def test_a_rate_limit_that_does_not_end_is_reported_after_four_attempts(grader: Grader) -> None:
    grader.fail(429, retry_after=0.1, times=None)
    [error] = ask(grader, chat("hello"))
    assert isinstance(error, RateLimitError)
    assert (error.status_code, error.attempts, error.retry_after) == (429, 4, 0.1)
    assert error.is_retryable
    assert error.code == "rate_limit_exceeded"
    assert error.message == "HTTP 429: Rate limit exceeded."
    assert grader.is_blameless(attempts=4)


def test_nothing_is_sent_early_because_the_deadline_is_near(grader: Grader) -> None:
    """Waiting as asked would be too late, and asking sooner would be refused again."""
    grader.fail(429, retry_after=60)
    request = InferenceRequest(params=chat("hello").params, deadline=10.0)
    [error] = ask(grader, request)
    assert isinstance(error, RateLimitError)
    assert error.attempts == 1
    assert grader.findings() == ["warning: gave_up"]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_again(grader: Grader, status: int) -> None:
    grader.fail(status, retry_after=0.05)
    [answer] = ask(grader, chat("hello"))
    assert answer.attempts == 2
    assert grader.is_blameless(attempts=2)


def test_waits_grow_when_nobody_says_how_long(grader: Grader) -> None:
    grader.fail(500, times=None)
    # Waits are random; this seed's happen to grow. Where they shrink by chance, llmock would
    # take two of them for a constant interval.
    random.seed(7)
    quick = RetryPolicy(initial_backoff=0.3)
    [error] = ask(grader, chat("hello"), retry=quick)
    assert isinstance(error, ServerError)
    assert (error.status_code, error.attempts, error.code) == (500, 4, "internal_error")
    assert grader.is_blameless(attempts=4)


def test_an_outage_is_not_answered_with_a_storm(grader: Grader) -> None:
    grader.fail(503, retry_after=0.05, times=None)
    errors = ask(grader, *(chat(f"request {n}") for n in range(6)))
    assert [type(error) for error in errors] == [ServerError] * 6
    assert [error.attempts for error in errors] == [4] * 6
    assert grader.is_blameless(attempts=24)


def test_an_outage_that_ends_costs_no_request(grader: Grader) -> None:
    grader.fail(503, retry_after=0.1, times=6)
    answers = ask(grader, *(chat(f"request {n}") for n in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert grader.is_blameless(attempts=10)


REFUSALS: Mapping[int, tuple[ErrorCategory, str]] = {
    400: (ErrorCategory.INVALID_REQ, "bad_request"),
    401: (ErrorCategory.AUTH_ERROR, "invalid_api_key"),
    403: (ErrorCategory.AUTH_ERROR, "forbidden"),
    404: (ErrorCategory.UNKNOWN, "not_found"),
    413: (ErrorCategory.UNKNOWN, "request_too_large"),
    422: (ErrorCategory.UNKNOWN, "unprocessable_entity"),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_what_can_never_succeed_is_sent_once(grader: Grader, status: int) -> None:
    grader.fail(status, times=None)
    [error] = ask(grader, chat("hello"))
    assert isinstance(error, InferenceError)
    assert (error.category, error.code) == REFUSALS[status]
    assert (error.status_code, error.attempts, error.is_retryable) == (status, 1, False)
    assert KEY not in f"{error} {error!r} {error.body!r}"
    assert grader.is_blameless(attempts=1)


def test_a_prompt_that_is_too_long_says_so(grader: Grader) -> None:
    message = "This model's maximum context length was exceeded."
    grader.fail(400, code="context_length_exceeded", message=message, times=None)
    [error] = ask(grader, chat("hello"))
    assert isinstance(error, InvalidRequestError)
    assert error.code == "context_length_exceeded"
    assert error.message == f"HTTP 400: {message}"
    assert grader.is_blameless(attempts=1)


def test_a_request_that_fails_validation_is_sent_once(grader: Grader) -> None:
    wrong = InferenceRequest(params={"model": "gpt-4o", "messages": "hello"})
    [error] = ask(grader, wrong)
    assert (error.status_code, error.attempts) == (422, 1)
    assert "messages" in error.message
    assert grader.is_blameless(attempts=1)


@pytest.mark.parametrize(
    ("provider", "code"),
    [
        ("anthropic", "authentication_error"),
        ("gemini", "401"),
        ("cohere", "authentication_error"),
        ("mistral", "invalid_api_key"),
        ("xai", "invalid_api_key"),
    ],
)
def test_error_bodies_of_other_shapes_are_understood(
    grader: Grader, provider: str, code: str
) -> None:
    """Flat bodies, integer codes, no codes: gateways pass on what stands behind them."""
    grader.fail(401, times=None)
    [error] = ask(grader, chat("hello"), path=f"/{provider}")
    assert isinstance(error, AuthenticationError)
    assert error.message == "HTTP 401: Unauthorized."
    assert error.code == code
    assert grader.is_blameless(attempts=1)


def test_headers_of_one_request_go_out_with_every_attempt(grader: Grader) -> None:
    headers = {"x-llmock-force-status": "500"}
    request = InferenceRequest(params=chat("hello").params, headers=headers)
    retry = RetryPolicy(max_retries=1, initial_backoff=0.1)
    [error] = ask(grader, request, retry=retry)
    assert (error.status_code, error.attempts) == (500, 2)
    assert grader.is_blameless(attempts=2)


def test_an_answer_that_takes_too_long_is_asked_for_again(grader: Grader) -> None:
    grader.script({"type": "delay", "seconds": 1.0})
    retry = RetryPolicy(initial_backoff=0.1)
    [answer] = ask(grader, chat("hello"), timeout=0.6, retry=retry)
    assert answer.attempts >= 2
    assert grader.findings() == []


def test_an_answer_that_always_takes_too_long_is_a_timeout(grader: Grader) -> None:
    grader.script({"type": "delay", "seconds": 0.8, "times": None})
    [error] = ask(grader, chat("hello"), timeout=0.3, retry=None)
    assert isinstance(error, RequestTimeoutError)
    assert (error.category, error.attempts) == (ErrorCategory.SERVER_ERROR, 1)
    assert grader.findings() == []


def test_a_slow_answer_within_the_timeout_is_waited_for(grader: Grader) -> None:
    grader.script({"type": "delay", "seconds": 0.5})
    [answer] = ask(grader, chat("hello"))
    assert answer.attempts == 1
    assert answer.duration >= 0.5
    assert grader.is_blameless(attempts=1)


@pytest.fixture(scope="module")
def _metered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grader]:
    """Quotas are counted for each API key, so that every case brings its own."""
    log = tmp_path_factory.mktemp("llmock") / "metered.log"
    with running_grader(log, "--rpm", "60", "--tpm", "60000", "--context-window", "500") as grader:
        yield grader


@pytest.fixture
def metered(_metered: Grader) -> Grader:
    _metered.reset()
    return _metered


def test_requests_over_the_quota_go_when_there_is_room(metered: Grader) -> None:
    """Sixty a minute, all spent at once: one comes back every second."""
    requests = [chat(f"request {n}") for n in range(61)]
    answers = ask(metered, *requests, api_key="sk-requests")
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.attempts for answer in answers} == {1, 2}
    assert metered.is_blameless(attempts=62)


def test_tokens_over_the_quota_go_when_there_is_room(metered: Grader) -> None:
    """A thousand tokens come back every second, and one request spends nearly all there are."""
    settings = {"api_key": "sk-tokens"}
    [glutton] = ask(metered, chat("much", max_tokens=59_900), **settings)
    [answer] = ask(metered, chat("little", max_tokens=700), **settings)
    assert (glutton.attempts, answer.attempts) == (1, 2)
    assert metered.is_blameless(attempts=3)


def test_a_prompt_beyond_the_context_window_is_sent_once(metered: Grader) -> None:
    [error] = ask(metered, chat("word " * 500), api_key="sk-context")
    assert isinstance(error, InvalidRequestError)
    assert (error.code, error.attempts) == ("context_length_exceeded", 1)
    assert "maximum context length is 500 tokens" in error.message
    assert metered.is_blameless(attempts=1)


def test_a_gateway_that_fails_at_random_loses_no_request(tmp_path: Path) -> None:
    """A fifth of all attempts fail; a request is lost only after ten failures in a row."""
    flags = ["--error-rate", "500=0.1", "--error-rate", "502=0.1"]
    patient = RetryPolicy(max_retries=9, initial_backoff=0.05, max_backoff=0.2)
    with running_grader(tmp_path / "llmock.log", *flags) as grader:
        requests = [chat(f"request {n}") for n in range(40)]
        answers = ask(grader, *requests, retry=patient)
        assert {answer.status_code for answer in answers} == {200}
        statuses = grader.statuses()
        assert sum(answer.attempts for answer in answers) == len(statuses)
        assert statuses.count(200) == 40
        # Random waits may shrink by chance, which llmock takes for none.
        assert set(grader.findings()) <= {"warning: no_backoff"}


def test_a_gateway_that_dies_with_a_request_and_comes_back_answers_it(tmp_path: Path) -> None:
    patient = RetryPolicy(max_retries=100, initial_backoff=0.2, max_backoff=0.2)

    async def through_a_crash(stack: ExitStack) -> tuple[Outcome, Grader]:
        first = stack.enter_context(running_grader(tmp_path / "first.log"))
        first.script({"type": "delay", "seconds": LIMIT_S})
        config = HTTPInferenceClientConfig(first.url, retry=patient)
        async with asyncio.timeout(LIMIT_S), HTTPInferenceClient(config) as client:
            asked = asyncio.create_task(outcome(client, chat("hello")))
            while first.pending():
                await asyncio.sleep(0.02)
            first.kill()
            again = running_grader(tmp_path / "second.log", port=first.port)
            second = await asyncio.to_thread(stack.enter_context, again)
            return await asked, second

    with ExitStack() as stack:
        answer, second = asyncio.run(through_a_crash(stack))
        assert isinstance(answer, InferenceResponse), answer
        assert answer.attempts >= 2
        assert second.is_blameless(attempts=1)
