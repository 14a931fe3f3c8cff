"""Looks at a gateway's metrics while requests are under way, and passes on what follows."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from batch_gateway.client.layers.concurrency.gateway_metrics import GatewayMetrics
from batch_gateway.client.layers.concurrency.load_page import (
    KNOWN_METRICS,
    Page,
    combined,
    read_page,
)
from batch_gateway.clock import Clock
from batch_gateway.concurrency.server_load import Advice, ServerLoad, Standing
from batch_gateway.durations import seconds
from batch_gateway.errors import InferenceError
from batch_gateway.http.tls import TLSConfig
from batch_gateway.http.watched_page import WatchedPage

__all__ = ["MetricsStatistics", "MetricsWatch"]

_log = logging.getLogger("batch_gateway.gateway_metrics")

# A page that comes and goes is not worth a line each time.
_TOLD_AGAIN = 60.0
_NOTHING_KNOWN = "gives none of the known metrics"


class MetricsStatistics(NamedTuple):
    """What came of looking.

    Attributes:
        looks: times that at least one page said something.
        missed: times that none did.
        lowered: looks after which less was allowed than the controller would have.
    """

    looks: int
    missed: int
    lowered: int


class MetricsWatch:
    """The pages of one gateway's metrics. Raises ConfigError when a certificate does not load.

    `attach` says whom to advise, `wake` begins to look, which ends by itself when nothing is
    under way. A page that cannot be read, is late, or says nothing known is told of once, with a
    warning in the log, and left out until it can be read again. Belongs to one event loop.
    """

    def __init__(self, config: GatewayMetrics, tls: TLSConfig, clock: Clock) -> None:
        self._clock = clock
        self._interval = seconds(config.interval)
        self._timeout = seconds(config.timeout)
        self._sources = [
            _Source(WatchedPage(url, tls, max_bytes=config.max_bytes, token_file=config.token_file))
            for url in config.pages
        ]
        self._load = ServerLoad()
        self._standing: Callable[[], Standing] = _nobody
        self._advise: Callable[[Advice], None] = _nothing
        self._task: asyncio.Task[None] | None = None
        self._next_look = -math.inf
        self._looks = self._missed = self._lowered = 0

    @property
    def statistics(self) -> MetricsStatistics:
        return MetricsStatistics(self._looks, self._missed, self._lowered)

    def attach(self, standing: Callable[[], Standing], advise: Callable[[Advice], None]) -> None:
        """`standing` says how we stand; `advise` is told what follows from each look."""
        self._standing = standing
        self._advise = advise

    async def problems(self) -> list[str]:
        """Look once; a sentence for each page that is of no use as it is."""
        await self._read()
        now = self._clock.monotonic()
        return [complaint for source in self._sources if (complaint := source.news(now))]

    def wake(self) -> None:
        """Requests are under way: look, if nobody does so already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(max(0.0, self._next_look - self._clock.monotonic()))
            self._next_look = self._clock.monotonic() + self._interval
            await self._look()
            if not self._standing().in_flight:
                return

    async def _look(self) -> None:
        load = combined(await self._read())
        now = self._clock.monotonic()
        for source in self._sources:
            if complaint := source.news(now):
                _log.warning("gateway metrics: %s", complaint)
        if load is None:
            self._missed += 1
            self._advise(Advice())
            return
        self._looks += 1
        ours = self._standing()
        advice = self._load.advice(load, ours, now)
        self._advise(advice)
        self._lowered += self._standing().limit < ours.limit and advice.most < ours.limit

    async def _read(self) -> list[Page]:
        deadline = time.monotonic() + self._timeout
        pages = await asyncio.gather(*(source.read(deadline) for source in self._sources))
        return [page for page in pages if page is not None]

    async def aclose(self) -> None:
        """Stop looking."""
        for source in self._sources:
            source.page.close()
        task = self._task
        if task is not None and not task.done() and not task.get_loop().is_closed():
            task.cancel()
            await asyncio.wait({task})


class _Source:
    """One page, and what is wrong with it.

    Attributes:
        problem: why it is of no use at present; empty when it is.
    """

    def __init__(self, page: WatchedPage) -> None:
        self.page = page
        self.problem = ""
        self._told = False
        self._told_at = -math.inf

    async def read(self, deadline: float) -> Page | None:
        try:
            page = read_page(await self.page.read(deadline=deadline))
        except InferenceError as error:
            self.problem = f"cannot be read: {error.message}"
            return None
        if not page.is_known:
            self.problem = f"{_NOTHING_KNOWN} ({', '.join(KNOWN_METRICS)}, …)"
            return None
        self.problem = ""
        return page

    def news(self, now: float) -> str:
        """What is wrong, if that has not been told yet; else empty."""
        if not self.problem and self._told:
            self._told = False
            _log.info("gateway metrics: %s can be read again", self.page.name)
        if not self.problem or self._told or now - self._told_at < _TOLD_AGAIN:
            return ""
        self._told = True
        self._told_at = now
        return f"{self.page.name} {self.problem}; it is left out until that changes"


def _nobody() -> Standing:
    return Standing(0, 0, 0)


def _nothing(_: Advice) -> None:
    """Nobody wants advice."""
