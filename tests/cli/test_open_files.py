"""The limit on open files follows the concurrency, or the command says why it cannot."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest


def in_a_process_with_limits(soft: int, hard: int, code: str) -> subprocess.CompletedProcess[str]:
    """Limits can only be lowered, so each case needs a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


ALLOW = """
import resource
from batch_gateway.cli.open_files import allow_connections
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
        (500, False, "soft 564"),
        (
            500,
            True,
            "2 --concurrency 500 needs 1064 open files and the limit is 1000 "
            "use --concurrency 468 or less, or raise the hard limit (ulimit -Hn)",
        ),
        (
            1000,
            False,
            "2 --concurrency 1000 needs 1064 open files and the limit is 1000 "
            "use --concurrency 936 or less, or raise the hard limit (ulimit -Hn)",
        ),
    ],
)
def test_the_soft_limit_follows_the_concurrency_up_to_the_hard_limit(
    concurrency: int, both_ends: bool, expected: str
) -> None:
    code = ALLOW.format(concurrency=concurrency, both_ends=both_ends)
    assert in_a_process_with_limits(256, 1000, code).stdout.strip() == expected


def test_a_server_takes_as_many_as_it_may_have() -> None:
    code = """
import resource
from batch_gateway.cli.open_files import allow_many_connections
allow_many_connections()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert in_a_process_with_limits(256, 1000, code).stdout.strip() == "(1000, 1000)"
