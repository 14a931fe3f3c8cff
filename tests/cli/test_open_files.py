"""The limit on open files follows the concurrency, or the command says why it cannot."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import batch_gateway, write_batch


def in_a_process_with_limits(
    soft: int, hard: int, code: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Limits can only be lowered, so each case needs a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


ALLOW = """
import resource
from batch_gateway.cli.connection_limit import allow_connections
from batch_gateway.cli.failure import CommandFailure
try:
    allow_connections({concurrency}, both_ends={both_ends})
    print("soft", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except CommandFailure as failure:
    print(failure.code, failure.message, *failure.details)
"""


@pytest.mark.parametrize(
    ("concurrency", "both_ends", "expected"),
    [
        (100, False, "soft 256"),
        (500, False, r"soft 5[2-5]\d"),
        (
            500,
            True,
            r"2 --concurrency 500 needs 10[2-5]\d open files and the limit is 1000 "
            r"use --concurrency 4[78]\d or less, or raise the hard limit \(ulimit -Hn\)",
        ),
        (
            1000,
            False,
            r"2 --concurrency 1000 needs 10[2-5]\d open files and the limit is 1000 "
            r"use --concurrency 9[4-7]\d or less, or raise the hard limit \(ulimit -Hn\)",
        ),
    ],
)
def test_the_soft_limit_follows_the_concurrency_up_to_the_hard_limit(
    concurrency: int, both_ends: bool, expected: str
) -> None:
    code = ALLOW.format(concurrency=concurrency, both_ends=both_ends)
    assert re.fullmatch(expected, in_a_process_with_limits(256, 1000, code).stdout.strip())


def test_a_server_takes_as_many_as_it_may_have() -> None:
    code = """
import resource
from batch_gateway.cli.connection_limit import allow_many_connections
allow_many_connections()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert in_a_process_with_limits(256, 1000, code).stdout.strip() == "(1000, 1000)"


RUN = "from batch_gateway.cli.main import main; main(['run', 'requests.jsonl', {more}])"


def test_a_run_uses_the_files_it_may_have_and_says_what_that_does_to_it(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 200)
    code = RUN.format(more=f"'--gateway', {gateway.url!r}")
    run = in_a_process_with_limits(32, 64, code, tmp_path)
    assert run.returncode == 0, run.stderr
    found = re.search(r"open files, 64, allows no more than (\d+) requests at a time", run.stderr)
    assert found is not None
    assert 16 <= int(found.group(1)) <= 40
    assert "all 200 requests succeeded" in run.stdout
    assert "ulimit -n" in run.stderr


def test_a_limit_that_leaves_no_connection_is_a_clear_error(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    code = RUN.format(more=f"'--gateway', {gateway.url!r}")
    run = in_a_process_with_limits(20, 20, code, tmp_path)
    assert run.returncode == 2
    assert "the limit on open files is 20, which leaves none for connections" in run.stderr


def test_an_ordinary_limit_is_not_spoken_of(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    run = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert "open files" not in run.stderr
