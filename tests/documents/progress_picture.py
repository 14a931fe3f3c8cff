"""The picture of a run under way, drawn from what a run shows on a terminal.

`python -m tests.documents.progress_picture` makes docs/assets/progress.svg anew.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from tests.documents.blocks import ROOT

__all__ = ["PICTURE", "picture", "screens"]

PICTURE = ROOT / "docs" / "assets" / "progress.svg"
COMMAND = "batch-gateway run requests.jsonl --gateway simulator -o results.jsonl"
_COLUMNS = 80
# What is written before a screen that takes the place of the one before.
_ANEW = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
_SHARE = re.compile(r"(\d+)%")


def screens(requests: Path) -> list[str]:
    """What the lines of a file show while they run, one screen after the other."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, _COLUMNS, 0, 0))
    program, *arguments = COMMAND.replace("requests.jsonl", str(requests)).split()
    with tempfile.TemporaryDirectory() as desk:
        process = subprocess.Popen(
            [Path(sys.executable).parent / program, *arguments],
            cwd=desk,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        written = _all_of(ours)
        assert process.wait() == 0, written
    return _ANEW.split(written)


def _all_of(descriptor: int) -> str:
    parts = list[bytes]()
    with open(descriptor, "rb", buffering=0) as stream:
        try:
            while part := stream.read(65536):
                parts.append(part)
        except OSError:  # how a terminal ends
            pass
    return b"".join(parts).decode().replace("\r\n", "\n")


def picture(shown: list[str], percent: int = 75) -> str:
    """The screen of a run that is so far, as SVG that asks for nothing from anywhere."""
    head = shown[0].partition("\x1b[?25l")[0]
    [now, *_] = [one for one in shown if (share := _SHARE.search(one)) and int(share[1]) >= percent]
    console = Console(file=StringIO(), record=True, width=_COLUMNS, force_terminal=True)
    console.print(Text(f"$ {COMMAND}", style="bold"))
    console.print(Text.from_ansi(f"{head}{now}\n"))
    drawn = console.export_svg(title="", theme=DIMMED_MONOKAI, unique_id="progress")
    drawn = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


if __name__ == "__main__":
    PICTURE.write_text(picture(screens(ROOT / "examples" / "requests.jsonl")), "utf-8")
