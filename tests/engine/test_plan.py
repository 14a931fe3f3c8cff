"""The plan: each line readable by its index, in a useful order, whatever the file looks like."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.engine.line_index import LineIndex
from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.source import BytesSource, FileSource
from batch_gateway.errors import InputError

from .batch_files import FILES, request, text_of, write_batch

BOM = b"\xef\xbb\xbf"


def planned(tmp_path: Path, content: bytes) -> Plan:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(content)
    return make_plan(path)


def custom_ids(plan: Plan) -> list[str]:
    return [json.loads(plan.read(index))["custom_id"] for index in range(plan.total)]


GOOD = [json.dumps(request(name)).encode() for name in "abc"]


@pytest.mark.parametrize(
    ("content", "line_numbers"),
    [
        (b"\n".join(GOOD) + b"\n", [1, 2, 3]),
        (b"\n".join(GOOD), [1, 2, 3]),
        (b"\r\n".join(GOOD) + b"\r\n", [1, 2, 3]),
        (BOM + b"\n".join(GOOD), [1, 2, 3]),
        (b"\n \n".join(GOOD) + b"\n\n\t\n", [1, 3, 5]),
        (b"\n\r\n" + b"\n".join(GOOD), [3, 4, 5]),
        (BOM + b"\n" + b"\n".join(GOOD), [2, 3, 4]),
    ],
)
def test_line_ends_blank_lines_and_a_bom_do_not_matter(
    tmp_path: Path, content: bytes, line_numbers: list[int]
) -> None:
    with planned(tmp_path, content) as plan:
        assert [plan.read(index) for index in range(plan.total)] == GOOD
        assert [plan.line_number(index) for index in range(plan.total)] == line_numbers


def test_a_ten_megabyte_line_between_small_ones_is_read_whole(tmp_path: Path) -> None:
    long = json.dumps(request("long", body={"model": "m", "prompt": "é" * 5_000_000}))
    lines = [GOOD[0], long.encode(), GOOD[1]]
    with planned(tmp_path, b"\n".join(lines)) as plan:
        assert [plan.read(index) for index in range(3)] == lines


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    with planned(tmp_path, GOOD[0]) as one, planned(tmp_path, GOOD[0]) as same:
        assert one.fingerprint == same.fingerprint
        assert len(one.fingerprint) == 16
    with planned(tmp_path, GOOD[0] + b"\n") as other:
        assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (BOM, "is empty"),
        (b"\n \r\n\n", "holds only blank lines"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
        ("{}".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        (
            json.dumps([json.loads(GOOD[0])], indent=2).encode(),
            r"is one JSON array: .*jq -c '\.\[\]'",
        ),
        (BOM + json.dumps([json.loads(GOOD[0])]).encode(), "is one JSON array"),
        (
            json.dumps(json.loads(GOOD[0]), indent=2).encode(),
            "over several lines: .*jq -c \\. .*requests",
        ),
    ],
)
def test_a_file_without_requests_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        planned(tmp_path, content)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl: No such file"):
        make_plan(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        make_plan(tmp_path)


def test_progress_is_told_up_to_the_whole_file(tmp_path: Path) -> None:
    path = write_batch(tmp_path / "r.jsonl", 5_000)
    told: list[tuple[int, int]] = []
    with make_plan(path, on_progress=lambda done, size: told.append((done, size))) as plan:
        assert told[-1] == (plan.size_bytes, plan.size_bytes)
    assert len(told) > 1
    assert told == sorted(told)


def test_lines_are_grouped_by_model_and_prompt_beginning(tmp_path: Path) -> None:
    def chat(name: str, model: str, *messages: tuple[str, str]) -> dict[str, object]:
        content = [{"role": role, "content": text} for role, text in messages]
        return request(name, body={"model": model, "messages": content})

    def other(name: str, **body: object) -> dict[str, object]:
        return request(name, body={"model": "big", **body})

    lines = [
        chat("1", "big", ("system", "be kind"), ("user", "x")),
        chat("2", "small", ("system", "be kind")),
        chat("3", "big", ("developer", "be brief"), ("user", "x")),
        chat("4", "big", ("system", "be kind"), ("user", "y")),
        chat("5", "small", ("user", "L" * 2_000 + "1")),
        other("6", instructions="be brief!", input="one"),
        chat("7", "big", ("developer", "be brief")),
        chat("8", "small", ("system", "be kind"), ("user", "z")),
        other("9", prompt="P" * 1_000 + "1"),
        chat("10", "small", ("user", "L" * 2_000 + "2")),
        other("11", instructions="be brief!", input="two"),
        other("12", prompt="P" * 1_000 + "2"),
    ]
    with planned(tmp_path, text_of(lines)) as plan:
        grouped = [index + 1 for index in plan.order("prefix")]
        assert grouped == [1, 4, 3, 7, 6, 11, 9, 12, 2, 8, 5, 10]
        assert list(plan.order("file")) == list(range(12))
        assert plan.models == {"big": 8, "small": 4}
        assert [plan.model_of(index) for index in (0, 1)] == ["big", "small"]
        small = [index + 1 for index in plan.order("file", models={"small"})]
        assert small == [2, 5, 8, 10]
        rest = plan.order("prefix", skip=lambda index: index < 6, models={"small"})
        assert [index + 1 for index in rest] == [8, 10]


def test_more_prefixes_than_groups_still_give_every_line_once(tmp_path: Path) -> None:
    lines = (request(str(n), model=f"m{n % 3}") for n in range(20_000))
    with planned(tmp_path, text_of(lines)) as plan:
        order = list(plan.order("prefix"))
        assert sorted(order) == list(range(20_000))
        models = [plan.model_of(index) for index in order]
        assert models == sorted(models)


def test_a_change_under_the_run_is_noticed(tmp_path: Path) -> None:
    path = write_batch(tmp_path / "r.jsonl", 3)
    with make_plan(path) as plan:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"hello", b"HELLO"))
        os.utime(path, ns=(1, 1))
        with pytest.raises(InputError, match="changed while it was running"):
            plan.read(1)


def test_a_pipe_is_kept_to_be_read_twice(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"\n".join(GOOD),))
    writer.start()
    with make_plan(pipe) as plan:
        assert custom_ids(plan) == ["a", "b", "c"]
    writer.join(10)


def test_standard_input_is_planned_like_a_file(tmp_path: Path) -> None:
    content = b"\n".join(GOOD)
    source = FileSource.spool(io.BytesIO(content), directory=tmp_path)
    with make_plan(source) as plan, planned(tmp_path, content) as same:
        assert plan.name == "standard input"
        assert plan.fingerprint == same.fingerprint
        assert custom_ids(plan) == ["a", "b", "c"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["requests.jsonl"]


def test_offsets_past_four_gigabytes_are_kept_whole() -> None:
    offsets = [0, 10, 2**32 - 1, 2**32, 2**32 + 7, 5 * 2**32, 5 * 2**32 + 1]
    index = LineIndex()
    index.extend(offsets[:2])
    index.extend(offsets[2:])
    index.finish(6 * 2**32)
    assert [index.span(i) for i in range(len(offsets))] == list(
        zip(offsets, [*offsets[1:], 6 * 2**32], strict=True)
    )


FRAGMENTS = st.sampled_from(
    [
        *GOOD,
        *(json.dumps(request(name, model="other")).encode() for name in "defgh"),
        b"",
        b" ",
        b"{",
        b'{"custom_id": "x"}',
        b"\xff",
        b"[[",
        b"\0",
        b'"\\ud800"',
        BOM,
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r", b""])


@settings(FILES, max_examples=100)
@given(pieces=st.lists(st.tuples(FRAGMENTS, ENDS), max_size=12))
def test_any_bytes_give_a_plan_of_every_line_or_an_input_error(
    tmp_path: Path, pieces: list[tuple[bytes, bytes]]
) -> None:
    content = b"".join(piece + end for piece, end in pieces)
    try:
        plan = planned(tmp_path, content)
    except InputError:
        return
    with plan:
        physical = content.removeprefix(BOM).split(b"\n")
        filled = [(n, line.strip()) for n, line in enumerate(physical, 1) if line.strip()]
        read = [(plan.line_number(i), plan.read(i)) for i in range(plan.total)]
        assert read == filled
        assert sorted(plan.order("prefix")) == list(range(plan.total))


@settings(FILES, max_examples=80)
@given(content=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_an_input_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError):
        planned(tmp_path, content)


def test_lines_for_another_endpoint_than_the_batch_is_for_are_problems(tmp_path: Path) -> None:
    chat, embeddings = "/v1/chat/completions", "/v1/embeddings"
    lines = [request("a"), request("b", url=embeddings), request("c", method=None)]
    with pytest.raises(InputError) as raised:
        make_plan(BytesSource(text_of(lines)), endpoint=chat)
    assert [str(problem) for problem in raised.value.problems] == [
        f"line 2: url {embeddings} is not the endpoint of the batch, {chat}",
        'line 3: method is missing: write "method": "POST"',
    ]
    with make_plan(BytesSource(text_of(lines[:1])), endpoint=chat) as plan:
        assert plan.total == 1
