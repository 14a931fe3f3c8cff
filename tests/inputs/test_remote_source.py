"""Inputs behind URLs: read whole, gone on with where they break off, with no secret shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.errors import InputError
from batch_gateway.inputs.remote_source import open_remote, shown_url
from tests.cli.commands import batch_gateway

DATA = b"review\n" + b"".join(b"number %d\n" % n for n in range(200_000))
SIGNED = "?X-Amz-Signature=s3cr3t&sig=s3cr3t"


@contextmanager
def serving(
    *, breaks: int = 0, ranges: bool = True, tags: tuple[str, ...] = ('"1"',), status: int = 200
) -> Iterator[tuple[str, list[str | None]]]:
    """A server of DATA that breaks off so often; its URL, and the ranges that it was asked for."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number, wanted = len(asked), self.headers.get("Range")
            asked.append(wanted)
            tag = tags[min(number, len(tags) - 1)]
            same = self.headers.get("If-Range") in (None, tag)
            start = int(wanted[6:-1]) if wanted and ranges and same else 0
            body = DATA[start:]
            self.send_response(status if status != 200 else 206 if start else 200)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if number < breaks else body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/reviews.csv{SIGNED}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def content(url: str) -> bytes:
    source = open_remote(url)
    try:
        return source.read(0, source.size())
    finally:
        source.close()


def test_all_of_it_is_read_and_gone_on_with_where_it_broke_off() -> None:
    with serving() as (url, asked):
        assert content(url) == DATA
        assert asked == [None]
    with serving(breaks=2) as (url, asked):
        assert content(url) == DATA
        half = len(DATA) // 2
        assert asked[:2] == [None, f"bytes={half}-"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"status": 403}, "the server says 403 Forbidden"),
        ({"breaks": 9}, "cannot be read: it broke off"),
        ({"breaks": 1, "ranges": False}, "cannot go on from there"),
        ({"breaks": 1, "tags": ('"1"', '"2"')}, "cannot go on from there"),
    ],
)
def test_what_cannot_be_read_is_told_without_its_signature(
    settings: dict[str, Any], words: str
) -> None:
    with serving(**settings) as (url, _), pytest.raises(InputError, match=words) as caught:
        content(url)
    assert "s3cr3t" not in repr(caught.value)


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match=r"reviews\.csv cannot be read: .*refused"):
        content(f"http://127.0.0.1:9/reviews.csv{SIGNED}")


def test_other_schemes_are_refused_with_those_that_are_read() -> None:
    with pytest.raises(InputError, match="ftp:// is not read; https://, s3://, gs://, az://"):
        content("ftp://host/a.csv")


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert shown_url("https://me:pw@host:1/a.csv?sig=x#y") == "https://host:1/a.csv"


def test_validate_shows_no_signature_in_its_json_either(tmp_path: Path) -> None:
    with serving() as (url, _):
        command = ("validate", url, "--model", "m", "--json")
        good = batch_gateway(*command, "--template", "{review}", cwd=tmp_path)
        bad = batch_gateway(*command, cwd=tmp_path)
    assert (good.returncode, bad.returncode) == (0, 2)
    for run in (good, bad):
        assert json.loads(run.stdout)["file"] == shown_url(url)
        assert "s3cr3t" not in run.stdout + run.stderr


def test_a_table_behind_a_url_is_run_and_its_signature_is_nowhere(tmp_path: Path) -> None:
    with serving() as (url, _):
        told = ("--model", "m", "--template", "{review}", "--gateway", "simulator", "--limit", "2")
        run = batch_gateway("run", url, *told, "--deadline", "0.001s", cwd=tmp_path)
        again = batch_gateway("run", url, *told, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "s3cr3t" not in run.stdout + run.stderr + again.stdout + again.stderr
    assert "X-Amz-Signature=..." in run.stderr + run.stdout
    assert len((tmp_path / "reviews.results.jsonl").read_bytes().splitlines()) == 2
    assert "s3cr3t" not in (tmp_path / "reviews.results.jsonl").read_text()
