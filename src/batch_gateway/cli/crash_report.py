"""Where faults of this program are written down: a file beside the results, without secrets."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ConfigError
from batch_gateway.http.origin_headers import origin_headers
from batch_gateway.http.redaction import Redactor
from batch_gateway.version import __version__

__all__ = ["CrashReport", "crash_path"]

# One fault may meet every line; its first tracebacks say all there is to know.
_MOST_ENTRIES = 20
_MODE = 0o600
# A pipe of that name would be waited for.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_HEAD = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ batch-gateway ")


def crash_path(output: Path) -> Path:
    """`results.jsonl` has `results.crash.txt`."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.crash.txt")


class CrashReport:
    """Appends tracebacks to a file, which is made with the first one.

    Where there is no place for it, it is a temporary file. Never raises.
    """

    def __init__(self, path: Path | None = None, redact: Redactor | None = None) -> None:
        self._path = path
        self._redact = Redactor(()) if redact is None else redact
        self._entries = 0

    @classmethod
    def of_run(cls, output: Path, gateways: Iterable[HTTPInferenceClientConfig]) -> CrashReport:
        """For a run whose gateways get these headers."""
        sent: list[tuple[str, str]] = []
        for gateway in gateways:
            with contextlib.suppress(ConfigError):
                sent += origin_headers(gateway)
        return cls(crash_path(output), Redactor.of_headers(sent))

    def of_line(self, error: Exception, custom_id: str) -> str:
        """Note what a request met; where a person finds it."""
        return self.note(error, f"line with custom_id {custom_id!r}")

    def note(self, error: BaseException, place: str) -> str:
        """Note an exception; a phrase that says where."""
        self._entries += 1
        if self._entries > _MOST_ENTRIES:
            return f"see {self._path}" if self._path is not None else "see above"
        text = self._redact.in_text(_entry(error, place))
        try:
            return f"see {self._write(text)}"
        except OSError:
            self._path = None
        try:
            return f"see {self._write(text)}"
        except OSError as problem:
            return f"its traceback could not be written: {problem.strerror}"

    def _write(self, text: str) -> Path:
        if self._path is None:
            # Loaded with the compressions of archives; no run without a fault needs them.
            import tempfile  # noqa: PLC0415

            descriptor, name = tempfile.mkstemp(prefix="batch-gateway-", suffix=".crash.txt")
            self._path = Path(name)
        else:
            descriptor = os.open(self._path, _FLAGS, _MODE)
            if not _is_ours(descriptor):
                os.close(descriptor)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._path)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return self._path


def _is_ours(descriptor: int) -> bool:
    """Whether the file is new, empty, or an earlier report of this kind."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    beginning = os.pread(descriptor, 64, 0)
    return not beginning or _HEAD.match(beginning) is not None


def _entry(error: BaseException, place: str) -> str:
    now = datetime.now(UTC)
    head = (
        f"{now:%Y-%m-%dT%H:%M:%SZ} batch-gateway {__version__}, Python {sys.version.split()[0]},"
        f" {sys.platform}: {place}\n"
    )
    # Deep recursion repeats its frames a thousand times.
    return head + "".join(traceback.format_exception(error, limit=-100)) + "\n"
