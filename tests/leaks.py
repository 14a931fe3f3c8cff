"""What a test must not leave behind: tasks, threads, descriptors, child processes, temporary files.

A plugin for all tests, named in `tests/conftest.py`. What is there before a test, such as a peer
that serves a whole module, is not its leak; what is more afterwards fails the test that left it.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import contextlib
import gc
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop

__all__ = [
    "leaves_nothing",
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_unconfigure",
]

# How long what was told to end may take, on a busy machine.
_PATIENCE_S = 20.0
_PROCESS = Path("/proc/self")
_HAS_PROC = (_PROCESS / "fd").is_dir()

# A part of a leftover's name, and why it may stay.
KEPT: Mapping[str, str] = {
    "TestRunner._run_tests_and_fixtures": "anyio's task in which a test runs ends with its loop",
    "multiprocessing.resource_tracker": "one for the process, which multiprocessing never ends",
    "postgres-of-all-tests": "the first test that asks for a database starts it for all others",
    "multiprocessing.forkserver": "one for the process, which multiprocessing never ends",
}
_tasks_left: list[str] = []


class Standing(NamedTuple):
    """What there is at one moment, apart from tasks, which end with their loop."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[str]
    children: frozenset[str]
    files: frozenset[str]

    @classmethod
    def now(cls) -> Standing:
        return cls(
            frozenset(threading.enumerate()),
            frozenset(os.listdir(_PROCESS / "fd")) if _HAS_PROC else frozenset(),  # noqa: PTH208
            _children(),
            frozenset(os.listdir(tempfile.gettempdir())),  # noqa: PTH208
        )

    def since(self, before: Standing) -> list[str]:
        """What came after `before` and may not be kept, in words."""
        pools = {_pool_of(thread) for thread in before.threads}

        def grew(thread: threading.Thread) -> bool:
            """Whether it is one more thread of an executor that had some before."""
            return _pool_of(thread) in pools

        names = [
            *(f"thread {thread}" for thread in self.threads - before.threads if not grew(thread)),
            *map(_descriptor, self.descriptors - before.descriptors),
            *map(_process, self.children - before.children),
            *(f"temporary file {name}" for name in self.files - before.files),
        ]
        return [name for name in names if name and not _may_stay(name)]


def _pool_of(thread: threading.Thread) -> str:
    """The executor of a worker thread, by its name; for others, nobody else's name."""
    pool, _, number = thread.name.rpartition("_")
    return pool if pool and number.isdigit() else f"{thread.name} {thread.ident}"


def _may_stay(name: str) -> bool:
    return any(kept in name for kept in KEPT)


def _children() -> frozenset[str]:
    try:
        # One call to the system says that there are none, as is usual.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()
    return frozenset(" ".join(map(_text, _PROCESS.glob("task/*/children"))).split())


def _descriptor(number: str) -> str:
    try:
        return f"descriptor {number} of {(_PROCESS / 'fd' / number).readlink()}"
    except OSError:
        return ""  # what listed the descriptors was one itself


def _process(number: str) -> str:
    command = _text(Path("/proc", number, "cmdline")).replace("\0", " ")
    return f"process {number} {command or 'which nobody waited for'}"


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _note_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """At the end of `asyncio.run` and the like, which cancel without a word what still runs."""
    tasks = {task for task in asyncio.all_tasks(loop) if not _may_stay(f"task {task}")}
    if tasks:
        with contextlib.suppress(RuntimeError):  # nothing is left that could wake the loop
            loop.run_until_complete(asyncio.wait(tasks, timeout=_PATIENCE_S))
    _tasks_left.extend(f"task {task}" for task in tasks if not task.done())
    _cancel_all_tasks(loop)


_cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]


def _left_since(before: Standing) -> list[str]:
    end = time.monotonic() + _PATIENCE_S
    while left := Standing.now().since(before):
        if time.monotonic() > end:
            break
        gc.collect()
        time.sleep(0.01)
    return left + _tasks_left


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test after which there is more than before."""
    if request.node.get_closest_marker("serves_a_module") is not None:
        yield
        return
    _tasks_left.clear()
    before = Standing.now()
    yield
    if left := _left_since(before):
        pytest.fail("\n  ".join(["the test left behind:", *sorted(left)]), pytrace=False)


def pytest_configure() -> None:
    """Give temporary files a folder of this process's own; `tmp_path` stays where it is."""
    asyncio.runners._cancel_all_tasks = _note_tasks  # type: ignore[attr-defined]
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="leaks-")
    uvloop.new_event_loop().close()  # opens a pipe for signals, one for the process


def pytest_collection_finish() -> None:
    """Thousands of tests and what they import stay: looking for garbage leaves these out."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
