"""What a run does not load, because few need it: a start costs as much as thousands of lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import environment, write_batch

LOADED = """
import sys
from batch_gateway.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules)
"""
FOR_OTHERS = {
    "batch_gateway.cli.pick",
    "batch_gateway.cli.simulate",
    "batch_gateway.client.layers.cache.layer",
    "batch_gateway.client.layers.coalesce.layer",
    "batch_gateway.client.streaming.assemble",
    "batch_gateway.client.streaming.receive",
    "batch_gateway.simulator",
    "difflib",
    "email.utils",
    "html",
    "rich",
    "sqlite3",
    "tempfile",
    "yaml",
}


def test_a_run_without_trouble_loads_nothing_that_others_need(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    command = ["run", "requests.jsonl", "--gateway", gateway.url, "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "batch_gateway.cli.run" in loaded
    assert loaded & FOR_OTHERS == set()
