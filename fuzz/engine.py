"""Running a fuzz target under atheris."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["run"]


def run(check: Callable[[bytes], None], what: str, seeds: Path, words: Sequence[str]) -> None:
    """Mutate the seeds until the time given on the command line is over or `check` fails.

    `words` are tried as a whole; without them mutations of text would hardly get past a first line.
    """
    import atheris  # noqa: PLC0415 - a tool of these scripts alone

    parser = argparse.ArgumentParser(description=f"Fuzz {what}.")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus") / seeds.name)
    options = parser.parse_args()
    options.corpus.mkdir(parents=True, exist_ok=True)
    dictionary = options.corpus.with_suffix(".dict")
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
    settings = [f"-dict={dictionary}"] if words else []
    atheris.instrument_all()
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={options.seconds}",
            *settings,
            "-max_len=4096",
            str(options.corpus),
            str(seeds),
        ],
        check,
    )
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(c if c.isalnum() or c in " /.:-" else f"\\x{ord(c):02x}" for c in word)
