"""Log records on standard error, as text for people or as JSON for machines."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from batch_gateway.cli.progress_display import Display, View
from batch_gateway.cli.terminal_text import one_line, printable_json
from batch_gateway.settings.run_settings import LogFormat

__all__ = ["LogDisplay", "logs_shown"]


_PACKAGE = "batch_gateway"
_WARNINGS = "py.warnings"


@contextmanager
def logs_shown(
    form: LogFormat | None, level: str | None, note: Callable[[str], None] | None
) -> Generator[None]:
    """Show the package's log records until the block ends.

    `form` and `level` None show warnings as plain lines. `note` is a display's, which must not be
    written across; without one the lines go straight to standard error.
    """
    handler = _Handler(_json_line if form == "json" else _text_line, note or _to_stderr)
    threshold = _level(form, level)
    loggers = [logging.getLogger(_PACKAGE)]
    if form == "json":
        loggers.append(logging.getLogger(_WARNINGS))
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(threshold)
        logger.propagate = False
    logging.captureWarnings(form == "json")
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, old_level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(old_level)
            logger.propagate = propagate


def _level(form: LogFormat | None, level: str | None) -> int:
    if level is not None:
        return logging.getLevelNamesMapping()[level.upper()]
    return logging.WARNING if form is None else logging.INFO


class _Handler(logging.Handler):
    def __init__(
        self, line: Callable[[logging.LogRecord], str], write: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._line = line
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self._line(record))


def _to_stderr(text: str) -> None:
    # Whoever read our messages may be gone; the run does not depend on them.
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    given: object = getattr(record, "fields", None)
    fields = dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {}
    if record.exc_info is not None and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["exception"] = f"{type(error).__name__}: {error}"
    return fields


def _json_line(record: logging.LogRecord) -> str:
    content = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "event": record.getMessage().strip(),
        **_fields(record),
    }
    return printable_json(_encoded(content))


def _encoded(content: object) -> str:
    try:
        return msgspec.json.encode(content).decode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which a gateway's words may hold.
        return json.dumps(content)


def _text_line(record: logging.LogRecord) -> str:
    parts = [_time(record), record.levelname, one_line(record.getMessage())]
    parts += [f"{name}={_word(value)}" for name, value in _fields(record).items()]
    return " ".join(parts)


def _word(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(c in ' "=' for c in text)
    return text if plain and text else printable_json(_encoded(text))


class LogDisplay(Display):
    """Progress as log records, so that every line on standard error is one."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(f"{_PACKAGE}.run")
        self._begun = False

    def note(self, text: str) -> None:
        self._logger.info("%s", text)

    def show(self, view: View) -> None:
        # The first view is that of the start, when there is nothing to tell.
        if self._begun:
            now, left = view.run, view.seconds_left
            fields: dict[str, Any] = {
                "total": now.total,
                "done": now.done,
                "failed": now.failed,
                "in_flight": view.in_flight,
                "retries": now.figures.retries,
                "requests_per_second": round(view.rates.requests, 3),
                "tokens_per_second": round(view.rates.tokens, 3),
                "seconds_left": None if left is None else round(left, 1),
            }
            if view.paces:
                fields["paces"] = [pace.as_json() for pace in view.paces]
            if view.standstill:
                fields["standstill"] = view.standstill
            self._logger.info("progress", extra={"fields": fields})
        self._begun = True
