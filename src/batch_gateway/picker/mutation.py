"""What an endpoint picker wants changed about headers, and which pods it chose."""

from __future__ import annotations

from collections.abc import Sequence

from batch_gateway.picker.endpoints import parse_endpoints
from batch_gateway.wire.ext_proc.messages_pb2 import HeaderMutation, ProcessingResponse
from batch_gateway.wire.ext_proc.names import DESTINATION, LB_NAMESPACE
from batch_gateway.wire.headers import Headers

__all__ = [
    "apply_to_request",
    "apply_to_response",
    "endpoints_in_headers",
    "endpoints_in_metadata",
    "pairs_set",
]

# The body may be another than the one that was asked about; the transport counts its own.
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def apply_to_request(mutation: HeaderMutation, headers: dict[str, str]) -> None:
    """Change `headers`, whose names are in lower case, in place.

    As Envoy does: first the removals, then each header that is set overwrites, whichever append
    action it names (GAIE's pickers leave it at its default and mean that). Pseudo headers are
    set like others and never removed.
    """
    for name in mutation.remove_headers:
        if name[:1] != ":":
            headers.pop(name.lower(), None)
    for option in mutation.set_headers:
        header = option.header
        name = header.key.lower()
        if name == "host":
            # HTTP/1's name of the same thing, which must not be there twice.
            name = ":authority"
        if name not in _FRAMING:
            headers[name] = header.raw_value.decode("latin-1") or header.value


def apply_to_response(
    mutation: HeaderMutation, pairs: Sequence[tuple[bytes, bytes]], headers: Headers
) -> Headers:
    """The same for the headers of an answer, which are not changed themselves.

    `pairs` are those that it sets, see `pairs_set`.
    """
    gone = {name for name, _ in pairs}
    for name in mutation.remove_headers:
        gone.add(name.lower().encode("latin-1", "replace"))
    if not gone:
        return headers
    kept = [pair for pair in headers.raw if pair[0].lower() not in gone]
    return Headers(kept + [pair for pair in pairs if pair[0][:1] != b":"])


def pairs_set(mutation: HeaderMutation) -> list[tuple[bytes, bytes]]:
    """The headers that are set, names in lower case, as bytes off the wire."""
    found: list[tuple[bytes, bytes]] = []
    for option in mutation.set_headers:
        header = option.header
        value = header.raw_value or header.value.encode("latin-1", "replace")
        found.append((header.key.lower().encode("latin-1", "replace"), value))
    return found


def endpoints_in_metadata(response: ProcessingResponse) -> Sequence[str]:
    """The pods that a response names in its metadata, best first; empty when it names none."""
    if response.HasField("dynamic_metadata"):
        namespace = response.dynamic_metadata.fields.get(LB_NAMESPACE)
        if namespace is not None:
            named = namespace.struct_value.fields.get(DESTINATION)
            if named is not None:
                return parse_endpoints(named.string_value)
    return ()


def endpoints_in_headers(headers: dict[str, str]) -> Sequence[str]:
    """The same for the header that a picker has set; either is enough (proposal 004)."""
    return parse_endpoints(headers.get(DESTINATION, ""))
