"""What a processor does of one job: it looks at an input, runs a shard, or ends a batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from batch_gateway.clock import Clock
from batch_gateway.durations import seconds
from batch_gateway.engine.sending import ClientFor
from batch_gateway.errors import InputError, JournalError
from batch_gateway.service.batch_courses import BatchCourses
from batch_gateway.service.batch_observer import BatchObserver
from batch_gateway.service.batch_records import BatchRecord, RefusedEventError, find_batch
from batch_gateway.service.database import Database
from batch_gateway.service.finalizing import Finalizing
from batch_gateway.service.input_source import open_input
from batch_gateway.service.job_ends import shard_done
from batch_gateway.service.job_records import Job, JobKey, JobKind
from batch_gateway.service.parts import plan_name
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.service.run_options import OpenHeaders, options_of
from batch_gateway.service.scheduling import Candidate
from batch_gateway.service.shard_run import Ending, ShardRun
from batch_gateway.service.statuses import BatchStatus
from batch_gateway.service.validation import Valid, look_at, record_found
from batch_gateway.storage.protocol import Storage

__all__ = ["ENDINGS", "JobWork", "Working"]

ENDINGS: Final[Mapping[BatchStatus, Ending]] = {
    BatchStatus.CANCELLING: Ending.CANCELLED,
    BatchStatus.EXPIRING: Ending.EXPIRED,
    BatchStatus.FAILING: Ending.FAILED,
}
"""How the shards of a batch are to end that is in one of these statuses."""


@dataclass(slots=True)
class Working:
    """A job that this processor has taken."""

    job: Job
    candidate: Candidate
    is_short: bool
    course: tuple[JobKey, bool]
    task: asyncio.Task[None] | None = None
    run: ShardRun | None = None
    ending: Ending | None = None

    @property
    def as_it_is(self) -> Candidate:
        """The candidate that it was, now that some of its lines are sent."""
        if self.run is None or not self.candidate.lines:
            return self.candidate
        return msgspec.structs.replace(self.candidate, lines=self.run.at_hand)

    def end(self, ending: Ending) -> None:
        self.ending = ending
        if self.run is not None:
            self.run.end(ending)

    def drop(self) -> None:
        """It is another's. A request whose turn has come in this very moment is not sent either,
        as it would be if the run heard of it first."""
        if self.task is not None:
            self.task.cancel()
        if self.run is not None:
            self.run.cut_off()


class JobWork:
    """Does jobs, each of which somebody has taken.

    `few_left` is called when a batch may be in want of its next part.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        client_for: ClientFor,
        *,
        config: ProcessorConfig,
        open_headers: OpenHeaders | None,
        courses: BatchCourses,
        observer: BatchObserver,
        few_left: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._database, self._storage, self._client_for = database, storage, client_for
        self._config, self._open_headers = config, open_headers
        self._courses, self._observer, self._clock = courses, observer, clock
        self._few_left = few_left
        kept = int(seconds(config.output_lifetime))
        self._finalizing = Finalizing(database, storage, kept, clock.wall_time)

    async def do(self, working: Working) -> bool:
        """Whether there is nothing more to do for it; False when somebody is to go on with it."""
        job = working.job
        batch = await self._database.read(partial(find_batch, batch_id=job.batch_id))
        if job.kind is JobKind.VALIDATE:
            await self._validate(job, batch)
        elif job.kind is JobKind.RUN:
            return await self._run_shard(working, batch)
        else:
            self._observer.moved(await self._finalizing.finalize(job, batch))
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

    async def _run_shard(self, working: Working, batch: BatchRecord) -> bool:
        job = working.job
        ending = working.ending or ENDINGS.get(BatchStatus(batch.status))
        if ending in ENDINGS.values():
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
            few_left=self._few_left,
            clock=self._clock,
        )
        if ending is not None:
            run.end(ending)
        working.run = run
        try:
            done = await self._run_lines(run, batch)
        except (InputError, JournalError):
            # Requests that are lost cannot be named in results either: those that are there stay.
            if (working.ending or ending) not in ENDINGS.values():
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
