"""`batch_gateway.testing`, as its docstring shows it to users."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import batch_gateway.testing
from batch_gateway import ConfigError
from batch_gateway.testing import (
    PickerConfig,
    SimulatorConfig,
    simulated_gateway,
    simulated_pool,
)

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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"config": {"seats": 1}}, "config: must be a SimulatorConfig or None, not a dict"),
        ({"config": SimulatorConfig}, "not the class SimulatorConfig"),
        ({"port": "8000"}, "port: '8000' is not a whole number"),
        ({"port": 70_000}, "port: 70000 is above 65535"),
        ({"host": 5}, "host: must be a string"),
        ({"tls": True}, "tls: must be an SSLContext or None, not True"),
        ({"faults": ["status-503"]}, "faults: must be a mapping"),
        ({"seed": "lucky"}, "seed: must be a whole number"),
        ({"api_key": b"key"}, "api_key: must be a string or None, not bytes"),
    ],
)
def test_a_gateway_of_the_wrong_things_says_what_to_give_it(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says), simulated_gateway(**arguments):
        pass


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"pods": SimulatorConfig()}, "pods: .* is not a whole number of at least 1"),
        ({"config": PickerConfig()}, "config: .* not a PickerConfig"),
        ({"picker": SimulatorConfig()}, "picker: .* not a SimulatorConfig"),
        ({"picker_port": "9002"}, "picker_port: '9002' is not"),
        ({"health_port": -1}, "health_port: -1 is not"),
    ],
)
def test_a_pool_of_the_wrong_things_says_what_to_give_it(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says), simulated_pool(**arguments):
        pass


@pytest.mark.parametrize("pod", [2, -1, None, "pod-1"])
def test_only_pods_that_there_are_can_be_withdrawn(pod: Any) -> None:
    with simulated_pool(2) as pool, pytest.raises(ConfigError, match="^pod: "):
        pool.withdraw(pod)


@pytest.mark.parametrize("use", [simulated_gateway, simulated_pool])
def test_after_its_block_a_handle_says_that_it_is_over(use: Any) -> None:
    with use() as handle:
        pass
    for call in (handle.stop, handle.start, partial(handle.configure, seats=1)):
        with pytest.raises(RuntimeError, match="ended with its 'with' block; use it inside"):
            call()
