"""A client that leaves those who ask it waiting."""

from __future__ import annotations

import asyncio

from batch_gateway import InferenceRequest, InferenceResponse


class Held:
    """Holds every request but the first."""

    def __init__(self) -> None:
        self.under_way = self.cancelled = 0

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        self.under_way += 1
        try:
            if self.under_way > 1:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return InferenceResponse(request_id="r", status_code=200, body=b"{}")
