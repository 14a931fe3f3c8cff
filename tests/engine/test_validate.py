"""Every defect of a line is found, named, and placed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from batch_gateway.engine.grouping import prefix_key
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.problems import LineProblem
from batch_gateway.engine.uniqueness import stable_numbers
from batch_gateway.engine.validate import check_line
from batch_gateway.errors import InputError

from .batch_files import CHAT, request, text_of

GOOD_BODY = {"model": "m", "messages": []}


def problems_of(tmp_path: Path, content: bytes, **settings: Any) -> tuple[str, ...]:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        make_plan(path, **settings)
    return caught.value.problems


DEFECTS = {
    "no custom_id": (request(custom_id=None), "custom_id is missing"),  # type: ignore[arg-type]
    "number as custom_id": ({**request(), "custom_id": 7}, "must be a string, not a number"),
    "empty custom_id": (request(""), "custom_id is empty"),
    "no method": (request(method=None), 'method is missing: write "method": "POST"'),
    "GET": (request(method="GET"), 'method is "GET": only "POST" can be batched'),
    "list as method": (request(method=["POST"]), "method must be a string, not an array"),
    "no url": (request(url=None), 'url is missing: write "url": "/v1/chat/completions"'),
    "number as url": (request(url=1), "url must be a string, not a number"),
    "full url": (
        request(url="https://llm.example/v1/embeddings"),
        'is a full URL: write only its path, "/v1/embeddings"',
    ),
    "url without slash": (request(url="v1/completions"), 'did you mean "/v1/completions"?'),
    "url without version": (request(url="/chat/completions"), f'did you mean "{CHAT}"?'),
    "strange url": (request(url="/x"), "is not an endpoint that can be batched: use one of /v1/"),
    "no body": (request(body=None), "body is missing"),
    "bare request": ({"custom_id": "a", "method": "POST", "url": CHAT, **GOOD_BODY}, "inside it"),
    "null body": ({**request(), "body": None}, "body must be an object, not null"),
    "string body": (request(body=json.dumps(GOOD_BODY)), "write the JSON itself, without quotes"),
    "array body": (request(body=[1]), "body must be an object, not an array"),
    "no model": (request(body={"messages": []}), "body.model is missing"),
    "model beside": ({**request(body={"messages": []}), "model": "m"}, "move model into body"),
    "number as model": (request(body={"model": 4}), "body.model must be a string, not a number"),
    "empty model": (request(body={"model": ""}), "body.model is empty"),
    "streaming": (request(body={**GOOD_BODY, "stream": True}), "body.stream is true"),
    "in the background": (
        request(url="/v1/responses", body={"model": "m", "input": "?", "background": True}),
        "body.background is true",
    ),
    "in the background, oddly shaped": (
        request(body={"model": "m", "messages": "?", "background": True}),
        "body.background is true",
    ),
    "odd stream": (request(body={**GOOD_BODY, "stream": "no"}), "must be false or absent"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    line, words = DEFECTS[name]
    content = text_of([request("first"), line, request("last")])
    (problem,) = problems_of(tmp_path, content)
    assert problem.startswith("line 2: ")
    assert words in problem


RAW_DEFECTS = {
    "not JSON": (b"{'a': 1}", "is not valid JSON"),
    "cut short": (b'{"custom_id": "a", "me', "is not valid JSON: it ends too early"),
    "trailing text": (json.dumps(request("b")).encode() + b" x", "trailing characters"),
    "array": (b"[]", "is a JSON array: write one JSON object on each line"),
    "number": (b"17", "is a number, not a JSON object"),
    "NaN": (b'{"custom_id": NaN}', "is not valid JSON"),
    "not UTF-8": (b'{"custom_id":"\xff"}', "is not UTF-8 (byte 15 of the line)"),
    "not UTF-8 in the body": (b'{"custom_id":"a","body":{"x":"\xe9"}}', "is not UTF-8 (byte 31"),
    "half an emoji": (b'{"custom_id":"a","body":{"x":"\\ud83d"}}', "half of a surrogate pair"),
    "nested without end": (b'{"custom_id":' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", RAW_DEFECTS)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    line, words = RAW_DEFECTS[name]
    (problem,) = problems_of(tmp_path, text_of([request()]) + line + b"\n")
    assert problem.startswith("line 2: ")
    assert words in problem


def test_all_problems_of_all_lines_are_told_in_order_of_lines(tmp_path: Path) -> None:
    lines = [
        request("a"),
        request("b", method="GET", url="/v2/chat"),
        request("a"),
        request("c", body={}),
        request("b"),
    ]
    problems = problems_of(tmp_path, text_of(lines))
    assert [problem.split(":")[0] for problem in problems] == [
        "line 2",
        "line 2",
        "line 3",
        "line 4",
        "line 5",
    ]
    assert 'custom_id "a" was already used on line 1' in problems[2]
    assert 'custom_id "b" was already used on line 2' in problems[4]


def test_only_the_first_twenty_problems_are_spelled_out_and_the_rest_counted(
    tmp_path: Path,
) -> None:
    lines = [request(f"id-{number}", method="PUT") for number in range(332)]
    problems = problems_of(tmp_path, text_of(lines))
    assert len(problems) == 21
    assert problems[19].startswith("line 20: ")
    assert problems[20] == "and 312 more lines with problems"


def test_repeated_ids_are_counted_too(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, text_of([request("same")] * 100), max_problems=5)
    assert problems[0] == 'line 2: custom_id "same" was already used on line 1'
    assert problems[-1] == "and 94 more lines with problems"


def test_the_same_id_in_other_spellings_is_the_same(tmp_path: Path) -> None:
    spelled = json.dumps(request("é")).encode()
    plain = json.dumps(request("é"), ensure_ascii=False).encode()
    assert spelled != plain
    (problem,) = problems_of(tmp_path, spelled + b"\n" + plain)
    assert problem == 'line 2: custom_id "é" was already used on line 1'


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": "not a list"},
        {"model": "m", "messages": [7, None]},
        {"model": "m", "messages": [{"role": 5, "content": {}}]},
        {"model": "m", "messages": []},
        {"model": "m", "prompt": [1, 2, 3]},
        {"model": "m", "input": None},
        {"model": "m", "stream": False},
        {"model": "m", "stream": None},
        {"model": "m", "background": False},
        {"model": "m", "background": "transparent"},
        {"model": "m"},
    ],
)
def test_what_is_the_gateways_to_judge_passes(tmp_path: Path, body: dict[str, Any]) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(text_of([request(body=body)]))
    with make_plan(path) as plan:
        assert plan.total == 1


def test_ids_that_only_share_a_hash_are_no_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_gateway.engine.uniqueness._KEPT", 1)
    lines = [request(f"id-{number}") for number in range(5_000)]
    path = tmp_path / "requests.jsonl"
    path.write_bytes(text_of(lines))
    with make_plan(path) as plan:
        assert plan.total == 5_000
    (problem,) = problems_of(tmp_path, text_of([*lines, request("id-77")]))
    assert problem == 'line 5001: custom_id "id-77" was already used on line 78'


def looking_alike(pairs: int) -> bytes:
    """Requests of which each two have custom_ids with one number: leading zeros do not count."""
    return text_of(request(f"{zeros}{n}") for n in range(pairs) for zeros in ("", "\0"))


def test_custom_ids_made_to_look_repeated_are_not(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(looking_alike(pairs=11_000))
    with make_plan(path) as plan:
        assert plan.total == 22_000


def test_custom_ids_made_to_look_repeated_hide_none_that_is(tmp_path: Path) -> None:
    content = looking_alike(pairs=11_000) + text_of([request("end"), request("end")])
    (problem,) = problems_of(tmp_path, content)
    assert problem == 'line 22002: custom_id "end" was already used on line 22001'


def test_lines_are_told_apart_by_the_same_numbers_in_every_process() -> None:
    assert list(stable_numbers(["a", "ab", "é"])) == [0x61, 0x6162, 0xC3A9]
    checked = check_line(json.dumps(request("a")).encode())
    assert checked is not None
    assert prefix_key(checked.body) == crc32(b'"hello a"')


def test_each_problem_says_its_line_its_code_and_its_field(tmp_path: Path) -> None:
    lines = [
        request("a", body={"messages": []}),
        request("b", url="/v1/nothing"),
        request("b"),
        request("c", method=7),
    ]
    path = tmp_path / "in.jsonl"
    path.write_bytes(text_of(lines) + b"{\n")
    with pytest.raises(InputError) as caught:
        make_plan(path)
    problems = [one for one in caught.value.problems if isinstance(one, LineProblem)]
    assert [(one.line, one.fault.code, one.fault.param) for one in problems] == [
        (1, "missing_required_parameter", "body.model"),
        (2, "invalid_url", "url"),
        (3, "duplicate_custom_id", "custom_id"),
        (4, "invalid_method", "method"),
        (5, "invalid_json_line", None),
    ]
