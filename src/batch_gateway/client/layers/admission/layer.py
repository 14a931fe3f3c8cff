"""The layer that makes no attempt without a permit, and says how each has ended."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.admission.control import Permit
from batch_gateway.errors import InferenceError

__all__ = ["AdmissionTransport"]

_NEVER = float("inf")


class AdmissionTransport:
    """Holds attempts back until `admission` lets them go.

    `streams` says that answers come token by token, whoever asked. `on_suspect` is told 1 when
    a request is held that may be to blame itself, so that another is to be tried, and -1 when that
    is over.
    """

    def __init__(
        self,
        inner: Transport,
        admission: Admission,
        *,
        streams: bool = False,
        on_suspect: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._inner = inner
        self._admission = admission
        self._streams = streams
        self._on_suspect = on_suspect

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        """Raises DeadlineExceededError or CircuitOpenError for what was not sent."""
        admission, suspects = self._admission, 0
        try:
            while True:
                permit = admission.acquire_nowait(request) or await admission.acquire(request)
                sent = request
                if self._streams or request.sink is not None:
                    sent = self._listening(request, permit)
                try:
                    response = await self._inner.send(sent)
                    # Here, so that an answer that cannot be read does not keep its permit.
                    usage = response.usage if admission.reads_usage else None
                except InferenceError as error:
                    held = admission.failed(permit, error, request.request_id)
                    if not held or request.is_begun:
                        raise
                    # It may be to blame itself: those that were not tried go first.
                    request = msgspec.structs.replace(request, due=_NEVER)
                    if not suspects and admission.blames_few:
                        suspects = 1
                        self._on_suspect(suspects)
                except BaseException:
                    admission.abandoned(permit)
                    raise
                else:
                    admission.answered(permit, request, response, usage)
                    return response
        finally:
            if suspects:
                self._on_suspect(-suspects)

    def _listening(self, request: PreparedRequest, permit: Permit) -> PreparedRequest:
        def on_first_token(seconds: float) -> None:
            self._admission.first_token(permit, seconds)

        return msgspec.structs.replace(request, on_first_token=on_first_token)

    async def aclose(self) -> None:
        await self._admission.aclose()
        await self._inner.aclose()
