"""The processor: takes jobs of batches, works on the most urgent, and ends what is to end.

All that matters is in the database and the store. A processor can die at any moment; the next one
finds the jobs that nobody beats for, and goes on where the registered parts end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from batch_gateway.clock import SYSTEM_CLOCK, Clock, wait_at_most
from batch_gateway.durations import seconds
from batch_gateway.engine.sending import ClientFor
from batch_gateway.errors import (
    BatchGatewayError,
    FencedError,
)
from batch_gateway.service import job_records
from batch_gateway.service.batch_courses import BatchCourses
from batch_gateway.service.batch_observer import BatchObserver
from batch_gateway.service.batch_records import (
    RefusedEventError,
    expired_batches,
    record_event,
    statuses_of,
)
from batch_gateway.service.database import Database
from batch_gateway.service.fence import LOOKS_A_LEASE, Fence, Standing, boot_time
from batch_gateway.service.finalizing import LostResultsError
from batch_gateway.service.job_ends import give_up, run_again, try_again
from batch_gateway.service.job_failures import TOLD_ONCE, JobFailures, problem_of, words_of
from batch_gateway.service.job_records import FreeJob, JobKey
from batch_gateway.service.job_work import ENDINGS, JobWork, Working
from batch_gateway.service.leftover_batches import remove_all_working_objects
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.service.run_options import OpenHeaders
from batch_gateway.service.scheduling import Candidate, choose, wanted
from batch_gateway.service.shard_run import Ending
from batch_gateway.service.statuses import BatchEvent, BatchStatus
from batch_gateway.service.worker_records import free_jobs_and_share, show_life, sign_off
from batch_gateway.storage.protocol import Storage

__all__ = ["Processor"]

_log = logging.getLogger("batch_gateway.processor")

# How soon a batch that is cancelled or over is seen to be.
# Who is alone has a file to ask, and others a server that has more to do.
_WATCH_SECONDS = {True: 0.1, False: 0.5}
_BEATS_A_LEASE = 6
# Requests that were cut off at a stop get so long to be put down.
_STOP_SECONDS = 2.0
# Looking at inputs keeps a core busy, and files a disk. More urgent ones begin beside these.
_SHORT_JOBS = 4


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
        self._database, self._storage, self._clock = database, storage, clock
        self._config = config or ProcessorConfig()
        self._owner, self._alone = owner, alone
        self._observer = observer or BatchObserver()
        self._courses = BatchCourses(database, owner, clock, self._observer.answered)
        self._work_on = JobWork(
            database,
            storage,
            client_for,
            config=self._config,
            open_headers=open_headers,
            courses=self._courses,
            observer=self._observer,
            few_left=self.wake,
            clock=clock,
        )
        self._fence = Fence(seconds(self._config.lease), boot_time())
        self._looking: asyncio.TimerHandle | None = None
        self._working: dict[JobKey, Working] = {}
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
        await self._beat()
        lease = seconds(self._config.lease)
        self._loop = [
            asyncio.create_task(
                self._keep(self._take_jobs, seconds(self._config.poll_interval), self._wake)
            ),
            asyncio.create_task(self._keep(self._watch, _WATCH_SECONDS[self._alone], self._look)),
            asyncio.create_task(self._keep(self._beat, lease / _BEATS_A_LEASE)),
            asyncio.create_task(self._database.listen(self.wake)),
        ]
        if not self._alone:
            self._look_at_fence()

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
        if self._looking is not None:
            self._looking.cancel()
        with contextlib.suppress(BatchGatewayError, TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._database.write(partial(sign_off, owner=self._owner))

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
                if str(error) != told and not isinstance(error, TOLD_ONCE):
                    _log.warning("%s", error)
                told = str(error)
            await wait_at_most(self._clock, every, wake)

    async def _take_jobs(self) -> None:
        """Begin what is more urgent than what runs, as far as there is room."""
        lease = seconds(self._config.lease)
        look = partial(free_jobs_and_share, owner=self._owner, lease=lease)
        free, share = await self._database.read(look)
        now = self._clock.monotonic()
        ready = {
            one.job.key: (one, _candidate(one))
            for one in free
            if one.job.key not in self._working and self._failures.may_begin(_course(one), now)
        }
        most = self._config.workers if self._alone else min(self._config.workers, share)
        for places, is_short in ((most, False), (_SHORT_JOBS, True)):
            running = [o.as_it_is for o in self._working.values() if o.is_short is is_short]
            waiting = [candidate for one, candidate in ready.values() if one.is_short is is_short]
            useful = wanted(running, waiting)
            choice = choose(running, useful, places, self._clock.wall_time())
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
        working = Working(taken, candidate, free.is_short, _course(free))
        self._working[job.key] = working
        working.task = asyncio.create_task(self._work(working))

    async def _watch(self) -> None:
        """See which batches are over or cancelled, and how the others go on."""
        self._courses.sample()
        now = self._clock.wall_time()
        working = list(self._working.values())
        ids = {one.job.batch_id for one in working}
        # Of many processes one may have a wrong clock.
        over = partial(expired_batches, now=now if self._alone else None)
        expired, statuses = await self._database.read(lambda c: (over(c), statuses_of(c, ids)))
        for batch_id in expired:
            with contextlib.suppress(RefusedEventError):
                expire = partial(record_event, event=BatchEvent.EXPIRE, batch_id=batch_id, now=now)
                moved = await self._database.write(expire)
                self._observer.moved(moved)
                statuses = {**statuses, batch_id: BatchStatus(moved.status)}
                self._wake.set()
        for one in working:
            ending = ENDINGS.get(statuses.get(one.job.batch_id, BatchStatus.CANCELLED))
            if ending is not None:
                one.end(ending)

    async def _beat(self) -> None:
        mine, sent = [one.job for one in self._working.values()], boot_time()
        if self._alone and not mine:
            return
        lost = await self._database.write(partial(show_life, owner=self._owner, mine=mine))
        self._fence.confirmed(sent)
        self._drop(lost)

    def _look_at_fence(self) -> None:
        """Called by the loop itself: after a standstill it comes before any task goes on."""
        every = seconds(self._config.lease) / LOOKS_A_LEASE
        self._looking = asyncio.get_running_loop().call_later(every, self._look_at_fence)
        standing = self._fence.look(boot_time())
        if standing is Standing.SLEPT:
            _log.warning("this process stood still: its work may be another's, and is dropped")
            self._drop(self._working)
        elif standing is Standing.DOUBTFUL:
            for one in self._working.values():
                if one.run is not None:
                    one.end(one.ending or Ending.STOPPED)

    def _drop(self, keys: Collection[JobKey]) -> None:
        for key in keys:
            if (working := self._working.get(key)) is not None:
                working.drop()

    # -- one job ---------------------------------------------------------------------------

    async def _work(self, working: Working) -> None:
        """Do a job. One that cannot be done now is put down and tried again a bit later."""
        job = working.job
        try:
            done = await self._work_on.do(working)
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

    async def _fail(self, working: Working, error: Exception) -> None:
        """Try again later, or end the batch of a job that has failed so often."""
        job, problem = working.job, problem_of(error)
        if isinstance(error, BatchGatewayError | OSError):
            if not isinstance(error, TOLD_ONCE):
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


def _candidate(free: FreeJob) -> Candidate:
    lines = 0 if free.is_short or free.has_models else free.job.lines
    return Candidate(free.job.key, free.tenant, free.due, lines)


def _course(free: FreeJob) -> tuple[JobKey, bool]:
    """What failures are counted of: a batch that is to end does so at once, whatever was before."""
    return free.job.key, free.due == 0
