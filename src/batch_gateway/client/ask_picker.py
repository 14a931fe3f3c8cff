"""One question to an endpoint picker, asked for its own sake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from batch_gateway.client.build import build_exchanger
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.client.layers.scheduling_hints import hint_headers
from batch_gateway.client.prepare import prepare
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.durations import seconds
from batch_gateway.errors import InferenceError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.sent_secrets import redactor_of

if TYPE_CHECKING:
    from batch_gateway.picker.exchanger import EndpointPickerExchanger

__all__ = ["Picked", "pick"]


class Picked(msgspec.Struct, frozen=True, kw_only=True):
    """What the picker answered; nothing was sent to any pod.

    Attributes:
        endpoints: the pods, best first; empty when it refused.
        path: where the request would be posted.
        headers: all that would be sent, by lower-case name, credentials among them.
        headers_set: the headers that the picker set or changed, by name.
        headers_removed: those that it removed.
        body: what would be sent.
        body_rewritten: whether that is another body than was asked about.
        refusal: the answer in place of a choice.
        seconds: from asking to the answer, the connection being there.
    """

    endpoints: Sequence[str] = ()
    path: str = ""
    headers: dict[str, str] = {}
    headers_set: dict[str, str] = {}
    headers_removed: Sequence[str] = ()
    body: bytes = b""
    body_rewritten: bool = False
    refusal: HTTPResponse | None = None
    seconds: float

    def __repr__(self) -> str:
        # Headers and body may hold what is nobody's business.
        what = "refused" if self.refusal is not None else ", ".join(self.endpoints)
        return f"Picked({what}, {len(self.body)} bytes)"


async def pick(
    config: HTTPInferenceClientConfig, request: InferenceRequest, *, clock: Clock = SYSTEM_CLOCK
) -> Picked:
    """Ask the picker of `config` where it would send `request`, once and without a retry.

    Raises InferenceError when it cannot be asked or does not answer, and ConfigError as a client
    does.
    """
    prepared = prepare(request, clock)
    hints = () if config.scheduling is None else hint_headers(config.scheduling, float("inf"))
    own = {name.lower() for name, _ in prepared.headers}
    headers = (
        ("X-Request-ID", prepared.request_id),
        *(pair for pair in hints if pair[0] not in own),
        *prepared.headers,
    )
    # Made where every transport is, so that a missing extra is told in the same words.
    exchanger = cast("EndpointPickerExchanger", build_exchanger(config))
    try:
        limit = seconds(config.connect_timeout)
        await exchanger.connect(deadline=clock.monotonic() + limit, health=False)
        began = clock.monotonic()
        choice = await exchanger.pick(
            prepared.endpoint, headers, prepared.body, deadline=began + seconds(config.timeout)
        )
        took = clock.monotonic() - began
    except InferenceError as error:
        # Its status may quote the key that it refuses.
        redactor_of(config).and_headers(headers).in_error(error)
        raise error from error.cause
    finally:
        await exchanger.aclose()
    if isinstance(choice, HTTPResponse):
        return Picked(refusal=choice, seconds=took)
    asked = exchanger.asked(prepared.endpoint, headers)
    return Picked(
        endpoints=choice.endpoints,
        path=choice.headers.get(":path", ""),
        headers={n: v for n, v in choice.headers.items() if n[:1] != ":"},
        headers_set={n: v for n, v in choice.headers.items() if asked.get(n) != v and n != ":path"},
        headers_removed=[name for name in asked if name not in choice.headers],
        body=choice.body,
        body_rewritten=choice.body != prepared.body,
        seconds=took,
    )
