"""Results belong to a line by its content and custom_id: inputs that changed between two runs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.plan import make_plan
from batch_gateway.errors import InputError, JournalError

from .batch_files import FILES, ids_in, request, text_of, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def sent_after(folder: Folder, content: bytes, **settings: object) -> list[str]:
    """What a second run sends when the input is this by then."""
    folder.input.write_bytes(content)
    gateway = FakeGateway()
    await folder.run(gateway, **settings)  # type: ignore[arg-type]
    return sorted(gateway.prompts)


async def test_lines_that_were_appended_are_sent_and_no_others(folder: Folder) -> None:
    write_batch(folder.input, 5)
    await folder.run(FakeGateway())
    more = text_of(request(f"id-{n}") for n in range(8))
    assert await sent_after(folder, more) == ["hello id-5", "hello id-6", "hello id-7"]
    assert sorted(ids_in(folder.output)) == [f"id-{n}" for n in range(8)]
    assert await sent_after(folder, more, ordered=True) == []
    assert ids_in(folder.output) == [f"id-{n}" for n in range(8)]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.removesuffix(b"\n"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: b"\n\n" + text.replace(b"\n", b"\n\n"),
    ],
)
async def test_other_line_ends_and_blank_lines_change_nothing(folder: Folder, change) -> None:  # type: ignore[no-untyped-def]
    write_batch(folder.input, 5)
    await folder.run(FakeGateway())
    assert await sent_after(folder, change(folder.input.read_bytes())) == []


async def test_lines_may_be_mended_moved_and_put_in_front_while_they_have_no_result(
    folder: Folder,
) -> None:
    folder.input.write_bytes(text_of([request("a"), request("b")]))
    await folder.run(FakeGateway())
    mended = text_of([request("new"), request("b"), request("c"), request("a")])
    assert await sent_after(folder, mended) == ["hello c", "hello new"]
    assert sorted(ids_in(folder.output)) == ["a", "b", "c", "new"]


async def test_a_line_that_changed_since_it_was_answered_is_named(folder: Folder) -> None:
    write_batch(folder.input, 3)
    await folder.run(FakeGateway())
    before = folder.output.read_bytes()
    folder.input.write_bytes(folder.input.read_bytes().replace(b"hello id-1", b"goodbye id-1"))
    with pytest.raises(JournalError, match=r'line 2 is the result of "id-1", line 2, as it was'):
        await folder.run(FakeGateway())
    assert folder.output.read_bytes() == before


async def test_results_of_lines_that_are_gone_are_refused_with_a_name(folder: Folder) -> None:
    write_batch(folder.input, 3)
    await folder.run(FakeGateway())
    folder.input.write_bytes(text_of([request("id-0")]))
    with pytest.raises(JournalError, match=r'the result of "id-[12]", which is not in it'):
        await folder.run(FakeGateway())


async def test_a_torn_result_of_the_shorter_input_is_sent_again(folder: Folder) -> None:
    write_batch(folder.input, 4)
    await folder.run(FakeGateway(), ordered=True)
    os.truncate(folder.output, folder.output.stat().st_size - 20)
    more = text_of(request(f"id-{n}") for n in range(5))
    assert await sent_after(folder, more) == ["hello id-3", "hello id-4"]


async def test_failed_lines_of_the_shorter_input_are_sent_again(folder: Folder) -> None:
    write_batch(folder.input, 2, model="nobody's")
    await folder.run({"nobody's": None})
    assert sorted(ids_in(folder.errors)) == ["id-0", "id-1"]
    more = text_of(request(f"id-{n}", model="nobody's") for n in range(3))
    assert await sent_after(folder, more, retry_failed=True) == ["hello id-0", "hello id-1"]
    assert ids_in(folder.errors) == []


@given(st.integers(0, 2**32), st.integers(1, 12))
@FILES
async def test_whatever_is_added_and_moved_each_line_ends_once(
    tmp_path: Path, seed: int, lines: int
) -> None:
    folder, dice = Folder(tmp_path), random.Random(seed)
    folder.output.unlink(missing_ok=True)
    names = [f"id-{n}" for n in range(lines)]
    have: list[str] = []
    gateway = FakeGateway()
    while names:
        have += [names.pop() for _ in range(min(len(names), dice.randint(1, 4)))]
        dice.shuffle(have)
        folder.input.write_bytes(text_of(map(request, have)))
        await folder.run(gateway)
    assert max(gateway.answered.values()) == 1
    assert sorted(ids_in(folder.output)) == sorted(have)


async def test_lines_with_problems_become_failures_when_they_are_to_be_skipped(
    tmp_path: Path,
) -> None:
    lines = [request("a"), request("b", url="/nowhere"), request("a"), request("c", body={})]
    path = tmp_path / "requests.jsonl"
    path.write_bytes(text_of(lines) + b"not JSON\n\n")
    with make_plan(path, skip_bad_lines=True) as plan:
        assert (plan.total, list(plan.faulty), plan.models) == (5, [1, 2, 3, 4], {"m": 1})
        assert list(plan.order()) == list(plan.order("file")) == [0]
        assert [plan.line_number(index) for index in plan.faulty] == [2, 3, 4, 5]
        assert [plan.problems(index)[1] for index in plan.faulty] == ["b", "a", "c", ""]


def test_of_a_line_that_is_left_out_it_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    own = {"url": "/v1/own"}
    lines = [request("a", **own), request("a", **own), request("c", **own, body={})]
    path = tmp_path / "requests.jsonl"
    in_a_string = text_of([request("d")]).replace(b"hello d", b"hello \xff")
    path.write_bytes(text_of(lines) + in_a_string)
    with make_plan(path, paths=["/v1/own"], skip_bad_lines=True) as plan:
        told = [[fault.text for fault in plan.problems(index)[2]] for index in plan.faulty]
    repeated, no_model, (no_text,) = told
    assert repeated == ["its custom_id was already used on an earlier line"]
    assert no_model == ["body.model is missing"]
    assert "is not UTF-8" in no_text


def test_a_file_of_bad_lines_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"not JSON\n{}\n")
    with pytest.raises(InputError, match="problems on 2 lines"):
        make_plan(path, skip_bad_lines=True)


def test_a_line_that_is_malformed_and_repeated_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(text_of([request("a"), request("a", method="GET"), request("a")]))
    with pytest.raises(InputError, match="problems on 2 lines"):
        make_plan(path)
