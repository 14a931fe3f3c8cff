"""The page as a browser lays it out, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from batch_gateway.testing import simulated_gateway
from tests.cli.commands import batch_gateway, write_batch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# The page forbids scripts, so one of the document around it measures it.
PROBE = """<!doctype html><title>probe</title>
<iframe id="f" width="{width}" height="900" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const inside = document.getElementById("f").contentDocument;
  const wide = [...inside.querySelectorAll("main > *, .card, .tile, svg")]
    .filter(e => e.getBoundingClientRect().right > {width} + 1).length;
  const flat = [...inside.querySelectorAll("svg")]
    .filter(e => e.getBoundingClientRect().height < 100).length;
  document.body.append("FOUND " + inside.documentElement.scrollWidth + " " + wide + " " + flat
    + " " + inside.querySelectorAll("svg").length + " END");
}};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_at_the_width_of_a_phone_or_a_desk(tmp_path: Path, width: int) -> None:
    write_batch(
        tmp_path / "requests.jsonl", ["a-model-with-a-long-name-" * 6] * 30 + ["fault-delay-0.3"]
    )
    with simulated_gateway() as gateway:
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html",
            cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0
    page = (tmp_path / "report.html").read_text().replace("&", "&amp;").replace('"', "&quot;")
    (tmp_path / "probe.html").write_text(PROBE.format(width=width, page=page))
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000",
            "--dump-dom", (tmp_path / "probe.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"FOUND (\d+) (\d+) (\d+) (\d+) END", done.stdout)
    assert found is not None, done.stderr[-500:]
    scroll_width, wide, flat, charts = map(int, found.groups())
    assert scroll_width <= width
    assert wide == 0
    assert flat == 0
    assert charts >= 4
