"""A run whose client says how many lines it has use for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .batch_files import ids_in, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway, SteppedClock, when_let_go

pytestmark = pytest.mark.anyio


class PacedGateway(FakeGateway):
    """Has use for some lines, as a client that limits its sendings."""

    requests_wanted = 24

    def __init__(self) -> None:
        super().__init__(when_let_go)
        self.listeners: list[Callable[[], None]] = []

    def when_wanted(self, listener: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def want(self, lines: int) -> None:
        self.requests_wanted = lines
        for listener in self.listeners:
            listener()


async def test_lines_under_way_follow_what_the_client_has_use_for_at_once(folder: Folder) -> None:
    write_batch(folder.input, 400)
    gateway, clock = PacedGateway(), SteppedClock()
    async with folder.running(gateway, concurrency=None, clock=clock) as run:
        # Nothing has answered yet, so that only a few are tried at first.
        await gateway.until(lambda: gateway.in_flight == 10)
        await clock.advance(5)
        await gateway.until(lambda: gateway.in_flight == 24)
        gateway.want(150)
        await gateway.until(lambda: gateway.in_flight == 150)
        gateway.want(1)
        gateway.gate.set()
        summary = await run
    assert summary.succeeded == 400
    assert len(ids_in(folder.output)) == 400
    assert gateway.most_in_flight == 150
    assert gateway.listeners == []


async def test_a_client_without_a_limit_gets_the_usual_number(folder: Folder) -> None:
    write_batch(folder.input, 200)
    gateway = FakeGateway()
    summary = await folder.run(gateway, concurrency=None)
    assert summary.succeeded == 200
    assert gateway.most_in_flight == 64
