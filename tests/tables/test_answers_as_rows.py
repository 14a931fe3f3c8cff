"""What is in the row of an answer, whichever endpoint gave it."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import InputError, read_results
from tests.tables.result_files import chat, failure, result, write_lines


def row(tmp_path: Path, *lines: dict[str, Any]) -> dict[str, Any]:
    """The first row, without the columns that have nothing."""
    first = next(iter(read_results(write_lines(tmp_path / "results.jsonl", lines))))
    return {name: value for name, value in first.items() if value is not None}


def answered(tmp_path: Path, body: Any) -> dict[str, Any]:
    cells = row(tmp_path, result("a", body))
    assert (cells.pop("custom_id"), cells.pop("status_code")) == ("a", 200)
    return cells


def test_of_a_chat_answer_there_are_text_reason_and_tokens(tmp_path: Path) -> None:
    assert answered(tmp_path, chat("Hello")) == {
        "text": "Hello", "finish_reason": "stop", "input_tokens": 3, "output_tokens": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "cells"),
    [
        (
            {"choices": [{"text": "x", "finish_reason": "length"}]},
            {"text": "x", "finish_reason": "length"},
        ),
        (
            {"choices": [{"text": "x", "finish_reason": {"type": "stop"}}]},
            {"text": "x", "finish_reason": "stop"},
        ),
        (
            {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]},
            {"text": "b", "texts": ["a", "b"]},
        ),
        (chat("x", reasoning_content="thought", refusal="no"),
         {"text": "x", "finish_reason": "stop", "input_tokens": 3, "output_tokens": 2,
          "reasoning": "thought", "refusal": "no"}),
        (
            {"status": "completed", "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
             "usage": {"input_tokens": 1, "output_tokens": 2}},
            {"text": "Hi", "finish_reason": "completed", "reasoning": "hm",
             "input_tokens": 1, "output_tokens": 2},
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
             "output": []},
            {"text": "", "finish_reason": "max_output_tokens"},
        ),
        (
            {"data": [{"index": 0, "embedding": [0.5, -1]}], "usage": {"prompt_tokens": 4}},
            {"embedding": [0.5, -1.0], "input_tokens": 4, "output_tokens": 0},
        ),
        (
            {"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]},
            {"embeddings": [[1.0], [2.0]]},
        ),
        (
            {"data": [{"index": 0, "embedding": base64.b64encode(struct.pack("<2f", 0.25, -2))
                       .decode()}]},
            {"embedding": [0.25, -2.0]},
        ),
        ({"data": [{"index": 0, "object": "score", "score": 0.75}]}, {"score": 0.75}),
        ({"data": [{"index": 1, "score": 1}, {"index": 0, "score": 0}]}, {"scores": [0.0, 1.0]}),
        (
            {"results": [{"index": 3, "relevance_score": 0.9, "document": {"text": "d"}}]},
            {"ranking": [{"index": 3, "score": 0.9}]},
        ),
        ({"text": "what was said"}, {"text": "what was said"}),
        ({"results": [{"flagged": True}]}, {"answer": {"results": [{"flagged": True}]}}),
    ],
)  # fmt: skip
def test_each_endpoint_has_its_columns(
    tmp_path: Path, body: dict[str, Any], cells: dict[str, Any]
) -> None:
    assert answered(tmp_path, body) == cells


@pytest.mark.parametrize(
    "body",
    [
        chat(None, reason="tool_calls", tool_calls=[
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]),
        {"status": "completed", "output": [
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}]},
    ],
)  # fmt: skip
def test_calls_of_tools_are_a_column(tmp_path: Path, body: dict[str, Any]) -> None:
    cells = answered(tmp_path, body)
    assert cells["tool_calls"] == [{"id": "c1", "name": "f", "arguments": "{}"}]
    assert cells["text"] == ""


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        (
            result("a", {"error": {"message": "slow down"}}, status=429),
            {"error": "slow down", "error_category": "RATE_LIMIT", "status_code": 429},
        ),
        (
            result("a", {"detail": "no such route"}, status=404),
            {"error": "no such route", "error_category": "UNKNOWN", "status_code": 404},
        ),
        (
            failure("a", "timeout", "took longer than 5m"),
            {"error": "took longer than 5m", "error_category": "SERVER_ERROR"},
        ),
        (
            failure("a", "model_not_found", "no gateway for m"),
            {"error": "no gateway for m", "error_category": "INVALID_REQ"},
        ),
        (failure("a", "RATE_LIMIT", "x"), {"error": "x", "error_category": "RATE_LIMIT"}),
    ],
)
def test_a_failure_has_its_words_category_and_status(
    tmp_path: Path, line: dict[str, Any], cells: dict[str, Any]
) -> None:
    assert row(tmp_path, line) == {"custom_id": "a", **cells}


def test_half_a_surrogate_pair_does_no_harm(tmp_path: Path) -> None:
    assert answered(tmp_path, chat("cut \ud83d"))["text"] == "cut \ud83d"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"not json\n", "results.jsonl: line 1 is not JSON"),
        (b'{"a": 1}\n', "results.jsonl: line 1 is no result of a batch: .*custom_id"),
    ],
)
def test_what_is_no_result_is_named_by_its_line(tmp_path: Path, text: bytes, problem: str) -> None:
    (tmp_path / "results.jsonl").write_bytes(text)
    with pytest.raises(InputError, match=problem):
        list(read_results(tmp_path / "results.jsonl"))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "results.jsonl", [result(one, chat(one)) for one in "ab"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row["text"] for row in read_results(path)] == ["a", "b"]


def test_half_a_line_at_the_end_is_what_a_run_is_just_writing(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "results.jsonl", [result("a", chat("x"))])
    path.write_bytes(path.read_bytes() + b'{"id":"batch_req_b","cust')
    assert [row["custom_id"] for row in read_results(path)] == ["a"]
