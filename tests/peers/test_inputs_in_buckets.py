"""A table that is in a bucket, read by `run` from a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from batch_gateway.storage.from_url import connect
from tests.cli.commands import Finished, batch_gateway, read_lines
from tests.peers.object_stores import S3_KEYS, S3Server, running_moto

pytestmark = pytest.mark.peer("moto")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_moto(tmp_path_factory.mktemp("moto")) as running:
        store = connect(running.address("of"), S3_KEYS)
        obstore.put(store, "reviews.csv", b"review\n" + b"good\n" * 50_000)
        yield running


def run(url: str, folder: Path, *more: str) -> Finished:
    told = ("--model", "m", "--template", "{review}", "--gateway", "simulator", "--limit", "3")
    return batch_gateway("run", url, *told, *more, cwd=folder, variables=dict(S3_KEYS))


def test_a_table_in_a_bucket_is_run(server: S3Server, tmp_path: Path) -> None:
    done = run(server.store_url("of/reviews.csv"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(read_lines(tmp_path / "reviews.results.jsonl")) == 3


@pytest.mark.parametrize("key", ["of/nothing.csv", ""])
def test_what_is_not_there_is_told(server: S3Server, tmp_path: Path, key: str) -> None:
    done = run(server.store_url(key), tmp_path, "-o", "r.jsonl")
    assert done.returncode == 2
    assert "is not stored" in done.stderr if key else "names a bucket and no object" in done.stderr
    assert S3_KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stderr
