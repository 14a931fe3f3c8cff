"""Runs the model of batching against the real clock, with one timer for all requests."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from batch_gateway.simulator.batching import Admission, ContinuousBatch, EventKind
from batch_gateway.simulator.capacity import Capacity
from batch_gateway.simulator.simulator_config import SimulatorConfig

__all__ = ["PacedJob", "Pacing"]


class PacedJob(Protocol):
    """A request that wants to be told how far its tokens are."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def follows_tokens(self) -> bool:
        """Whether `tokens_ready` is wanted at every step, and not only the end."""
        ...

    def tokens_ready(self, count: int) -> None:
        """Each of its sequences has `count` tokens now."""
        ...

    def done(self) -> None: ...

    def refused(self, cause: str) -> None:
        """It will not run: "saturated", "ttl-expired", "too-large"."""
        ...


_CAUSES = {
    Admission.REFUSED: "saturated",
    Admission.TOO_LARGE: "too-large",
}
_DROPS = {EventKind.EXPIRED: "ttl-expired", EventKind.DISPLACED: "saturated"}


class Pacing:
    """Calls jobs back as the model says. With `latency_scale` 0, every job is done at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: SimulatorConfig) -> None:
        self._loop = loop
        self._instant = config.latency_scale == 0
        # loop.time() would do, but uvloop rounds it to milliseconds.
        self._batch: ContinuousBatch | None = None
        self._jobs: dict[int, PacedJob] = {}
        self._ids: dict[PacedJob, int] = {}
        self._followed: set[int] = set()
        self._next_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.configure(config)

    @property
    def running(self) -> int:
        return 0 if self._batch is None else self._batch.running

    @property
    def waiting(self) -> int:
        return 0 if self._batch is None else self._batch.waiting

    @property
    def kv_usage(self) -> float:
        return 0.0 if self._batch is None else self._batch.kv_usage

    def configure(self, config: SimulatorConfig) -> None:
        """Take over a changed configuration; jobs that run already are finished either way."""
        self._instant = config.latency_scale == 0
        if self._instant:
            return
        now = time.monotonic()
        if self._batch is None:
            self._batch = ContinuousBatch(Capacity.of(config), now)
        else:
            self._batch.reconfigure(Capacity.of(config), now)
            self._report(now)

    def start(self, job: PacedJob) -> None:
        if self._instant or self._batch is None:
            job.tokens_ready(job.output_tokens)
            job.done()
            return
        now = time.monotonic()
        self._next_id += 1
        key = self._next_id
        self._jobs[key] = job
        self._ids[job] = key
        admission = self._batch.submit(
            key,
            job.prompt_tokens,
            job.output_tokens,
            now,
            cached_tokens=job.cached_tokens,
            width=job.width,
            priority=job.priority,
        )
        if admission in _CAUSES:
            self._forget(key)
            job.refused(_CAUSES[admission])
        elif job.follows_tokens:
            self._followed.add(key)
        self._report(now)

    def cancel(self, job: PacedJob) -> None:
        """Nobody waits for it any more; its seats are free at once."""
        key = self._ids.get(job)
        if key is None or self._batch is None:
            return
        now = time.monotonic()
        self._forget(key)
        self._batch.cancel(key, now)
        self._report(now)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the timer -------------------------------------------------------------------------

    def _report(self, now: float) -> None:
        """Tell every job what happened to it, and set the timer for what comes next."""
        batch = self._batch
        if batch is None:
            return
        events = batch.advance(now)
        for key in tuple(self._followed):
            job = self._jobs.get(key)
            if job is not None:
                job.tokens_ready(batch.generated(key))
        for event in events:
            if event.kind is EventKind.FINISHED:
                self._finish(event.sequence_id)
            elif event.kind in _DROPS:
                self._drop(event.sequence_id, _DROPS[event.kind])
        self._set_timer()

    def _finish(self, key: object) -> None:
        job = self._forget(key)
        if job is not None:
            job.tokens_ready(job.output_tokens)
            job.done()

    def _drop(self, key: object, cause: str) -> None:
        job = self._forget(key)
        if job is not None:
            job.refused(cause)

    def _forget(self, key: object) -> PacedJob | None:
        assert isinstance(key, int)  # noqa: S101 - every id in the model was made here
        job = self._jobs.pop(key, None)
        self._followed.discard(key)
        if job is not None:
            self._ids.pop(job, None)
        return job

    def _set_timer(self) -> None:
        batch = self._batch
        if batch is None:
            return
        at = batch.next_event_time()
        if self._followed:
            step = batch.next_step_time()
            at = step if at is None or (step is not None and step < at) else at
        if self._timer is not None and at == self._timer_at:
            return
        self.stop()
        if at is not None:
            self._timer_at = at
            delay = max(0.0, at - time.monotonic())
            self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._report(time.monotonic())
