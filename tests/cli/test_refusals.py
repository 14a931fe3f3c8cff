"""The real command against gateways that refuse: at the start, in the middle, one model alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import batch_gateway, read_lines, write_batch
from tests.cli.turning_server import ANSWER, Reply, TurningServer, turning_server

HTML = (("Content-Type", "text/html"),)
PAGE = Reply(404, b"<html><head><title>404 Not Found</title></head>nginx</html>", HTML)


def said(status: int, message: str, **more: str) -> Reply:
    return Reply(status, json.dumps({"error": {"message": message, **more}}).encode())


REFUSALS = {
    "expired": said(401, "token expired"),
    "no money": said(402, "payment required"),
    "forbidden": said(403, "key disabled"),
    "insufficient_quota": said(
        429, "You exceeded your current quota, please check your plan", code="insufficient_quota"
    ),
    "a day's quota": Reply(
        429,
        b'[{"error":{"code":429,"message":"You exceeded your current quota","status":'
        b'"RESOURCE_EXHAUSTED","details":[{"quotaId":'
        b'"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}}]',
    ),
    "credit": said(400, "Your credit balance is too low to access the API."),
}


@pytest.mark.parametrize("good", [0, 100])
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_stops_the_run_within_seconds_and_costs_no_line(
    tmp_path: Path, kind: str, good: int
) -> None:
    def decide(_: TurningServer, number: int, _body: dict[str, Any], _key: str) -> Reply:
        return ANSWER if number <= good else REFUSALS[kind]

    write_batch(tmp_path / "in.jsonl", 400)
    with turning_server(decide) as server:
        run = batch_gateway("run", "in.jsonl", "--gateway", server.url, "--json", cwd=tmp_path)
        told = json.loads(run.stdout)
        assert run.returncode == 3
        assert (told["outcome"], told["succeeded"], told["failed"]) == ("gateway_unusable", good, 0)
        assert told["left"] == 400 - good
        assert ("began to refuse" in told["reason"]) == (good > 0)
        assert server.posts < good + 120
        assert told["duration_seconds"] < 10
    assert not (tmp_path / "in.results.errors.jsonl").exists()


@pytest.mark.parametrize(
    "expired",
    [said(401, "expired"), said(400, "API key expired. Please renew the API key.")],
    ids=["401", "Gemini"],
)
def test_a_token_that_is_renewed_in_its_file_goes_on_with_the_new_one(
    tmp_path: Path, expired: Reply
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("token-number-one\n")

    def decide(server: TurningServer, number: int, _body: dict[str, Any], key: str) -> Reply:
        if number == 200:
            key_file.write_text("token-number-two\n")
        old_ones = key == "Bearer token-number-one" and number <= 200
        if old_ones or (key == "Bearer token-number-two" and number > 200):
            return ANSWER
        return expired

    write_batch(tmp_path / "in.jsonl", 600)
    with turning_server(decide) as server:
        run = batch_gateway(
            "run", "in.jsonl", "--gateway", server.url, "--api-key-file", key_file,
            "--concurrency", "32", cwd=tmp_path,
        )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert len(read_lines(tmp_path / "in.results.jsonl")) == 600


def test_a_renewed_key_that_is_refused_too_is_never_shown(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("token-number-one\n")

    def decide(_: TurningServer, number: int, _body: dict[str, Any], key: str) -> Reply:
        if number == 20:
            key_file.write_text("token-number-two\n")
        return ANSWER if number < 20 else said(401, f"expired: {key}")

    write_batch(tmp_path / "in.jsonl", 100)
    with turning_server(decide) as server:
        run = batch_gateway(
            "run", "in.jsonl", "--gateway", server.url, "--api-key-file", key_file, cwd=tmp_path
        )
    assert run.returncode == 3
    assert "the gateway began to refuse: HTTP 401: expired" in run.stdout
    assert "token-number" not in run.stdout + run.stderr


@pytest.mark.parametrize("page", [PAGE, Reply(404, b"default backend - 404", HTML)])
def test_an_ingress_that_is_put_up_anew_is_waited_for(tmp_path: Path, page: Reply) -> None:
    pages: list[float] = []

    def decide(_: TurningServer, number: int, _body: dict[str, Any], _key: str) -> Reply:
        if number <= 100 or (pages and time.monotonic() - pages[0] > 1.5):
            return ANSWER
        pages.append(time.monotonic())
        return page

    write_batch(tmp_path / "in.jsonl", 400)
    with turning_server(decide) as server:
        run = batch_gateway(
            "run", "in.jsonl", "--gateway", server.url, "--concurrency", "16", cwd=tmp_path
        )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{server.url} is back after" in run.stderr
    assert len(read_lines(tmp_path / "in.results.jsonl")) == 400


def test_patience_ends_the_wait_for_a_page_and_the_lines_stay(tmp_path: Path) -> None:
    def decide(_: TurningServer, number: int, _body: dict[str, Any], _key: str) -> Reply:
        return PAGE if number > 100 else ANSWER

    write_batch(tmp_path / "in.jsonl", 400)
    with turning_server(decide) as server:
        run = batch_gateway(
            "run", "in.jsonl", "--gateway", server.url, "--patience", "1s", cwd=tmp_path
        )
    assert run.returncode == 3, run.stdout + run.stderr
    assert "404 Not Found" in run.stdout
    assert len(read_lines(tmp_path / "in.results.jsonl")) == 100
    assert not (tmp_path / "in.results.errors.jsonl").exists()


def test_a_line_that_a_firewall_refuses_is_recorded_among_good_ones(tmp_path: Path) -> None:
    def decide(_: TurningServer, number: int, body: dict[str, Any], _key: str) -> Reply:
        blocked = body["model"] == "blocked"
        return Reply(403, b"<html><title>Blocked</title></html>", HTML) if blocked else ANSWER

    models = ["tiny"] * 60
    models[7] = models[30] = "blocked"
    write_batch(tmp_path / "in.jsonl", models)
    with turning_server(decide) as server:
        run = batch_gateway(
            "run", "in.jsonl", "--gateway", server.url, "--order", "file", cwd=tmp_path
        )
    # Nobody can tell two lines of one model from a model that is closed.
    assert run.returncode == 3
    assert "blocked: HTTP 403: Blocked" in run.stdout
    assert "--max-failures=100%" in run.stdout
    with turning_server(decide) as server:
        run = batch_gateway(
            "run", "in.jsonl", "--gateway", server.url, "--max-failures=100%", cwd=tmp_path
        )
    assert run.returncode == 1
    assert len(read_lines(tmp_path / "in.results.errors.jsonl")) == 2


def test_a_mended_file_is_taken_after_a_run_that_recorded_nothing(tmp_path: Path) -> None:
    def decide(_: TurningServer, number: int, body: dict[str, Any], _key: str) -> Reply:
        known = body["model"] == "llama-3.3-70b"
        name = body["model"]
        return (
            ANSWER if known else said(404, f"The model `{name}` does not exist.", type="NotFound")
        )

    write_batch(tmp_path / "in.jsonl", ["llama-3.3-70B"] * 50)
    with turning_server(decide, ["llama-3.3-70b", "qwen3-8b"]) as server:
        command = ("run", "in.jsonl", "--gateway", server.url)
        run = batch_gateway(*command, cwd=tmp_path)
        assert run.returncode == 3
        assert "The model `llama-3.3-70B` does not exist." in run.stdout
        assert "llama-3.3-70b, qwen3-8b" in run.stdout
        assert "did you mean llama-3.3-70b?" in run.stdout
        assert "--retry-failed" not in run.stdout
        write_batch(tmp_path / "in.jsonl", ["llama-3.3-70b"] * 50)
        assert batch_gateway(*command, cwd=tmp_path).returncode == 0
