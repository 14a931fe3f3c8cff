"""What a run leaves beside its results, if it is wanted: a page, a table and figures."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_gateway.cli.crash_report import CrashReport
from batch_gateway.cli.standard_streams import write_stderr
from batch_gateway.cli.summary import RunReport
from batch_gateway.cli.terminal_text import printable
from batch_gateway.client.interfaces.instrumentation import Observer
from batch_gateway.engine.plan import Plan
from batch_gateway.inputs.read_input import InputOptions
from batch_gateway.report.distributions import DistributionCollector, Distributions
from batch_gateway.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from batch_gateway.cli.report_data import ReportData
    from batch_gateway.cli.report_page import ReportPage
    from batch_gateway.cli.run_table import RunTable
    from batch_gateway.report.collector import RunCollector

__all__ = ["RunFiles"]


class RunFiles:
    """Made before anything is sent: `taken` are files that none of these must replace.

    Raises what `RunTable` and `ReportData` raise for a file that could not be written.
    """

    def __init__(
        self, settings: RunSettings, crashes: CrashReport, *, taken: tuple[Path, ...]
    ) -> None:
        self._collector: DistributionCollector | RunCollector | None = None
        self._settings, self._crashes, self._taken = settings, crashes, taken
        self._page: ReportPage | None = None
        self._table = self._run_table()
        self._data = self._report_data()

    def watch(self, stack: ExitStack) -> list[Observer]:
        """Who has to be told of requests; called on the run's loop, and ends with `stack`.

        Raises CommandFailure for a page that could not be written.
        """
        settings = self._settings
        if settings.report is not None:
            # Only who asks for it pays for importing it.
            from batch_gateway.cli.report_page import ReportPage  # noqa: PLC0415

            self._page = ReportPage(settings.report, settings, taken=self._taken)
            self._page.follow(stack)
            self._collector = self._page.collector
        elif settings.measures:
            self._collector = DistributionCollector()
        return [] if self._collector is None else [self._collector]

    @property
    def distributions(self) -> Distributions:
        """Of the answers of this run that were there by now, where somebody wants to know them."""
        return Distributions() if self._collector is None else self._collector.distributions

    def _run_table(self) -> RunTable | None:
        settings = self._settings
        if settings.table is None:
            return None
        # Only who asks for it pays for importing it.
        from batch_gateway.cli.run_table import RunTable  # noqa: PLC0415

        return RunTable(settings.table, settings.fields, taken=self._beside(settings.report))

    def _report_data(self) -> ReportData | None:
        settings = self._settings
        if settings.report_data is None:
            return None
        # Only who asks for it pays for importing it.
        from batch_gateway.cli.report_data import ReportData  # noqa: PLC0415

        return ReportData(settings.report_data, taken=self._beside(settings.report, settings.table))

    def _beside(self, *others: Path | None) -> tuple[Path, ...]:
        return (*self._taken, *(path for path in others if path is not None))

    def paged(self, report: RunReport, plan: Plan) -> RunReport:
        """`report`, and its page written if one is wanted."""
        if self._page is None:
            return report
        try:
            problem = self._page.write(report, plan)
        except Exception as error:  # noqa: BLE001 - the run is done, with or without its page
            told = self._crashes.note(error, "the report")
            problem = f"a fault of batch-gateway itself ({type(error).__name__}); {told}"
        if problem is not None:
            write_stderr(printable(f"The report could not be written: {problem}"))
            return report
        return msgspec.structs.replace(report, page=os.fspath(self._page.path))

    def tabled(self, report: RunReport, plan: Plan, asked: InputOptions) -> RunReport:
        """`report`, and the table written if one is wanted."""
        if self._table is None:
            return report
        output, errors = Path(report.output), Path(report.errors)
        problem = self._table.write(output, errors, plan, asked)
        if problem is not None:
            write_stderr(printable(f"The table could not be written: {problem}"))
            return report
        return msgspec.structs.replace(report, table=os.fspath(self._table.path))

    def exported(self, report: RunReport) -> RunReport:
        """`report`, and its figures written if that is wanted."""
        if self._data is None:
            return report
        written = msgspec.structs.replace(report, data=os.fspath(self._data.path))
        problem = self._data.write(written)
        if problem is not None:
            write_stderr(printable(f"The figures could not be written: {problem}"))
            return report
        return written
