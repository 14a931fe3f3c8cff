"""One run of a batch from start to end: execution, stopping, and what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.config_checks import require_choice
from batch_gateway.durations import Duration, parse_duration
from batch_gateway.engine.byte_budget import DEFAULT_BUDGET
from batch_gateway.engine.execute import Executor
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.engine.gate import TRIAL_SECONDS
from batch_gateway.engine.journal import Journal
from batch_gateway.engine.lane import Lane
from batch_gateway.engine.plan import Order, Plan
from batch_gateway.engine.progress import RunStats, RunSummary
from batch_gateway.engine.sending import (
    ClientFor,
    HeadersFor,
    ReportCrash,
    TellOfAnswer,
    log_crash,
)
from batch_gateway.errors import ConfigError, InputError, JournalError

__all__ = ["RunOptions", "cut_off", "gateway_problem", "run_plan", "tend"]

_CANCEL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a batch is run.

    Attributes:
        concurrency: lines under way for each distinct client. None has as many as a client
            that limits itself has use for (`requests_wanted`).
        order: "prefix" groups lines by model and prompt beginning, "file" does not.
        side_by_side: lines of all models of a client go out at the same time, with even shares of
            its places, instead of model by model.
        ordered: put the results into input order at the end.
        max_bytes_in_flight: how many bytes of requests and answers may be in memory at a time;
            distinct clients share them evenly. A line that is larger goes alone.
        deadline: after this long the run stops; lines without a result stay to be sent.
        due: by when results are wanted: an aware datetime, or so long after the start. Among
            those who wait at a client the more urgent go first; passing it ends nothing.
        tenant: on whose behalf the lines are sent; see `InferenceRequest.tenant`.
        headers_for: what each client is to send with every line, over its own headers.
        grace: how long requests under way may go on after a stop.
        max_failures: when more lines failed in this run, it stops. With all of them allowed,
            failures that may be their lines' own are not held back for what else they may say.
        trial: how long only a few requests are sent to a gateway that has not answered yet.
    """

    concurrency: int | None = 64
    order: Order = "prefix"
    side_by_side: bool = False
    ordered: bool = False
    max_bytes_in_flight: int = DEFAULT_BUDGET
    deadline: Duration | None = None
    due: datetime | Duration | None = None
    tenant: str = ""
    headers_for: HeadersFor | None = None
    grace: Duration = 10.0
    max_failures: FailureLimit | None = None
    trial: Duration = TRIAL_SECONDS

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_bytes_in_flight"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(name, f"{value!r} is not at least 1")
        require_choice("order", self.order, Order)
        for name in ("deadline", "due", "grace", "trial"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, datetime):
                object.__setattr__(self, name, parse_duration(value, name))
        if isinstance(self.due, datetime) and self.due.tzinfo is None:
            raise ConfigError("due", "needs a time zone: use datetime.now(timezone.utc)")


async def run_plan(
    plan: Plan,
    journal: Journal,
    client_for: ClientFor,
    *,
    options: RunOptions | None = None,
    stats: RunStats | None = None,
    stop: asyncio.Event | None = None,
    at_once: asyncio.Event | None = None,
    clock: Clock = SYSTEM_CLOCK,
    report_crash: ReportCrash = log_crash,
    tell: TellOfAnswer | None = None,
) -> RunSummary:
    """Send every line that the journal does not call done, and record each result.

    Ends when all is done, when every gateway was given up, at the deadline, when results cannot
    be written, or soon after `stop` is set: requests under way may then end within `grace`, unless
    `at_once` is set too.
    Lines that were cut off have no result and are sent by the next run. The journal is finished
    (see `Journal.finish`), not closed. Nothing a gateway, a disk or the input does is raised: it
    is in the summary, except for errors of `client_for`. A client that raises what it should not
    fails that line, with the code `internal_error` and what `report_crash` says of it. `tell` is
    told of each answer, before it is recorded.
    """
    run = _Run(
        plan,
        journal,
        client_for,
        options=options or RunOptions(),
        stats=stats or RunStats(),
        clock=clock,
        report_crash=report_crash,
        tell=tell,
    )
    return await run.run(stop or asyncio.Event(), at_once or asyncio.Event())


