"""One shard of a batch: its lines are run until each has a result that is registered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from functools import partial

from sqlalchemy import Connection

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.clock import Clock, wait_at_most
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.progress import RunStats
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.sending import Answer, ClientFor
from batch_gateway.engine.source import RangeSource, Source
from batch_gateway.engine.stored_plan import load_plan
from batch_gateway.engine.unsent import Unsent, record_unsent
from batch_gateway.errors import InputError, JournalError, NotStoredError, PlanError
from batch_gateway.report.collected import Line
from batch_gateway.service import scheduling
from batch_gateway.service.batch_courses import (
    LONGEST_NAME,
    BatchCourse,
    BatchCourses,
    Snapshot,
)
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.database import Database
from batch_gateway.service.gateway_clients import events_of, gateway_of
from batch_gateway.service.input_source import open_input
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
from batch_gateway.wire.lines import parse_line_id
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
    """Sends the lines of one shard; `end` says from outside that it is over.

    `few_left` is called once when the next part of the batch is of use beside this one.
    """

    def __init__(
        self,
        job: Job,
        batch: BatchRecord,
        *,
        database: Database,
        storage: Storage,
        client_for: ClientFor,
        options: RunOptions,
        courses: BatchCourses,
        few_left: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.job, self.batch = job, batch
        self._database, self._storage = database, storage
        self._client_for, self._options = client_for, options
        self._courses, self._clock = courses, clock
        self._few_left: Callable[[], None] | None = few_left
        self._notices = Notices(database, batch.id, batch.notice, clock)
        self._say_of_gateway = self._notices.about("gateway")
        self._say_of_refusal = self._notices.about("refusal")
        self._say_of_store = self._notices.about("store")
        self._plan: Plan | None = None
        self._journal: PartJournal | None = None
        self._course: BatchCourse | None = None
        self._snapshot: Snapshot | None = None
        self.gateways: Sequence[GatewayEvents] = ()
        self._gateway_of: Mapping[str, str] = {}
        self._stats, self._before = RunStats(), Figures()
        self._stop, self._at_once = asyncio.Event(), asyncio.Event()
        self._ending: Ending | None = None

    @property
    def figures(self) -> Figures:
        """Of the lines that were recorded."""
        return self._before + self._stats.figures

    @property
    def in_flight(self) -> int:
        """How many lines were handed to the gateways."""
        return self._stats.in_flight

    @property
    def at_hand(self) -> int:
        """How many lines could be sent if their gateway took more, as far as it has looked."""
        if self._stats.is_short_of_room:
            return 0
        return self.job.lines if self._journal is None else self._journal.without_result

    def end(self, ending: Ending) -> None:
        """Send nothing more. Cancelling and expiry abort what is under way and win over a stop."""
        if self._ending is not None and self._ending is not Ending.STOPPED:
            return
        self._ending = ending
        self._stop.set()
        if ending is not Ending.STOPPED:
            self._at_once.set()

    def cut_off(self) -> None:
        """The shard may be another's: whatever is being sent does not go a step further."""
        self._stats.cut_off()

    def hear(self, down: Collection[str]) -> None:
        """These gateways are down, and no other."""
        words = [one.last_failure for one in self.gateways if one.gateway in down]
        why = f" ({words[0]})" if any(words) else ""
        self._say_of_gateway(f"The gateway is failing{why}; waiting for it." if words else None)

    def _hear_of_store(self, trouble: str | None) -> None:
        self._say_of_store(trouble)
        if trouble is None:
            # There are new results: it goes on.
            self._say_of_refusal(None)

    async def run(self, whole: Source) -> bool:
        """Whether every line has its result now, which is registered; False after a stop.

        `whole` is the input of the batch, or the shard's part of it at its place. Raises InputError
        when that has changed, FencedError when the shard is another's, JournalError for results of
        another input, StorageError and RecordsError.
        """
        async with self._courses.of(self.batch.id, self) as self._course:
            return await self._run(whole)

    async def _run(self, whole: Source) -> bool:
        self._plan = plan = await self._plan_of(whole)
        clients = {model: self._client_for(model) for model in plan.models}
        self.gateways = events_of(clients.values())
        self._gateway_of = {m: gateway_of(c) for m, c in clients.items() if c is not None}
        self._journal = journal = await PartJournal(
            plan,
            self._storage,
            parts_folder(self.batch.id, self.job.number),
            self.job.epoch,
            _JobRegistry(self._database, self.job, lambda: self._snapshot),
            usage=self._used,
            has_models=self.batch.model is None,
            on_trouble=self._hear_of_store,
            clock=self._clock,
        ).open()
        self._notices.start()
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

    async def _plan_of(self, whole: Source) -> Plan:
        """As it was stored, or made again where that is lost."""
        source = RangeSource(whole, self.job.start, self.job.end)
        name = plan_name(self.batch.id, self.job.number)
        try:
            return await asyncio.to_thread(load_plan, await self._storage.read(name), source)
        except (NotStoredError, PlanError) as error:
            _log.warning("%s: %s; the plan is made again", self.batch.id, error)
        stored = await self._plan_again()
        await self._storage.put(name, stored)
        return await asyncio.to_thread(load_plan, stored, source)

    async def _plan_again(self) -> bytes:
        whole = await open_input(self._storage, self.batch.input_file_id)
        try:
            return await asyncio.to_thread(plan_again, whole, self.job, self.batch.endpoint)
        finally:
            whole.close()

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
            tell=self._answered,
        )
        self._before, self._stats = self._before + summary.figures, RunStats()
        if summary.journal_problem is not None:
            kind = JournalError if summary.disk_problem else InputError
            raise kind(summary.journal_problem)
        if summary.left_to_send and self._ending is None:
            self._say_of_refusal(summary.reason or "the gateway does not take requests")
            await wait_at_most(self._clock, _AGAIN_SECONDS, self._stop)

    def _used(self) -> Usage:
        if self._few_left is not None and self.at_hand < scheduling.ENOUGH_LINES:
            self._few_left()
            self._few_left = None
        # It is asked at the one moment when what was counted is what is about to be written.
        self._snapshot = None if self._course is None else self._course.next_snapshot()
        return self._before.usage + self._stats.figures.usage

    def _answered(self, request: InferenceRequest, answer: Answer, seconds: float) -> None:
        if self._course is not None:
            gateway = self._gateway_of[request.model]
            self._course.answered(gateway, request, answer, seconds, line_of=self._line_of)

    def _line_of(self, request_id: str) -> Line | None:
        parsed, plan = parse_line_id(request_id), self._plan
        if plan is None or parsed is None:
            return None
        index = parsed[1]
        with contextlib.suppress(InputError):
            return Line(plan.line_number(index), plan.request(index)[1].custom_id[:LONGEST_NAME])
        return None


class _JobRegistry:
    """The parts of a shard, in the database, and with them what is seen of the batch."""

    def __init__(
        self, database: Database, job: Job, snapshot: Callable[[], Snapshot | None]
    ) -> None:
        self._database, self._job, self._snapshot = database, job, snapshot

    async def registered(self) -> Mapping[str, Part]:
        return await self._database.read(partial(registered_parts, job=self._job))

    async def register(self, parts: Sequence[Part]) -> None:
        snapshot = self._snapshot()

        def register(connection: Connection) -> None:
            register_parts(connection, self._job, parts)
            if snapshot is not None:
                snapshot(connection)

        await self._database.write(register)

    async def drop(self, parts: Sequence[Part]) -> None:
        await self._database.write(partial(drop_parts, job=self._job, lost=parts))

    async def replace(self, parts: Sequence[Part], whole: Part) -> None:
        await self._database.write(
            partial(replace_parts, job=self._job, replaced=parts, whole=whole)
        )
