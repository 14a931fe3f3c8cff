"""A batch file through gateways into result files: what `batch-gateway run` does, as an object."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.instrumentation import Observer
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.config_checks import PathLike
from batch_gateway.durations import Duration
from batch_gateway.engine.byte_budget import DEFAULT_BUDGET
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import Order, Plan, make_plan
from batch_gateway.engine.progress import RunStats, RunSummary
from batch_gateway.engine.result_names import default_errors, default_output
from batch_gateway.engine.reuse_results import reuse_results
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.sending import ReportCrash, log_crash
from batch_gateway.engine.source import Source
from batch_gateway.engine.waits import Waits
from batch_gateway.errors import BatchGatewayError, ConfigError
from batch_gateway.inputs.read_requests import Requests
from batch_gateway.report.distributions import DistributionCollector
from batch_gateway.report.threshold import Threshold, which_hold
from batch_gateway.runs.gateways import Clients, Concurrency, GatewayLike, Routing, gateways_of
from batch_gateway.runs.outages import OutageNotes
from batch_gateway.runs.preflight import Hint, no_hint, preflight
from batch_gateway.runs.run_progress import RunProgress, ShowProgress, tell_progress
from batch_gateway.runs.stopping import Stop
from batch_gateway.runs.unknown_models import models_there_are

__all__ = ["BatchRun", "OpenRun", "StoppedEarly"]

_log = logging.getLogger("batch_gateway.run")


class StoppedEarly(BatchGatewayError):  # noqa: N818 - nothing went wrong
    """A run was asked to stop before it sent anything."""

    def __init__(self, summary: RunSummary) -> None:
        super().__init__("stopped before anything was sent")
        self.summary = summary


class BatchRun:
    """A batch file, where its lines go, and where the results do.

    Finished lines are in the output and error files and are never sent again: `start` goes on
    where an earlier run of the same input ended, whoever ran it and however it ended.

    Args:
        input: the path of a batch file (JSON lines), requests of `read_requests`, a source, or a
            plan, which stays open.
        gateway: a URL, an `HTTPInferenceClientConfig`, a client, which stays open, or "simulator"
            for one in this process. A configuration is used as it is, save that one without a
            circuit breaker waits for a gateway that is down, and one without `concurrency` has
            that of this run.
        output: where results go; `<stem>.results.jsonl` in the current folder unless given.
        errors: where failed lines go; `<output stem>.errors.jsonl` beside the output unless given.
        model_gateways: URLs or configurations for single models.
        isolate_models: each model has a pace, a breaker and limits of its own.
        api_key, max_retries, timeout: of gateways that are given as URLs; 3 retries, and 5 minutes
            for an attempt.
        concurrency: requests in flight to each gateway; "auto" finds that by measuring.
        patience: how long to wait for a gateway that went down; 30 minutes unless given.
        deadline: of the whole run; the rest is left to be sent.
        max_failures: stop when more lines failed: a number, or a share such as "5%".
        max_bytes_in_flight: of requests and answers in memory at a time.
        order: "prefix" sends by model and shared prompt beginning, "file" as in the file.
        ordered: put the results into the order of the input at the end.
        fresh: discard earlier results and start again.
        retry_failed: send the lines of the error file again, and only those.
        reuse: earlier results, whose answers to lines of the same custom_id and content are taken.
        observers: are told what happens at each gateway.
        fail_if: conditions such as "p95>30s" or "failed>1%", as of `run --fail-if`; those that hold
            when everything was sent are in `RunSummary.failed_if`.

    Raises ConfigError for settings that cannot be.
    """

    def __init__(
        self,
        input: PathLike | Requests | Source | Plan,
        *,
        gateway: GatewayLike | Routing | None = None,
        output: PathLike | None = None,
        errors: PathLike | None = None,
        model_gateways: Mapping[str, str | HTTPInferenceClientConfig] | None = None,
        isolate_models: bool = False,
        api_key: str | None = None,
        max_retries: int | None = None,
        timeout: Duration | None = None,
        concurrency: Concurrency = "auto",
        patience: Duration | None = None,
        deadline: Duration | None = None,
        max_failures: int | str | FailureLimit | None = None,
        max_bytes_in_flight: int = DEFAULT_BUDGET,
        order: Order = "prefix",
        ordered: bool = False,
        fresh: bool = False,
        retry_failed: bool = False,
        reuse: Sequence[PathLike] = (),
        observers: Sequence[Observer] = (),
        fail_if: Sequence[str] = (),
    ) -> None:
        if fresh and retry_failed:
            raise ConfigError("fresh", "discards the failed lines that retry_failed would send")
        self._input = input
        self._gateways = gateways_of(
            gateway,
            model_gateways,
            api_key=api_key,
            concurrency=concurrency,
            max_retries=max_retries,
            timeout=timeout,
            patience=patience,
            isolate_models=isolate_models,
            has_deadline=deadline is not None,
        )
        self._options = RunOptions(
            concurrency=None if concurrency == "auto" else concurrency,
            order=order,
            ordered=ordered,
            deadline=deadline,
            max_bytes_in_flight=max_bytes_in_flight,
            max_failures=_failure_limit(max_failures),
        )
        self._fresh, self._retry_failed = fresh, retry_failed
        self._reuse = tuple(reuse)
        self._observers = tuple(observers)
        self._fail_if = [Threshold.parse(one) for one in fail_if]
        name = os.fspath(input) if isinstance(input, str | os.PathLike) else input.name
        self.output = default_output(name) if output is None else Path(output)
        self.errors = default_errors(self.output) if errors is None else Path(errors)
        self.stats = RunStats()
        self._stop = Stop()

    def stop(self) -> None:
        """As Ctrl-C: nothing more is sent, and what is under way has 10 s to end.

        A second call cuts that off. Lines without a result are sent by the next run. May be called
        from any thread, and before `start`, which then sends nothing.
        """
        self._stop.ask()

    @property
    def figures(self) -> Figures:
        """What the lines of this run came to so far, or of the last one: at any time."""
        return Figures() + self.stats.figures

    @property
    def progress(self) -> RunProgress:
        """How far it is, at any time."""
        return RunProgress.of(self.stats, SYSTEM_CLOCK.monotonic())

    async def start(self, progress: ShowProgress | None = None) -> RunSummary:
        """Send every line that has no result yet, and record what comes.

        `progress` is called with a `RunProgress` when the first line is about to be sent, every ten
        seconds, and at the end: `print` will do. What it raises ends the run, and is raised.

        Returns how it ended, be it by a stop, the deadline or a gateway that was given up. Raises
        InputError for a file that is no batch, JournalError for an output that is in use or is
        none of this input, and GatewayUnusableError when a gateway cannot be reached.
        """
        answers = DistributionCollector()
        observers = [*self._observers, answers] if self._fail_if else self._observers
        try:
            async with self.opened(observers) as opened:
                sending = opened.send() if progress is None else self._shown(opened, progress)
                summary = await sending
        except StoppedEarly as stopped:
            return stopped.summary
        failed_if = which_hold(self._fail_if, summary, answers.distributions)
        return msgspec.structs.replace(summary, failed_if=failed_if)

    def start_blocking(self, progress: bool | ShowProgress = True) -> RunSummary:
        """`start` for code without an event loop, and for notebooks: it runs on another thread.

        `progress` is a bar; False shows nothing, and a function is called as `start` does. An
        interrupt (Ctrl-C, the notebook's stop button) is `stop`, and what ended till then is
        returned; a second one is raised. Results are safe either way. Raises what `start` raises.
        """
        # Its portal and its bar are nothing to who has an event loop.
        from batch_gateway.runs.blocking_run import run_blocking  # noqa: PLC0415

        return run_blocking(self.start, self.stop, lambda: self.progress, progress)

    async def _shown(self, opened: OpenRun, progress: ShowProgress) -> RunSummary:
        sending = asyncio.ensure_future(opened.send())
        telling = asyncio.ensure_future(tell_progress(self.stats, progress, SYSTEM_CLOCK))
        try:
            await asyncio.wait({sending, telling}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                # It never ends by itself.
                telling.result()
            return await sending
        finally:
            sending.cancel()
            telling.cancel()
            await asyncio.gather(sending, telling, return_exceptions=True)

    @asynccontextmanager
    async def opened(
        self,
        observers: Sequence[Observer] = (),
        *,
        note: Callable[[str], None] = _log.warning,
        hint: Hint = no_hint,
    ) -> AsyncGenerator[OpenRun]:
        """The steps of `start` apart: what is open when the first line is about to be sent.

        `note` is told when a gateway goes down and when it is back. Raises StoppedEarly when it is
        asked to stop before that.
        """
        if not self._stop.begin():
            raise RuntimeError("this run has been started and has not ended yet")
        self.stats.reset()
        try:
            async with AsyncExitStack() as stack:
                plan = await self._plan(stack)
                outages = OutageNotes(note)
                waits = Waits(self.stats.figures, outages.tell)
                self.stats.is_down = waits.is_down
                stack.callback(waits.close)
                clients = await stack.enter_async_context(
                    self._gateways.opened(list(plan.models), [*observers, waits])
                )
                outages.clients = clients.all
                used = clients.of_models(list(plan.models))
                if self._fresh:
                    # A gateway that cannot be reached must not cost the earlier results.
                    await self._reach(used, hint, _nothing_done(plan))
                journal = await stack.enter_async_context(self._journal(plan))
                reused = 0
                for earlier in self._reuse:
                    reused += await reuse_results(plan, journal, earlier)
                to_send = journal.still_to_retry if self._retry_failed else journal.without_result
                run = OpenRun(
                    plan,
                    clients,
                    journal,
                    to_send,
                    reused,
                    waits,
                    self._options,
                    self.stats,
                    self._stop,
                )
                if run.to_send and not self._fresh:
                    await self._reach(used, hint, run.summary_so_far())
                yield run
        finally:
            self._stop.end()

    async def _reach(
        self, clients: Sequence[HTTPInferenceClient], hint: Hint, so_far: RunSummary
    ) -> None:
        await preflight(clients, self._stop.asked, hint)
        if self._stop.asked.is_set():
            raise StoppedEarly(so_far)

    async def _plan(self, stack: AsyncExitStack) -> Plan:
        if isinstance(self._input, Plan):
            return self._input
        given = self._input
        make = given.plan if isinstance(given, Requests) else partial(make_plan, given)
        making = asyncio.ensure_future(asyncio.to_thread(make))
        try:
            plan = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_close_plan)
            raise
        return stack.enter_context(plan)

    def _journal(self, plan: Plan) -> FileJournal:
        return FileJournal.open(
            plan,
            self.output,
            self.errors,
            fresh=self._fresh,
            retry_failed=self._retry_failed,
        )


def _failure_limit(given: int | str | FailureLimit | None) -> FailureLimit | None:
    if given is None or isinstance(given, FailureLimit):
        return given
    return FailureLimit.parse(str(given))


def _nothing_done(plan: Plan) -> RunSummary:
    return RunSummary(
        total=plan.total, succeeded=0, failed=0, left_to_send=plan.total, interrupted=True
    )


def _close_plan(making: asyncio.Future[Plan]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


@dataclass(frozen=True)
class OpenRun:
    """A batch, its clients and its journal.

    `to_send` lines are about to be sent, and `reused` were taken from earlier results.
    """

    plan: Plan
    clients: Clients
    journal: FileJournal
    to_send: int
    reused: int
    _waits: Waits
    _options: RunOptions
    _stats: RunStats
    _stop: Stop

    @property
    def done_before(self) -> int:
        return self.plan.total - self.to_send

    def summary_so_far(self) -> RunSummary:
        """What earlier runs came to, if this one stops before it sends anything."""
        journal = self.journal
        return RunSummary(
            total=self.plan.total,
            succeeded=journal.succeeded,
            failed=journal.failed,
            left_to_send=journal.without_result,
            still_to_retry=journal.still_to_retry,
            done_before=self.done_before,
            interrupted=True,
        )

    async def send(self, report_crash: ReportCrash = log_crash) -> RunSummary:
        """Send them, and what that came to; `report_crash` see `run_plan`."""
        try:
            summary = await run_plan(
                self.plan,
                self.journal,
                self.clients.client_for,
                options=self._options,
                stats=self._stats,
                stop=self._stop.asked,
                at_once=self._stop.asked_again,
                report_crash=report_crash,
            )
        finally:
            self._waits.close()
        if not summary.unknown_models or summary.gateway_problem is None:
            return summary
        there_are = await models_there_are(self.clients, summary.unknown_models)
        problem = f"{summary.gateway_problem.rstrip('.')}. {there_are}".rstrip()
        return msgspec.structs.replace(summary, gateway_problem=problem)
