"""From a file and settings to results on disk, a summary and an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batch_gateway.cli.check_input import STANDARD_INPUT, check_input, display_name
from batch_gateway.cli.choose_display import choose_display
from batch_gateway.cli.connection_limit import allow_connections, most_connections
from batch_gateway.cli.cost import cost_of
from batch_gateway.cli.crash_report import CrashReport
from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure, internal_failure
from batch_gateway.cli.foreign_variables import unused_at_the_end, unused_variables
from batch_gateway.cli.input_options import hosts_of
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.logs import LogDisplay, logs_shown
from batch_gateway.cli.next_steps import next_steps
from batch_gateway.cli.pace_summary import pace_hints
from batch_gateway.cli.paces import GatewayPace, paces_of
from batch_gateway.cli.print_summary import print_summary
from batch_gateway.cli.progress_display import Display, Gateways, counted, follow
from batch_gateway.cli.result_paths import (
    check_caches,
    check_standard_streams,
    error_path,
    output_path,
)
from batch_gateway.cli.run_files import RunFiles
from batch_gateway.cli.summary import RunReport
from batch_gateway.cli.watching import watch
from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.progress import RunSummary
from batch_gateway.errors import BatchGatewayError, GatewayUnusableError, InferenceError
from batch_gateway.inputs.read_input import InputOptions
from batch_gateway.report.threshold import which_hold
from batch_gateway.runs.batch_run import BatchRun, OpenRun, StoppedEarly
from batch_gateway.runs.gateways import Routing
from batch_gateway.runs.open_files import open_files_limit
from batch_gateway.runs.preflight import may_be_starting
from batch_gateway.settings.gateway_configs import naming_the_setting
from batch_gateway.settings.run_settings import RunSettings, read_config_file, resolve_settings

if TYPE_CHECKING:
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsStatistics

__all__ = ["run_batch_file"]

_log = logging.getLogger("batch_gateway.settings")


def run_batch_file(
    arguments: list[str],
    file: str,
    config: Path | None,
    flags: Mapping[str, Any],
    *,
    asked: InputOptions,
    reuse: Sequence[Path] = (),
    prices: Mapping[str, float] | None = None,
) -> int:
    """Do what `batch-gateway run` does; `arguments` are printed as the way to go on.

    `asked` is of the input, `reuse` are results that may have answers to its lines, and `prices`
    are of a million tokens, by "input" and "output".

    Returns the exit code of a run. Raises CommandFailure, InputError and JournalError when there
    is none.
    """
    settings = resolve_settings(
        flags,
        os.environ,
        read_config_file(config, os.environ),
        most_connections=most_connections(),
    )
    output = output_path(file, settings.output)
    errors = error_path(output, settings.errors)
    written = {
        "-o": ("output", output),
        "--errors": ("error file", errors),
        "--report": ("report", settings.report),
        "--table": ("table", settings.table),
        "--report-data": ("figures", settings.report_data),
    }
    check_caches(settings.caches, dict(written.values()))
    options = [(option, path) for option, (_, path) in written.items()]
    check_standard_streams([*options, *(("--cache", cache) for cache in settings.caches)])
    job = _Job(arguments, file, settings, output, errors, reuse=reuse, prices=prices or {})
    hosts = hosts_of(one.base_url for one in settings.configs)
    try:
        return _run(job, file, settings, msgspec.structs.replace(asked, hosts=hosts))
    except (click.ClickException, click.Abort, BatchGatewayError, BrokenPipeError):
        raise
    except Exception as error:
        raise internal_failure(error, job.crashes.note(error, "the run")) from error


def _run(job: _Job, file: str, settings: RunSettings, asked: InputOptions) -> int:
    with job.logs_shown(), Interrupts(job.display.leave) as interrupts:
        for warning in settings.warnings:
            _log.warning("%s", warning)
        for note in settings.notes:
            job.display.note(note)
        if settings.concurrency is not None:
            allow_connections(
                settings.concurrency * settings.gateways, both_ends=settings.uses_simulator
            )
        with check_input(file, job.display, asked) as plan:
            report = job.files.tabled(run_async(job.run(plan, interrupts)), plan, asked)
        report = job.files.exported(report)
        # Everything is done and on disk; only being told twice may cut the summary short.
        interrupts.on_first(lambda: None)
        print_summary(report, as_json_object=settings.json, quiet=settings.quiet)
    return report.exit_code


class _Job:
    """One invocation of `run`, from its settings to its report."""

    def __init__(
        self,
        arguments: list[str],
        file: str,
        settings: RunSettings,
        output: Path,
        errors: Path,
        *,
        reuse: Sequence[Path],
        prices: Mapping[str, float],
    ) -> None:
        self.display: Display = choose_display(sys.stderr, quiet=settings.quiet)
        if settings.log_format == "json" and not settings.quiet:
            self.display = LogDisplay()
        self._arguments = arguments
        self._file = file
        self._settings = settings
        self._output = output
        self._errors = errors
        self._reuse, self._prices = reuse, prices
        self.crashes = CrashReport.of_run(output, settings.configs)
        read = () if file == STANDARD_INPUT else (Path(file),)
        self.files = RunFiles(settings, self.crashes, taken=(*read, output, errors))

    def logs_shown(self) -> AbstractContextManager[None]:
        """Log records on standard error; not across a display that redraws there."""
        settings = self._settings
        direct = settings.quiet or settings.log_format == "json"
        note = None if direct else self.display.note
        return logs_shown(settings.log_format, settings.log_level, note)

    async def run(self, plan: Plan, interrupts: Interrupts) -> RunReport:
        """Send what is to be sent. Raises JournalError, CommandFailure and click.Abort."""
        with naming_the_setting({}), ExitStack() as watchers:
            run = self._batch_run(plan)
            observers = watch(self._settings, run.stats, self.display.note, watchers)
            observers += self.files.watch(watchers)
            self._stop_at_first(interrupts, run)
            try:
                opening = run.opened(observers, note=self.display.note, hint=_cure)
                async with opening as opened:
                    if opened.to_send:
                        self._announce(opened)
                    return self.files.paged(await self._send(run, opened), plan)
            except StoppedEarly as stopped:
                raise click.Abort from stopped
            except GatewayUnusableError as error:
                self.files.paged(self._report(_unreached(plan, error)), plan)
                raise CommandFailure(
                    error.message,
                    details=[*error.problems, *self._doctor()],
                    code=ExitCode.GATEWAY_UNUSABLE,
                ) from error

    def _batch_run(self, plan: Plan) -> BatchRun:
        settings = self._settings
        if settings.isolate_models and settings.concurrency is not None:
            connections = settings.concurrency * len(plan.models)
            allow_connections(connections, both_ends=settings.uses_simulator)
        return BatchRun(
            plan,
            gateway=Routing(
                default=settings.gateway,
                by_model=settings.model_gateways,
                is_simulated=settings.uses_simulator,
                isolate_models=settings.isolate_models,
            ),
            output=self._output,
            errors=self._errors,
            concurrency=settings.concurrency or "auto",
            deadline=settings.deadline,
            max_failures=settings.max_failures,
            max_bytes_in_flight=settings.max_bytes_in_flight,
            order=settings.order,
            ordered=settings.ordered,
            fresh=settings.fresh,
            retry_failed=settings.retry_failed,
            reuse=self._reuse,
        )

    def _stop_at_first(self, interrupts: Interrupts, run: BatchRun) -> None:
        loop = asyncio.get_running_loop()

        def ask() -> None:
            run.stop()
            self.display.note(
                "Stopping: requests in flight have 10 s to end; once more leaves at once."
            )

        interrupts.on_first(lambda: loop.call_soon_threadsafe(ask) and None)

    def _announce(self, opened: OpenRun) -> None:
        settings, note, plan = self._settings, self.display.note, opened.plan
        if plan.faulty:
            lines = counted(len(plan.faulty), "line")
            note(f"{lines} with problems: left out, and recorded in {self._errors}")
        if self._reuse:
            note(f"{counted(opened.reused, 'answer')} taken from earlier results")
        if opened.done_before:
            note(f"{opened.done_before:,} of {plan.total:,} already done")
        if settings.uses_simulator:
            note("Answers come from a simulated gateway in this process, not from a model.")
        fixed = settings.concurrency
        pace = "as many at a time as prove best" if fixed is None else f"{fixed:,} at a time"
        if settings.isolate_models and len(plan.models) > 1:
            pace = f"{pace} for each of {len(plan.models)} models"
        note(f"Sending {counted(opened.to_send, 'request')} to {self._target()}, {pace}")
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
        only = settings.configs[0]
        return only.base_url if only.unix_socket is None else os.fspath(only.unix_socket)

    async def _send(self, run: BatchRun, opened: OpenRun) -> RunReport:
        clients = opened.clients.all
        showing = asyncio.ensure_future(
            follow(run.stats, lambda: _look(clients), self.display, SYSTEM_CLOCK)
        )
        try:
            summary = await opened.send(self.crashes.of_line)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            self.display.close()
        looked = [found for one in clients if (found := one.metrics_statistics) is not None]
        return self._report(summary, paces=paces_of(clients), looked=looked)

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
            cost=cost_of(summary.figures.usage, self._prices),
            failed_if=which_hold(self._settings.fail_if, summary, self.files.distributions),
            distributions=self.files.distributions,
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
            *(self._doctor() if summary.gateway_problem else ()),
            *pace_hints(paces, summary.seconds, settings.what_bounds),
        )

    def _doctor(self) -> tuple[str, ...]:
        """How to find out more of a gateway that is of no use."""
        settings = self._settings
        if settings.gateways > 1 or settings.uses_simulator:
            return ()
        looking = shlex.join(["batch-gateway", "doctor", "--gateway", settings.configs[0].base_url])
        return (f"To look closer: {looking}",)


def _cure(error: InferenceError, config: HTTPInferenceClientConfig) -> str:
    waits = "If it is still starting, --patience 10m waits for it" if may_be_starting(error) else ""
    return unused_variables(error, config, os.environ) or waits


def _unreached(plan: Plan, error: GatewayUnusableError) -> RunSummary:
    return RunSummary(
        total=plan.total,
        succeeded=0,
        failed=0,
        left_to_send=plan.total,
        gateway_problem="\n".join([error.message, *error.problems]),
    )


def _look(clients: Sequence[HTTPInferenceClient]) -> Gateways:
    worst = max((one.events for one in clients), key=lambda events: events.failed_attempts)
    return Gateways(paces_of(clients), worst.failed_attempts, worst.last_failure)
