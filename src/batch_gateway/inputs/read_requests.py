"""`read_requests`: the requests that somebody's data become, for `run_batch` and `BatchRun`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any, cast

from batch_gateway.config_checks import PathLike, require_count
from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.source import FileSource
from batch_gateway.errors import ConfigError
from batch_gateway.inputs.data_row import Rows
from batch_gateway.inputs.file_format import FORMATS, InputFormat
from batch_gateway.inputs.prompt_template import Template
from batch_gateway.inputs.read_input import (
    InputOptions,
    chosen,
    on_their_lines,
    open_rows,
    plan_of,
    request_lines,
)
from batch_gateway.inputs.recipe import Recipe
from batch_gateway.inputs.remote_source import is_remote, open_remote
from batch_gateway.inputs.table_rows import TableRows
from batch_gateway.wire.lines import OTHER_ENDPOINTS

__all__ = ["Requests", "open_source", "read_requests"]


def open_source(location: PathLike) -> FileSource:
    """The file at a path, or at a URL, which is kept on disk. Raises InputError."""
    name = os.fspath(location)
    return open_remote(name) if is_remote(name) else FileSource.open(location)


class Requests:
    """The requests that data become, a line of a batch file each; made by `read_requests`.

    They may be iterated more than once where the data may.

    Attributes:
        name: what to call them in messages.
        options: what is asked of the data.
    """

    def __init__(self, source: Any, options: InputOptions) -> None:
        is_path = isinstance(source, str | os.PathLike)
        self._path: PathLike | None = cast("PathLike", source) if is_path else None
        self._data = source
        self.options = options
        self.name = TableRows.name if self._path is None else os.fspath(self._path)
        if self._path is None:
            request_lines(TableRows(source), options)

    def __iter__(self) -> Iterator[bytes]:
        """Each request, as bytes. Raises InputError and ConfigError."""
        with ExitStack() as stack:
            rows = self.rows(stack)
            lines = request_lines(rows, self.options)
            for row in chosen(rows, self.options):
                yield lines.line(row)

    def rows(self, stack: ExitStack) -> Rows:
        """All rows of the data, which stay open as long as `stack`. Raises InputError."""
        if self._path is None:
            return TableRows(self._data)
        source = stack.enter_context(closing(open_source(self._path)))
        return stack.enter_context(open_rows(source, self.options))

    def plan(self) -> Plan:
        """They as a checked plan, kept on disk. Raises InputError and ConfigError."""
        if self._path is not None:
            return plan_of(open_source(self._path), self.options)
        rows, asked = TableRows(self._data), self.options
        lines = request_lines(rows, asked)
        source = FileSource.keep(on_their_lines(chosen(rows, asked), lines), self.name)
        return make_plan(source, paths=OTHER_ENDPOINTS, made_with=asked.recipe.marks())


def read_requests(
    source: Any,
    *,
    model: str | None = None,
    template: str | None = None,
    system: str | None = None,
    params: Mapping[str, Any] | None = None,
    endpoint: str | None = None,
    id_column: str | None = None,
    format: InputFormat | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Requests:
    """The requests that `source` becomes, to be given to `run_batch` or `BatchRun`.

    Args:
        source: the path or URL of a file (JSON lines, CSV, TSV, Parquet or text, which may be
            compressed), a table of pandas, polars or pyarrow, or an iterable of mappings or
            prompts.
        model: of requests that name none.
        template: the prompt, with columns in braces: "Classify: {review}". Without it rows have a
            column `prompt` or `messages`.
        system: the system message of chats that have none.
        params: of requests that do not have them themselves: {"temperature": 0}.
        endpoint: what prompts are for; /v1/chat/completions unless given.
        id_column: whose values are the custom_ids; else `custom_id`, or request-1 and so on.
        format, encoding, delimiter: of a file, where they cannot be found out.
        limit: only so many rows, the first.
        sample: only so many rows, chosen by chance, the same ones for the same `seed`.

    Raises ConfigError for settings that cannot be, or that do not fit a table's columns.
    """
    if format is not None and format not in FORMATS:
        raise ConfigError("format", f"{format!r:.80} is none of {', '.join(FORMATS)}")
    for name, value in (("limit", limit), ("sample", sample)):
        if value is not None:
            require_count(name, value, minimum=1)
    recipe = Recipe(
        model=model,
        template=None if template is None else Template.parse(template),
        system=system,
        params=dict(params or {}),
        endpoint=endpoint,
        id_column=id_column,
    )
    options = InputOptions(
        recipe=recipe,
        format=format,
        encoding=encoding,
        delimiter=delimiter,
        limit=limit,
        sample=sample,
        seed=seed,
    )
    return Requests(source, options)
