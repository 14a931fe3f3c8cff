"""Lines from a program: what each comes to, whoever gives them and however it goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_gateway import (
    AuthenticationError,
    BatchResult,
    ConfigError,
    GatewayUnusableError,
    HTTPInferenceClient,
    InferenceRequest,
    InferenceResponse,
    InputError,
    InvalidRequestError,
    ServerError,
    run_batch,
)
from batch_gateway.testing import GatewayHandle
from tests.cli.commands import chat_line, write_batch
from tests.runs.held_client import Held
from tests.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.anyio


def chat(text: str = "Hi", model: str = "tiny") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def all_of(
    results: AsyncGenerator[BatchResult], found: list[BatchResult] | None = None
) -> list[BatchResult]:
    """In the order of their lines; those before an exception are in `found`."""
    found = [] if found is None else found
    async for result in results:
        found.append(result)
    return sorted(found, key=lambda result: result.index)


class Answers:
    """Answers at once, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[InferenceRequest] = []

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        self.asked.append(request)
        await asyncio.sleep(0)
        body = b'{"choices":[{"message":{"content":"yes"}}]}'
        return InferenceResponse(request_id=request.request_id, status_code=200, body=body)


async def test_lines_of_every_kind_have_their_results(gateway: GatewayHandle) -> None:
    lines = [
        "What is a goose?",
        chat(),
        {"messages": [{"role": "user", "content": "no model"}]},
        chat_line("mine"),
        {"custom_id": "beside", "prompt": "Hi"},
        json.dumps(chat_line("bytes")).encode(),
        InferenceRequest(request_id="r-1", params=chat()),
    ]
    results = await all_of(run_batch(lines, gateway=gateway.url, model="tiny"))
    assert [result.custom_id for result in results] == [
        *("request-1", "request-2", "request-3", "mine", "beside", "bytes", "r-1")
    ]
    assert all(result.ok and result.error is None and result.text for result in results)
    assert results[0].usage is not None


async def numbers(count: int, taken: list[int]) -> AsyncIterator[dict[str, Any]]:
    for number in range(count):
        taken.append(number)
        yield chat(str(number))


async def test_an_async_iterable_is_taken_as_far_as_it_is_needed() -> None:
    taken: list[int] = []
    client = Answers()
    async with aclosing(run_batch(numbers(100_000, taken), gateway=client)) as results:
        async for result in results:
            if result.index > 500:
                break
            # Whoever takes results slowly holds back the lines too.
            assert len(taken) - result.index < 500
    assert len(client.asked) < 1_500
    assert len(taken) < 1_500


async def test_memory_is_flat_and_no_line_is_sent_twice() -> None:
    client = Answers()
    seen = 0
    async for result in run_batch((chat(str(n)) for n in range(5_000)), gateway=client):
        seen += result.ok
    assert seen == 5_000
    assert len(client.asked) == 5_000


async def test_bodies_are_sent_as_they_were_given() -> None:
    body = b'{"seed":12345678901234567890,"model":"m" , "messages":[],"b":1,"a":2}'
    client = Answers()
    line = b'{"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":%b}' % body
    params = {"seed": 12345678901234567890, "model": "m", "messages": [], "b": 1, "a": 2}
    await all_of(
        run_batch([line, InferenceRequest(params=body), params], gateway=client, concurrency=1)
    )
    assert [request.params for request in client.asked[:2]] == [body, body]
    assert json.dumps(json.loads(bytes(client.asked[2].params))) == json.dumps(params)  # type: ignore[arg-type]


async def test_a_line_that_changes_after_it_was_given_is_sent_as_it_was() -> None:
    def lines() -> Iterable[dict[str, Any]]:
        line: dict[str, Any] = chat()
        for number in range(20):
            line["seed"] = number
            yield line

    client = Answers()
    await all_of(run_batch(lines(), gateway=client))
    seeds = [json.loads(bytes(one.params))["seed"] for one in client.asked]  # type: ignore[arg-type]
    assert sorted(seeds) == list(range(20))


async def test_a_bad_line_costs_no_other(gateway: GatewayHandle) -> None:
    lines: list[Any] = [
        chat(),
        5,
        {"messages": chat()["messages"]},
        {"custom_id": 7, "body": chat()},
        {"custom_id": "twice", "body": chat()},
        {"custom_id": "twice", "body": chat()},
        {"custom_id": "b", "body": "text"},
        {**chat_line("c"), "method": "GET"},
        {**chat_line("d"), "url": 3},
        b"{",
        {**chat(), "temperature": float("nan")},
        {**chat(), "stream": True},
        json.dumps(chat_line("as text")),
        None,
        chat(),
    ]
    results = await all_of(run_batch(lines, gateway=gateway.url, model="tiny"))
    assert len(results) == len(lines)
    assert [result.index for result in results if result.ok] == [0, 2, 4, 14]
    wrong = {result.index: result.error for result in results if not result.ok}
    assert all(isinstance(error, InvalidRequestError) for error in wrong.values())
    said = {index: str(error) for index, error in wrong.items()}
    assert "lines[1]: must be a prompt, a mapping or an InferenceRequest, not 5" in said[1]
    assert "lines[3].custom_id: must be a string, not 7" in said[3]
    assert "lines[5].custom_id: 'twice' was used before" in said[5]
    assert "lines[6].body: must be a mapping, not 'text'" in said[6]
    assert "lines[7].method: must be 'POST', not 'GET'" in said[7]
    assert "lines[8].url: must be a path such as /v1/chat/completions, not 3" in said[8]
    assert "lines[9]: is not valid JSON" in said[9]
    assert "temperature" in said[10]
    assert "stream" in said[11]
    assert "lines[12]: is a line of a batch file as text" in said[12]


