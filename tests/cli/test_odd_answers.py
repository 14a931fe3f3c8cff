"""What `run` makes of answers with a 2xx status that are none, or nearly none."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Finished, batch_gateway, chat_line, read_lines

GOOD = b'{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
ONCE = ("--max-retries", "0")


class Gateway:
    """Answers each line of a batch with the body that a test gives for its custom_id."""

    def __init__(self, bodies: dict[str, bytes], otherwise: bytes = GOOD) -> None:
        self.bodies = bodies
        self.otherwise = otherwise
        self.url = ""
        self.asked: Counter[str] = Counter()

    def answer(self, request: Any) -> bytes:
        name = request["messages"][0]["content"]
        self.asked[name] += 1
        return self.bodies.get(name, self.otherwise)


@contextmanager
def running(gateway: Gateway) -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = gateway.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        gateway.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield gateway
        server.shutdown()
        thread.join()


def run(folder: Path, gateway: Gateway, names: list[str], *options: str) -> Finished:
    lines = (json.dumps(chat_line(name, content=name)) for name in names)
    (folder / "requests.jsonl").write_text("".join(f"{line}\n" for line in lines))
    arguments = ("--gateway", gateway.url, "-o", "results.jsonl", *ONCE, *options)
    return batch_gateway("run", "requests.jsonl", *arguments, cwd=folder)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            b'{"error":"Unexpected endpoint or method. (POST /v1/v1/chat/completions)"}',
            "Unexpected endpoint or method.",
        ),
        (b'{"error":{"message":"Incorrect API key provided","code":401}}', "Incorrect API key"),
        (b'{"detail":"backend overloaded"}', "backend overloaded"),
        (b'{"object":"error","message":"no such route","code":404}', "no such route"),
        (b"{}", "it has no 'choices'"),
    ],
)
def test_a_file_of_answers_that_are_none_is_as_if_every_line_were_refused(
    tmp_path: Path, body: bytes, says: str
) -> None:
    with running(Gateway({}, otherwise=body)) as gateway:
        ended = run(tmp_path, gateway, [f"line-{n}" for n in range(100)])
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert says in ended.stdout + ended.stderr
    assert sum(gateway.asked.values()) < 100
    assert read_lines(tmp_path / "results.jsonl") == []
    assert read_lines(tmp_path / "results.errors.jsonl") == []


def test_each_line_has_the_error_that_stood_in_its_answer(tmp_path: Path) -> None:
    bodies = {
        "limited": b'{"error":{"message":"slow down","code":429}}',
        "wrong": b'{"object":"error","message":"too long","code":400}',
        "upstream": b'{"choices":[{"error":{"message":"down","code":502},"message":{}}]}',
        "aborted": GOOD.replace(b"stop", b"abort"),
        "empty": b'{"choices":[]}',
        "text": b'{"error":"out of order"}',
    }
    names = [f"good-{n}" for n in range(20)]
    with running(Gateway(bodies)) as gateway:
        ended = run(tmp_path, gateway, [*names, *bodies])
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert {line["custom_id"] for line in read_lines(tmp_path / "results.jsonl")} == {*names}
    failed = {line["custom_id"]: line for line in read_lines(tmp_path / "results.errors.jsonl")}
    refused = {name: failed[name]["response"]["status_code"] for name in list(bodies)[:3]}
    assert refused == {"limited": 429, "wrong": 400, "upstream": 502}
    assert failed["limited"]["response"]["body"]["error"]["message"] == "slow down"
    unusable = {name: failed[name]["error"] for name in list(bodies)[3:]}
    assert unusable["aborted"]["code"] == "aborted"
    assert "its 'choices' are empty" in unusable["empty"]["message"]
    assert "out of order" in unusable["text"]["message"]
    assert not any("body" in error for error in unusable.values())


def test_an_answer_behind_a_byte_order_mark_is_recorded_and_known_again(tmp_path: Path) -> None:
    with running(Gateway({}, otherwise=b"\xef\xbb\xbf" + GOOD)) as gateway:
        assert run(tmp_path, gateway, ["a", "b"]).returncode == 0
        again = run(tmp_path, gateway, ["a", "b"])
    assert "Nothing to send" in again.stdout + again.stderr
    assert gateway.asked == {"a": 1, "b": 1}
    for line in read_lines(tmp_path / "results.jsonl"):
        assert line["response"]["body"] == json.loads(GOOD)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"choices":[{"message":{"content":"Hi"},"logprobs":[-1.5,-Infinity]}]}', "-Infinity"),
        (GOOD.decode().encode("utf-16"), "UTF-16"),
        (GOOD.decode().encode("utf-32-be"), "UTF-32"),
    ],
)
def test_an_answer_that_was_paid_for_and_is_nearly_json_is_kept_as_text(
    tmp_path: Path, body: bytes, says: str
) -> None:
    names = [f"good-{n}" for n in range(10)]
    with running(Gateway({"odd": body})) as gateway:
        ended = run(tmp_path, gateway, [*names, "odd"], "--max-retries", "3")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert gateway.asked["odd"] == 1
    (line,) = read_lines(tmp_path / "results.errors.jsonl")
    assert says in line["error"]["message"]
    assert "Hi" in line["error"]["body"]
    assert line["response"] is None


def test_a_line_for_the_background_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    line = {**chat_line("b"), "url": "/v1/responses"}
    line["body"] = {"model": "m", "input": "?", "background": True}
    (tmp_path / "requests.jsonl").write_text(json.dumps(line))
    with running(Gateway({})) as gateway:
        ended = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert ended.returncode == 2
    assert "line 1: body.background is true" in ended.stderr
    assert not gateway.asked
