"""Help fits a screen, nothing is out of its reach, and mistakes are answered by what was meant."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from batch_gateway.cli.batches import batches
from batch_gateway.cli.doctor import doctor
from batch_gateway.cli.options import GroupedCommand
from batch_gateway.cli.pick import pick
from batch_gateway.cli.run import run
from batch_gateway.cli.serve import serve
from batch_gateway.cli.simulate import simulate
from batch_gateway.cli.validate import validate
from tests.cli.commands import batch_gateway, environment, in_a_process

LONG: dict[str, click.Command] = {
    "run": run,
    "serve": serve,
    "batches submit": batches.commands["submit"],
    "doctor": doctor,
    "simulate": simulate,
    "pick": pick,
    "validate": validate,
}
A_SCREEN = 50


def options_of(text: str) -> list[str]:
    return re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)


@pytest.mark.parametrize("name", LONG)
def test_the_help_of_a_large_command_is_ten_options_on_one_screen(
    name: str, tmp_path: Path
) -> None:
    text = batch_gateway(*name.split(), "--help", cwd=tmp_path).stdout
    assert len(options_of(text)) == 10 + len(["--help", "--help-all"])
    assert len(text.splitlines()) <= A_SCREEN


@pytest.mark.parametrize("name", LONG)
def test_help_all_shows_every_option_once_and_under_headings(name: str, tmp_path: Path) -> None:
    command = LONG[name]
    asked = batch_gateway(*name.split(), "--help-all", cwd=tmp_path)
    shown = [
        max(one.opts, key=len)
        for one in command.params
        if isinstance(one, click.Option) and not one.hidden
    ]
    assert asked.returncode == 0
    assert sorted(options_of(asked.stdout)) == sorted([*shown, "--help", "--help-all"])
    few = batch_gateway(*name.split(), "--help", cwd=tmp_path).stdout
    headings = re.findall(r"^([A-Z][^\n]*):\n  -", asked.stdout, re.MULTILINE)
    assert all(heading in " ".join(few.split()) for heading in headings if heading != "Other")


def test_the_options_shown_first_are_options_of_their_command() -> None:
    for command in LONG.values():
        assert isinstance(command, GroupedCommand)
        names = {name for one in command.params for name in one.opts}
        assert set(command.first) <= names


def test_help_all_is_there_without_the_file_that_a_run_needs(tmp_path: Path) -> None:
    assert "--pod-tls-pin" in batch_gateway("run", "--help-all", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["rum"], "No such command 'rum'. Did you mean 'run'?"),
        (["tabel"], "No such command 'tabel'. Did you mean 'table'?"),
        (["batches", "lits"], "No such command 'lits'. Did you mean 'list'?"),
        (["keys", "craete"], "No such command 'craete'. Did you mean 'create'?"),
        (["--verison"], "No such option '--verison'. Did you mean '--version'?"),
        (["run", "f", "--gatewey=x"], "No such option '--gatewey'. Did you mean '--gateway'?"),
        (["serve", "--prot", "1"], "No such option '--prot'. Did you mean '--port'?"),
        (["batches", "list", "--jsn"], "No such option '--jsn'. Did you mean '--json'?"),
        (["run", "f", "--help-al"], "No such option '--help-al'. Did you mean '--help-all'?"),
        (["bench"], "No such command 'bench'.\n"),
        (["run", "f", "--to", "x"], "No such option '--to'.\n"),
        (["run", "f", "--transprt", "x"], "No such option '--transprt'.\n"),
    ],
)
def test_a_mistyped_name_is_answered_by_the_one_that_is_near_if_any(
    given: list[str], said: str, tmp_path: Path
) -> None:
    done = batch_gateway(*given, cwd=tmp_path)
    assert done.returncode == 2
    assert f"Error: {said}" in done.stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [("batch-gateway ser", "plain,serve"), ("batch-gateway run --retry-f", "plain,--retry-failed")],
)
def test_a_shell_is_told_how_a_word_may_end(words: str, offered: str, tmp_path: Path) -> None:
    done = in_a_process(
        cwd=tmp_path,
        variables={
            "_BATCH_GATEWAY_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert done.stdout.split() == [offered]


COMPLETED = {
    "bash": """\
eval "$(_BATCH_GATEWAY_COMPLETE=bash_source batch-gateway)"
COMP_WORDS=(batch-gateway {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_batch_gateway_completion batch-gateway; printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    "fish": """\
_BATCH_GATEWAY_COMPLETE=fish_source batch-gateway | source
complete -C 'batch-gateway {words}'
""",
}


@pytest.mark.parametrize("shell", COMPLETED)
def test_a_shell_completes_commands_and_options_as_the_documentation_says(
    shell: str, tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")

    def completed(words: str) -> set[str]:
        folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            [shell, "-c", COMPLETED[shell].format(words=words)],
            cwd=tmp_path,
            env=environment(PATH=folders, HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {line.split("\t")[0] for line in done.stdout.splitlines()}

    assert completed("val") == {"validate"}
    assert {"--gateway", "--gateway-metrics"} <= completed("run --gat")
