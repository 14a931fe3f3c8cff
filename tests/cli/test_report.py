"""`run --report`: one page that says what happened, needs nothing else, and gives nothing away."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pytest

from batch_gateway.engine.progress import RunOutcome
from batch_gateway.report.page import headline
from batch_gateway.report.replace_file import GENERATOR
from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.cli.commands import batch_gateway, chat_line, started, wait_until, write_batch

VOID = {"meta", "br", "path", "line", "rect", "link", "img", "hr", "input"}
KEY = "sk-very-secret-key"


class Page(HTMLParser):
    """A page's text and attributes; every element that is opened must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        elif tag == "rect":
            self.open.append(tag)  # ours hold a title

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def test_the_page_tells_how_the_run_went(tmp_path: Path, gateway: GatewayHandle) -> None:
    models = ["tiny"] * 20 + ["large"] * 4 + ["fault-delay-0.3", "fault-status-404"]
    write_batch(tmp_path / "requests.jsonl", models)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 1
    assert json.loads(run.stdout)["report_file"] == "report.html"
    text = read(tmp_path).text
    for part in (
        "Done, 1 of 26 requests failed",
        "25 of 26 lines succeeded",
        "Throughput",
        "In flight at the gateway",
        "Latency, with retries and waits",
        "Only known of streamed answers",
        "HTTP 404",
        "line 26 req-26",
        "requests.results.errors.jsonl",
        "Tokens by model",
        "large",
        "The slowest lines",
        f"Gateway {gateway.url}",
    ):
        assert part in text, part


def test_a_run_that_stops_at_max_failures_has_its_page(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["fault-status-422", "tiny"] * 30)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html",
        "--max-failures", "3", "--concurrency", "2", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    assert "report.html" in run.stdout
    assert "Stopped, too many requests failed" in read(tmp_path).text


@pytest.mark.parametrize("outcome", RunOutcome)
def test_the_page_has_a_headline_for_every_end_of_a_run(outcome: RunOutcome) -> None:
    summary = mock.Mock(outcome=outcome, total=3, succeeded=1, failed=1, left_to_send=1)
    assert headline(summary)


def test_the_page_tells_why_no_more_was_sent_at_a_time(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 200)
    with simulated_gateway(
        seats=4, queue_limit=0, output_tokens=5, time_per_token=0.008, latency_scale=1.0
    ) as busy:
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", busy.url, "--report", "report.html", "--json",
            cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0
    page = read(tmp_path)
    # How near to four it comes is the controller's affair, and the machine's.
    refused = r"\d at a time: the gateway refuses more than \d"
    # The legend, the table of shares, what helps, and, for those who do not see it, the band.
    assert re.search(r"most .*limit .*more are refused", page.text)
    shares = page.text.partition("Why it was not faster")[2]
    assert re.search(rf"lines waited because .*\d+ % [\d.]+ m?s {refused}", shares)
    assert all(hint in page.text for hint in json.loads(run.stdout)["hints"])
    labels = [value or "" for name, value in page.attributes if name == "aria-label"]
    [band] = [label for label in labels if label.startswith("why no more: ")]
    assert re.search(rf" to [\d.]+ s: {refused}", band)
    assert re.search(rf"from in flight .*limit why no more 0 .* {refused}", page.text)


def test_the_page_of_a_fixed_number_has_no_reasons(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 20 + ["fault-delay-0.3"])
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html",
        "--concurrency", "4", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0
    page = read(tmp_path)
    assert "why no more" not in page.text
    assert "Why it was not faster" not in page.text
    assert not [value for name, value in page.attributes if name == "class" and value == "strip"]


def test_what_there_was_none_of_is_not_drawn(tmp_path: Path, gateway: GatewayHandle) -> None:
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html")
    write_batch(tmp_path / "requests.jsonl", ["fault-status-400;after=0.3"] * 3)
    assert batch_gateway(*command, cwd=tmp_path).returncode == 1
    text = read(tmp_path).text
    assert "Throughput requests/s failed" in text  # the legend, which leaves "succeeded" out
    assert "Latency of the answers" not in text
    write_batch(tmp_path / "requests.jsonl", ["fault-delay-0.3"])
    assert batch_gateway(*command, "--fresh", cwd=tmp_path).returncode == 0
    text = read(tmp_path).text
    assert "The one request succeeded" in text
    assert "1 of 1 line succeeded" in text
    assert "Throughput requests/s succeeded 0" in text


def test_a_run_that_is_over_at_once_has_no_course(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    with mock.patch("batch_gateway.report.timeline._FIRST_WIDTH", 60.0):
        batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html",
            cwd=tmp_path,
        )  # fmt: skip
    text = read(tmp_path).text
    assert "over too soon for a course over time" in text
    assert "Throughput" not in text


def test_the_page_needs_nothing_else_and_runs_no_code(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html", cwd=tmp_path
    )
    assert run.returncode == 0
    assert "report    report.html" in run.stdout
    page = read(tmp_path)
    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name[:2] == "on"]
    styles = re.findall(r"<style>(.*?)</style>", (tmp_path / "report.html").read_text(), re.DOTALL)
    assert len(styles) == 1
    assert "url(" not in styles[0]
    assert "@import" not in styles[0]
    assert "prefers-color-scheme: dark" in styles[0]


