"""The walk of a line: the functions and files that one goes through, from file to socket and back.

    python -m benchmarks.walk

Counted is what is called for every line of `batch-gateway run` with its defaults, once the input
has been checked: functions of the package, generators and coroutines among them, that are called
at least once more for each line more. Two runs that differ in their number of lines tell those
from what a run calls once, now and then, or for many lines together. Properties count as what
they are, functions; what is written in C, other packages and the simulator do not.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType

import batch_gateway
from batch_gateway.cli.main import main
from batch_gateway.engine.plan import make_plan
from batch_gateway.testing import simulated_gateway
from benchmarks.payload import batch_line

__all__ = ["walk"]

ROOT = Path(batch_gateway.__file__).parent
LINES = 400
# Not every run calls all of them equally often: a line may find its connection already there.
NEARLY = 0.9


class Calls:
    """How often each function of the package is called, but for those that check the input."""

    def __init__(self) -> None:
        self.count = Counter[CodeType]()
        self._checks = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if code is make_plan.__code__:
            self._checks += {"call": 1, "return": -1}.get(event, 0)
        elif event == "call" and not self._checks and code.co_filename.startswith(str(ROOT)):
            self.count[code] += 1


@contextlib.contextmanager
def profiled(profile: Callable[[FrameType, str, object], None]) -> Iterator[None]:
    """Tell `profile` of calls in this thread, and in those that begin meanwhile."""
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def calls_of(lines: int, gateway: str) -> Counter[CodeType]:
    calls = Calls()
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        requests, results = Path(folder) / "requests.jsonl", Path(folder) / "results.jsonl"
        requests.write_bytes(b"".join(batch_line(number, 500) for number in range(lines)))
        arguments = ["run", str(requests), "-o", str(results), "--gateway", gateway, "--quiet"]
        with profiled(calls), contextlib.suppress(SystemExit):
            main(arguments)
        assert len(results.read_bytes().splitlines()) == lines
    return calls.count


def walk() -> list[CodeType]:
    """The functions that every line goes through, in the order in which the first did."""
    with simulated_gateway() as gateway:
        calls_of(1, gateway.url)  # loads what is loaded when it is first used
        few, many = calls_of(LINES, gateway.url), calls_of(2 * LINES, gateway.url)
    return [code for code in few if many[code] - few[code] >= NEARLY * LINES]


def _main() -> None:
    steps = walk()
    files = dict.fromkeys(Path(code.co_filename).relative_to(ROOT) for code in steps)
    for file in files:
        names = [c.co_qualname for c in steps if c.co_filename == str(ROOT / file)]
        print(f"{file!s:44} {', '.join(names)}")
    print(f"\n{len(steps)} functions in {len(files)} files")


if __name__ == "__main__":
    _main()