class _Run:
    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        client_for: ClientFor,
        *,
        options: RunOptions,
        stats: RunStats,
        clock: Clock,
        report_crash: ReportCrash,
        tell: TellOfAnswer | None,
    ) -> None:
        self.plan, self.journal, self.options = plan, journal, options
        self.stats, self.clock = stats, clock
        self.problem: str | None = None
        self.disk_problem = False
        self.deadline_passed = False
        self.interrupted = False
        now = clock.monotonic()
        seconds = options.deadline
        self.deadline = float("inf") if seconds is None else now + parse_duration(seconds)
        due = options.due
        if isinstance(due, datetime):
            due = max(0.0, due.timestamp() - clock.wall_time())
        stats.total = plan.total
        stats.done_before = plan.total - journal.without_result - journal.still_to_retry
        stats.started = now
        stats.time_left.look(0, now)
        stats.size = None if stats.done_before else plan.size_bytes
        self.executor = Executor(
            plan=plan,
            journal=journal,
            client_for=client_for,
            stats=stats,
            clock=clock,
            concurrency=options.concurrency,
            order=options.order,
            side_by_side=options.side_by_side,
            deadline=self.deadline,
            due=float("inf") if due is None else now + parse_duration(due),
            tenant=options.tenant,
            headers_for=options.headers_for,
            max_bytes=options.max_bytes_in_flight,
            records_all=options.max_failures is not None and options.max_failures.is_everything,
            report_crash=report_crash,
            tell=tell,
        )
        if options.max_failures is not None:
            to_send = journal.still_to_retry or journal.without_result
            stats.most_failures = options.max_failures.of(to_send)

    async def run(self, stop: asyncio.Event, at_once: asyncio.Event) -> RunSummary:
        lanes, orphans = self.executor.lanes()
        self.stats.cut_off = partial(cancel_all, lanes)
        refusing = asyncio.create_task(self.executor.refuse(orphans))
        # Done with the first error too: what the others do then is cut off.
        work = asyncio.gather(refusing, *(lane.wait() for lane in lanes))
        try:
            with ExitStack() as following:
                for lane in lanes:
                    if not stop.is_set():
                        lane.start(self.executor.work)
                    if self.options.concurrency is None:
                        following.callback(lane.follow())
                await self._watch(lanes, work, stop, at_once)
        finally:
            self.stats.stopping = True
            await cut_off(lanes, refusing)
            error = await _error_of(work)
        await self._conclude(error)
        return self._summary(lanes)

    async def _watch(
        self,
        lanes: Sequence[Lane],
        work: asyncio.Future[Any],
        stop: asyncio.Event,
        at_once: asyncio.Event,
    ) -> None:
        """Return when the work is done or nobody wants it any more."""
        async with _Companions() as companions:
            asked = companions.start(stop.wait())
            expiry = companions.start(self._wait_for_deadline())
            broken = companions.start(self.journal.broken.wait())
            failed = companions.start(self.stats.too_many_failed.wait())
            for lane in lanes:
                companions.start(tend(lane, self.options, self.clock))
            ends = {work, asked, expiry, broken, failed}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or broken.done():
                return
            self.stats.stopping = True
            for lane in lanes:
                lane.close()
            self.deadline_passed = expiry.done()
            self.interrupted = asked.done() and not self.deadline_passed
            if not self.deadline_passed:
                grace = companions.start(self.clock.sleep(parse_duration(self.options.grace)))
                cut = companions.start(at_once.wait())
                await asyncio.wait(
                    {work, expiry, broken, grace, cut}, return_when=asyncio.FIRST_COMPLETED
                )

    async def _wait_for_deadline(self) -> None:
        if self.deadline == float("inf"):
            await asyncio.Event().wait()
        await self.clock.sleep(max(0.0, self.deadline - self.clock.monotonic()))

    async def _conclude(self, error: BaseException | None) -> None:
        """Finish the journal, and note what went wrong with it or with the input."""
        if isinstance(error, InputError | JournalError):
            self.problem = str(error)
            self.disk_problem = isinstance(error, JournalError)
            error = None
        try:
            await self.journal.finish(ordered=self.options.ordered)
        except JournalError as failure:
            self.problem = self.problem or str(failure)
            self.disk_problem = True
        if error is not None:
            raise error

    def _summary(self, lanes: Sequence[Lane]) -> RunSummary:
        journal, stats = self.journal, self.stats
        left = journal.without_result
        unfinished = left > 0 or journal.still_to_retry > 0
        stats.figures.lines_held = sum(room.waited for room in stats.rooms)
        stats.figures.held_seconds = max((room.short_seconds for room in stats.rooms), default=0.0)
        return RunSummary(
            figures=stats.figures,
            total=self.plan.total,
            succeeded=journal.succeeded,
            failed=journal.failed,
            left_to_send=left,
            still_to_retry=journal.still_to_retry,
            done_before=stats.done_before,
            seconds=self.clock.monotonic() - stats.started,
            gateway_problem=gateway_problem(lanes),
            gateway_answers=any(lane.gate.is_understood for lane in lanes),
            maybe_the_lines=any(lane.gate.maybe_the_lines for lane in lanes),
            unknown_models=tuple(name for lane in lanes for name in lane.gate.unknown_models()),
            too_many_failed=stats.too_many_failed.is_set() and unfinished,
            deadline_words=self.executor.deadline_words,
            journal_problem=self.problem,
            disk_problem=self.disk_problem,
            interrupted=self.interrupted and unfinished,
            deadline_passed=(self.deadline_passed or self.executor.deadline_passed) and unfinished,
        )


