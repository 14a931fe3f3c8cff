"""Where the result of each custom_id stands in files of results, in memory that does not grow.

The index is a temporary database on disk: ids of others are of any length and in any order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence

from batch_gateway.engine.source import Source, numbered_lines
from batch_gateway.errors import InputError
from batch_gateway.tables.answer_row import NotAResultError, decode_result
from batch_gateway.wire.lines import parse_line_id

__all__ = ["Found", "ResultIndex"]

Found = tuple[int, int, int]
"""(which file, where the line begins, where it ends)."""

OnResult = Callable[[object, object], None]
"""Told (response, error) of each line while the files are read."""

_TABLE = (
    "CREATE TABLE results (custom_id TEXT, number INTEGER, file INTEGER, start INTEGER,"
    " end INTEGER, PRIMARY KEY (custom_id, number)) WITHOUT ROWID"
)
_Row = tuple[str, int, int, int, int]


class ResultIndex:
    """The lines of several files. Of two with one custom_id that of the later file counts.

    Attributes:
        lines: how many results there are in the files.
        in_order: every line says by its id which request of one input it is the result of.
    """

    def __init__(self, sources: Sequence[Source], on_result: OnResult) -> None:
        """Raises InputError for a line that is no result of a batch."""
        self.lines = 0
        self._sources = sources
        self._fingerprints: set[str | None] = set()
        # A name that is empty is a file without a name, which is gone with the connection.
        self._database = sqlite3.connect("", isolation_level=None)
        for command in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", _TABLE, "BEGIN"):
            self._database.execute(command)
        for file, source in enumerate(sources):
            rows = self._lines_of(file, source, on_result)
            self._database.executemany("REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows)

    @property
    def in_order(self) -> bool:
        return None not in self._fingerprints and len(self._fingerprints) <= 1

    def _lines_of(self, file: int, source: Source, on_result: OnResult) -> Iterator[_Row]:
        for number, start, line in numbered_lines(source):
            if line.isspace():
                continue
            try:
                line_id, custom_id, response, error = decode_result(line)
            except NotAResultError as wrong:
                if not line.endswith(b"\n") and self.lines:
                    continue  # A crash, or a run that is under way, leaves half a line.
                raise InputError(f"{source.name}: line {number} {wrong}") from wrong
            on_result(response, error)
            ours = parse_line_id(line_id)
            self._fingerprints.add(ours[0] if ours else None)
            self.lines += 1
            yield _storable(custom_id), ours[1] if ours else -1, file, start, start + len(line)

    def find(self, custom_id: str, number: int = -1) -> Found | None:
        """Where the result of `custom_id` stands, or of the request of that number without one."""
        which, values = "", [_storable(custom_id)]
        if not custom_id:
            which, values = " AND number = ?", [*values, number]
        return self._database.execute(
            f"SELECT file, start, end FROM results WHERE custom_id = ?{which}"  # noqa: S608
            " ORDER BY file DESC, number LIMIT 1",
            values,
        ).fetchone()

    def all(self) -> Iterator[Found]:
        """All of them: in the input's order if they say so, else as they stand."""
        order = "number" if self.in_order else "file DESC, start"
        yield from self._database.execute(f"SELECT file, start, end FROM results ORDER BY {order}")  # noqa: S608

    def first_without(self, custom_ids: Iterable[str]) -> tuple[str, str] | None:
        """(the file's name, the custom_id) of a result of none of them, if any."""
        self._database.execute("CREATE TEMP TABLE asked (custom_id TEXT PRIMARY KEY) WITHOUT ROWID")
        rows = ((_storable(one),) for one in custom_ids)
        self._database.executemany("REPLACE INTO asked VALUES (?)", rows)
        found: tuple[int, str] | None = self._database.execute(
            "SELECT file, custom_id FROM results"
            " WHERE custom_id NOT IN (SELECT custom_id FROM asked) ORDER BY file, start"
        ).fetchone()
        return None if found is None else (self._sources[found[0]].name, found[1])

    def read(self, found: Found) -> bytes:
        """The line itself. Raises InputError when its file changed."""
        file, start, end = found
        return self._sources[file].read(start, end)

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM results").fetchone()[0]

    def close(self) -> None:
        """Give back the disk. A second call does nothing."""
        self._database.close()


def _storable(text: str) -> str:
    """Without half a surrogate pair, which JSON may have and a database does not take."""
    return text if text.isascii() else text.encode(errors="replace").decode()
