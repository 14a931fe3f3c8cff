"""The head of one part of a form: which field it is, and what its file is called (RFC 7578)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header

from batch_gateway.server.api_errors import ApiError

__all__ = ["PartHead", "read_part_head"]

_AS_IT_IS: Final = frozenset({b"", b"binary", b"8bit", b"7bit", b"identity"})
# A name in UTF-8, which some clients give beside the other or alone (RFC 5987, RFC 6266 §4.3).
_EXTENDED_NAME: Final = re.compile(
    rb";\s*filename\*\s*=\s*\"?(utf-8|iso-8859-1)'[^']*'([^\";\s]*)", re.IGNORECASE
)


class PartHead(NamedTuple):
    """The field, and the name of the file, which may be empty."""

    name: str
    filename: str


def read_part_head(headers: Mapping[bytes, bytes]) -> PartHead:
    """`headers` by their lower-case names.

    Raises ApiError (400) for what is encoded: it would be kept as it is, and be another file than
    was meant.
    """
    for name in (b"content-transfer-encoding", b"content-encoding"):
        value = headers.get(name, b"").strip().lower()
        if value not in _AS_IT_IS:
            told = f"{name.decode().title()}: {value.decode('utf-8', 'replace')}"
            raise ApiError(400, f"a part of the form has {told}; send it as it is")
    if headers.get(b"content-type", b"").strip().lower().startswith(b"multipart/"):
        raise ApiError(400, "a part of the form is a form itself: send one file, as it is")
    disposition = headers.get(b"content-disposition", b"")
    _, options = parse_options_header(disposition.decode("latin-1"))
    filename = options.get(b"filename", b"").decode("utf-8", "replace")
    if extended := _EXTENDED_NAME.search(disposition):
        filename = unquote_to_bytes(extended[2]).decode(extended[1].decode(), "replace")
    return PartHead(options.get(b"name", b"").decode("utf-8", "replace"), filename)
