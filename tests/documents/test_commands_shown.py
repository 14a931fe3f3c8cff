"""Commands that the pages show and no test runs: there are few, each with a reason and read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from batch_gateway.cli.main import cli
from tests.documents.blocks import DOCUMENTS, ROOT, blocks

OURS = "batch-gateway"
# Blocks of any other language are run or parsed; see test_documents.py.
NOT_RUN = {
    OURS: "they go on until they are stopped, or need a database or a bucket: options are read",
    ".": "changes the shell that it is written in",
    "docker": "needs a container runtime; tests/deploy checks the image's parts",
    "export": "changes the shell that it is written in",
    "helm": "needs a cluster; tests/deploy renders the chart",
    "kubectl": "needs a cluster; tests/deploy checks the manifests",
    "opentelemetry-instrument": "is another project's, in front of a command that is run",
    "pip": "installs, which .ci/run does with the wheel",
    "pipx": "installs; other programs are not needed for the tests",
    "python3": "makes an environment, as the README's first command does, which .ci/run runs",
    "sbatch": "needs a Slurm cluster",
    "squeue": "needs a Slurm cluster",
    "uv": "installs; other programs are not needed for the tests",
}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Where it stands, and the words of each command in blocks that show text."""
    for block in blocks():
        if block.language == "text":
            for line in block.code.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True) if _is(line) else []
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    del words[0]
                if words:
                    yield str(block), [words[0].rpartition("/")[2], *words[1:]]


def _is(line: str) -> bool:
    return line.startswith("$ ") or line.partition(" ")[0] in NOT_RUN


SHOWN = list(commands())


def test_each_program_of_a_command_that_is_not_run_has_a_reason() -> None:
    assert {words[0] for _, words in SHOWN} == NOT_RUN.keys()


@pytest.mark.parametrize("words", [words for _, words in SHOWN if words[0] == OURS], ids=" ".join)
def test_a_command_of_ours_has_the_options_that_are_shown(words: list[str]) -> None:
    # Options that are not there are found before help is given.
    said = CliRunner().invoke(cli, [*words[1:], "--help"])
    assert said.exit_code == 0, said.output


def test_an_option_that_is_not_there_would_be_found() -> None:
    assert CliRunner().invoke(cli, ["serve", "--rolle", "api", "--help"]).exit_code == 2


def test_files_of_the_repository_that_commands_name_are_there() -> None:
    named = {word for _, words in SHOWN for word in words if word.startswith("deploy/")}
    assert named
    assert [path for path in named if not (ROOT / path.partition(":")[0]).exists()] == []


def test_no_block_is_written_so_that_the_tests_do_not_see_it() -> None:
    fences = {path: path.read_text("utf-8") for path in DOCUMENTS}
    seen = dict.fromkeys(fences, 0)
    for block in blocks():
        seen[block.path] += 2
    assert {
        path: len(re.findall(r"^\s*(?:```|~~~)", fences[path], re.MULTILINE)) for path in fences
    } == seen
