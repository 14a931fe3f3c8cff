"""The file that `--report-data` asks for: the figures of a run, for programs and spreadsheets."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.result_paths import check_not_taken
from batch_gateway.cli.summary import RunReport, as_json
from batch_gateway.engine.result_file import no_folder
from batch_gateway.report.replace_file import replace_file, why_not_ours
from batch_gateway.tables.delimited import write_delimited
from batch_gateway.version import __version__

__all__ = ["ReportData", "check_file"]

_FLAG = "--report-data"
_VERSION = "batch_gateway"
# What stands at the beginning of a file of each form, and in no file of others.
_MARKS = {".json": f'{{\n  "{_VERSION}": "', ".csv": f"figure,value\n{_VERSION},"}


class ReportData:
    """Looked at before anything is sent, written when the run has ended.

    Raises CommandFailure for a file that could not be written, and for one of `taken`.

    Attributes:
        path: where the figures go; its ending says in which form.
    """

    def __init__(self, path: Path, *, taken: tuple[Path, ...]) -> None:
        if path.suffix.lower() not in _MARKS:
            raise CommandFailure(f"{_FLAG}: end {path} with .json or .csv, to say its form")
        self._mark = _MARKS[path.suffix.lower()]
        check_file(path, _FLAG, self._mark, taken)
        self.path = path

    def write(self, report: RunReport) -> str | None:
        """What hindered it, if anything did."""
        problem = why_not_ours(self.path, self._mark)
        if problem:
            return f"{self.path}: {problem}"
        found = {_VERSION: __version__, **as_json(report)}
        is_json = self.path.suffix.lower() == ".json"
        text = json.dumps(found, ensure_ascii=False, indent=2) + "\n" if is_json else _csv(found)
        try:
            replace_file(self.path, text)
        except OSError as error:
            return f"{self.path}: {error.strerror or error}"
        return None


def check_file(path: Path, flag: str, mark: str, taken: tuple[Path, ...]) -> None:
    """Raises CommandFailure for a file that could not be written, or is somebody else's.

    `mark` is what our own files have at their beginning, and `taken` those in use.
    """
    if path.is_dir():
        raise CommandFailure(f"{flag}: {path} is a directory; name a file")
    if not path.absolute().parent.is_dir():
        raise CommandFailure(f"{flag}: {no_folder(path.absolute().parent)}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise CommandFailure(f"{flag}: the folder {path.absolute().parent} cannot be written to")
    check_not_taken(flag, path, taken)
    problem = why_not_ours(path, mark)
    if problem:
        raise CommandFailure(f"{flag}: {path} {problem}; name another, or delete it yourself")


def _csv(figures: Mapping[str, Any]) -> str:
    text = io.StringIO()
    rows = ({"figure": name, "value": value} for name, value in _flat("", figures))
    write_delimited(text, ("figure", "value"), rows, ",", exact=False)
    return text.getvalue()


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Each single value under its name with dots: ("usage.input_tokens", 12)."""
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).items()
    elif isinstance(value, list | tuple):
        inner = enumerate(cast("Sequence[object]", value))
    else:
        yield name, value
        return
    for key, one in inner:
        yield from _flat(f"{name}.{key}" if name else str(key), one)
