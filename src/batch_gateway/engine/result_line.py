"""What one line of a result file says of itself: whose result it is, and of which kind."""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Annotated, Any, Final, Never

import msgspec

from batch_gateway.engine.line_blocks import is_utf8
from batch_gateway.wire.lines import LINE_ID_PREFIX

__all__ = [
    "RESULT_START",
    "ResultLine",
    "Role",
    "begins_as_result",
    "can_begin_result",
    "how_saved",
    "is_success",
    "parse_result",
]

RESULT_START: Final = b'{"id":"' + LINE_ID_PREFIX.encode()
_BEGINNING = re.compile(re.escape(RESULT_START) + rb"[0-9a-f]{12,64}_")
_CUT_BEGINNING = re.compile(re.escape(RESULT_START) + rb"[0-9a-f]{0,64}")
# (what comes first, the encoding, its name, the command that undoes it). Without its mark UTF-16
# is known by what it says.
_SAVED = (
    (b"\xef\xbb\xbf", "utf-8", "with a byte-order mark", "sed -i '1s/^\\xEF\\xBB\\xBF//' FILE"),
    (b"\xff\xfe", "utf-16", "as UTF-16", "iconv -f UTF-16 -t UTF-8 FILE"),
    (b"\xfe\xff", "utf-16", "as UTF-16", "iconv -f UTF-16 -t UTF-8 FILE"),
    (b"{\0", "utf-16-le", "as UTF-16", "iconv -f UTF-16LE -t UTF-8 FILE"),
    (b"\0{", "utf-16-be", "as UTF-16", "iconv -f UTF-16BE -t UTF-8 FILE"),
)
_LOOK_BYTES = 200


class Role(Enum):
    """Which of the two result files a line belongs to."""

    SUCCESS = "success"
    FAILURE = "failure"


class _Response(msgspec.Struct):
    status_code: int = 0


class ResultLine(msgspec.Struct):
    """What is read of a result line. The decoder checks the syntax of all of it."""

    id: str
    custom_id: str
    response: _Response | msgspec.UnsetType | None = msgspec.UNSET
    error: Any = None

    @property
    def role(self) -> Role | None:
        """None when nothing tells, because somebody took the answer out of the line."""
        if isinstance(self.response, msgspec.UnsetType):
            return None
        good = self.response is not None and 200 <= self.response.status_code <= 299
        return Role.SUCCESS if good and self.error is None else Role.FAILURE


class _GoodResponse(msgspec.Struct, gc=False):
    status_code: Annotated[int, msgspec.Meta(ge=200, le=299)]


class _Success(msgspec.Struct, gc=False):
    response: _GoodResponse
    error: None


_decode = msgspec.json.Decoder(ResultLine).decode
_walk_success = msgspec.json.Decoder(_Success).decode


def is_success(line: bytes) -> bool:
    """Whether `line` is a whole one that says of itself that its request succeeded.

    At half the cost of `parse_result`, which must be asked when the answer is no.
    """
    try:
        _walk_success(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return line.isascii() or is_utf8(line)


def parse_result(line: bytes) -> ResultLine | None:
    """The line, when it is whole; None when it is not JSON in UTF-8.

    Raises msgspec.ValidationError for JSON of another shape.
    """
    if not is_utf8(line):
        return None
    try:
        return _decode(line)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_by_stdlib(line)


def _parse_by_stdlib(line: bytes) -> ResultLine | None:
    """A second opinion, as an answer gets it: msgspec refuses half a surrogate pair."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse, parse_int=_small_int)
    except RecursionError:
        # Too deep to be walked through. Such a line is left as it is when it has its end.
        return ResultLine("", "") if line.endswith(b"}") else None
    except ValueError:
        return None
    try:
        return msgspec.convert(value, ResultLine)
    except UnicodeEncodeError as error:
        raise msgspec.ValidationError("half a surrogate pair in a name") from error


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def _small_int(digits: str) -> int:
    # Python refuses numbers of thousands of digits; no field that is read here has such.
    return int(digits) if len(digits) < 20 else 0


def begins_as_result(line: bytes) -> bool:
    """Whether `line` begins as nothing but a result of some input does."""
    return _BEGINNING.match(line) is not None


def can_begin_result(written: bytes) -> bool:
    """Whether a result of some input can be what only this was written of."""
    return RESULT_START.startswith(written) or _CUT_BEGINNING.fullmatch(written) is not None


def how_saved(first_line: bytes) -> tuple[str, str] | None:
    """How an editor saved results, and the command that undoes it; None for all else."""
    for mark, encoding, how, command in _SAVED:
        text = first_line[:_LOOK_BYTES].decode(encoding, "ignore")
        if first_line.startswith(mark) and LINE_ID_PREFIX in text:
            return how, command
    return None
