"""From what a program gives as a line to a request with a custom_id, or what is wrong with it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.client.prepare import prepare
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.engine.validate import check_line, diagnose
from batch_gateway.errors import ConfigError, InferenceError, InvalidRequestError
from batch_gateway.wire.endpoint import CHAT
from batch_gateway.wire.lines import OTHER_ENDPOINTS, decode_batch_line

__all__ = ["Line", "LineReader"]

Line = str | bytes | Mapping[str, Any] | InferenceRequest
"""A prompt, a line of a batch file as bytes or as a mapping, the parameters of a request, or a
request."""

_OF_BATCH_LINES = frozenset({"custom_id", "body"})
# A custom_id is known by so many bits of its hash; a bucket is looked through.
_BUCKETS = 16_384
_BITS = 0xFFFF_FFFF_FFFF_FFFF


class _Seen:
    """The custom_ids that were given, at some ten bytes each."""

    def __init__(self) -> None:
        self._buckets: dict[int, array[int]] = {}

    def add(self, custom_id: str) -> bool:
        """Whether it is new."""
        number = hash(custom_id) & _BITS
        bucket = self._buckets.setdefault(number % _BUCKETS, array("Q"))
        if number in bucket:
            return False
        bucket.append(number)
        return True


class LineReader:
    """Reads lines, one after the other; `model` is that of lines that name none."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._seen = _Seen()

    def read(self, index: int, line: Line) -> tuple[str, InferenceRequest | InferenceError]:
        """The custom_id and the request of the next line, or the error that is its result.

        Raises ConfigError for a prompt when there is no model.
        """
        made = f"request-{index + 1}"
        try:
            custom_id, request = self._parts(index, line)
        except InvalidRequestError as error:
            return made, error
        if custom_id is None:
            custom_id = made
        elif not isinstance(custom_id, str) or not custom_id:
            return made, _wrong(index, ".custom_id", f"must be a string, not {custom_id!r:.80}")
        if not self._seen.add(custom_id):
            return custom_id, _wrong(index, ".custom_id", f"{custom_id!r:.80} was used before")
        try:
            return custom_id, _ready(request, self._model)
        except InvalidRequestError as error:
            return custom_id, _wrong(index, "", error.message)

    def _parts(self, index: int, line: object) -> tuple[Any, InferenceRequest]:
        """What stands for the custom_id, None where nothing does, and the request."""
        if isinstance(line, str):
            return None, self._prompt(index, line)
        if isinstance(line, bytes):
            return _from_bytes(index, line)
        if isinstance(line, InferenceRequest):
            return line.request_id or None, line
        if not isinstance(line, Mapping):
            raise _wrong(
                index, "", f"must be a prompt, a mapping or an InferenceRequest, not {line!r:.80}"
            )
        fields = cast("Mapping[str, Any]", line)
        if not _OF_BATCH_LINES & fields.keys():
            return None, InferenceRequest(params=fields)
        return _from_batch_line(index, fields)

    def _prompt(self, index: int, text: str) -> InferenceRequest:
        if self._model is None:
            raise ConfigError("model", f"is missing, and lines[{index}] is a prompt for one")
        if text.lstrip().startswith("{") and check_line(text.encode(errors="replace")) is not None:
            raise _wrong(
                index, "", "is a line of a batch file as text; give it as bytes, or decoded"
            )
        messages = [{"role": "user", "content": text}]
        return InferenceRequest(params={"model": self._model, "messages": messages}, endpoint=CHAT)


def _from_bytes(index: int, line: bytes) -> tuple[str, InferenceRequest]:
    checked = check_line(line, OTHER_ENDPOINTS)
    if checked is None:
        faults = diagnose(line.removesuffix(b"\n"), OTHER_ENDPOINTS).problems
        raise _wrong(index, "", "; ".join(fault.text for fault in faults))
    body = bytes(decode_batch_line(line).body)
    model = checked.body.model
    return checked.custom_id, InferenceRequest(params=body, model=model, endpoint=checked.url)


def _from_batch_line(index: int, line: Mapping[str, Any]) -> tuple[Any, InferenceRequest]:
    if "body" not in line:
        # The parameters of a request beside the name of its result.
        params = {name: value for name, value in line.items() if name != "custom_id"}
        return line["custom_id"], InferenceRequest(params=params)
    body, method, url = line["body"], line.get("method", "POST"), line.get("url", "")
    if not isinstance(body, Mapping | bytes):
        raise _wrong(index, ".body", f"must be a mapping, not {body!r:.80}")
    if method != "POST":
        raise _wrong(index, ".method", f"must be 'POST', not {method!r:.80}")
    if not isinstance(url, str):
        raise _wrong(index, ".url", f"must be a path such as {CHAT}, not {url!r:.80}")
    params = body if isinstance(body, bytes) else cast("Mapping[str, Any]", body)
    return line.get("custom_id"), InferenceRequest(params=params, endpoint=url)


def _ready(request: InferenceRequest, model: str | None) -> InferenceRequest:
    """The request as bytes: what its line becomes later does not matter any more."""
    params = request.params
    if model is not None and isinstance(params, Mapping) and not request.model:
        params = params if params.get("model") is not None else {**params, "model": model}
        request = msgspec.structs.replace(request, params=params)
    prepared = prepare(request, SYSTEM_CLOCK)
    return msgspec.structs.replace(
        request, params=prepared.body, model=prepared.model, endpoint=prepared.endpoint
    )


def _wrong(index: int, field: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"lines[{index}]{field}: {problem}", code="invalid_line")
