"""CPU of the adaptive controller: `python -m benchmarks.controller_cpu`.

What the controller was told in a simulated world is written down and told again to another one,
which decides the same; only that is timed. Microseconds of one request, from `started` to
`finished`, with `first_token` where answers are streamed; the least of several times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Started
from benchmarks.tables import print_table
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import Ours
from benchmarks.worlds.simulation import simulate

_WORLDS = ("queues", "refuses", "changes", "lengths, all equal", "chance 2%", "tiny")
_SECONDS = {"tiny": 4.0}
_USUAL_SECONDS = 120.0
_TIMES = 5

_Call = tuple[str, int, Any, float]


class _Recorder(Ours):
    """Writes down each call, with the number of the request instead of its `Started`."""

    def __init__(self, *, sees_first_token: bool) -> None:
        super().__init__(sees_first_token=sees_first_token)
        self.calls: list[_Call] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[Started] = []

    def started(self, now: float) -> Started:
        started = super().started(now)
        self._numbers[id(started)] = len(self._kept)
        self._kept.append(started)
        self.calls.append(("started", 0, None, now))
        return started

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self.calls.append(("finished", self._numbers[id(started)], ended, now))
        super().finished(started, ended, now)

    def first_token(
        self, started: Started, seconds: float, now: float, heard_after: float = 0.0
    ) -> None:
        self.calls.append(("first_token", self._numbers[id(started)], seconds, now))
        super().first_token(started, seconds, now, heard_after)


def main() -> None:
    rows: list[list[str]] = []
    for name in _WORLDS:
        world = replace(WORLDS[name], duration=_SECONDS.get(name, _USUAL_SECONDS))
        row = [name]
        for streamed in (False, True):
            recorder = _Recorder(sees_first_token=streamed)
            simulate(world, recorder)
            row.append(f"{min(_replay(recorder.calls) for _ in range(_TIMES)):.2f}")
        rows.append(row)
    print_table("CPU of one request, µs", ["world", "plain", "streamed"], rows)


def _replay(calls: list[_Call]) -> float:
    controller = AdaptiveController(AdaptiveConcurrency())
    started: list[Started] = []
    told: dict[str, Callable[..., None]] = {
        "finished": controller.finished,
        "first_token": controller.first_token,
    }
    start, began = controller.started, time.process_time()
    for name, number, what, now in calls:
        if name == "started":
            started.append(start(now))
        else:
            told[name](started[number], what, now)
    return (time.process_time() - began) / max(1, len(started)) * 1e6


if __name__ == "__main__":
    main()
