"""Places where a run's files cannot be, or would be in the way of something else."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import COMMAND, batch_gateway, environment, write_batch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_batch(tmp_path / "requests.jsonl", 3)
    return tmp_path


def in_a_shell(folder: Path, gateway: GatewayHandle, rest: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it, with what `rest` redirects."""
    command = f"{shlex.join(COMMAND)} run --gateway {gateway.url} {rest}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("requests.jsonl -o R > R", "-o: R is where standard output goes"),
        ("requests.jsonl -o R >> R", "-o: R is where standard output goes"),
        ("requests.jsonl -o R --json > R", "-o: R is where standard output goes"),
        ("requests.jsonl -o ./R --quiet > R", "-o: R is where standard output goes"),
        ("requests.jsonl -o link > R", "-o: link is where standard output goes"),
        ("requests.jsonl -o /dev/stdout > R", "-o: /dev/stdout is where standard output goes"),
        ("requests.jsonl -o /dev/fd/1 > R", "-o: /dev/fd/1 is where standard output goes"),
        ("requests.jsonl -o x --errors R > R", "--errors: R is where standard output goes"),
        ("requests.jsonl -o x --report R > R", "--report: R is where standard output goes"),
        ("requests.jsonl --cache R > R", "--cache: R is where standard output goes"),
        ("requests.jsonl -o R < R", "-o: R is where standard input comes from"),
        ("- -o R < R", "-o: R is where standard input comes from"),
        ("- -o x --errors R < R", "--errors: R is where standard input comes from"),
    ],
)
def test_no_file_of_a_run_is_one_that_the_shell_redirects_to(
    folder: Path, gateway: GatewayHandle, rest: str, said: str
) -> None:
    content = (folder / "requests.jsonl").read_bytes() if rest.endswith("< R") else b""
    (folder / "R").write_bytes(content)
    (folder / "link").symlink_to("R")
    done = in_a_shell(folder, gateway, rest)
    assert done.returncode == 2, done
    assert f"Error: {said}; name another file" in done.stderr
    assert (folder / "R").read_bytes() == content
    assert {path.name for path in folder.iterdir()} == {"requests.jsonl", "R", "link"}
    assert gateway.journal()["received"] == 0


@pytest.mark.parametrize("how", [">", ">>"])
def test_messages_are_not_written_into_the_error_file(
    folder: Path, gateway: GatewayHandle, how: str
) -> None:
    done = in_a_shell(folder, gateway, f"requests.jsonl -o R.jsonl 2{how} R.errors.jsonl")
    assert done.returncode == 2
    said = "--errors: R.errors.jsonl is where standard error goes"
    assert said in (folder / "R.errors.jsonl").read_text()
    assert gateway.journal()["received"] == 0


def test_other_files_may_be_redirected_to(folder: Path, gateway: GatewayHandle) -> None:
    (folder / "list").write_text("requests.jsonl\n")
    rest = "requests.jsonl -o R --json < list > summary.json 2> log"
    assert in_a_shell(folder, gateway, rest).returncode == 0
    assert in_a_shell(folder, gateway, "requests.jsonl -o R <&- > /dev/null").returncode == 0


@pytest.mark.parametrize("option", ["-o", "--errors"])
@pytest.mark.parametrize(
    "place", ["", ".", "..", "/", "folder", "folder/", "~", "pipe", "socket", "/dev/full", "loop"]
)
def test_what_can_be_no_result_file_is_an_error_in_words(
    folder: Path, gateway: GatewayHandle, option: str, place: str
) -> None:
    (folder / "folder").mkdir()
    (folder / "~").mkdir()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(folder / "socket"))
        before = {path.name for path in folder.iterdir()}
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url, option, place, cwd=folder
        )
    assert run.returncode == 2
    words = ("is a folder; give the name of a file", "not a regular file", "symbolic links")
    assert any(text in run.stderr for text in words), run.stderr
    assert {path.name for path in folder.iterdir()} == before
    assert gateway.journal()["received"] == 0


@pytest.mark.parametrize("name", ["two\nlines.jsonl", " ", "ü", "-x.jsonl", "a" * 250, "\udcff"])
def test_unusual_names_are_names(folder: Path, gateway: GatewayHandle, name: str) -> None:
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, f"--output={name}", cwd=folder
    )
    if len(name) > 200:
        # The error file's name is longer.
        assert run.returncode == 2
        assert "File name too long" in run.stderr
    else:
        assert run.returncode == 0
        assert (folder / name).read_bytes().count(b"\n") == 3


def test_the_input_by_another_name_is_no_place_for_results(
    folder: Path, gateway: GatewayHandle
) -> None:
    content = (folder / "requests.jsonl").read_bytes()
    (folder / "hard").hardlink_to(folder / "requests.jsonl")
    (folder / "soft").symlink_to("requests.jsonl")
    for name in ("hard", "soft"):
        for option in ("-o", "--errors", "--report", "--cache"):
            run = batch_gateway(
                "run", "requests.jsonl", "--gateway", gateway.url, option, name, cwd=folder
            )
            assert run.returncode == 2
    assert (folder / "requests.jsonl").read_bytes() == content
    assert (folder / "hard").samefile(folder / "requests.jsonl")


def test_one_file_by_two_names_is_no_place_for_both(folder: Path, gateway: GatewayHandle) -> None:
    (folder / "a").touch()
    (folder / "hard").hardlink_to(folder / "a")
    (folder / "soft").symlink_to("new")
    for output, errors in (("a", "hard"), ("hard", "a"), ("new", "soft"), ("soft", "new")):
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url,
            "-o", output, "--errors", errors, cwd=folder,
        )  # fmt: skip
        assert run.returncode == 2
        assert "output and error file must be two files" in run.stderr
    assert {path.name for path in folder.iterdir()} == {"requests.jsonl", "a", "hard", "soft"}


@pytest.mark.parametrize("option", ["-o", "--errors", "--report", "--cache"])
def test_a_config_or_key_file_is_no_place_for_results(
    folder: Path, gateway: GatewayHandle, option: str
) -> None:
    config, key = folder / "gateway.yaml", folder / "key"
    config.write_text(f"gateway: {gateway.url}\n")
    key.write_text("sk-secret")
    for name in ("gateway.yaml", "key"):
        run = batch_gateway(
            "run", "requests.jsonl", "--config", "gateway.yaml", "--api-key-file", "key",
            option, name, cwd=folder,
        )  # fmt: skip
        assert run.returncode == 2
        assert "sk-secret" not in run.stderr
    assert config.read_text() == f"gateway: {gateway.url}\n"
    assert key.read_text() == "sk-secret"


def test_a_path_in_the_config_file_that_no_system_takes_is_an_error_in_words(
    folder: Path, gateway: GatewayHandle
) -> None:
    for key in ("output", "errors", "report"):
        (folder / "c.yaml").write_text(f'gateway: {gateway.url}\n{key}: "a\\0b"\n')
        run = batch_gateway("run", "requests.jsonl", "--config", "c.yaml", cwd=folder)
        assert run.returncode == 2
        assert f"c.yaml:2: {key}: " in run.stderr
