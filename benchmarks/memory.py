"""Peak memory of `batch-gateway run`: `python -m benchmarks.memory`.

10,000 and 1,000,000 lines of about 300 bytes, against a server that answers at once; and lines of
2 MiB, a hundred at a time, with the usual bound of the bytes under way, with a smaller one, and
with none that counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.environment import contenders_python
from benchmarks.machine import describe
from benchmarks.payload import batch_line
from benchmarks.programs import ProgramResult, count_lines, run_program
from benchmarks.servers.nginx import Server, running_nginx
from benchmarks.tables import Aim, print_aims, print_table, write_json

SMALL, LARGE = 10_000, 1_000_000
_BODY_BYTES = 225
_LARGE_BODY, _LARGE_LINES, _LARGE_CONCURRENCY = 2 * 1024 * 1024, 400, 100
_BOUNDS = ("64MiB", "256MiB", "1TiB")


def main() -> None:
    options = _parse_options()
    sizes = [SMALL, options.lines or (LARGE // 10 if options.quick else LARGE)]
    python = contenders_python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    with running_nginx(python) as server:
        results = [_run(python, server, lines, options.concurrency) for lines in sizes]
        bounded = [_run_large(python, server, bound) for bound in _BOUNDS]
    rows = [
        [f"{result.requests:,} lines", f"{result.peak_mib:,.0f}", f"{result.requests_per_s:,.0f}"]
        for result in results
    ]
    title = f"batch-gateway run, {options.concurrency:,} in flight"
    print_table(title, ["input", "peak MiB", "requests/s"], rows)
    print_table(
        f"lines of 2 MiB, {_LARGE_CONCURRENCY} in flight",
        ["--max-bytes-in-flight", "peak MiB", "requests/s"],
        [
            [bound, f"{result.peak_mib:,.0f}", f"{result.requests_per_s:,.0f}"]
            for bound, result in zip(_BOUNDS, bounded, strict=True)
        ],
    )
    small, large = results
    aims = [
        Aim(f"peak MiB for {large.requests:,} lines", large.peak_mib, 200),
        Aim("peak beside that of the small file", large.peak_mib / small.peak_mib, 1.3),
        Aim("peak MiB of lines of 2 MiB within 64 MiB", bounded[0].peak_mib, 160),
    ]
    print_aims(aims)
    runs = [msgspec.to_builtins(result) for result in (*results, *bounded)]
    write_json("memory", {"runs": runs}, aims)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help=f"{LARGE // 10:,} lines at most")
    parser.add_argument("--lines", type=int, default=0, help="of the large file")
    parser.add_argument("--concurrency", type=int, default=1_000, help="requests in flight")
    return parser.parse_args()


def _run_large(python: Path, server: Server, bound: str) -> ProgramResult:
    asked = ("--max-bytes-in-flight", bound)
    return _run(python, server, _LARGE_LINES, _LARGE_CONCURRENCY, *asked, body_bytes=_LARGE_BODY)


def _run(
    python: Path,
    server: Server,
    lines: int,
    concurrency: int,
    *settings: str,
    body_bytes: int = _BODY_BYTES,
) -> ProgramResult:
    with TemporaryDirectory(prefix="benchmark-memory-") as name:
        source, output = Path(name) / "input.jsonl", Path(name) / "output.jsonl"
        with source.open("wb") as file:
            file.writelines(batch_line(number, body_bytes) for number in range(lines))
        command = [str(python), "-m", "batch_gateway", "run", str(source), "-o", str(output)]
        command += ["--gateway", server.plain_url, "--concurrency", str(concurrency), "--quiet"]
        command += settings
        result = run_program(command, lines, server.pids)
        written = count_lines(output)
    if written != lines:
        raise SystemExit(f"{written:,} results for {lines:,} lines")
    return result


if __name__ == "__main__":
    main()
