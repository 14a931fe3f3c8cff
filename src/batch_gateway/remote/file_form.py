"""An upload of a batch file: a form around it, read from the file piece by piece as it is sent."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from batch_gateway.engine.source import Source
from batch_gateway.errors import InputError

__all__ = ["FileForm"]


class FileForm:
    """A multipart form with `purpose=batch` and a file (RFC 7578), as a request's body.

    Attributes:
        content_type: what its header has to say.
        problem: why the file could not be read to its end, when it could not: what was sent is
            then not the file.
    """

    def __init__(self, source: Source, filename: str, on_sent: Callable[[int, int], None]) -> None:
        """`on_sent` is told (bytes read to be sent, bytes in all)."""
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.problem: InputError | None = None
        self._source, self._size, self._on_sent = source, source.size(), on_sent
        self._before = (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{_quoted(filename)}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode("utf-8", "replace")
        self._after = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._before) + self._size + len(self._after)

    def __getitem__(self, span: slice) -> bytes:
        start, end, _ = span.indices(len(self))
        head, tail = len(self._before), len(self._before) + self._size
        pieces = (
            self._before[start:end],
            self._file(max(start - head, 0), min(end - head, self._size)),
            self._after[max(start - tail, 0) : max(end - tail, 0)],
        )
        self._on_sent(min(max(end - head, 0), self._size), self._size)
        return b"".join(pieces)

    def _file(self, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        try:
            if self.problem is None:
                return self._source.read(start, end)
        except InputError as error:
            self.problem = error
        # The length has been told; nobody makes a batch of what follows.
        return b"\n" * (end - start)


def _quoted(name: str) -> str:
    """As browsers write it (WHATWG HTML, multipart/form-data encoding)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
