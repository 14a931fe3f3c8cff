"""From a file and settings to results on disk, a summary and an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batch_gateway.cli.choose_display import choose_display
from batch_gateway.cli.crash_report import CrashReport
from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.failure import CommandFailure, internal_failure
from batch_gateway.cli.first_pass import STANDARD_INPUT, check_input, display_name
from batch_gateway.cli.foreign_variables import unused_at_the_end
from batch_gateway.cli.gateways import naming_the_setting
from batch_gateway.cli.given import ConfigFile
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.isolated_models import keep_apart
from batch_gateway.cli.logs import LogDisplay, logs_shown
from batch_gateway.cli.next_steps import next_steps
from batch_gateway.cli.open_files import allow_connections, most_connections, open_files_limit
from batch_gateway.cli.outages import outage_words
from batch_gateway.cli.pace_summary import pace_hints
from batch_gateway.cli.paces import GatewayPace, paces_of
from batch_gateway.cli.preflight import preflight
from batch_gateway.cli.print_summary import print_summary
from batch_gateway.cli.progress import Display, Gateways, counted, follow
from batch_gateway.cli.result_paths import (
    check_caches,
    check_standard_streams,
    error_path,
    output_path,
)
from batch_gateway.cli.settings import RunSettings, resolve_settings
from batch_gateway.cli.standard_streams import write_stderr
from batch_gateway.cli.summary import RunReport
from batch_gateway.cli.terminal_text import printable
from batch_gateway.cli.unknown_models import models_there_are
from batch_gateway.cli.watching import watch
from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.interfaces.instrumentation import Observer
from batch_gateway.client.routing import RoutedInferenceClient
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.progress import RunStats, RunSummary
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.waits import Waits
from batch_gateway.errors import BatchGatewayError

if TYPE_CHECKING:
    from batch_gateway.cli.report_page import ReportPage
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsStatistics

__all__ = ["run_batch_file"]


def run_batch_file(
    arguments: list[str], file: str, config: Path | None, flags: Mapping[str, Any]
) -> int:
    """Do what `batch-gateway run` does; `arguments` are printed as the way to go on.

    Returns the exit code of a run. Raises CommandFailure, InputError and JournalError when there
    is none.
    """
    settings = resolve_settings(
        flags, os.environ, _written(config), most_connections=most_connections()
    )
    output = output_path(file, settings.output)
    errors = error_path(output, settings.errors)
    others = {"output": output, "error file": errors, "report": settings.report}
    check_caches(settings.caches, others)
    written = [("-o", output), ("--errors", errors), ("--report", settings.report)]
    check_standard_streams([*written, *(("--cache", cache) for cache in settings.caches)])
    job = _Job(arguments, file, settings, output, errors)
    try:
        return _run(job, file, settings)
    except (click.ClickException, click.Abort, BatchGatewayError, BrokenPipeError):
        raise
    except Exception as error:
        raise internal_failure(error, job.crashes.note(error, "the run")) from error


def _run(job: _Job, file: str, settings: RunSettings) -> int:
    with job.logs_shown(), Interrupts(job.display.leave) as interrupts:
        if settings.concurrency is not None:
            allow_connections(
                settings.concurrency * settings.gateways, both_ends=settings.uses_simulator
            )
        with check_input(file, job.display) as plan:
            report = run_async(job.run(plan, interrupts))
        # Everything is done and on disk; only being told twice may cut the summary short.
        interrupts.on_first(lambda: None)
        print_summary(report, as_json_object=settings.json, quiet=settings.quiet)
    return report.exit_code


def _written(config: Path | None) -> ConfigFile:
    if config is None:
        return ConfigFile()
    # Importing YAML takes a sixth of the time that the command takes to start.
    from batch_gateway.cli.config_file import load_config_file  # noqa: PLC0415

    return load_config_file(config)


class _Job:
    """One invocation of `run`, from its settings to its report."""

    def __init__(
        self, arguments: list[str], file: str, settings: RunSettings, output: Path, errors: Path
    ) -> None:
        self.display: Display = choose_display(sys.stderr, quiet=settings.quiet)
        if settings.log_format == "json" and not settings.quiet:
            self.display = LogDisplay()
        self._stats = RunStats()
        self._waits = Waits(self._stats.figures, self._tell_of_outage)
        self._clients: Sequence[HTTPInferenceClient] = ()
        self._arguments = arguments
        self._file = file
        self._settings = settings
        self._output = output
        self._errors = errors
        self._page: ReportPage | None = None
        configs = (settings.gateway, *settings.model_gateways.values())
        self.crashes = CrashReport.of_run(output, (one for one in configs if one is not None))

    def logs_shown(self) -> AbstractContextManager[None]:
        """Log records on standard error; not across a display that redraws there."""
        settings = self._settings
        direct = settings.quiet or settings.log_format == "json"
        note = None if direct else self.display.note
        return logs_shown(settings.log_format, settings.log_level, note)

    async def run(self, plan: Plan, interrupts: Interrupts) -> RunReport:
        """Send what is to be sent. Raises JournalError, CommandFailure and click.Abort."""
        fresh, stop = self._settings.fresh, self._stop_event(interrupts)
        async with AsyncExitStack() as stack:
            watchers = stack.enter_context(ExitStack())
            observers = watch(self._settings, self._stats, self.display.note, watchers)
            observers.append(self._waits)
            self._page = self._report_page()
            if self._page is not None:
                observers.append(self._page.collector)
                self._page.follow(watchers)
            client = await self._client(stack, observers, plan)
            self._clients = client.clients
            if fresh:
                # A gateway that cannot be reached must not cost the earlier results.
                await self._reach(client, plan, stop)
            journal = await stack.enter_async_context(self._journal(plan))
            to_send = journal.still_to_retry or journal.without_result
            if self._settings.retry_failed:
                to_send = journal.still_to_retry
            if to_send:
                if not fresh:
                    await self._reach(client, plan, stop)
                self._announce(plan, journal, to_send)
            return self._paged(await self._send(plan, journal, client, stop), plan)

    def _tell_of_outage(self, gateway: str, lasted: float | None) -> None:
        client = next(one for one in self._clients if one.events.gateway == gateway)
        self.display.note(outage_words(client, lasted))

    def _stop_event(self, interrupts: Interrupts) -> asyncio.Event:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def ask() -> None:
            stop.set()
            self.display.note(
                "Stopping: requests in flight have 10 s to end; once more leaves at once."
            )

        interrupts.on_first(lambda: loop.call_soon_threadsafe(ask) and None)
        return stop

    async def _client(
        self, stack: AsyncExitStack, observers: Sequence[Observer], plan: Plan
    ) -> RoutedInferenceClient:
        settings = self._settings
        gateway, routes = settings.gateway, settings.model_gateways
        if settings.uses_simulator and gateway is not None:
            gateway = gateway.with_base_url(await _simulator_url(stack))
        isolated = list(plan.models) if settings.isolate_models else []
        if isolated:
            routes = keep_apart(
                isolated, gateway, routes, settings.concurrency, simulated=settings.uses_simulator
            )
            gateway = None
        with naming_the_setting({}):
            client = RoutedInferenceClient(
                gateway, routes, isolated_models=isolated, observers=observers
            )
        return await stack.enter_async_context(client)

    def _report_page(self) -> ReportPage | None:
        if self._settings.report is None:
            return None
        # Only who asks for it pays for importing it.
        from batch_gateway.cli.report_page import ReportPage  # noqa: PLC0415

        read = () if self._file == STANDARD_INPUT else (Path(self._file),)
        taken = (*read, self._output, self._errors)
        return ReportPage(self._settings.report, self._settings, taken=taken)

    def _paged(self, report: RunReport, plan: Plan) -> RunReport:
        """`report`, and its page written if one is wanted."""
        if self._page is None:
            return report
        try:
            problem = self._page.write(report, plan)
        except Exception as error:  # noqa: BLE001 - the run is done, with or without its page
            told = self.crashes.note(error, "the report")
            problem = f"a fault of batch-gateway itself ({type(error).__name__}); {told}"
        if problem is not None:
            write_stderr(printable(f"The report could not be written: {problem}"))
            return report
        return msgspec.structs.replace(report, page=os.fspath(self._page.path))

    def _journal(self, plan: Plan) -> FileJournal:
        settings = self._settings
        return FileJournal.open(
            plan,
            self._output,
            self._errors,
            fresh=settings.fresh,
            retry_failed=settings.retry_failed,
        )

    async def _reach(self, client: RoutedInferenceClient, plan: Plan, stop: asyncio.Event) -> None:
        used = {client.client_for(model) for model in plan.models}
        try:
            await preflight([one for one in used if one is not None], stop)
        except CommandFailure as failure:
            problem = "\n".join([failure.message, *failure.details])
            nothing = RunSummary(
                total=plan.total,
                succeeded=0,
                failed=0,
                left_to_send=plan.total,
                gateway_problem=problem,
            )
            self._paged(self._report(nothing), plan)
            raise

    def _announce(self, plan: Plan, journal: FileJournal, to_send: int) -> None:
        settings, note = self._settings, self.display.note
        done_before = plan.total - to_send
        if done_before:
            note(f"{done_before:,} of {plan.total:,} already done")
        if settings.uses_simulator:
            note("Answers come from a simulated gateway in this process, not from a model.")
        fixed = settings.concurrency
        pace = "as many at a time as prove best" if fixed is None else f"{fixed:,} at a time"
        if settings.isolate_models and len(plan.models) > 1:
            pace = f"{pace} for each of {len(plan.models)} models"
        note(f"Sending {counted(to_send, 'request')} to {self._target()}, {pace}")
        if settings.most_by_files is not None:
            note(
                f"The limit on open files, {open_files_limit()}, allows no more than"
                f" {counted(settings.most_by_files, 'request')} at a time; raise it for more"
                " (ulimit -n 4096)"
            )

    def _target(self) -> str:
        settings = self._settings
        if settings.gateways > 1:
            return f"{settings.gateways} gateways"
        if settings.uses_simulator:
            return "the simulator"
        only = settings.gateway or next(iter(settings.model_gateways.values()))
        return only.base_url if only.unix_socket is None else os.fspath(only.unix_socket)

    async def _send(
        self, plan: Plan, journal: FileJournal, client: RoutedInferenceClient, stop: asyncio.Event
    ) -> RunReport:
        settings, stats = self._settings, self._stats
        options = RunOptions(
            concurrency=settings.concurrency,
            order=settings.order,
            ordered=settings.ordered,
            deadline=settings.deadline,
            max_bytes_in_flight=settings.max_bytes_in_flight,
            max_failures=settings.max_failures,
        )
        stats.total = plan.total
        showing = asyncio.ensure_future(
            follow(stats, lambda: _look(client), self.display, SYSTEM_CLOCK)
        )
        try:
            summary = await run_plan(
                plan,
                journal,
                client.client_for,
                options=options,
                stats=stats,
                stop=stop,
                report_crash=self.crashes.of_line,
            )
        finally:
            self._waits.close()
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            self.display.close()
        if summary.unknown_models and summary.gateway_problem is not None:
            there_are = await models_there_are(client, summary.unknown_models)
            problem = f"{summary.gateway_problem.rstrip('.')}. {there_are}".rstrip()
            summary = msgspec.structs.replace(summary, gateway_problem=problem)
        paces = paces_of(client.clients)
        looked = [found for one in client.clients if (found := one.metrics_statistics) is not None]
        return self._report(summary, paces=paces, looked=looked)

    def _report(
        self,
        summary: RunSummary,
        *,
        paces: Sequence[GatewayPace] = (),
        looked: Sequence[MetricsStatistics] = (),
    ) -> RunReport:
        return RunReport(
            summary=summary,
            paces=paces,
            looked=looked,
            input=display_name(self._file),
            output=os.fspath(self._output),
            errors=os.fspath(self._errors),
            hints=self._hints(summary, paces),
            next_steps=next_steps(
                self._arguments,
                summary,
                retrying=self._settings.retry_failed,
                from_stdin=self._file == STANDARD_INPUT,
            ),
        )

    def _hints(self, summary: RunSummary, paces: Sequence[GatewayPace]) -> tuple[str, ...]:
        settings = self._settings
        own = () if settings.uses_simulator or settings.gateway is None else (settings.gateway,)
        gateways = (*own, *settings.model_gateways.values())
        return (
            *unused_at_the_end(summary, gateways, os.environ),
            *pace_hints(paces, summary.seconds, settings.what_bounds),
        )


async def _simulator_url(stack: AsyncExitStack) -> str:
    """Start a simulated gateway, which ends with `stack`."""
    # Loading it takes as long as a tenth of a start, and most runs have a gateway.
    from batch_gateway.simulator.config import SimulatorConfig  # noqa: PLC0415
    from batch_gateway.simulator.gateway import SimulatedGateway  # noqa: PLC0415

    simulator = SimulatedGateway(SimulatorConfig.small_gpu())
    await stack.enter_async_context(simulator)
    return simulator.url


def _look(client: RoutedInferenceClient) -> Gateways:
    worst = max((one.events for one in client.clients), key=lambda events: events.failed_attempts)
    return Gateways(paces_of(client.clients), worst.failed_attempts, worst.last_failure)
