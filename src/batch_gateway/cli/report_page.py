"""The page that `--report` asks for: who listens for it, and what is written at the end."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from batch_gateway.cli.configured import configured
from batch_gateway.cli.cost import amount_text
from batch_gateway.cli.report_data import check_file
from batch_gateway.cli.summary import RunReport
from batch_gateway.engine.plan import Plan
from batch_gateway.errors import InputError
from batch_gateway.report.collected import Line
from batch_gateway.report.collector import RunCollector
from batch_gateway.report.page import RunFacts, render_page
from batch_gateway.report.replace_file import GENERATOR, replace_file, why_not_ours
from batch_gateway.settings.run_settings import RunSettings
from batch_gateway.wire.lines import decode_batch_line, parse_line_id

__all__ = ["ReportPage"]


class ReportPage:
    """Made before anything is sent, written when the run has ended.

    Raises CommandFailure at once for a page that could not be written: `taken` are the files that
    it must not replace.

    Attributes:
        path: where it goes.
        collector: to be told by every client.
    """

    def __init__(self, path: Path, settings: RunSettings, *, taken: tuple[Path, ...]) -> None:
        _check(path, taken)
        self.path = path
        self.collector = RunCollector()
        self._settings = settings
        self._began = datetime.now().astimezone()

    def follow(self, stack: ExitStack) -> None:
        """Look at what is in flight until `stack` is left; called on the run's event loop."""
        following = asyncio.ensure_future(self.collector.follow())
        stack.callback(following.cancel)

    def write(self, report: RunReport, plan: Plan) -> str | None:
        """What hindered it, if anything did: that is told, and changes nothing else."""
        problem = why_not_ours(self.path)
        if problem:
            return f"{self.path}: {problem}"
        facts = RunFacts(
            input=report.input,
            output=report.output,
            errors=report.errors,
            began=self._began,
            summary=report.summary,
            settings=configured(
                self._settings,
                {"input": report.input, "results": report.output, "errors": report.errors},
            ),
            paces=report.paces,
            cost="" if report.cost is None else amount_text(report.cost),
            failed_if=report.failed_if,
            hints=report.hints,
            next_steps=report.next_steps,
            find_line=lambda request_id: _line(plan, request_id),
        )
        try:
            replace_file(self.path, render_page(facts, self.collector).html)
        except OSError as error:
            return f"{self.path}: {error.strerror or error}"
        return None


def _check(path: Path, taken: tuple[Path, ...]) -> None:
    check_file(path, "--report", GENERATOR, taken)


def _line(plan: Plan, request_id: str) -> Line | None:
    parsed = parse_line_id(request_id)
    if parsed is None or parsed[0] != plan.fingerprint or parsed[1] >= plan.total:
        return None
    try:
        custom_id = decode_batch_line(plan.read(parsed[1])).custom_id
    except InputError:
        custom_id = "(the input has changed)"
    return Line(plan.line_number(parsed[1]), custom_id)
