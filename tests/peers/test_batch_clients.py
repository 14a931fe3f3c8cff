"""Public clients of /v1/files and /v1/batches, unmodified, each in an environment of its own.

All do the same with the service and say what they saw: files in all the forms that the client
knows, a batch to its end, one that is cancelled in the middle, lists page by page, refusals.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import environment
from tests.engine.batch_files import request, text_of
from tests.peers.batch_service import BatchService, running_service
from tests.peers.client_environments import (
    autobatcher_python,
    http_python,
    litellm_python,
    node_with_openai,
    old_openai_python,
)

# The first run installs the clients.
pytestmark = [
    pytest.mark.peer("batch clients"),
    pytest.mark.serves_a_module,
    pytest.mark.timeout(300),
]

CLIENTS = Path(__file__).with_name("clients")
LIMIT_S = 100.0


@dataclass(frozen=True)
class Client:
    """`program` is installed, if need be, for a folder in which it is going to run `script`."""

    program: Callable[[Path], Path]
    script: str


PEERS = {
    "openai for Python": Client(lambda _: Path(sys.executable), "openai_python.py"),
    "openai 1.40": Client(lambda _: old_openai_python(), "openai_python.py"),
    "openai for Node": Client(node_with_openai, "openai_node.mjs"),
    "litellm": Client(lambda _: litellm_python(), "litellm_client.py"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchService]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, "--gateway", "simulator", "--api-keys") as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    models = {"requests": ["m", "m", "m", "fault-status-400"], "held": ["m", "m", "fault-stall"]}
    for name, of_lines in models.items():
        lines = [request(f"{name}-ü{n}", model=model) for n, model in enumerate(of_lines)]
        (tmp_path / f"{name}.jsonl").write_bytes(text_of(lines))
    return tmp_path


@pytest.mark.parametrize("name", PEERS)
def test_a_client_does_all_that_a_batch_needs(name: str, service: BatchService, desk: Path) -> None:
    peer = PEERS[name]
    seen = json.loads(said_by(peer.program(desk), peer.script, service, desk))
    completed, cancelled = seen["completed"], seen["cancelled"]
    assert seen["batches"] == [cancelled["batch"]["id"], completed["batch"]["id"]]
    assert seen["allDeleted"]
    check_batch(completed, "completed", total=4, completed=3, failed=1)
    [refused] = ended(completed["errors"]).values()
    assert (refused["response"]["status_code"], refused["error"]) == (400, None)
    check_batch(cancelled, "cancelled", total=3, completed=2, failed=1)
    [left] = ended(cancelled["errors"]).values()
    assert (left["response"], left["error"]["code"]) == (None, "batch_cancelled")
    check_refusals(seen["refusals"])


def test_plain_http_clients_upload_in_all_their_ways_and_get_results(
    service: BatchService, desk: Path
) -> None:
    seen = json.loads(said_by(http_python(), "http_python.py", service, desk))
    assert seen.keys() == {"requests", "aiohttp", "httpx"}
    for batch, output in seen.values():
        check_batch({"batch": batch, "output": output}, "completed", total=4, completed=3, failed=1)


def test_a_client_that_makes_batches_of_single_calls_gets_its_answers(
    service: BatchService, desk: Path
) -> None:
    """It holds answers to the types of the openai package, which asks for more than it shows."""
    seen = json.loads(said_by(autobatcher_python(), "autobatcher_client.py", service, desk))
    assert [len(answers) for answers in seen.values()] == [5, 3, 3]
    assert all(answer for answers in seen.values() for answer in answers)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_uploads_in_all_its_ways_and_gets_results(service: BatchService, desk: Path) -> None:
    said = said_by(Path("bash"), "curl_batch.sh", service, desk)
    batch, _, output = said.partition("\n")
    seen = {"batch": json.loads(batch), "output": output}
    check_batch(seen, "completed", total=4, completed=3, failed=1)


def said_by(program: Path, script: str, service: BatchService, desk: Path) -> str:
    """What the client that the script drives prints."""
    shutil.copy(CLIENTS / script, desk)
    done = subprocess.run(
        [program, script, f"{service.url}/v1", service.key(desk.name)],
        cwd=desk,
        env=environment(LITELLM_LOCAL_MODEL_COST_MAP="True"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def ended(text: str) -> dict[str, Any]:
    return {line["custom_id"]: line for line in map(json.loads, text.splitlines())}


def check_batch(seen: dict[str, Any], status: str, **counts: int) -> None:
    batch, output = seen["batch"], ended(seen["output"])
    assert (batch["status"], batch["request_counts"]) == (status, counts)
    assert batch["usage"]["output_tokens"] == sum(
        one["response"]["body"]["usage"]["completion_tokens"] for one in output.values()
    )
    name = "requests" if status == "completed" else "held"
    assert output.keys() == {f"{name}-ü{n}" for n in range(counts["completed"])}


def check_refusals(refusals: dict[str, list[Any]]) -> None:
    """Each is an exception of the client's own, with its status and words."""
    expected = {
        "file": ("NotFoundError", 404, "File with ID"),
        "batch": ("NotFoundError", 404, "batch_none not found"),
        "purpose": ("BadRequestError", 400, "purpose must be one of"),
        "over": ("BadRequestError", 400, "Batch with status completed cannot be cancelled"),
        "key": ("AuthenticationError", 401, "a valid API key is needed"),
    }
    assert refusals.keys() == expected.keys()
    for name, (kind, status, words) in expected.items():
        assert refusals[name][:2] == [kind, status]
        assert words in refusals[name][2]
