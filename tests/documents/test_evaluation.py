"""What the page on evaluation counts are the right answers, whichever way they are counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.commands import environment
from tests.documents.blocks import blocks

PAGE = [block for block in blocks() if block.path.name == "evaluation.md"]
ASKED, *COUNTED = PAGE[:4]
SAID = {"17 + 25": "42.", "9 times 8": "71", "of France": " paris\n", "of Chad": "N'Djamena"}


class Model(BaseHTTPRequestHandler):
    """Knows three of the four answers of the page."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = asked["messages"][-1]["content"]
        [said] = [said for words, said in SAID.items() if words in question]
        choice = {"index": 0, "message": {"role": "assistant", "content": said}}
        body = json.dumps({"choices": [{**choice, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table that the page makes first."""
    folder = tmp_path_factory.mktemp("evaluation")
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}"
        script = re.sub(r"http://[\w-]+:8000", url, ASKED.code)
        run(["bash", "-euo", "pipefail", "-c", script], folder)
        server.shutdown()
        serving.join()
    return folder


def run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        command, cwd=folder, env=environment(PATH=path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("number", "figures"),
    [
        (0, r"accuracy 75\.0%, without an answer 0\n.*capitals +1\.0\nsums +0\.5"),
        (1, r"(?=.*│ sums +┆ 0\.5)(?=.*│ capitals ┆ 1\.0)"),
        (2, r"accuracy 75\.0%"),
    ],
    ids=["pandas", "polars", "csv"],
)
def test_three_of_four_right_answers_are_counted(number: int, figures: str, scored: Path) -> None:
    printed = run([sys.executable, "-c", COUNTED[number].code], scored)
    assert re.search(figures, printed, re.DOTALL), printed
