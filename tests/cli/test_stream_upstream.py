"""`run --stream-upstream`: the same results, without a limit on how long an answer may take."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway
from tests.cli.commands import batch_gateway, chat_line, read_lines, write_batch


def results(path: Path) -> dict[str, Any]:
    return {line["custom_id"]: line["response"]["body"] for line in read_lines(path)}


def test_results_are_the_same_as_without(tmp_path: Path, gateway: GatewayHandle) -> None:
    # The simulator's answers depend on every byte of a request, blanks included.
    lines = (json.dumps(chat_line(f"req-{n}"), separators=(",", ":")) for n in range(20))
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    assert batch_gateway(*command, "-o", "plain.jsonl", cwd=tmp_path).returncode == 0
    gateway.clear_journal()
    run = batch_gateway(*command, "-o", "streamed.jsonl", "--stream-upstream", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "20 answers, the first token after " in run.stdout
    assert all(b'"stream":true' in sent.body for sent in gateway.recent_requests())
    plain, streamed = results(tmp_path / "plain.jsonl"), results(tmp_path / "streamed.jsonl")
    for body in (*plain.values(), *streamed.values()):
        del body["created"]
    assert list(map(json.dumps, streamed.values())) == [json.dumps(plain[i]) for i in streamed]


def test_a_generation_outlives_the_timeout_and_a_stalled_one_does_not(tmp_path: Path) -> None:
    long = chat_line("long")
    long["body"] |= {"max_tokens": 70, "ignore_eos": True}
    stalled = chat_line("stalled", "fault-stall-body")
    lines = [json.dumps(chat_line("short")), json.dumps(long), json.dumps(stalled)]
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    with simulated_gateway(SimulatorConfig.small_gpu()) as gateway:
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", gateway.url, "--stream-upstream",
            "--timeout", "1s", "--idle-timeout", "1s", "--max-retries", "0", "--json",
            cwd=tmp_path,
        )  # fmt: skip
    summary = json.loads(run.stdout)
    assert (run.returncode, summary["succeeded"], summary["failed"]) == (1, 2, 1)
    assert summary["streamed"] == 2
    assert summary["time_to_first_token_seconds"] > 0
    [error] = read_lines(tmp_path / "requests.results.errors.jsonl")
    assert error["custom_id"] == "stalled"
    assert error["error"]["code"] == "idle_timeout"
    assert "sent nothing for 1.0s" in error["error"]["message"]


def test_a_config_file_may_ask_for_it(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    (tmp_path / "run.yaml").write_text(
        f"gateway: {gateway.url}\nstream_upstream: true\nidle_timeout: 30s\n"
    )
    run = batch_gateway("run", "requests.jsonl", "--config", "run.yaml", cwd=tmp_path)
    assert run.returncode == 0
    assert "streamed" in run.stdout


def test_an_impossible_idle_timeout_is_named_as_it_was_given(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    command = ("run", "requests.jsonl", "--gateway", "http://g", "--stream-upstream")
    run = batch_gateway(*command, "--idle-timeout", "0s", cwd=tmp_path)
    assert run.returncode == 2
    assert "--idle-timeout: must be more than zero" in run.stderr


def test_an_idle_timeout_alone_is_refused_as_one_that_does_nothing(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    (tmp_path / "run.yaml").write_text("gateway: http://g\nidle_timeout: 30s\n")
    command = ("run", "requests.jsonl")
    flag = batch_gateway(*command, "--gateway", "http://g", "--idle-timeout", "9s", cwd=tmp_path)
    file = batch_gateway(*command, "--config", "run.yaml", cwd=tmp_path)
    assert (flag.returncode, file.returncode) == (2, 2)
    assert "--idle-timeout: does nothing without --stream-upstream" in flag.stderr
    assert "run.yaml:2: idle_timeout: does nothing without --stream-upstream" in file.stderr


def test_an_event_that_is_too_large_fails_its_line_alone_and_names_the_setting(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    command = ["run", "requests.jsonl", "--gateway", gateway.url, "--stream-upstream"]
    gateway.clear_journal()
    run = batch_gateway(*command, "--max-event-bytes", "100B", cwd=tmp_path)
    assert (run.returncode, gateway.journal()["received"]) == (1, 5)
    errors = read_lines(tmp_path / "requests.results.errors.jsonl")
    assert len(errors) == 5
    for line in errors:
        assert line["error"]["code"] == "event_too_large"
        assert "--max-event-bytes" in line["error"]["message"]
        assert "larger than 100 bytes" in line["error"]["message"]
    (tmp_path / "run.yaml").write_text("stream_upstream: true\nmax_event_bytes: 1MiB\n")
    again = batch_gateway(*command[:4], "--config", "run.yaml", "--retry-failed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def nested_chunks() -> Iterator[bytes]:
    """Chunks that are nested so deeply, in one place or another, that no reader likes them."""
    for depth in (490, 600, 750, 900, 975, 5000):
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        calls = b'[{"index":0,"tool_calls":' * (depth // 2) + b"[]" + b"}]" * (depth // 2)
        for form, value in (
            (b'{"choices":[{"index":0,"delta":{"content":%b}}]}', nested),
            (b'{"choices":[{"index":0,"delta":{"x":%b}}]}', nested),
            (b'{"choices":[{"index":0,"delta":{"tool_calls":%b}}]}', calls),
            (b'{"choices":[{"index":0,"delta":{},"logprobs":{"content":[%b]}}]}', nested),
            (b'{"choices":[],"x":%b}', nested),
            (b'{"error":%b}', nested),
            (b"%b", b"[" * depth + b"]" * depth),
        ):
            yield form % value


@contextmanager
def serving_events(event_of: Callable[[str], bytes]) -> Iterator[str]:
    """A gateway that streams one event for each request, chosen by what its prompt says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = b"data: " + event_of(body["messages"][0]["content"]) + b"\n\ndata: [DONE]\n\n"
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_chunks_that_are_nested_deeply_fail_their_lines_and_not_the_run(tmp_path: Path) -> None:
    good = b'{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}'
    events = [good, *nested_chunks()]
    lines = [chat_line(f"line-{number}") for number in range(len(events))]
    for number, line in enumerate(lines):
        line["body"]["messages"] = [{"role": "user", "content": str(number)}]
    (tmp_path / "requests.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    with serving_events(lambda prompt: events[int(prompt)]) as url:
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", url, "--stream-upstream", "--max-retries", "0",
            "--patience", "0s", cwd=tmp_path,
        )  # fmt: skip
    assert (run.returncode, run.stderr.count("Traceback")) == (1, 0), run.stderr
    assert list(results(tmp_path / "requests.results.jsonl")) == ["line-0"]
    errors = read_lines(tmp_path / "requests.results.errors.jsonl")
    assert len(errors) == len(events) - 1
    assert all(line["error"]["message"] for line in errors if line["error"])
