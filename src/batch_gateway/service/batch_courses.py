"""What is seen of batches while they run, kept for their reports: of each a few kilobytes.

It is stored with the parts, so that it is about the lines that have their results, whenever a
process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection, and_, select, text
from sqlalchemy.sql import ColumnElement

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.clock import Clock
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.sending import Answer
from batch_gateway.errors import BatchGatewayError, RecordsUnavailableError
from batch_gateway.report.collected import Collected, LineOf, TellOfTotals
from batch_gateway.report.course import Course, pack_course, unpack_course
from batch_gateway.report.gateway_samples import sample
from batch_gateway.service.database import Database
from batch_gateway.service.tables import courses

__all__ = ["LONGEST_NAME", "BatchCourse", "BatchCourses", "Shard", "Snapshot", "find_course"]

LONGEST_NAME: Final = 200
"""Names that a file makes up may be of any length, and these are kept for as long as batches."""

# Shards of one batch need not store the same each in its turn.
_PAUSE_SECONDS = 0.2

# SQLite and PostgreSQL say it alike, and SQLAlchemy has no word for both.
_STORE: Final = text(
    "INSERT INTO courses (batch_id, owner, course) VALUES (:batch_id, :owner, :course)"
    " ON CONFLICT (batch_id, owner) DO UPDATE SET course = excluded.course"
)

_log = logging.getLogger("batch_gateway.processor")


class Shard(Protocol):
    """A part of a batch that runs."""

    @property
    def figures(self) -> Figures:
        """Of the lines that were recorded."""
        ...

    @property
    def in_flight(self) -> int:
        """How many lines were handed to the gateways."""
        ...

    @property
    def gateways(self) -> Sequence[GatewayEvents]:
        """Those of its models."""
        ...


Snapshot = Callable[[Connection], None]
"""A part of a transaction: stores what was seen when it was made."""


class BatchCourse:
    """What the process called `owner` sees of one batch, beside what it saw of it `before`.

    Attributes:
        collected: of its requests.
        shards: those that run.
    """

    def __init__(
        self, batch_id: str, owner: str, before: Course, clock: Clock, tell: TellOfTotals | None
    ) -> None:
        self.collected = Collected(clock, tell)
        self.shards: list[Shard] = []
        self._place = {"batch_id": batch_id, "owner": owner}
        self._before, self._clock = before, clock
        self._ended = Figures()
        self._sampled = self._shot = float("-inf")

    def answered(
        self,
        gateway: str,
        request: InferenceRequest,
        answer: Answer,
        seconds: float,
        *,
        line_of: LineOf,
    ) -> None:
        """A request of it was answered, or failed, after so many seconds."""
        collected, model = self.collected, request.model[:LONGEST_NAME]
        collected.add(gateway, model, request.request_id, answer, seconds, line_of=line_of)
        if answer.attempts > 1:
            collected.timeline.at(self._clock.monotonic()).retries += answer.attempts - 1

    def ended(self, shard: Shard) -> None:
        """Nothing more will come of it."""
        self.shards.remove(shard)
        self._ended += shard.figures

    def sample(self) -> None:
        """Look at what is in flight, a few times for each stretch that is told apart."""
        now = self._clock.monotonic()
        line = self.collected.timeline
        if now >= self._sampled + line.width / 5:
            self._sampled = now
            gateways = {id(one): one for shard in self.shards for one in shard.gateways}
            own = sum(shard.in_flight for shard in self.shards)
            sample(line.at(now), gateways.values(), own)

    def snapshot(self) -> Snapshot:
        """Stores what is seen now."""
        self._shot = self._clock.monotonic()
        figures = sum((shard.figures for shard in self.shards), self._ended)
        now = Course.of(self.collected, figures, self._clock.wall_time())
        return partial(_store, data=pack_course(self._before + now), **self._place)

    def next_snapshot(self) -> Snapshot | None:
        """One, unless there was one just now."""
        is_due = self._clock.monotonic() >= self._shot + _PAUSE_SECONDS
        return self.snapshot() if is_due else None


class BatchCourses:
    """The courses of the batches that run in this process, which is called `owner`.

    `tell` hears of what their requests come to.
    """

    def __init__(
        self, database: Database, owner: str, clock: Clock, tell: TellOfTotals | None = None
    ) -> None:
        self._database, self._owner, self._clock, self._tell = database, owner, clock, tell
        self._running: dict[str, BatchCourse] = {}
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def of(self, batch_id: str, shard: Shard) -> AsyncGenerator[BatchCourse]:
        """That of the batch, while one of its shards runs; stored when none does any more."""
        async with self._opening:
            course = self._running.get(batch_id)
            if course is None:
                look = partial(_stored, batch_id=batch_id, owner=self._owner)
                before = await self._database.read(look) or Course()
                course = BatchCourse(batch_id, self._owner, before, self._clock, self._tell)
                self._running[batch_id] = course
            course.shards.append(shard)
        try:
            yield course
        finally:
            course.ended(shard)
            await self._save(batch_id, course)
            if not course.shards:
                self._running.pop(batch_id, None)

    def sample(self) -> None:
        """Look at what is in flight for each of them."""
        for course in self._running.values():
            course.sample()

    async def _save(self, batch_id: str, course: BatchCourse) -> None:
        try:
            await self._database.write(course.snapshot())
        except RecordsUnavailableError:
            # Of an outage its own log tells, and no batch that it meets.
            pass
        except BatchGatewayError as error:
            # A report is worth no batch.
            _log.warning("%s: what its report shows could not be stored: %s", batch_id, error)


def find_course(connection: Connection, batch_id: str) -> Course:
    """What all who ran a batch have seen of it; nothing where nobody did."""
    found = select(courses.c.course).where(courses.c.batch_id == batch_id)
    rows = connection.execute(found.order_by(courses.c.owner)).scalars()
    return sum(map(unpack_course, rows), Course())


def _stored(connection: Connection, batch_id: str, owner: str) -> Course | None:
    row = connection.execute(select(courses.c.course).where(_of(batch_id, owner))).scalar()
    return None if row is None else unpack_course(row)


def _store(connection: Connection, batch_id: str, owner: str, data: bytes) -> None:
    connection.execute(_STORE, {"batch_id": batch_id, "owner": owner, "course": data})


def _of(batch_id: str, owner: str) -> ColumnElement[bool]:
    return and_(courses.c.batch_id == batch_id, courses.c.owner == owner)
