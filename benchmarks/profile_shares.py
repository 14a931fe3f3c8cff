"""Where the CPU time of a process goes, by part of the package: py-spy's samples, added up."""

from __future__ import annotations

import linecache
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.environment import REPOSITORY

__all__ = ["available", "shares_of"]

_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]+):(?P<line>\d+)\)")
_SAMPLES_PER_S = 400

# The innermost frame that one of these names decides; C code counts for the line that called it.
_PARTS = (
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


def available() -> bool:
    """Whether py-spy is installed beside this Python."""
    return _py_spy() is not None


def shares_of(pid: int, seconds: float) -> Mapping[str, float]:
    """The share of each part, 0 to 1, in what the process did for so long; the largest first."""
    program = _py_spy()
    if program is None:
        raise SystemExit("py-spy is not installed")
    with TemporaryDirectory(prefix="benchmark-profile-") as folder:
        samples = Path(folder) / "samples.txt"
        command = [program, "record", "--pid", str(pid), "--duration", str(int(seconds))]
        command += ["--rate", str(_SAMPLES_PER_S), "--format", "raw", "--full-filenames"]
        done = subprocess.run(
            [*command, "--output", str(samples), "--nonblocking"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds + 30,
            check=False,
        )
        if not samples.exists():
            raise SystemExit(done.stderr.decode("utf-8", "replace"))
        counted = _count(samples.read_text("utf-8"))
    total = counted.total()
    return {part: count / total for part, count in counted.most_common()}


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _count(samples: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for sample in samples.splitlines():
        stack, _, count = sample.rpartition(" ")
        counted[_part_of(stack.split(";"))] += int(count)
    return counted


def _part_of(stack: list[str]) -> str:
    for frame in reversed(stack):
        match = _FRAME.fullmatch(frame)
        if match is None:
            continue
        file = match["file"]
        if ".FromString(" in linecache.getline(file, int(match["line"])):
            return _DECODING
        short = file.removeprefix(f"{REPOSITORY}/")
        for part, names in _PARTS:
            if any(name in short for name in names):
                return part
    return _REST
