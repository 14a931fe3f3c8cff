"""Several runs through one client, which says whose line goes next; over sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    FixedConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
)
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.progress import RunSummary
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.errors import ConfigError
from batch_gateway.testing import simulated_gateway

from .batch_files import request, text_of

pytestmark = pytest.mark.anyio

LIMIT = 8


class SharedClient:
    """A client that remembers whose answers came, in order.

    Attributes:
        answers: the tenants.
        began: how many answers had come when a tenant's first line did.
    """

    def __init__(self, client: HTTPInferenceClient) -> None:
        self._client = client
        self.when_wanted = client.when_wanted
        self.answers: list[str] = []
        self.began: dict[str, int] = {}
        self._changed = asyncio.Event()

    @property
    def requests_wanted(self) -> int | None:
        return self._client.requests_wanted

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        self.began.setdefault(request.tenant, len(self.answers))
        response = await self._client.generate(request)
        self.answers.append(request.tenant)
        self._changed.set()
        return response

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def shared_client() -> AsyncIterator[SharedClient]:
    """Eight at a time, each of which takes some hundredths of a second."""
    with simulated_gateway(latency_scale=0.05, output_tokens=16) as gateway:
        config = HTTPInferenceClientConfig(gateway.url, concurrency=FixedConcurrency(LIMIT))
        async with HTTPInferenceClient(config) as client, asyncio.timeout(60):
            yield SharedClient(client)


async def run(
    client: SharedClient, folder: Path, lines: int | Iterable[dict[str, Any]], **options: Any
) -> RunSummary:
    """One batch of the folder's name, on behalf of a tenant of that name."""
    folder.mkdir()  # noqa: ASYNC240 - once, on the machine's own disk
    many = (request(f"id-{n}") for n in range(lines)) if isinstance(lines, int) else lines
    source = folder / "requests.jsonl"
    source.write_bytes(text_of(many))
    with make_plan(source) as plan:
        async with FileJournal.open(plan, folder / "out.jsonl", folder / "err.jsonl") as journal:
            settings = RunOptions(concurrency=None, tenant=folder.name, **options)
            return await run_plan(plan, journal, lambda _: client, options=settings)


@pytest.mark.parametrize("is_moment", [False, True], ids=["duration", "moment"])
async def test_a_small_urgent_batch_behind_a_large_one_starts_at_once_and_ends_early(
    tmp_path: Path, is_moment: bool
) -> None:
    due = datetime.now(UTC) + timedelta(minutes=1) if is_moment else "1m"
    async with shared_client() as client:
        large = asyncio.create_task(run(client, tmp_path / "large", 600, due="24h"))
        await client.until(lambda: len(client.answers) >= 50)
        small = await run(client, tmp_path / "small", 100, due=due)
        # Until its last answer: its files are closed after that, which takes a busy disk a while.
        last = len(client.answers) - client.answers[::-1].index("small")
        meanwhile = Counter(client.answers[client.began["small"] : last])
        assert small.succeeded == 100
        # What was under way before, one turn in eight, and what comes beside the last few.
        assert meanwhile["large"] <= LIMIT + 100 / 7 + 2 * LIMIT
        assert (await large).succeeded == 600


async def test_ten_tenants_have_even_shares_whatever_the_size_of_their_batches(
    tmp_path: Path,
) -> None:
    async with shared_client() as client:
        sizes = {str(tenant): 50 + 10 * tenant for tenant in range(10)}
        runs = [
            asyncio.create_task(run(client, tmp_path / name, size)) for name, size in sizes.items()
        ]
        await client.until(lambda: all(client.answers.count(name) >= 12 for name in sizes))
        before = Counter(client.answers)
        await client.until(lambda: max(Counter(client.answers).values()) >= 45)
        shares = Counter(client.answers) - before
        assert min(shares.values()) >= max(shares.values()) - 3
        assert [summary.succeeded for summary in await asyncio.gather(*runs)] == [*sizes.values()]


async def test_lines_that_wait_out_a_backoff_take_no_places_of_lines_that_could_go(
    tmp_path: Path,
) -> None:
    stop = asyncio.Event()
    waits = "fault-status-503;retry-after=300"
    models = ["m", *(LIMIT + 4) * [waits], *50 * ["m"]]
    source = tmp_path / "requests.jsonl"
    source.write_bytes(text_of(request(f"id-{n}", model=m) for n, m in enumerate(models)))
    async with shared_client() as client:
        with make_plan(source) as plan:
            async with FileJournal.open(
                plan, tmp_path / "out.jsonl", tmp_path / "err.jsonl"
            ) as journal:
                options = RunOptions(concurrency=None, order="file", grace=0)
                running = asyncio.create_task(
                    run_plan(plan, journal, lambda _: client, options=options, stop=stop)
                )
                await client.until(lambda: len(client.answers) == 51)
                stop.set()
                summary = await running
    assert (summary.succeeded, summary.left_to_send) == (51, LIMIT + 4)


def test_a_due_time_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"due: .*time zone"):
        RunOptions(due=datetime(2026, 1, 1))
    with pytest.raises(ConfigError, match="due"):
        RunOptions(due="soon")
