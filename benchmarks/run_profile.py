"""Where the CPU of a run goes: `python -m benchmarks.run_profile [--lines N]`.

`batch-gateway run` over an OpenAI Batch file, before a server that answers at once, with samples
of what it is at: by part of the package, and by function. The CPU a line is that of a run beside
it, which nobody looks at. Needs py-spy in the project's own environment.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.environment import REPOSITORY, child_environment, contenders_python
from benchmarks.machine import CLIENT_CORE, describe, pin
from benchmarks.payload import batch_line
from benchmarks.profile_shares import Parts, record
from benchmarks.programs import run_program
from benchmarks.run_end_to_end import ours
from benchmarks.servers.nginx import running_nginx
from benchmarks.tables import print_table, write_json

_BODY_BYTES = 1_090
_CONCURRENCY = 1_000
_LIMIT_S = 300.0
_FUNCTIONS = 30
_ENGINE = "batch_gateway/engine/"
_PARTS: Parts = (
    ("starting: imports, options, preparing", ("importlib", "/click/", "dataclasses.py", "/re/")),
    (
        "the first pass",
        tuple(
            f"{_ENGINE}{name}"
            for name in ("first_pass", "validate", "line_blocks", "uniqueness", "grouping")
        ),
    ),
    (
        "reading a line again, its request",
        (f"{_ENGINE}plan", f"{_ENGINE}source", f"{_ENGINE}execute", "batch_gateway/wire/lines.py"),
    ),
    (
        "workers, lane, gate, room for bytes",
        tuple(f"{_ENGINE}{name}" for name in ("sending", "lane", "gate", "byte_", "tickets")),
    ),
    (
        "the result: its line, tokens, counts",
        (f"{_ENGINE}results", f"{_ENGINE}figures", f"{_ENGINE}progress", "batch_gateway/wire/"),
    ),
    ("the journal: files, writes, syncs", (_ENGINE, "concurrent/futures/", "threading.py")),
    ("connecting", ("http/dial.py", "http/race.py", "http/addresses.py", "socket.py")),
    ("HTTP: requests written, answers read", ("batch_gateway/http/",)),
    ("the client's layers", ("batch_gateway/client/",)),
    ("event loop and sockets", ("/asyncio/", "/uvloop/")),
    ("starting: imports, options, preparing", ("",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lines", type=int, default=100_000, help="of the run")
    lines: int = parser.parse_args().lines
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    python = contenders_python()
    with TemporaryDirectory(prefix="benchmark-run-") as name, running_nginx(python) as server:
        folder = Path(name)
        source = folder / "input.jsonl"
        with source.open("wb") as file:
            file.writelines(batch_line(number, _BODY_BYTES) for number in range(lines))
        commands = [
            [str(python), *ours(source, server.plain_url, folder / f"{out}.jsonl", _CONCURRENCY)]
            for out in ("measured", "looked-at")
        ]
        cpu = run_program(commands[0], lines, source=REPOSITORY / "src").cpu_us
        samples = record(
            ["--", *commands[1]],
            _LIMIT_S,
            cwd=REPOSITORY,
            env=child_environment(REPOSITORY / "src"),
            preexec_fn=lambda: pin(CLIENT_CORE),
        )
    parts, functions = samples.parts(_PARTS), samples.functions()
    _print(f"a run of {lines:,} lines: {cpu:.1f} µs a line", "part", parts, cpu)
    most = dict(list(functions.items())[:_FUNCTIONS])
    _print("by function, what it calls not counted", "function", most, cpu)
    write_json("run_profile", {"cpu_us": cpu, "parts": parts, "functions": functions}, [])


def _print(title: str, what: str, shares: Mapping[str, float], cpu: float) -> None:
    rows = [[one, f"{share:.1%}", f"{share * cpu:.1f}"] for one, share in shares.items()]
    print_table(title, [what, "share", "µs a line"], rows)


if __name__ == "__main__":
    main()
