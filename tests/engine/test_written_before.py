"""What earlier versions wrote is read: result files are resumed, and a stored plan is run.

Each folder in `written_before` is named after the revision whose `batch-gateway run` wrote its
results, and was killed in the middle of it; `plan-1` is a plan of version 1.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from batch_gateway.client.interfaces.request import InferenceRequest, InferenceResponse
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.queue_journal import QueueJournal
from batch_gateway.engine.run import run_plan
from batch_gateway.engine.source import FileSource, RangeSource
from batch_gateway.engine.stored_plan import load_plan
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.lines import parse_line_id

from .batch_files import read_lines

pytestmark = pytest.mark.anyio

WRITTEN = Path(__file__).with_name("written_before")
REVISIONS = ("7be2554", "41db6f6")
INPUT = WRITTEN / "requests.jsonl"
CUSTOM_IDS = [json.loads(line)["custom_id"] for line in INPUT.read_bytes().split(b"\n") if line]


class Gateway:
    """Answers everything; `sent` are the ids of the results that it was asked for."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        self.sent.append(request.request_id)
        return InferenceResponse(
            request_id=request.request_id, status_code=200, headers=Headers(), body=b"{}"
        )


class Results:
    """A copy of what a revision wrote."""

    def __init__(self, folder: Path, revision: str) -> None:
        self.output, self.errors = folder / "output.jsonl", folder / "errors.jsonl"
        for file in (self.output, self.errors):
            shutil.copy(WRITTEN / revision / file.name, file)

    def ids(self) -> list[str]:
        return [line["id"] for file in (self.output, self.errors) for line in read_lines(file)]

    async def run(self, gateway: Gateway, *, retry_failed: bool = False) -> None:
        with make_plan(INPUT) as plan:
            journal = FileJournal.open(plan, self.output, self.errors, retry_failed=retry_failed)
            async with journal:
                await run_plan(plan, journal, lambda _: gateway)


def places(ids: Iterable[str]) -> set[tuple[str, int]]:
    """Inputs and requests; the ids of earlier versions do not say what the request was."""
    found = [parse_line_id(one) for one in ids]
    return {(one.fingerprint, one.request) for one in found if one is not None}


@pytest.mark.parametrize("revision", REVISIONS)
async def test_results_of_an_earlier_version_are_resumed(tmp_path: Path, revision: str) -> None:
    results, gateway = Results(tmp_path, revision), Gateway()
    before = results.output.read_bytes(), results.errors.read_bytes()
    done = results.ids()
    await results.run(gateway)
    assert not places(done) & places(gateway.sent)
    assert len(done) + len(gateway.sent) == len(CUSTOM_IDS)
    assert sorted(results.ids()) == sorted(done + gateway.sent)
    assert results.output.read_bytes().startswith(before[0])
    assert results.errors.read_bytes() == before[1]
    by_id = {
        line["id"]: line["custom_id"]
        for line in read_lines(results.output) + read_lines(results.errors)
    }
    assert [custom_id for _, custom_id in sorted(by_id.items())] == CUSTOM_IDS


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_line_that_was_cut_short_is_sent_again_and_no_other(
    tmp_path: Path, revision: str
) -> None:
    results, gateway = Results(tmp_path, revision), Gateway()
    last = read_lines(results.output)[-1]["id"]
    done = set(results.ids()) - {last}
    results.output.write_bytes(results.output.read_bytes()[:-100])
    await results.run(gateway)
    assert places([last]) <= places(gateway.sent)
    assert not places(done) & places(gateway.sent)
    assert sorted(results.ids()) == sorted({*done, *gateway.sent})


@pytest.mark.parametrize("revision", REVISIONS)
async def test_failed_lines_of_an_earlier_version_are_sent_again(
    tmp_path: Path, revision: str
) -> None:
    results, gateway = Results(tmp_path, revision), Gateway()
    failed = [line["id"] for line in read_lines(results.errors)]
    assert failed
    await results.run(gateway, retry_failed=True)
    assert len(gateway.sent) == len(failed)
    assert places(gateway.sent) == places(failed)
    assert read_lines(results.errors) == []


async def test_a_plan_that_was_stored_by_an_earlier_version_is_run() -> None:
    gateway = Gateway()
    with closing(FileSource.open(INPUT)) as whole:
        shard = json.loads((WRITTEN / "plan-1.shard.json").read_bytes())
        source = RangeSource(whole, shard["start"], shard["end"])
        plan = load_plan((WRITTEN / "plan-1").read_bytes(), source)
        journal = QueueJournal(plan.requests)
        await run_plan(plan, journal, lambda _: gateway)
        results = [json.loads(result.line) async for result in journal]
    first = shard["first_index"]
    expected = CUSTOM_IDS[first : first + shard["requests"]]
    assert sorted(line["custom_id"] for line in results) == sorted(expected)
    with make_plan(INPUT) as fresh:
        assert sorted(gateway.sent) == [fresh.request(index)[0] for index in plan.requests]
