"""Where the CPU time of a process goes, by part of the package: py-spy's samples, added up."""

from __future__ import annotations

import linecache
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.environment import REPOSITORY

__all__ = ["Parts", "Samples", "available", "record", "samples_of"]

Parts = Sequence[tuple[str, Sequence[str]]]
"""What parts are called, and names of which one is in the innermost frame that decides."""

_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]+):(?P<line>\d+)\)")
_SAMPLES_PER_S = 400

# C code counts for the line that called it.
_PARTS: Parts = (
    ("event loop and sockets", ("/asyncio/", "/uvloop/")),
    (
        "HTTP/2 and header compression",
        ("batch_gateway/grpc/", "batch_gateway/wire/http2/", "/hpack/"),
    ),
    ("encoding the messages", ("batch_gateway/picker/encode.py",)),
    ("the conversation with the picker", ("batch_gateway/picker/",)),
    ("the request to the pod", ("batch_gateway/http/", "httptools")),
    ("the client's layers", ("batch_gateway/",)),
    ("the caller", ("benchmarks/",)),
)
_DECODING = "decoding the messages"
_REST = "everything else"


class Samples:
    """What a profiler saw: stacks, and how often each."""

    def __init__(self, text: str) -> None:
        self._stacks: list[tuple[list[str], int]] = []
        for sample in text.splitlines():
            stack, _, count = sample.rpartition(" ")
            self._stacks.append((stack.split(";"), int(count)))
        self._total = sum(count for _, count in self._stacks)

    def parts(self, parts: Parts = _PARTS) -> Mapping[str, float]:
        """The share of each part, 0 to 1, the largest first."""
        return self._shares(lambda stack: _part_of(stack, parts))

    def functions(self) -> Mapping[str, float]:
        """The share of each function by itself, the largest first."""
        return self._shares(_function_of)

    def _shares(self, name_of: Callable[[list[str]], str]) -> Mapping[str, float]:
        counted: Counter[str] = Counter()
        for stack, count in self._stacks:
            counted[name_of(stack)] += count
        return {name: count / self._total for name, count in counted.most_common()}


def available() -> bool:
    """Whether py-spy is installed beside this Python."""
    return _py_spy() is not None


def samples_of(pid: int, seconds: float) -> Samples:
    """What a process does for so long."""
    return record(["--pid", str(pid), "--duration", str(int(seconds))], seconds + 30)


def record(whose: Sequence[str], timeout: float, **options: Any) -> Samples:
    """What py-spy sees of a process or a command; `options` are those of its own start.

    Raises SystemExit when it is not installed, or says why it saw nothing.
    """
    program = _py_spy()
    if program is None:
        raise SystemExit("py-spy is not installed")
    with TemporaryDirectory(prefix="benchmark-profile-") as folder:
        samples = Path(folder) / "samples.txt"
        command = [program, "record", "--rate", str(_SAMPLES_PER_S), "--format", "raw"]
        command += ["--full-filenames", "--nonblocking", "--output", str(samples), *whose]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
            **options,
        )
        if not samples.exists():
            raise SystemExit(done.stderr.decode("utf-8", "replace"))
        return Samples(samples.read_text("utf-8"))


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _part_of(stack: list[str], parts: Parts) -> str:
    for frame in reversed(stack):
        match = _FRAME.fullmatch(frame)
        if match is None:
            continue
        file = match["file"]
        if ".FromString(" in linecache.getline(file, int(match["line"])):
            return _DECODING
        short = file.removeprefix(f"{REPOSITORY}/")
        for part, names in parts:
            if any(name in short for name in names):
                return part
    return _REST


def _function_of(stack: list[str]) -> str:
    match = _FRAME.fullmatch(stack[-1])
    if match is None:
        return stack[-1]
    return f"{match['function']} ({match['file'].rpartition('/')[2]})"
