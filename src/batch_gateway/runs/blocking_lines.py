"""Lines for code without an event loop: taken, and results handed over, on the caller's thread.

Its iterables may block, then, and may belong to that thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import (
    AsyncGenerator,
    Generator,
    Iterable,
    Sized,
)
from contextlib import ExitStack, aclosing
from queue import SimpleQueue
from typing import Any, Unpack

from batch_gateway.engine.line_stream import BatchResult
from batch_gateway.runs.line_batch import BatchOptions, Lines, is_iterated, run_batch
from batch_gateway.runs.portal import open_portal
from batch_gateway.runs.progress_bar import ProgressBar
from batch_gateway.runs.user_lines import Line

__all__ = ["run_batch_blocking"]

# As many lines at a time as may come in so many seconds: each handing over wakes a thread.
_MOST_LINES, _LONGEST_TAKING = 64, 0.01
_MOST_RESULTS = 64


def run_batch_blocking(
    lines: Lines, *, progress: bool = False, **options: Unpack[BatchOptions]
) -> Generator[BatchResult]:
    """`run_batch` for code without an event loop, or in a notebook: `for result in …`.

    `lines` are taken on the caller's thread, while it waits for a result, unless they are an async
    iterable. `progress` shows a bar, by `rich`. Leaving the loop cancels what is under way. Other
    arguments, and what is raised, see `run_batch`.
    """
    exchange = _Exchange(lines if is_iterated(lines) else ())
    results = run_batch(exchange.lines() if is_iterated(lines) else lines, **options)
    return _results(exchange, results, len(lines) if isinstance(lines, Sized) else None, progress)


def _results(
    exchange: _Exchange, results: AsyncGenerator[BatchResult], total: int | None, progress: bool
) -> Generator[BatchResult]:
    with ExitStack() as stack:
        counter = _Counter(stack.enter_context(ProgressBar()) if progress else None, total)
        passing = stack.enter_context(open_portal()).start_task_soon(exchange.pass_on, results)
        try:
            while (result := exchange.next_result()) is not None:
                counter.count(result)
                yield result
        except BaseException:
            exchange.leave()
            # The portal would cancel it, and let nothing be closed.
            concurrent.futures.wait({passing})
            raise
        counter.show(last=True)
        passing.result()


class _Counter:
    """Counts results for a bar, where there is one."""

    def __init__(self, bar: ProgressBar | None, total: int | None) -> None:
        self._bar, self._total = bar, total
        self._done = self._failed = 0

    def count(self, result: BatchResult) -> None:
        self._done += 1
        self._failed += not result.ok
        self.show()

    def show(self, *, last: bool = False) -> None:
        if self._bar is not None:
            failed = f", {self._failed:,} failed" if self._failed else ""
            self._bar.show(self._done, self._total, f"{self._done:,} done{failed}", last=last)


class _Exchange:
    """Between the thread of a caller, who has the lines, and that of the event loop."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        # Results, futures of lines that are wanted, and at last None.
        self._inbox: SimpleQueue[BatchResult | asyncio.Future[Any] | None] = SimpleQueue()
        self._room = asyncio.Semaphore(_MOST_RESULTS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._passing: asyncio.Future[None] | None = None
        self._has_left = False

    # --- on the event loop ---

    async def lines(self) -> AsyncGenerator[Line]:
        """The caller's lines, as they are wanted. Raises what its iterable raises."""
        loop = asyncio.get_running_loop()
        while True:
            wanted = loop.create_future()
            self._inbox.put(wanted)
            taken, error, has_more = await wanted
            for line in taken:
                yield line
            if error is not None:
                raise error
            if not has_more:
                return

    async def pass_on(self, results: AsyncGenerator[BatchResult]) -> None:
        """Hand over results until they end, or the caller leaves. Raises what they raise."""
        self._loop = asyncio.get_running_loop()
        # A task of its own, which is cancelled once: what it closes may then be waited for.
        passing = self._passing = asyncio.ensure_future(self._pass_on(results))
        if self._has_left:
            passing.cancel()
        await asyncio.wait({passing})
        if not passing.cancelled():
            passing.result()

    async def _pass_on(self, results: AsyncGenerator[BatchResult]) -> None:
        try:
            async with aclosing(results):
                async for result in results:
                    await self._room.acquire()
                    self._inbox.put(result)
        finally:
            self._inbox.put(None)

    # --- on the caller's thread ---

    def leave(self) -> None:
        """No more results are taken."""
        self._has_left = True
        if self._loop is not None and self._passing is not None:
            self._loop.call_soon_threadsafe(self._passing.cancel)

    def next_result(self) -> BatchResult | None:
        """The next one, None after the last; gives lines meanwhile."""
        while True:
            message = self._inbox.get()
            if not isinstance(message, asyncio.Future):
                if message is not None and self._loop is not None:
                    self._loop.call_soon_threadsafe(self._room.release)
                return message
            answer = self._take()
            message.get_loop().call_soon_threadsafe(_answer, message, answer)

    def _take(self) -> tuple[list[Line], Exception | None, bool]:
        taken: list[Line] = []
        until = time.monotonic() + _LONGEST_TAKING
        try:
            for line in self._lines:
                taken.append(line)
                if len(taken) == _MOST_LINES or time.monotonic() > until:
                    return taken, None, True
        except Exception as error:  # noqa: BLE001 - it is raised behind the results before it
            return taken, error, False
        return taken, None, False


def _answer(wanted: asyncio.Future[Any], answer: object) -> None:
    if not wanted.done():
        wanted.set_result(answer)
