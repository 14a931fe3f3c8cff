"""A batch cut into shards: together they are the batch, and each can be run by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.line_index import LineIndex
from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.queue_journal import QueueJournal
from batch_gateway.engine.run import run_plan
from batch_gateway.engine.shard import SHARD_BYTES, SHARD_LINES, Shard, split
from batch_gateway.engine.source import BytesSource, FileSource, RangeSource
from batch_gateway.engine.stored_plan import dump_plan, load_plan
from batch_gateway.errors import InputError, InvalidRequestError, JournalError, PlanError
from batch_gateway.wire.lines import line_id

from .batch_files import read_lines, request, text_of, write_batch
from .fake_gateways import FakeGateway, failing

pytestmark = pytest.mark.anyio

BOM = b"\xef\xbb\xbf"


def line(number: int, model: str, kind: int) -> bytes:
    content = [{"role": ("system", "user")[kind % 2], "content": "same" * kind}]
    body = {"model": model, "messages": content}
    return json.dumps(request(f"id-{number}", body=body)).encode()


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """Lines of some models and prompts, blank lines among them, ended in all ways."""
    kinds = st.tuples(st.sampled_from("abc"), st.integers(0, 40))
    drawn = draw(st.lists(kinds, min_size=1, max_size=30))
    gaps = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n\t\r\n"])
    content = b"".join(
        line(number, model, kind) + draw(gaps) for number, (model, kind) in enumerate(drawn)
    )
    start = draw(st.sampled_from([b"", BOM, b"\n", b" \n\r\n", BOM + b"\n"]))
    return start + (content if draw(st.booleans()) else content.rstrip())


def facts_of(plan: Plan) -> dict[int, object]:
    return {
        index: (plan.read(index), plan.line_number(index), plan.model_of(index))
        for index in plan.requests
    }


@settings(deadline=None, max_examples=80)
@given(content=batches(), most_bytes=st.integers(1, 5_000), most_lines=st.integers(1, 12))
def test_the_shards_of_a_batch_are_the_batch(
    content: bytes, most_bytes: int, most_lines: int
) -> None:
    plan = make_plan(BytesSource(content))
    shards = list(plan.shards("b", max_bytes=most_bytes, max_lines=most_lines))
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert b"".join(content[shard.start : shard.end] for shard in shards) == content
    facts: dict[int, object] = {}
    for shard in shards:
        assert shard.first_line == 1 + content.count(b"\n", 0, shard.start)
        assert shard.start in (0, len(content)) or content[shard.start - 1 : shard.start] == b"\n"
        assert shard.requests <= most_lines
        assert shard.requests == 1 or shard.end - shard.start <= most_bytes
        part = plan.part(shard)
        begin, end = shard.first_index, shard.first_index + shard.requests
        assert part.requests == range(begin, end)
        assert list(part.order("file")) == list(part.requests)
        assert list(part.order("file", models=["a"])) == [
            index for index in plan.order("file", models=["a"]) if begin <= index < end
        ]
        assert sorted(part.order("prefix")) == list(part.requests)
        facts |= facts_of(part)
    assert facts == facts_of(plan)


@settings(deadline=None, max_examples=80)
@given(content=batches(), most_lines=st.integers(1, 40), before=st.booleans())
def test_a_plan_that_was_stored_is_the_plan(content: bytes, most_lines: int, before: bool) -> None:
    plan = make_plan(BytesSource(content))
    if before:  # Putting lines in order lets go of what is no longer needed.
        list(plan.order("prefix"))
    for shard in plan.shards("b", max_lines=most_lines):
        part = plan.part(shard)
        stored = dump_plan(part)
        again = load_plan(stored, RangeSource(BytesSource(content), shard.start, shard.end))
        assert facts_of(again) == facts_of(part)
        assert (again.fingerprint, again.models) == (plan.fingerprint, part.models)
        assert [again.size_of(index) for index in again.requests] == [
            part.size_of(index) for index in part.requests
        ]
        assert list(again.order("prefix")) == list(part.order("prefix"))
        assert dump_plan(again) == stored


def test_a_small_batch_is_one_shard_and_a_large_one_is_cut_by_lines_and_by_bytes() -> None:
    def cut(sizes: list[int]) -> list[tuple[int, int]]:
        lines = LineIndex()
        offset = 0
        for size in sizes:
            lines.extend([offset])
            offset += size
        lines.finish(offset)
        return [
            (shard.requests, shard.end - shard.start)
            for shard in split(lines, "b", SHARD_BYTES, SHARD_LINES)
        ]

    megabyte = 1024 * 1024
    assert cut([300] * 1_000) == [(1_000, 300_000)]
    assert cut([10] * 50_001) == [(50_000, 500_000), (1, 10)]
    assert cut([40 * megabyte] * 3) == [(1, 40 * megabyte)] * 3
    assert cut([10, 200 * megabyte, 10]) == [(1, 10), (1, 200 * megabyte), (1, 10)]


def test_shards_beyond_four_gigabytes_stand_where_their_lines_do() -> None:
    offsets = [0, 2**31, 2**32 - 5, 2**32 + 3, 3 * 2**32, 3 * 2**32 + 9]
    lines = LineIndex()
    lines.extend(offsets)
    lines.finish(3 * 2**32 + 20)
    for shard in split(lines, "b", 2**33, 2):
        part = lines.part(shard.first_index, shard.first_index + shard.requests)
        again = LineIndex.unpacked(part.packed())
        for index in range(shard.first_index, shard.first_index + shard.requests):
            for one in (part, again):
                span = tuple(shard.start + place for place in one.span(index))
                assert span == lines.span(index)


def stored_plan() -> tuple[bytes, bytes]:
    content = text_of(request(f"id-{n}", model="ab"[n % 2]) for n in range(5))
    return content, dump_plan(make_plan(BytesSource(content)))


@pytest.mark.parametrize("flip", [1, 0x80])
def test_a_plan_with_any_byte_changed_or_gone_is_refused(flip: int) -> None:
    content, stored = stored_plan()
    for place, byte in enumerate(stored):
        damaged = stored[:place] + bytes([byte ^ flip]) + stored[place + 1 :]
        for data in (damaged, stored[:place], stored[:place] + stored[place + 1 :]):
            with pytest.raises(PlanError, match=r"the plan of the input .*make it again"):
                load_plan(data, BytesSource(content))
    with pytest.raises(PlanError, match="damaged"):
        load_plan(stored + b"\0", BytesSource(content))


def test_a_plan_of_another_version_says_so() -> None:
    content, stored = stored_plan()
    place = stored.index(b"\r\n") + 2
    later = stored[:place] + (7).to_bytes(2, "little") + stored[place + 2 :]
    with pytest.raises(PlanError, match="has version 7, and this program reads version 1"):
        load_plan(later, BytesSource(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"hello", b"HELLO"),
        lambda content: content + b"\n",
        lambda content: content[:-1],
        lambda _: b"",
    ],
)
def test_a_source_that_changed_since_its_plan_was_stored_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    content, stored = stored_plan()
    path = tmp_path / "requests.jsonl"
    path.write_bytes(change(content))
    with (
        pytest.raises(InputError, match=r"requests\.jsonl is not what it was when its plan was"),
        closing(FileSource.open(path)) as source,
    ):
        load_plan(stored, source)


def parts_in_files(tmp_path: Path, lines: int, most: int) -> list[tuple[Shard, bytes]]:
    """What a worker gets of each shard."""
    with make_plan(write_batch(tmp_path / "requests.jsonl", lines)) as plan:
        shards = plan.shards("b", max_lines=most)
        return [(shard, dump_plan(plan.part(shard))) for shard in shards]


async def test_a_stored_shard_is_run_under_the_ids_of_the_whole_and_resumed(
    tmp_path: Path,
) -> None:
    parts = parts_in_files(tmp_path, lines=25, most=10)
    gateway = FakeGateway()
    results: list[dict[str, object]] = []
    for shard, stored in parts:
        with closing(FileSource.open(tmp_path / "requests.jsonl")) as whole:
            plan = load_plan(stored, RangeSource(whole, shard.start, shard.end))
            output, errors = (tmp_path / f"{shard.number}{name}" for name in (".out", ".errors"))
            for _ in range(2):  # The second run finds all done.
                async with FileJournal.open(plan, output, errors) as journal:
                    summary = await run_plan(plan, journal, lambda _: gateway)
                    assert (summary.total, summary.succeeded) == (shard.requests, shard.requests)
        results += read_lines(output)
    assert len(gateway.prompts) == 25
    with make_plan(tmp_path / "requests.jsonl") as whole_plan:
        expected = {f"id-{n}": whole_plan.request(n)[0] for n in range(25)}
    assert {record["custom_id"]: record["id"] for record in results} == expected
    assert len(results) == 25


async def test_failures_of_a_shard_name_the_line_of_the_whole_file(tmp_path: Path) -> None:
    content = b"\n" + text_of(request(f"id-{n}") for n in range(6))
    plan = make_plan(BytesSource(content))
    part = plan.part(list(plan.shards("b", max_lines=3))[1])
    gateway = FakeGateway(failing(lambda: InvalidRequestError("no", status_code=400)))
    summary = await run_plan(part, QueueJournal(part.requests), lambda _: gateway)
    (cause,) = summary.figures.chief_causes()
    assert (cause.line_number, cause.custom_id, cause.count) == (5, "id-3", 3)


async def test_results_of_another_shard_are_refused_and_those_of_the_same_are_done(
    tmp_path: Path,
) -> None:
    plan = make_plan(BytesSource(text_of(request(f"id-{n}") for n in range(6))))
    first, second = (plan.part(shard) for shard in plan.shards("b", max_lines=3))
    output, errors = tmp_path / "results.jsonl", tmp_path / "errors.jsonl"
    record = {"id": line_id(plan.fingerprint, 4), "custom_id": "id-4"}
    output.write_text(json.dumps({**record, "response": {"status_code": 200}}) + "\n")
    with pytest.raises(JournalError, match=r"line 1 is for request 5, .* has only 3"):
        FileJournal.open(first, output, errors)
    async with FileJournal.open(second, output, errors) as journal:
        assert [index for index in second.requests if journal.is_done(index)] == [4]
    record["id"] = line_id(plan.fingerprint, 1)
    output.write_text(json.dumps({**record, "response": {"status_code": 200}}) + "\n")
    with pytest.raises(JournalError, match=r"line 1 is for request 2, .* run from request 4 to 6"):
        FileJournal.open(second, output, errors)
