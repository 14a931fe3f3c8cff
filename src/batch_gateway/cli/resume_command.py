"""The command that goes on where a run ended, safe to print."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["HIDDEN", "resume_command"]

HIDDEN = "..."

# They act on what earlier runs left, once: repeated, they would send finished lines again.
_ONCE = frozenset({"--fresh", "--retry-failed"})
_USERINFO = rare_pattern(r"(?<=://)[^/@]*@")
# What signed URLs have in their query.
_SIGNATURE = rare_pattern(
    r"(?<=[?&])((?:x-(?:amz|goog|ms)-[\w-]*|sig(?:nature)?|[\w-]*token|[\w-]*key|policy|credential)=)"
    r"[^&#]*",
    re.IGNORECASE,
)


def resume_command(
    arguments: Sequence[str], *, retry_failed: bool = False, record_all: bool = False
) -> str:
    """`arguments` (without the program) as one shell-quoted line.

    Without `--fresh` and `--retry-failed`, unless `retry_failed` asks for the latter; with
    `record_all` every failure is recorded. Values of headers and passwords in URLs are replaced by
    dots.
    """
    kept = [argument for argument in _safe(arguments) if argument not in _ONCE]
    if retry_failed:
        kept.append("--retry-failed")
    if record_all:
        kept.append("--max-failures=100%")
    return " ".join(["batch-gateway", *map(_quoted, kept)])


def _quoted(argument: str) -> str:
    """As a shell takes it back from a terminal, which may swallow what is not visible."""
    if argument.isprintable():
        return shlex.quote(argument)
    return f"$'{''.join(map(_escaped, argument))}'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _safe(arguments: Iterable[str]) -> Iterable[str]:
    previous = ""
    for argument in arguments:
        if previous == "--header":
            yield _without_value(argument)
        elif argument.startswith("--header="):
            yield "--header=" + _without_value(argument.removeprefix("--header="))
        else:
            yield _without_secrets(argument)
        previous = argument


def _without_secrets(argument: str) -> str:
    shown = _USERINFO.sub(f"{HIDDEN}@", argument)
    return _SIGNATURE.sub(rf"\g<1>{HIDDEN}", shown) if "://" in shown else shown


def _without_value(header: str) -> str:
    return f"{header.partition('=')[0]}={HIDDEN}"