async def test_a_line_without_a_model_has_an_error_where_there_is_none_for_all() -> None:
    results = await all_of(run_batch([{"prompt": "Hi"}, chat()], gateway=Answers()))
    assert "lines[0]: model is missing" in str(results[0].error)
    assert results[1].ok


async def test_a_prompt_needs_a_model() -> None:
    with pytest.raises(ConfigError, match=r"model: is missing, and lines\[1\] is a prompt"):
        await all_of(run_batch([chat(), "Hi"], gateway=Answers()))


@pytest.mark.parametrize("lines", ["requests.jsonl", b"{}", {"model": "m"}, 5])
async def test_what_is_no_lines_is_refused_at_once(lines: Any) -> None:
    with pytest.raises(ConfigError, match="lines: must be an iterable of lines"):
        run_batch(lines, gateway="http://x")


async def test_the_lines_of_a_file_are_read_as_they_are_sent(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    batch = write_batch(tmp_path / "requests.jsonl", 20)
    results = await all_of(run_batch(batch, gateway=gateway.url))
    assert sum(result.ok for result in results) == 20
    with pytest.raises(InputError, match=r"missing\.jsonl: No such file"):
        await all_of(run_batch(tmp_path / "missing.jsonl", gateway=gateway.url))


async def test_what_the_iterable_raises_comes_behind_the_results_of_the_lines_before() -> None:
    def broken() -> Generator[dict[str, Any]]:
        yield from (chat(str(n)) for n in range(10))
        raise KeyError("mine")

    seen: list[BatchResult] = []
    with pytest.raises(KeyError, match="mine"):
        await all_of(run_batch(broken(), gateway=Answers()), seen)
    assert sum(result.ok for result in seen) == 10


@pytest.mark.parametrize("closed", [True, False])
async def test_leaving_the_loop_cancels_what_is_under_way(closed: bool) -> None:
    client, taken = Held(), list[int]()
    before = len(asyncio.all_tasks())
    if closed:
        async with aclosing(run_batch(numbers(1_000, taken), gateway=client)) as results:
            async for _ in results:
                break
    else:
        async for _ in run_batch(numbers(1_000, taken), gateway=client):
            break
    while len(asyncio.all_tasks()) > before:
        await asyncio.sleep(0)
    assert client.cancelled == client.under_way - 1


async def test_a_generator_of_lines_is_closed_whenever_no_more_are_wanted() -> None:
    closed: list[str] = []

    async def lines(name: str) -> AsyncIterator[dict[str, Any]]:
        try:
            while True:
                yield chat()
        finally:
            closed.append(name)

    async with aclosing(run_batch(lines("left"), gateway=Answers())) as results:
        await anext(results)
    with pytest.raises(GatewayUnusableError):
        await all_of(run_batch(lines("hopeless"), gateway=Refuses()))
    assert closed == ["left", "hopeless"]


async def test_a_cancel_scope_that_lets_nothing_wait_cancels_what_is_under_way() -> None:
    client, taken = Held(), list[int]()
    async with anyio.create_task_group() as group:
        group.start_soon(all_of, run_batch(numbers(1_000, taken), gateway=client))
        while client.under_way < 5:
            await asyncio.sleep(0)
        group.cancel_scope.cancel()
    while client.cancelled < client.under_way - 1:
        await asyncio.sleep(0)


async def test_cancelling_the_taker_cancels_what_is_under_way() -> None:
    client, taken = Held(), list[int]()
    before = len(asyncio.all_tasks())
    taking = asyncio.ensure_future(all_of(run_batch(numbers(1_000, taken), gateway=client)))
    while client.under_way < 5:
        await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    while len(asyncio.all_tasks()) > before:
        await asyncio.sleep(0)
    assert client.cancelled == client.under_way - 1


def open_files() -> set[Path]:
    # One is that of the look itself, which is over.
    return {path for path in Path("/proc/self/fd").iterdir() if path.exists()}


async def test_nothing_is_left_open_when_the_loop_is_left(gateway: GatewayHandle) -> None:
    before, tasks = open_files(), len(asyncio.all_tasks())
    threads = threading.active_count()
    async for _ in run_batch((chat(str(n)) for n in range(10_000)), gateway=gateway.url):
        break
    while len(asyncio.all_tasks()) > tasks:
        await asyncio.sleep(0)
    # The gateway, which is in this process too, closes its ends when it has seen ours closed.
    while open_files() - before:
        await asyncio.sleep(0.001)
    assert threading.active_count() == threads


async def test_a_wrong_key_ends_it_and_every_line_that_was_taken_has_its_error(
    gateway: GatewayHandle,
) -> None:
    gateway.configure(api_key="right")
    taken: list[int] = []
    seen: list[BatchResult] = []
    with pytest.raises(GatewayUnusableError, match="401") as caught:
        await all_of(
            run_batch(numbers(100_000, taken), gateway=gateway.url, api_key="wrong-key"), seen
        )
    assert len(taken) < 1_000
    assert sorted(result.index for result in seen) == taken
    assert not any(result.ok for result in seen)
    assert isinstance(seen[0].error, AuthenticationError)
    assert any("not sent" in str(result.error) for result in seen)
    assert "wrong-key" not in str(caught.value)


async def test_an_unknown_model_is_told_with_those_there_are(gateway: GatewayHandle) -> None:
    gateway.configure(models=("tinny",))
    with pytest.raises(GatewayUnusableError, match=r"did you mean tinny\?"):
        await all_of(run_batch([chat() for _ in range(30)], gateway=gateway.url))


async def test_a_model_that_is_given_up_costs_no_other(gateway: GatewayHandle) -> None:
    gateway.configure(models=("tiny",))
    lines = [chat(model="tiny" if n % 2 else "gone") for n in range(400)]
    results = await all_of(run_batch(lines, gateway=gateway.url))
    assert [result.ok for result in results] == [bool(n % 2) for n in range(400)]
    asked = [one for one in gateway.journal()["requests"].values() if not one["completed"]]
    assert len(asked) < 200


async def test_a_gateway_that_cannot_be_reached_is_said_before_a_line_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    taken: list[int] = []
    with pytest.raises(GatewayUnusableError, match="cannot be reached; nothing was sent"):
        await all_of(run_batch(numbers(5, taken), gateway=f"http://127.0.0.1:{port}"))
    assert taken == []


async def test_a_model_without_a_gateway_has_an_error_and_others_go_on(
    gateway: GatewayHandle,
) -> None:
    lines = [chat(model="a"), chat(model="b")]
    results = await all_of(run_batch(lines, model_gateways={"a": gateway.url}))
    assert results[0].ok
    assert "no gateway is configured for model 'b'" in str(results[1].error)


async def test_a_few_failures_at_the_end_are_results_and_no_more(gateway: GatewayHandle) -> None:
    lines = [chat(model="fault-status-500"), chat(model="fault-status-400")]
    results = await all_of(run_batch(lines, gateway=gateway.url, max_retries=0))
    assert isinstance(results[0].error, ServerError)
    assert isinstance(results[1].error, InvalidRequestError)


class Refuses:
    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        raise InvalidRequestError("no", status_code=400)


def test_who_waits_for_a_result_before_the_next_line_does_not_wait_for_ever() -> None:
    async def one_by_one() -> list[BatchResult]:
        told = asyncio.Event()
        seen: list[BatchResult] = []

        async def lines() -> AsyncIterator[dict[str, Any]]:
            for _ in range(3):
                told.clear()
                yield chat()
                await told.wait()

        async for result in run_batch(lines(), gateway=Refuses()):
            seen.append(result)
            told.set()
        return seen

    assert [str(one.error) for one in run_in_virtual_time(one_by_one())] == ["no"] * 3


class Faulty:
    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        raise ZeroDivisionError


async def test_a_fault_of_a_client_is_the_error_of_its_line() -> None:
    results = await all_of(run_batch([chat()], gateway=Faulty()))
    assert "ZeroDivisionError" in str(results[0].error)


async def test_a_client_that_is_given_stays_open(gateway: GatewayHandle) -> None:
    async with HTTPInferenceClient(gateway.url) as client:
        assert (await all_of(run_batch([chat()], gateway=client)))[0].ok
        assert (await client.generate(chat())).text


async def test_nothing_to_send_is_no_result() -> None:
    assert await all_of(run_batch([], gateway=Answers())) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    ["custom_id", "body", "url", "method", "model", "messages", "params", "prompt", "input"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(json_values | st.dictionaries(fields, json_values, max_size=5), max_size=12))
def test_whatever_is_given_has_exactly_one_result_each(lines: list[Any]) -> None:
    async def run() -> list[BatchResult]:
        return await all_of(run_batch(lines, gateway=Answers(), model="m"))

    results = asyncio.run(run())
    assert [result.index for result in results] == list(range(len(lines)))
    assert all(result.custom_id for result in results)
    named = [result.custom_id for result in results if result.ok]
    assert len(named) == len(set(named))
