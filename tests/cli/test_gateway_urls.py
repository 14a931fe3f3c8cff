"""`--gateway` as people paste it from an SDK's set-up."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import batch_gateway, write_batch


@pytest.mark.parametrize(
    "written",
    [
        "{url}/v1", "{url}/v1/", "{url}/v1?", "{url}/v1/chat/completions", " {url}/ ", "'{url}/v1'",
        "{host}", "{host}/v1", "HTTP://{host}/v1/models", "\ufeff{url}/v1\xa0",
    ],
)  # fmt: skip
def test_what_an_sdk_takes_as_its_base_url_works(
    tmp_path: Path, gateway: GatewayHandle, written: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    url = written.format(url=gateway.url, host=gateway.url.removeprefix("http://"))
    run = batch_gateway("run", "requests.jsonl", "--gateway", url, cwd=tmp_path)
    assert (run.returncode, "Warning" in run.stderr) == (0, False)
    assert f"to {gateway.url}, " in run.stderr


def test_what_somebody_wrote_is_quoted_as_it_is(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    run = batch_gateway("run", "requests.jsonl", "--gateway", "base_url=http://h", cwd=tmp_path)
    assert run.returncode == 2
    assert "--gateway: 'base_url=http://h' is not a URL" in run.stderr


def test_a_key_in_a_url_is_to_be_given_by_an_option_that_there_is(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    for url in ("http://me:hidden@h", "http://h/v1?key=hidden"):
        run = batch_gateway("run", "requests.jsonl", "--gateway", url, cwd=tmp_path)
        assert (run.returncode, "hidden" in run.stderr) == (2, False)
        assert "--api-key-file" in run.stderr
    url = "http://me:hidden@h/metrics"
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", "http://h", "--gateway-metrics", url, cwd=tmp_path
    )
    assert (run.returncode, "hidden" in run.stderr) == (2, False)
    assert "give a token as --gateway-metrics-token-file" in run.stderr
