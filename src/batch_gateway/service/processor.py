"""The processor: takes jobs of batches, works on the most urgent, and ends what is to end.

All that matters is in the database and the store. A processor can die at any moment; the next one
finds the jobs that nobody beats for, and goes on where the registered parts end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from batch_gateway.clock import SYSTEM_CLOCK, Clock, wait_at_most
from batch_gateway.durations import seconds
from batch_gateway.engine.sending import ClientFor
from batch_gateway.errors import (
    BatchGatewayError,
    FencedError,
    InputError,
    JournalError,
)
from batch_gateway.service import job_records
from batch_gateway.service.batch_courses import BatchCourses
from batch_gateway.service.batch_observer import BatchObserver
from batch_gateway.service.batch_records import (
    BatchRecord,
    RefusedEventError,
    expired_batches,
    find_batch,
    record_event,
    statuses_of,
)
from batch_gateway.service.database import Database
from batch_gateway.service.finalizing import Finalizing, LostResultsError
from batch_gateway.service.input_source import open_input
from batch_gateway.service.job_ends import give_up, run_again, shard_done, try_again
from batch_gateway.service.job_failures import JobFailures, problem_of, words_of
from batch_gateway.service.job_records import FreeJob, Job, JobKey, JobKind
from batch_gateway.service.leftover_batches import remove_all_working_objects
from batch_gateway.service.parts import plan_name
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.service.run_options import OpenHeaders, options_of
from batch_gateway.service.scheduling import Candidate, choose
from batch_gateway.service.shard_run import Ending, ShardRun
from batch_gateway.service.statuses import BatchEvent, BatchStatus
from batch_gateway.service.validation import Valid, look_at, record_found
from batch_gateway.storage.protocol import Storage

__all__ = ["Processor"]

_log = logging.getLogger("batch_gateway.processor")

# How soon a batch that is cancelled or over is seen to be.
_WATCH_SECONDS = 0.1
_BEATS_A_LEASE = 6
# Requests that were cut off at a stop get so long to be put down.
_STOP_SECONDS = 2.0
# Looking at inputs keeps a core busy, and files a disk. More urgent ones begin beside these.
_SHORT_JOBS = 4
_ENDINGS = {
    BatchStatus.CANCELLING: Ending.CANCELLED,
    BatchStatus.EXPIRING: Ending.EXPIRED,
    BatchStatus.FAILING: Ending.FAILED,
}


@dataclass(slots=True)
class _Working:
    """A job that this processor has taken."""

    job: Job
    candidate: Candidate
    is_short: bool
    course: tuple[JobKey, bool]
    task: asyncio.Task[None] | None = None
    run: ShardRun | None = None
    ending: Ending | None = None

    def end(self, ending: Ending) -> None:
        self.ending = ending
        if self.run is not None:
            self.run.end(ending)


class Processor:
    """Works on jobs until it is stopped: `async with` starts and stops it.

    `client_for` gives the client of a model's gateway; `open_headers` decrypts the headers that
    batches pass on. `alone` says that no other processor uses this database, so that whatever has
    an owner was one's that died.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        client_for: ClientFor,
        *,
        config: ProcessorConfig | None = None,
        open_headers: OpenHeaders | None = None,
        owner: str = "processor",
        alone: bool = False,
        observer: BatchObserver | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._database, self._storage, self._client_for = database, storage, client_for
        self._config = config or ProcessorConfig()
        self._open_headers, self._clock = open_headers, clock
        self._owner, self._alone = owner, alone
        self._observer = observer or BatchObserver()
        self._finalizing = Finalizing(database, storage, int(seconds(self._config.output_lifetime)))
        self._courses = BatchCourses(database, owner, clock)
        self._working: dict[JobKey, _Working] = {}
        self._down: set[str] = set()
        self._failures = JobFailures()
        self._wake, self._look = asyncio.Event(), asyncio.Event()
        self._loop: list[asyncio.Task[None]] = []
        self._stop_by = math.inf

    # -- from outside ----------------------------------------------------------------------

    def wake(self) -> None:
        """There is a new batch."""
        self._wake.set()

    def look(self) -> None:
        """A batch is to end."""
        self._look.set()
        self._wake.set()

    def gateway_is_down(self, gateway: str, lasted: float | None) -> None:
        """A gateway has been down for a while, or with the seconds of that is back."""
        if lasted is None:
            self._down.add(gateway)
        else:
            self._down.discard(gateway)
        for one in self._working.values():
            if one.run is not None:
                one.run.hear(self._down)

    @property
    def shards(self) -> int:
        """How many parts of batches it runs just now."""
        return sum(one.run is not None for one in self._working.values())

    async def start(self) -> None:
        """Begin. Raises RecordsError."""
        if self._alone:
            await self._database.write(job_records.put_back_all)
        lease = seconds(self._config.lease)
        self._loop = [
            asyncio.create_task(
                self._keep(self._take_jobs, seconds(self._config.poll_interval), self._wake)
            ),
            asyncio.create_task(self._keep(self._watch, _WATCH_SECONDS, self._look)),
            asyncio.create_task(self._keep(self._beat, lease / _BEATS_A_LEASE)),
        ]

    def begin_to_stop(self) -> None:
        """Take nothing more, and send nothing more. The time for what is under way begins."""
        if self._stop_by == math.inf:
            patience = seconds(self._config.shutdown_timeout) + _STOP_SECONDS
            self._stop_by = self._clock.monotonic() + patience
        for taking in self._loop[:1]:
            taking.cancel()
        for one in list(self._working.values()):
            one.end(Ending.STOPPED)

    async def stop(self) -> None:
        """Let what is under way end within the time for it, and put all down."""
        self.begin_to_stop()
        tasks = [one.task for one in self._working.values() if one.task is not None]
        if tasks:
            left = max(0.0, self._stop_by - self._clock.monotonic())
            await asyncio.wait(tasks, timeout=left)
        for task in (*tasks, *self._loop):
            task.cancel()
        await asyncio.gather(*tasks, *self._loop, return_exceptions=True)

    async def __aenter__(self) -> Processor:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    # -- what is done again and again ------------------------------------------------------

    async def _keep(
        self, action: Callable[[], Awaitable[None]], every: float, wake: asyncio.Event | None = None
    ) -> None:
        """Do `action` every so many seconds, and when `wake` is set; a failure is told once."""
        told, wake = "", wake or asyncio.Event()
        while True:
            wake.clear()
            try:
                await action()
                told = ""
            except BatchGatewayError as error:
                if str(error) != told:
                    _log.warning("%s", error)
                told = str(error)
            await wait_at_most(self._clock, every, wake)

    async def _take_jobs(self) -> None:
        """Begin what is more urgent than what runs, as far as there is room."""
        lease = seconds(self._config.lease)
        free = await self._database.read(lambda c: job_records.free_jobs(c, lease))
        now = self._clock.monotonic()
        ready = {
            one.job.key: (one, Candidate(one.job.key, one.tenant, one.due))
            for one in free
            if one.job.key not in self._working and self._failures.may_begin(_course(one), now)
        }
        for places, is_short in ((self._config.workers, False), (_SHORT_JOBS, True)):
            running = [o.candidate for o in self._working.values() if o.is_short is is_short]
            waiting = [candidate for one, candidate in ready.values() if one.is_short is is_short]
            choice = choose(running, waiting, places, self._clock.wall_time())
            for one in () if is_short else choice.put_down:
                self._working[one.key].end(Ending.STOPPED)
            room = len(choice.begin) if is_short else max(0, places - len(running))
            for one in choice.begin[:room]:
                await self._begin(ready[one.key][0], one)

    async def _begin(self, free: FreeJob, candidate: Candidate) -> None:
        job = free.job
        taken = await self._database.write(partial(job_records.take, job=job, owner=self._owner))
        if taken is None:
            return
        working = _Working(taken, candidate, free.is_short, _course(free))
        self._working[job.key] = working
        working.task = asyncio.create_task(self._work(working))

    async def _watch(self) -> None:
        """See which batches are over or cancelled, and how the others go on."""
        self._courses.sample()
        now = self._clock.wall_time()
        for batch_id in await self._database.read(partial(expired_batches, now=now)):
            with contextlib.suppress(RefusedEventError):
                expire = partial(record_event, event=BatchEvent.EXPIRE, batch_id=batch_id, now=now)
                self._observer.moved(await self._database.write(expire))
                self._wake.set()
        ids = {one.job.batch_id for one in self._working.values()}
        if not ids:
            return
        statuses = await self._database.read(partial(statuses_of, ids=ids))
        for one in list(self._working.values()):
            ending = _ENDINGS.get(statuses.get(one.job.batch_id, BatchStatus.CANCELLED))
            if ending is not None:
                one.end(ending)

    async def _beat(self) -> None:
        mine = [one.job for one in self._working.values()]
        lost = await self._database.write(partial(job_records.beat, mine=mine)) if mine else ()
        for key in lost:
            working = self._working.get(key)
            if working is not None and working.task is not None:
                working.task.cancel()

    # -- one job ---------------------------------------------------------------------------

    async def _work(self, working: _Working) -> None:
        """Do a job. One that cannot be done now is put down and tried again a bit later."""
        job = working.job
        try:
            done = await self._do(working)
            self._failures.forget(working.course)
            if not done:
                await self._database.write(partial(job_records.put_down, job=job))
        except FencedError as error:
            # Its batch is over, or another has it.
            _log.info("%s", error)
            await self._remove_if_over(job.batch_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this job's alone
            await self._fail(working, error)
        finally:
            del self._working[job.key]
            self._wake.set()

    async def _fail(self, working: _Working, error: Exception) -> None:
        """Try again later, or end the batch of a job that has failed so often."""
        job, problem = working.job, problem_of(error)
        if isinstance(error, BatchGatewayError | OSError):
            _log.warning("%s: %s", job.batch_id, error)
        else:
            _log.error("the %s job of %s failed", *job.key[1::-1], exc_info=error)
        now = self._clock.monotonic()
        is_hopeless = self._failures.note(working.course, now, may_pass=problem is None)
        if is_hopeless and problem is not None:
            _log.error("%s: given up: %s", job.batch_id, problem.message)
            action = partial(give_up, problem=problem)
        elif isinstance(error, LostResultsError):
            action = partial(run_again, shards=error.shards)
        else:
            action = partial(try_again, words=words_of(error))
        with contextlib.suppress(BatchGatewayError):
            action = partial(action, job=job, now=self._clock.wall_time())
            moved = await self._database.write(action)
            if moved is not None:
                self._observer.moved(moved)
                await self._remove_if_over(job.batch_id)
            if is_hopeless:
                self._failures.forget(working.course)

    async def _remove_if_over(self, batch_id: str) -> None:
        """Remove what was written for a batch that others ended; what stays is removed later."""
        with contextlib.suppress(BatchGatewayError):
            await remove_all_working_objects(self._database, self._storage, only=batch_id)

    async def _do(self, working: _Working) -> bool:
        job = working.job
        batch = await self._database.read(partial(find_batch, batch_id=job.batch_id))
        if job.kind is JobKind.VALIDATE:
            await self._validate(job, batch)
        elif job.kind is JobKind.RUN:
            return await self._run_shard(working, batch)
        else:
            now = self._clock.wall_time()
            self._observer.moved(await self._finalizing.finalize(job, batch, now))
        return True

    async def _validate(self, job: Job, batch: BatchRecord) -> None:
        began = self._clock.monotonic()
        if job.epoch == 1:
            self._observer.taken(self._clock.wall_time() - batch.created_at)
        source = await open_input(self._storage, batch.input_file_id)
        try:
            found = await asyncio.to_thread(look_at, source, batch.id, batch.endpoint)
        finally:
            source.close()
        if isinstance(found, Valid):
            for shard, plan in zip(found.shards, found.plans, strict=True):
                await self._storage.put(plan_name(batch.id, shard.number), plan)
        self._observer.looked_at(self._clock.monotonic() - began)
        now = self._clock.wall_time()
        # It may have been cancelled, or be over, meanwhile.
        with contextlib.suppress(RefusedEventError):
            looked_at = partial(record_found, job=job, found=found, now=now)
            self._observer.moved(await self._database.write(looked_at))

    async def _run_shard(self, working: _Working, batch: BatchRecord) -> bool:
        job = working.job
        ending = working.ending or _ENDINGS.get(BatchStatus(batch.status))
        if ending in _ENDINGS.values():
            # Nothing is sent, so that nobody needs to be able to read them.
            batch = msgspec.structs.replace(batch, headers=None)
        run = ShardRun(
            job,
            batch,
            database=self._database,
            storage=self._storage,
            client_for=self._client_for,
            options=options_of(batch, self._config, self._open_headers),
            courses=self._courses,
            tell=self._observer.answered,
            clock=self._clock,
        )
        if ending is not None:
            run.end(ending)
        working.run = run
        try:
            done = await self._run_lines(run, batch)
        except (InputError, JournalError):
            # Requests that are lost cannot be named in results either: those that are there stay.
            if (working.ending or ending) not in _ENDINGS.values():
                raise
            done = True
        if done:
            await self._database.write(partial(shard_done, job=job, now=self._clock.wall_time()))
        return done

    async def _run_lines(self, run: ShardRun, batch: BatchRecord) -> bool:
        job = run.job
        whole = await open_input(self._storage, batch.input_file_id, job.start, job.end)
        try:
            return await run.run(whole)
        finally:
            whole.close()


def _course(free: FreeJob) -> tuple[JobKey, bool]:
    """What failures are counted of: a batch that is to end does so at once, whatever was before."""
    return free.job.key, free.due == 0
