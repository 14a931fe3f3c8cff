"""Text out of bytes, a line at a time, with the place of what is no text in its encoding."""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Iterator
from functools import partial
from typing import Final

from batch_gateway.engine.line_blocks import MAX_LINE_BYTES
from batch_gateway.engine.problems import Fault
from batch_gateway.errors import InputError
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["check_encoding", "fault_of_text", "text_lines"]

# Longer marks first: UTF-32's begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNDECODED: Final = rare_pattern(r"[\ud800-\udfff]")


def check_encoding(name: str) -> str:
    """`name` itself. Raises InputError where Python knows no such encoding of text."""
    try:
        codecs.lookup(name)
        "".encode(name)
    except LookupError as error:
        raise InputError(
            f"{name!r:.80} is not an encoding: utf-8, utf-16, cp1252 and latin-1 are some"
        ) from error
    return name


def text_lines(stream: io.BufferedReader, name: str, encoding: str | None) -> Iterator[str]:
    """Its lines with their breaks, by the byte-order mark or else `encoding`, or else UTF-8.

    Bytes that are no text in it come as half surrogate pairs, for `fault_of_text` to find. Raises
    InputError, which begins with `name`, for a line longer than any request may be.
    """
    head = stream.peek(4)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    found = marked or encoding or "utf-8"
    text = io.TextIOWrapper(stream, found, errors="surrogateescape", newline="")
    read = partial(text.readline, MAX_LINE_BYTES)
    try:
        for number, line in enumerate(iter(read, ""), 1):
            if len(line) == MAX_LINE_BYTES:
                limit = MAX_LINE_BYTES // 1024**2
                raise InputError(f"{name}: line {number} is longer than {limit} MiB")
            yield line
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not {found} throughout: {error.reason}") from error
    finally:
        # It would close what it reads when it goes.
        with contextlib.suppress(ValueError):
            text.detach()


def fault_of_text(text: str) -> Fault | None:
    """What is wrong with a text of `text_lines`, if anything is."""
    if text.isascii():
        return None
    if (found := _UNDECODED.search(text)) is None:
        return None
    byte = ord(found.group()) - 0xDC00
    is_byte = 0x80 <= byte <= 0xFF
    what = f"the byte 0x{byte:02x}" if is_byte else "half of a surrogate pair"
    return Fault(
        f"is no text in its encoding (character {found.start() + 1} is {what}): if it is not UTF-8,"
        " tell with --input-encoding what it is, such as cp1252"
    )