class _Companions:
    """Tasks that end with the block."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.append(task)
        return task

    async def __aenter__(self) -> _Companions:
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def tend(lane: Lane, options: RunOptions, clock: Clock) -> None:
    """End the trial of a lane and, once it was given up, its grace; until cancelled."""
    async with _Companions() as companions:
        companions.start(_widen_later(lane, options, clock))
        # Answers that were asked for before a gateway began to refuse may still come.
        await lane.given_up.wait()
        await clock.sleep(parse_duration(options.grace))
        lane.cancel()


async def _widen_later(lane: Lane, options: RunOptions, clock: Clock) -> None:
    await clock.sleep(parse_duration(options.trial))
    lane.widen()


def cancel_all(lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        lane.cancel()


async def cut_off(lanes: Sequence[Lane], *others: asyncio.Task[None]) -> None:
    """Cancel what is under way; a client that ignores it does not hold up the end for long."""
    for other in others:
        other.cancel()
    cancel_all(lanes)
    ends = [asyncio.ensure_future(lane.idle.wait()) for lane in lanes]
    if others or ends:
        await asyncio.wait({*others, *ends}, timeout=_CANCEL_SECONDS)
    for end in ends:
        end.cancel()


async def _error_of(work: asyncio.Future[Any]) -> BaseException | None:
    """What the work raised, being cut off aside."""
    work.cancel()
    result = (await asyncio.gather(work, return_exceptions=True))[0]
    return None if isinstance(result, asyncio.CancelledError | list) else result


def gateway_problem(lanes: Sequence[Lane]) -> str | None:
    """The words of every gateway or model that was given up; of which, when there are several."""
    models = sum(len(lane.models) for lane in lanes)
    found: dict[str, tuple[str, ...]] = {}
    for lane in lanes:
        for names, problem in lane.problems.items():
            found[problem] = (*found.get(problem, ()), *names)
    if not found:
        return None
    return "; ".join(
        problem if len(names) == models else f"{_names(names)}: {problem}"
        for problem, names in found.items()
    )


def _names(models: Sequence[str]) -> str:
    shown = ", ".join(models[:3])
    return f"{shown} and {len(models) - 3} more" if len(models) > 3 else shown
