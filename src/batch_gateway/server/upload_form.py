"""The form of an upload, taken apart as it comes in: its file in pieces, its fields as text.

Pure: bytes in, what they mean out. Fields may come before the file or after it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Final, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.lifetimes import expires_after
from batch_gateway.server.part_head import read_part_head

__all__ = ["PURPOSES", "UploadForm", "boundary_of"]

PURPOSES: Final = (
    *("assistants", "assistants_output", "batch", "batch_output"),
    *("fine-tune", "fine-tune-results", "vision", "user_data"),
)

_LIFETIME = "expires_after"
_FIELDS: Final = frozenset({"purpose", f"{_LIFETIME}[anchor]", f"{_LIFETIME}[seconds]"})
_MOST_FIELD_BYTES = 4096
_MOST_FIELDS = 50
_LONGEST_FILENAME = 255
_DIGITS = re.compile(r"[0-9]{1,12}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BROKEN = "the multipart form is broken off or malformed"
# What may stand before the first boundary (RFC 2046 §5.1.1), and is not looked at.
_MOST_PREAMBLE_BYTES = 8192
# The parser warns of each malformed form, which is told to whoever sent it.
_UNHEARD: Final = logging.Logger("unheard", logging.CRITICAL)


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart form. Raises ApiError (400)."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
        raise ApiError(400, "Content-Type must be multipart/form-data with a boundary")
    return boundary


class UploadForm:
    """Takes the body by `feed`, and tells what the form says.

    Attributes:
        filename: of the file, once its part has begun; None before.
        size, lines: of the file, as far as it has come.
        is_complete: whether the last boundary was seen.
    """

    def __init__(self, boundary: bytes, most_bytes: int, most_lines: int | None) -> None:
        self.filename: str | None = None
        self.size = self.lines = 0
        self.is_complete = False
        self._most_bytes, self._most_lines = most_bytes, most_lines
        self._fields: dict[str, bytes] = {}
        self._field_count = 0
        self._header_name = self._header_value = b""
        self._headers: dict[bytes, bytes] = {}  # of the part that is being read
        self._delimiter = b"\r\n--" + boundary
        self._preamble: bytes | None = b"\r\n"  # as far as it has come; None is behind it
        self._part: str | None = None  # the field that is being read; None is the file
        self._file_pieces: list[bytes] = []
        self._line_is_open = False
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._on_part_begin,
            "on_header_begin": self._on_header_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, cast("Any", callbacks), max_header_size=8192)
        self._parser.logger = _UNHEARD

    def feed(self, data: bytes) -> bytes:
        """The file's next bytes, which `data` has brought. Raises ApiError (400) at the first
        thing that is wrong, be the rest still to come."""
        if self.is_complete:
            return b""  # an epilogue, which RFC 2046 has ignored
        try:
            self._parser.write(data if self._preamble is None else self._after_preamble(data))
        except FormParserError as error:
            raise ApiError(400, _BROKEN) from error
        pieces, self._file_pieces = self._file_pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _after_preamble(self, data: bytes) -> bytes:
        """What of `data` is the form, which begins with the first boundary."""
        self._preamble = (self._preamble or b"") + data
        start = self._preamble.find(self._delimiter)
        if start < 0 and len(self._preamble) < _MOST_PREAMBLE_BYTES + len(self._delimiter):
            return b""
        if not 0 <= start <= _MOST_PREAMBLE_BYTES:
            raise ApiError(400, _BROKEN)
        begun, self._preamble = self._preamble[start + 2 :], None
        return begun

    def finish(self) -> tuple[str, int | None]:
        """The purpose, and the seconds that the file is to be kept or None. Raises ApiError."""
        if not self.is_complete:
            raise ApiError(400, _BROKEN)
        purpose = self._checked_purpose()
        if purpose is None:
            raise ApiError(400, "Missing required parameter: 'purpose'")
        if self.filename is None:
            raise ApiError(400, "Missing required parameter: 'file'")
        self._check_lines()
        return purpose, self._seconds()

    def _seconds(self) -> int | None:
        given = [self._text(f"{_LIFETIME}[{name}]") for name in ("anchor", "seconds")]
        if given == [None, None]:
            return None
        anchor, seconds = given
        whole = _DIGITS.fullmatch(seconds or "")
        return expires_after(_LIFETIME, anchor, int(whole.group()) if whole else None)

    def _text(self, name: str) -> str | None:
        value = self._fields.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    def _checked_purpose(self) -> str | None:
        purpose = self._text("purpose")
        if purpose and purpose not in PURPOSES:
            raise ApiError(400, f"purpose must be one of {', '.join(PURPOSES)}")
        return purpose or None

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_begin(self) -> None:
        self._header_name = self._header_value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value

    def _on_headers_finished(self) -> None:
        head = read_part_head(self._headers)
        if head.name == "file":
            self._begin_file(head.filename)
        else:
            self._begin_field(head.name)

    def _begin_field(self, name: str) -> None:
        if name in _FIELDS and name in self._fields:
            raise ApiError(400, f"the form has {name} more than once")
        if name.startswith(_LIFETIME) and name not in _FIELDS:
            raise ApiError(
                400, f"{name} is not known: {_LIFETIME}[anchor] and {_LIFETIME}[seconds] are"
            )
        self._field_count += 1
        if self._field_count > _MOST_FIELDS:
            raise ApiError(400, f"the form has more than {_MOST_FIELDS} fields")
        self._part = name
        self._fields[name] = b""

    def _begin_file(self, filename: str) -> None:
        if self.filename is not None:
            raise ApiError(400, "the form has more than one file")
        # A purpose that is wrong is known before the file, if it came before it.
        self._checked_purpose()
        self._part = None
        name = filename.replace("\\", "/").rpartition("/")[2]
        self.filename = _CONTROL.sub("", name)[:_LONGEST_FILENAME] or "upload"

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._part is None:
            self._take(piece)
            return
        value = self._fields[self._part] + piece
        if len(value) > _MOST_FIELD_BYTES:
            raise ApiError(400, f"a field of the form exceeds {_MOST_FIELD_BYTES} bytes")
        self._fields[self._part] = value

    def _take(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._most_bytes:
            raise ApiError(
                400, f"File size exceeds the maximum allowed size of {self._most_bytes} bytes"
            )
        self.lines += piece.count(b"\n")
        self._line_is_open = not piece.endswith(b"\n")
        self._check_lines()
        self._file_pieces.append(piece)

    def _check_lines(self) -> None:
        most = self._most_lines
        lines = self.lines + self._line_is_open
        if most is not None and lines > most and self._text("purpose") == "batch":
            raise ApiError(400, f"File exceeds the maximum allowed line count of {most}")

    def _on_end(self) -> None:
        self.is_complete = True
