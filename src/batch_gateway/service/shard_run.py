"""One shard of a batch: its lines are run until each has a result that is registered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from functools import partial

from batch_gateway.clock import Clock
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.progress import RunStats
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.sending import ClientFor
from batch_gateway.engine.source import RangeSource, Source
from batch_gateway.engine.stored_plan import load_plan
from batch_gateway.engine.unsent import Unsent, record_unsent
from batch_gateway.errors import InputError, JournalError, NotStoredError, PlanError
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.database import Database
from batch_gateway.service.gateway_clients import gateway_of
from batch_gateway.service.job_records import (
    Job,
    drop_parts,
    register_parts,
    registered_parts,
    replace_parts,
)
from batch_gateway.service.notices import Notices
from batch_gateway.service.part_journal import PartJournal
from batch_gateway.service.parts import Part, parts_folder, plan_name
from batch_gateway.service.validation import plan_again
from batch_gateway.storage.protocol import Storage
from batch_gateway.wire.usage import Usage

__all__ = ["Ending", "ShardRun"]

_log = logging.getLogger("batch_gateway.processor")

# A gateway that was given up is tried again so much later.
_AGAIN_SECONDS = 10.0


class Ending(Enum):
    """Why the lines of a shard are not to be sent any more."""

    STOPPED = None
    """The processor stops or has more urgent work: somebody goes on with them."""
    CANCELLED = Unsent.CANCELLED
    """Somebody asked for the end of the batch."""
    EXPIRED = Unsent.EXPIRED
    """The completion window is over."""
    FAILED = Unsent.FAILED
    """The batch cannot go on."""


class ShardRun:
    """Sends the lines of one shard; `end` says from outside that it is over."""

    def __init__(
        self,
        job: Job,
        batch: BatchRecord,
        *,
        database: Database,
        storage: Storage,
        client_for: ClientFor,
        options: RunOptions,
        clock: Clock,
    ) -> None:
        self.job, self.batch = job, batch
        self._database, self._storage = database, storage
        self._client_for, self._options = client_for, options
        self._clock = clock
        self._notices = Notices(database, batch.id, batch.notice, clock)
        self._say_of_gateway = self._notices.about("gateway")
        self._gateways: frozenset[str] = frozenset()
        self._stats, self._used_before = RunStats(), Usage()
        self._stop, self._at_once = asyncio.Event(), asyncio.Event()
        self._ending: Ending | None = None

    def end(self, ending: Ending) -> None:
        """Send nothing more. Cancelling and expiry abort what is under way and win over a stop."""
        if self._ending is not None and self._ending is not Ending.STOPPED:
            return
        self._ending = ending
        self._stop.set()
        if ending is not Ending.STOPPED:
            self._at_once.set()

    def hear(self, down: Collection[str]) -> None:
        """These gateways are down, and no other."""
        waits = bool(self._gateways & frozenset(down))
        self._say_of_gateway("The gateway is failing; waiting for it." if waits else None)

    async def run(self, whole: Source) -> bool:
        """Whether every line has its result now, which is registered; False after a stop.

        `whole` is the input of the batch. Raises InputError when that has changed, FencedError
        when the shard is another's, JournalError for results of another input, StorageError and
        RecordsError.
        """
        plan = await self._plan(whole)
        clients = (self._client_for(model) for model in plan.models)
        self._gateways = frozenset(gateway_of(one) for one in clients if one is not None)
        journal = await PartJournal(
            plan,
            self._storage,
            parts_folder(self.batch.id, self.job.number),
            self.job.epoch,
            _JobRegistry(self._database, self.job),
            usage=lambda: self._used_before + self._stats.figures.usage,
            has_models=self.batch.model is None,
            on_trouble=self._notices.about("store"),
            clock=self._clock,
        ).open()
        try:
            while journal.without_result and self._ending is None:
                await self._send(plan, journal)
            if self._ending is not None and self._ending.value is not None:
                await record_unsent(plan, journal, self._ending.value)
            await journal.flush()
        except JournalError as error:
            raise journal.failure or error from error
        finally:
            await journal.aclose()
            await self._notices.aclose()
        return journal.without_result == 0

    async def _plan(self, whole: Source) -> Plan:
        """As it was stored, or made again where that is lost."""
        source = RangeSource(whole, self.job.start, self.job.end)
        name = plan_name(self.batch.id, self.job.number)
        try:
            return await asyncio.to_thread(load_plan, await self._storage.read(name), source)
        except (NotStoredError, PlanError) as error:
            _log.warning("%s: %s; the plan is made again", self.batch.id, error)
        stored = await asyncio.to_thread(plan_again, whole, self.job, self.batch.endpoint)
        await self._storage.put(name, stored)
        return await asyncio.to_thread(load_plan, stored, source)

    async def _send(self, plan: Plan, journal: PartJournal) -> None:
        self._stats = RunStats()
        summary = await run_plan(
            plan,
            journal,
            self._client_for,
            options=self._options,
            stats=self._stats,
            stop=self._stop,
            at_once=self._at_once,
            clock=self._clock,
        )
        self._used_before, self._stats = self._used_before + summary.figures.usage, RunStats()
        if summary.journal_problem is not None:
            kind = JournalError if summary.disk_problem else InputError
            raise kind(summary.journal_problem)
        if summary.left_to_send and self._ending is None:
            self._say_of_gateway(summary.reason or "the gateway does not take requests")
            await self._wait(_AGAIN_SECONDS)
            self._say_of_gateway(None)

    async def _wait(self, seconds: float) -> None:
        """That long, or until something ends the run."""
        waits = [
            asyncio.create_task(self._clock.sleep(seconds)),
            asyncio.create_task(_set(self._stop)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def _set(event: asyncio.Event) -> None:
    await event.wait()


class _JobRegistry:
    """The parts of a shard, in the database."""

    def __init__(self, database: Database, job: Job) -> None:
        self._database, self._job = database, job

    async def registered(self) -> Mapping[str, Part]:
        return await self._database.read(partial(registered_parts, job=self._job))

    async def register(self, parts: Sequence[Part]) -> None:
        await self._database.write(partial(register_parts, job=self._job, found=parts))

    async def drop(self, parts: Sequence[Part]) -> None:
        await self._database.write(partial(drop_parts, job=self._job, lost=parts))

    async def replace(self, parts: Sequence[Part], whole: Part) -> None:
        await self._database.write(
            partial(replace_parts, job=self._job, replaced=parts, whole=whole)
        )
