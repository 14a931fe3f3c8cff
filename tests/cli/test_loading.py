"""What a command does not load, as few need it: a start costs as much as thousands of lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import batch_gateway
from batch_gateway.testing import GatewayHandle
from tests.cli.commands import environment, write_batch

LOADED = """
import sys
from batch_gateway.cli.start import main
try:
    main()
finally:
    print(*sys.modules)
"""
FOR_OTHERS = {
    "batch_gateway.cli.batches",
    "batch_gateway.cli.keys",
    "batch_gateway.cli.pick",
    "batch_gateway.cli.simulate",
    "batch_gateway.client.layers.cache.caching",
    "batch_gateway.client.layers.coalesce.coalescing",
    "batch_gateway.client.streaming.assemble",
    "batch_gateway.client.streaming.receive",
    "batch_gateway.remote",
    "batch_gateway.server",
    "batch_gateway.service",
    "batch_gateway.simulator",
    "difflib",
    "email.utils",
    "html",
    "rich",
    "sqlite3",
    "tempfile",
    "yaml",
}


# What only a command that sends needs.
FOR_SENDING = {"asyncio", "batch_gateway.client", "batch_gateway.public", "msgspec", "ssl"}


def loaded_by(*command: str, folder: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_a_run_without_trouble_loads_nothing_that_others_need(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--quiet")
    loaded = loaded_by(*command, folder=tmp_path)
    assert "batch_gateway.cli.run" in loaded
    assert loaded & FOR_OTHERS == set()


def test_the_version_is_told_without_what_reads_the_command_line(tmp_path: Path) -> None:
    loaded = loaded_by("--version", folder=tmp_path)
    assert "batch_gateway.version" in loaded
    assert loaded & {*FOR_SENDING, *FOR_OTHERS, "click", "json"} == set()


@pytest.mark.parametrize("name", ["HTTPInferenceClient", "__all__", "client", "testing"])
def test_the_library_is_loaded_when_the_first_of_its_names_is_asked_for(
    name: str, tmp_path: Path
) -> None:
    ask = f"import batch_gateway; {'import batch_gateway.testing;' if name == 'testing' else ''}"
    program = f"import sys; {ask} print('batch_gateway.public' in sys.modules, end=' ');"
    program += f"batch_gateway.{name}; print('batch_gateway.public' in sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)
    assert told.split() == ["False", "False" if name == "testing" else "True"]


def test_the_client_alone_does_not_load_the_engine(tmp_path: Path) -> None:
    program = """import sys, batch_gateway
client = batch_gateway.HTTPInferenceClient("http://127.0.0.1:9")
print('batch_gateway.engine' in sys.modules, end=' ')
from batch_gateway import run_batch
print('batch_gateway.engine' in sys.modules)"""
    told = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)
    assert told.split() == ["False", "True"]


def test_the_names_that_are_shown_are_those_that_are_public() -> None:

    assert dir(batch_gateway) == sorted(["__version__", *batch_gateway.__all__])
    assert sorted(batch_gateway.__all__) == batch_gateway.__all__
    assert all(hasattr(batch_gateway, name) for name in dir(batch_gateway))
