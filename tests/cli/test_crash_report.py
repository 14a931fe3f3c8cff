"""Where faults of the program are written down: never into a file of somebody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch_gateway.cli.crash_report import CrashReport
from batch_gateway.http.redaction import Redactor


def fault() -> Exception:
    try:
        raise LookupError("no such thing as sk-secret-key-0001")
    except LookupError as error:
        return error


def test_tracebacks_are_added_to_the_report_of_an_earlier_run_without_secrets(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.crash.txt"
    for custom_id in ("one", "two"):
        report = CrashReport(path, Redactor(["sk-secret-key-0001"]))
        assert report.of_line(fault(), custom_id) == f"see {path}"
    text = path.read_text("utf-8")
    assert text.count("LookupError: no such thing as [redacted]") == 2
    assert "'one'" in text
    assert "'two'" in text
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["text", "pipe", "link", "folder"])
def test_what_somebody_else_has_at_its_place_is_left_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    path, notes = tmp_path / "results.crash.txt", tmp_path / "notes.txt"
    notes.write_text("my notes\n")
    if kind == "text":
        path.write_text("my notes\n")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(notes)
    else:
        path.mkdir()
    told = CrashReport(path).of_line(fault(), "one")
    (written,) = elsewhere.iterdir()
    assert told == f"see {written}"
    assert "LookupError" in written.read_text("utf-8")
    assert notes.read_text() == "my notes\n"
    assert kind != "text" or path.read_text() == "my notes\n"
