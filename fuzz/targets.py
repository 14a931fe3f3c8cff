"""Every fuzz target: what it checks, from which seeds, and with which words it mutates them.

`tests/test_fuzz_targets.py` tries each with some mutations of its seeds; for as long as you like:

    python -m fuzz.targets --seconds 60 [TARGET...]

A target alone, guided by coverage: `python -m fuzz.TARGET`, with atheris.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz import (
    answer_judge,
    assembler,
    config_file,
    error_body,
    event_stream,
    http2_session,
    proxy_url,
    quick_reader,
    request_lines,
    response_reader,
    result_scan,
    stream_reads,
    waits,
)

__all__ = ["TARGETS", "Target", "mutations"]

_LONGEST = 4096


class Target(NamedTuple):
    """`check` fails for an input that breaks a promise."""

    check: Callable[[bytes], None]
    seeds: Path
    words: Sequence[str]


TARGETS: dict[str, Target] = {
    "answer_judge": Target(answer_judge.check, answer_judge.SEEDS, answer_judge.WORDS),
    "assembler": Target(assembler.check, assembler.SEEDS, ()),
    "config_file": Target(config_file.check, config_file.SEEDS, config_file.WORDS),
    "error_body": Target(error_body.check, error_body.SEEDS, error_body.WORDS),
    "event_stream": Target(event_stream.check, event_stream.SEEDS, event_stream.WORDS),
    "http2_session": Target(http2_session.check, http2_session.SEEDS, http2_session.WORDS),
    "proxy_url": Target(proxy_url.check, proxy_url.SEEDS, proxy_url.WORDS),
    "quick_reader": Target(quick_reader.check, quick_reader.SEEDS, quick_reader.WORDS),
    "request_lines": Target(request_lines.check, request_lines.SEEDS, request_lines.WORDS),
    "response_reader": Target(response_reader.check, response_reader.SEEDS, response_reader.WORDS),
    "result_scan": Target(result_scan.check, result_scan.SEEDS, result_scan.words()),
    "stream_reads": Target(stream_reads.check, stream_reads.SEEDS, stream_reads.WORDS),
    "waits": Target(waits.check, waits.SEEDS, waits.WORDS),
}


def mutations(target: Target, draws: random.Random) -> Iterator[bytes]:
    """Seeds of the target, each changed in one place to eight, without an end."""
    seeds = [path.read_bytes() for path in sorted(target.seeds.iterdir())]
    words = [word.encode() for word in target.words]
    while True:
        data = draws.choice(seeds)
        for _ in range(draws.randint(1, 8)):
            data = _changed(data, seeds, words, draws)
        yield data[:_LONGEST]


def _changed(
    data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], draws: random.Random
) -> bytes:
    start = draws.randint(0, len(data))
    end = min(len(data), start + draws.choice((0, 0, 1, 4, 40)))
    piece = data[start:end]
    other = draws.choice(seeds)
    place = draws.randint(0, len(other))
    new = draws.choice(
        (
            b"",
            piece * 3,
            draws.randbytes(1),
            bytes(byte ^ (1 << draws.randrange(8)) for byte in piece),
            draws.choice(words or seeds),
            other[place : place + draws.choice((1, 10, 100))],
        )
    )
    return data[:start] + new + data[end:]


def _try(name: str, seconds: float, seed: int) -> int:
    target, draws = TARGETS[name], random.Random(seed)
    end = time.monotonic() + seconds
    for tried, data in enumerate(mutations(target, draws), start=1):
        try:
            target.check(data)
        except BaseException:
            Path(f"crash-{name}").write_bytes(data)
            print(f"{name}: crash-{name} breaks a promise; make it a seed in {target.seeds}")
            raise
        if time.monotonic() > end:
            return tried
    raise AssertionError("there is always another")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Try fuzz targets with mutations of their seeds.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    for name in options.targets or TARGETS:
        print(f"{name}: {_try(name, options.seconds, seed)} inputs, seed {seed}", flush=True)


if __name__ == "__main__":
    _main()
