"""The printed command goes on where a run ended and shows no secret."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest

from batch_gateway.cli.resume_command import resume_command


def test_it_is_the_same_command_quoted_for_a_shell() -> None:
    arguments = ["run", "my requests.jsonl", "--gateway", "http://g:8000", "-o", "it's.jsonl"]
    line = resume_command(arguments)
    assert shlex.split(line) == ["batch-gateway", *arguments]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_what_a_terminal_would_swallow_is_quoted_visibly(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    names = ["a\nb", "\x1b[31mred\\'", "\x019", "\u202egnp", "ü\u2028ß", "\udcff\t", "bell\x07f"]
    line = resume_command(["run", *names])
    assert line.isprintable()
    show = f"batch-gateway() {{ printf '%s\\0' \"$@\"; }}; {line}"
    taken = subprocess.run([shell, "-c", show], capture_output=True, check=True).stdout
    assert [os.fsdecode(one) for one in taken.split(b"\0")[1:-1]] == names


def test_header_values_are_hidden_in_every_spelling() -> None:
    line = resume_command(["run", "f", "--header", "X-Key=s3cret", "--header=X-Other=t0p=s3cret"])
    assert "s3cret" not in line
    assert "X-Key=..." in line
    assert "X-Other=..." in line


def test_passwords_in_urls_are_hidden() -> None:
    line = resume_command(["run", "f", "--proxy", "http://me:s3cret@proxy:3128"])
    assert "s3cret" not in line
    assert "...@proxy:3128" in line


def test_what_signs_a_url_is_hidden() -> None:
    amazon = "https://b.s3.amazonaws.com/a.csv?X-Amz-Expires=9&X-Amz-Signature=s3cret&v=1"
    azure = "https://a.blob.core.windows.net/c/a.csv?sp=r&sig=s3cret"
    line = resume_command(["run", amazon, "--reuse", azure])
    assert "s3cret" not in line
    assert "&v=1" in line
    assert "sig=..." in line


def test_what_acts_once_is_left_out() -> None:
    line = resume_command(["run", "f", "--fresh", "--retry-failed", "--ordered"])
    assert line == "batch-gateway run f --ordered"


def test_sending_failed_lines_again_can_be_asked_for() -> None:
    line = resume_command(["run", "f", "--fresh"], retry_failed=True)
    assert line == "batch-gateway run f --retry-failed"
