"""A run for code without an event loop: its thread shows progress, and takes interrupts."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from batch_gateway.engine.progress import RunSummary
from batch_gateway.runs.portal import open_portal
from batch_gateway.runs.progress_bar import ProgressBar
from batch_gateway.runs.run_progress import TELL_SECONDS, RunProgress, ShowProgress

__all__ = ["run_blocking"]

_LOOK_SECONDS = 0.1


def run_blocking(
    start: Callable[[], Coroutine[Any, Any, RunSummary]],
    stop: Callable[[], None],
    look: Callable[[], RunProgress],
    progress: bool | ShowProgress,
) -> RunSummary:
    """What `start` returns, run on another thread; `look` says how far it is.

    The first KeyboardInterrupt calls `stop`. With a second one, or when `progress` raises, `stop`
    is called until what is under way is cut off, and the exception is raised.
    """
    with ExitStack() as stack:
        show = _shower(progress, stack)
        started = stack.enter_context(open_portal()).start_task_soon(start)
        try:
            try:
                return _watched(started, look, show)
            except KeyboardInterrupt:
                if started.done():
                    raise
                stop()
                return _watched(started, look, show)
        except BaseException:
            # Twice is at once. The portal would cancel it, and not let the files be closed.
            for _ in range(0 if started.done() else 2):
                stop()
            concurrent.futures.wait({started})
            raise


def _watched(
    started: Future[RunSummary], look: Callable[[], RunProgress], show: _Shower | None
) -> RunSummary:
    while True:
        limit = None if show is None else _LOOK_SECONDS
        is_over = bool(concurrent.futures.wait({started}, limit).done)
        if show is not None:
            show(look(), is_over)
        if is_over:
            return started.result()


_Shower = Callable[[RunProgress, bool], object]
"""Is told how far the run is, and whether it is over."""


def _shower(progress: bool | ShowProgress, stack: ExitStack) -> _Shower | None:
    if not isinstance(progress, bool):
        return _seldom(progress)
    if not progress:
        return None
    bar = stack.enter_context(ProgressBar())
    return lambda now, is_over: bar.show(now.done, now.total or None, str(now), last=is_over)


def _seldom(show: ShowProgress) -> _Shower:
    told = float("-inf")

    def tell(now: RunProgress, is_over: bool) -> None:
        nonlocal told
        moment = time.monotonic()
        if is_over or (now.total and moment - told >= TELL_SECONDS):
            told = moment
            show(now)

    return tell
