"""`batch_gateway.testing`, as its docstring shows it to users."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import batch_gateway.testing
from batch_gateway.testing import simulated_gateway

from .asking import ask


def test_the_example_in_the_docstring_passes_under_pytest(tmp_path: Path) -> None:
    docstring = batch_gateway.testing.__doc__
    assert docstring is not None
    example = textwrap.dedent(docstring.partition("that uses it:\n")[2])
    (tmp_path / "test_example.py").write_text(example, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_overrides_are_settings_of_the_simulator() -> None:
    with simulated_gateway(output_tokens=2) as gateway:
        assert ask(gateway.url).json()["usage"]["completion_tokens"] == 2
        gateway.clear_journal()
        assert gateway.journal()["requests"] == {}
        assert gateway.config.output_tokens == 2
