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
        "{host}", "{host}/v1", "HTTP://{host}/v1/models",
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
