"""Requests that nobody will send any more end as errors: each once, whatever crashes."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.queue_journal import QueueJournal
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.source import BytesSource
from batch_gateway.engine.unsent import Unsent, record_unsent
from batch_gateway.errors import InputError, InvalidRequestError

from .batch_files import ids_in, read_lines, request, text_of, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway, SteppedClock, succeed, when_let_go

pytestmark = pytest.mark.anyio

MESSAGES = {
    "batch_cancelled": "This request was cancelled before it was executed.",
    "batch_expired": "This request could not be executed before the completion window expired.",
}


async def stopped(folder: Folder, gateway: FakeGateway, after: int) -> None:
    """A run that is stopped when `after` requests were answered and five are under way."""
    stop, clock = asyncio.Event(), SteppedClock()
    settings = {"stop": stop, "clock": clock, "concurrency": 5, "order": "file"}
    async with folder.running(gateway, **settings) as run:
        await gateway.until(lambda: len(gateway.prompts) == after + 5 and gateway.in_flight == 5)
        stop.set()
        await clock.advance(10.0)
        await run


async def end(folder: Folder, why: Unsent) -> int:
    with make_plan(folder.input) as plan:
        async with FileJournal.open(plan, folder.output, folder.errors) as journal:
            recorded = await record_unsent(plan, journal, why)
            await journal.finish()
            assert journal.without_result == 0
            return recorded


@pytest.mark.parametrize(
    ("why", "code"), [(Unsent.CANCELLED, "batch_cancelled"), (Unsent.EXPIRED, "batch_expired")]
)
async def test_every_line_without_a_result_ends_as_an_error_and_no_other(
    folder: Folder, why: Unsent, code: str
) -> None:
    write_batch(folder.input, 40)

    async def answer_some(gateway: FakeGateway, prompt: str) -> bytes:
        number = int(prompt.rpartition("-")[2])
        if number >= 20:
            return await when_let_go(gateway, prompt)
        if number % 4 == 0:
            raise InvalidRequestError("no", status_code=400)
        return await succeed(gateway, prompt)

    await stopped(folder, FakeGateway(answer_some), after=20)
    before = folder.output.read_bytes(), folder.errors.read_bytes()

    assert await end(folder, why) == 20
    assert await end(folder, why) == 0
    assert folder.output.read_bytes() == before[0]
    assert folder.errors.read_bytes().startswith(before[1])
    added = read_lines(folder.errors)[5:]
    assert [line["custom_id"] for line in added] == [f"id-{n}" for n in range(20, 40)]
    for line in added:
        assert line["id"].startswith("batch_req_")
        assert line["response"] is None
        assert line["error"] == {"code": code, "message": MESSAGES[code]}
    summary = await folder.run(FakeGateway())
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (15, 25, 0)


async def test_the_rest_of_a_shard_ends_under_the_ids_of_the_whole() -> None:
    plan = make_plan(BytesSource(text_of(request(f"id-{n}") for n in range(7))))
    part = plan.part(list(plan.shards("b", max_lines=4))[1])
    journal = QueueJournal(part.requests)
    stop = asyncio.Event()
    stop.set()
    gateway = FakeGateway()
    await run_plan(part, journal, lambda _: gateway, options=RunOptions(), stop=stop)
    journal = QueueJournal(part.requests)
    assert await record_unsent(part, journal, Unsent.CANCELLED) == 3
    await journal.finish()
    assert [result.index async for result in journal] == [4, 5, 6]


async def test_an_input_that_changed_is_no_reason_to_end_its_lines(folder: Folder) -> None:
    write_batch(folder.input, 3)
    with make_plan(folder.input) as plan:
        async with FileJournal.open(plan, folder.output, folder.errors) as journal:
            folder.input.write_bytes(b"something else")
            with pytest.raises(InputError, match="changed"):
                await record_unsent(plan, journal, Unsent.EXPIRED)
    assert read_lines(folder.errors) == []


KILLED = """
import asyncio, os, signal, sys
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.unsent import Unsent, record_unsent

name, output, errors, safe, killed = sys.argv[1:]

class Killed(FileJournal):
    seen = 0
    async def append(self, index, line, ok):
        await super().append(index, line, ok)
        self.seen += 1
        if self.seen == int(safe):
            await self.flush()
        if self.seen == int(killed):
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    with make_plan(name) as plan:
        async with Killed.open(plan, output, errors) as journal:
            await record_unsent(plan, journal, Unsent.CANCELLED)
            await journal.finish()

asyncio.run(main())
"""


async def test_whoever_is_killed_while_it_ends_lines_has_repeated_and_lost_none(
    folder: Folder,
) -> None:
    write_batch(folder.input, 3_000)

    async def answer_a_hundred(gateway: FakeGateway, prompt: str) -> bytes:
        answers = succeed if int(prompt.rpartition("-")[2]) < 100 else when_let_go
        return await answers(gateway, prompt)

    await stopped(folder, FakeGateway(answer_a_hundred), after=100)
    for safe, killed in ((1, 2), (400, 1_000), (1_000, 1_001), (700, 9_999)):
        arguments = (folder.input, folder.output, folder.errors, str(safe), str(killed))
        ended = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, *arguments)
        assert await ended.wait() == (-signal.SIGKILL if killed < 9_999 else 0)
        errors = ids_in(folder.errors)
        assert len(errors) == len(set(errors)) >= safe
    assert await end(folder, Unsent.CANCELLED) == 0
    assert sorted(ids_in(folder.output)) == sorted(f"id-{n}" for n in range(100))
    assert ids_in(folder.errors) == [f"id-{n}" for n in range(100, 3_000)]