def test_secrets_stay_out_of_the_page(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny", "fault-status-404"])
    (tmp_path / "gateway.yaml").write_text(
        f"gateway: {gateway.url}\napi_key: {KEY}\nheaders: {{X-Team: team-secret}}\n"
    )
    run = batch_gateway(
        "run", "requests.jsonl", "--config", "gateway.yaml", "--header", "X-Other=flag-secret",
        "--report", "report.html", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 1
    page = (tmp_path / "report.html").read_text()
    assert not re.search(f"{KEY}|team-secret|flag-secret", page)
    text = Page(page).text
    assert "api key given" in text
    assert "headers X-Team, X-Other" in text


def test_what_others_wrote_is_text_and_never_markup(tmp_path: Path, gateway: GatewayHandle) -> None:
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    lines = [chat_line(evil), chat_line("fails", f"fault-{evil}"), chat_line("other", evil)]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html", cwd=tmp_path
    )
    assert run.returncode == 1
    page = read(tmp_path)
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count("<script>alert(1)</script>") >= 3


def test_signs_that_cannot_be_seen_are_shown_as_such(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    lines = [
        chat_line("nul\0 turned\u202e round", "line\u2028 break"),
        chat_line("\U0001f468\u200d"),
    ]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html", cwd=tmp_path
    )
    assert run.returncode == 0
    page = (tmp_path / "report.html").read_text()
    assert "nul\ufffd turned\ufffd round" in page
    assert "line\ufffd break" in page
    assert "\U0001f468\u200d" in page


def test_a_resumed_run_reports_itself_and_says_so(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 4 + ["fault-status-400"] * 2)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html")
    batch_gateway(*command, cwd=tmp_path)
    batch_gateway(*command, "--retry-failed", cwd=tmp_path)
    text = read(tmp_path).text
    assert "4 of 6 lines were done before this run, and 2 in it" in text
    batch_gateway(*command, cwd=tmp_path)
    assert "No request ended in this run" in read(tmp_path).text


def test_several_gateways_are_told_apart(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny", "large"])
    with simulated_gateway() as other:
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url, "--model-gateway",
            f"large={other.url}", "--report", "report.html", cwd=tmp_path,
        )  # fmt: skip
        assert run.returncode == 0
        text = read(tmp_path).text
        assert "By gateway" in text
        assert f"Gateway {other.url} models large" in text
        assert f"Gateway {gateway.url} models all other models" in text


def test_a_gateway_that_cannot_be_reached_is_reported_too(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    (tmp_path / "report.html").write_text(f"<head>{GENERATOR}</head>of an earlier run")
    gateway.stop()
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html", cwd=tmp_path
    )
    gateway.start()
    assert run.returncode == 3
    text = read(tmp_path).text
    assert "Stopped, the gateway cannot be used, 3 left to send" in text
    assert "cannot be reached" in text


def test_a_gateway_that_refuses_everything_is_reported_too(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    gateway.set_faults({"status-401": 1.0})
    write_batch(tmp_path / "requests.jsonl", 30)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html", cwd=tmp_path
    )
    assert run.returncode == 3
    assert "Stopped, the gateway cannot be used, 30 left to send" in read(tmp_path).text


def test_an_interrupted_run_is_reported_too(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 10 + ["fault-delay-0.3"] * 2_000)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html")
    with started(*command, "--concurrency", "2", "--order", "file", cwd=tmp_path) as process:
        results = tmp_path / "requests.results.jsonl"
        wait_until(lambda: results.exists() and results.stat().st_size > 0, "a result")
        assert not (tmp_path / "report.html").exists()
        process.terminate()
        assert process.wait(30) == 130
    assert re.search(r"Interrupted, [\d,]+ left to send", read(tmp_path).text)


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("missing/report.html", "does not exist"),
        ("folder", "is a directory"),
        ("requests.jsonl", "is the input or a result file"),
        ("requests.results.jsonl", "is the input or a result file"),
    ],
)
def test_a_page_that_could_not_be_written_is_refused_before_anything_is_sent(
    tmp_path: Path, gateway: GatewayHandle, page: str, problem: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    (tmp_path / "folder").mkdir()
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--report", page, cwd=tmp_path
    )
    assert run.returncode == 2
    assert "--report: " in run.stderr
    assert problem in run.stderr
    assert gateway.journal()["received"] == 0


def test_a_page_that_cannot_be_written_in_the_end_costs_no_result(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    with mock.patch("tempfile.mkstemp", side_effect=OSError(28, "No space left on device")):
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html",
            cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0
    assert "The report could not be written: report.html: No space left on device" in run.stderr
    assert "report    " not in run.stdout


@pytest.mark.parametrize(
    "content", [b"my notes", b"<!doctype html>\n<title>My page</title>", b"\x89PNG", bytes(5000)]
)
def test_a_file_that_is_no_report_is_never_replaced(
    tmp_path: Path, gateway: GatewayHandle, content: bytes
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    (tmp_path / "report.html").write_bytes(content)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html")
    run = batch_gateway(*command, cwd=tmp_path)
    assert run.returncode == 2
    assert "report.html is no report of this program, so it is left alone" in run.stderr
    assert (tmp_path / "report.html").read_bytes() == content
    assert gateway.journal()["received"] == 0
    (tmp_path / "report.html").write_bytes(b"")
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0


def test_a_file_that_is_put_in_the_reports_place_during_the_run_stays(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny", "fault-delay-1"])
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--report", "report.html")
    with started(*command, cwd=tmp_path) as process:
        wait_until(lambda: gateway.journal()["received"] > 0, "the run has begun")
        (tmp_path / "report.html").write_text("my page")
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "The report could not be written: report.html: is no report of this" in stderr
    assert (tmp_path / "report.html").read_text() == "my page"


def test_a_report_goes_to_no_device_and_no_pipe(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    os.mkfifo(tmp_path / "pipe")
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--report")
    for page in ("pipe", "/dev/null", "/dev/full", ""):
        run = batch_gateway(*command, page, cwd=tmp_path)
        assert run.returncode == 2
        assert "--report: " in run.stderr
    assert (tmp_path / "pipe").is_fifo()
