"""Running the real command in processes of its own, and batches to run it on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from batch_gateway.cli.main import main

__all__ = [
    "COMMAND",
    "Finished",
    "batch_gateway",
    "chat_line",
    "environment",
    "in_a_process",
    "read_lines",
    "started",
    "wait_until",
    "write_batch",
]

COMMAND = (sys.executable, "-m", "batch_gateway")
_LIMIT = 60.0


def environment(**variables: str) -> dict[str, str]:
    """Ours without what would change the command, and with `variables`."""
    ours = ("BATCH_GATEWAY_", "OPENAI_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and not name.lower().endswith("_proxy")
    }
    return {**kept, **variables}


class Finished(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def batch_gateway(
    *arguments: str | Path,
    cwd: Path,
    input: str | bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> Finished:
    """Run the command to its end inside this process, which saves the start of another.

    What it leaves behind, a socket or a task, then fails the test.
    """
    given = io.TextIOWrapper(io.BytesIO(input.encode() if isinstance(input, str) else input))
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, environment(**(variables or {})), clear=True),
        mock.patch.object(sys, "stdin", given),
        mock.patch.object(warnings, "formatwarning"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Finished(code, _written_to(out), _written_to(err))


def _written_to(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def in_a_process(
    *arguments: str | Path,
    cwd: Path,
    input: bytes = b"",
    variables: Mapping[str, str] | None = None,
    largest_file: int | None = None,
) -> Finished:
    """Run the command to its end as users do. It must never show a traceback.

    `largest_file`, in bytes, makes writing fail as on a full disk.
    """

    def limit_files() -> None:
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(variables or {})),
        input=input,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
        preexec_fn=limit_files if largest_file is not None else None,
    )
    stderr = done.stderr.decode()
    assert "Traceback" not in stderr, stderr
    return Finished(done.returncode, done.stdout.decode(), stderr)


@contextmanager
def started(
    *arguments: str | Path, cwd: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs; killed at the end of the block if it still does."""
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(variables or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def wait_until(condition: Callable[[], bool], what: str, limit: float = 60.0) -> None:
    """Return when `condition` holds; fail after `limit` seconds."""
    give_up = time.monotonic() + limit
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"still not after {limit} s: {what}")
        time.sleep(0.01)


def chat_line(custom_id: str, model: str = "tiny", content: str = "Hello!") -> dict[str, Any]:
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": content}]},
    }


def write_batch(path: Path, models: list[str] | int) -> Path:
    """A batch file with one line for each model; or so many lines of one model."""
    names = ["tiny"] * models if isinstance(models, int) else models
    lines = (json.dumps(chat_line(f"req-{n}", model)) for n, model in enumerate(names, 1))
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a result file, which must consist of whole lines; [] when it is missing."""
    if not path.exists():
        return []
    text = path.read_text("utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]
