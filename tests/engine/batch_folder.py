"""One batch on disk, run against gateways in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.progress import RunStats, RunSummary
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.sending import ReportCrash, log_crash

from .fake_gateways import FakeGateway, SteppedClock


class Folder:
    """The files of one batch."""

    def __init__(self, path: Path) -> None:
        self.input = path / "requests.jsonl"
        self.output = path / "results.jsonl"
        self.errors = path / "results.errors.jsonl"

    async def run(
        self,
        gateway: FakeGateway | Mapping[str, FakeGateway | None],
        *,
        stop: asyncio.Event | None = None,
        stats: RunStats | None = None,
        clock: SteppedClock | None = None,
        retry_failed: bool = False,
        report_crash: ReportCrash = log_crash,
        **options: object,
    ) -> RunSummary:
        def client_for(model: str) -> FakeGateway | None:
            return gateway if isinstance(gateway, FakeGateway) else gateway[model]

        with make_plan(self.input) as plan:
            journal = FileJournal.open(plan, self.output, self.errors, retry_failed=retry_failed)
            async with journal, asyncio.timeout(20):
                return await run_plan(
                    plan,
                    journal,
                    client_for,
                    options=RunOptions(**options),  # type: ignore[arg-type]
                    stats=stats,
                    stop=stop,
                    clock=clock or SteppedClock(),
                    report_crash=report_crash,
                )

    @asynccontextmanager
    async def running(
        self, gateway: FakeGateway | Mapping[str, FakeGateway | None], **settings: object
    ) -> AsyncIterator[asyncio.Task[RunSummary]]:
        task = asyncio.create_task(self.run(gateway, **settings))  # type: ignore[arg-type]
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
