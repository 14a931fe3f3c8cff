"""`batch-gateway convert`: what each form says in the words of the others, and what it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.conversion.convert_file import convert_file
from batch_gateway.conversion.fields import Losses
from batch_gateway.conversion.forms import Form, Wanted, converted
from batch_gateway.engine import line_blocks
from batch_gateway.engine.source import BytesSource
from batch_gateway.errors import InputError
from tests.cli.commands import batch_gateway, read_lines
from tests.tables.result_files import chat, write_lines


def through(line: dict[str, Any], source: Form, target: Form, **wanted: Any) -> dict[str, Any]:
    return converted(line, Wanted(source=source, target=target, **wanted), Losses())


MESSAGE = {
    "custom_id": "a",
    "params": {
        "model": "claude", "max_tokens": 9, "system": "Be brief.", "stop_sequences": ["END"],
        "metadata": {"user_id": "u"}, "temperature": 0.5,
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": {
                    "type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "a goose"}]},
        ],
    },
}  # fmt: skip
CHAT = {
    "custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
    "body": {
        "model": "claude", "max_completion_tokens": 9, "stop": ["END"], "user": "u",
        "temperature": 0.5, "tool_choice": "required", "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {
            "name": "f", "description": "d", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "t1", "type": "function",
                 "function": {"name": "f", "arguments": '{"x":1}'}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "a goose"},
        ],
    },
}  # fmt: skip


def test_a_message_of_anthropic_is_a_chat_and_back() -> None:
    assert through(MESSAGE, "anthropic", "openai") == CHAT
    assert through(CHAT, "openai", "anthropic") == MESSAGE


def test_a_chat_without_a_limit_gets_one() -> None:
    line = {**CHAT, "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}}
    params = through(line, "openai", "anthropic", max_tokens=7)["params"]
    assert params["max_tokens"] == 7


def test_mistral_has_other_names_and_neither_method_nor_url() -> None:
    body = {"model": "m", "messages": [], "seed": 3, "max_completion_tokens": 5,
            "tool_choice": "required"}  # fmt: skip
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    there = through(line, "openai", "mistral")
    names = {"model": "m", "messages": [], "random_seed": 3, "max_tokens": 5, "tool_choice": "any"}
    assert there == {"custom_id": "a", "body": names}
    back = through(there, "mistral", "openai")
    assert back == {**line, "body": {"model": "m", "messages": [], "seed": 3, "max_tokens": 5,
                                     "tool_choice": "required"}}  # fmt: skip


def test_a_line_of_mistral_without_a_model_gets_one() -> None:
    line = {"custom_id": "a", "body": {"messages": []}}
    there = through(line, "mistral", "openai", model="m")
    assert there["body"] == {"model": "m", "messages": []}


@pytest.mark.parametrize("url", ["/v1/score", "/v1/rerank", "/v1/audio/transcriptions"])
def test_vllm_has_endpoints_of_its_own(tmp_path: Path, url: str) -> None:
    line = {"custom_id": "a", "method": "POST", "url": url, "body": {"model": "m"}}
    assert through(line, "vllm", "vllm") == line
    write_lines(tmp_path / "v.jsonl", [line])
    done = batch_gateway("convert", "v.jsonl", "--to", "openai", "-o", "o.jsonl", cwd=tmp_path)
    assert (done.returncode, f"line 1: url: openai has no batches of {url}" in done.stderr) == (
        2,
        True,
    )
    assert not (tmp_path / "o.jsonl").exists()


def result(body: Any, status: int = 200) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "batch_req_a", "custom_id": "a", "response": response, "error": None}


def message(**more: Any) -> dict[str, Any]:
    said = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
            "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 2},
            **more}  # fmt: skip
    return {"custom_id": "a", "result": {"type": "succeeded", "message": said}}


def test_an_answer_of_anthropic_is_that_of_a_chat() -> None:
    line = through(message(), "anthropic", "openai")
    body = line["response"]["body"]
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hi"}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 2)
    back = through(line, "openai", "anthropic")["result"]["message"]
    assert back["content"] == [{"type": "text", "text": "Hi"}]
    assert back["usage"] | {"cache_read_input_tokens": 0} == back["usage"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"type": "canceled"}, {"code": "batch_cancelled"}),
        ({"type": "expired"}, {"code": "batch_expired"}),
    ],
)
def test_what_was_never_sent_says_so(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    line = through({"custom_id": "a", "result": theirs}, "anthropic", "openai")
    assert line["error"]["code"] == ours["code"]
    assert through(line, "openai", "anthropic") == {"custom_id": "a", "result": theirs}


def test_refusals_keep_their_status_and_words() -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    line = {"custom_id": "a", "result": {"type": "errored", "error": error}}
    there = through(line, "anthropic", "openai")
    assert there["response"]["status_code"] == 429
    assert there["response"]["body"]["error"]["message"] == "slow down"
    assert through(there, "openai", "anthropic") == line
    vllm = through(there, "openai", "vllm")
    assert (vllm["response"]["body"], vllm["error"]["message"]) == (None, "slow down")
    assert through(vllm, "vllm", "openai") == there
    assert "request_id" not in through(there, "openai", "mistral")["response"]


@pytest.mark.parametrize(
    ("line", "source", "target", "problem"),
    [
        (
            {**MESSAGE, "params": {**MESSAGE["params"], "top_k": 5}},
            "anthropic",
            "openai",
            "params.top_k has no place",
        ),
        (
            {
                **MESSAGE,
                "params": {
                    **MESSAGE["params"],
                    "system": [
                        {
                            "type": "text",
                            "text": "Be brief.",
                            "cache_control": {"type": "ephemeral"},
                        }
                    ],
                },
            },
            "anthropic",
            "openai",
            "params.system[0].cache_control has no place",
        ),
        (
            {**CHAT, "body": {**CHAT["body"], "logit_bias": {"1": 2}}},
            "openai",
            "anthropic",
            "body.logit_bias has no place",
        ),
        (
            {**CHAT, "body": {"model": "m", "messages": [], "logprobs": True}},
            "openai",
            "mistral",
            "body.logprobs has no place",
        ),
        (
            {**CHAT, "body": {**CHAT["body"], "n": 3}},
            "openai",
            "anthropic",
            "body.n is more than the one",
        ),
        (
            {"custom_id": "a", "body": {"model": "m", "safe_prompt": True}},
            "mistral",
            "openai",
            "body.safe_prompt has no place",
        ),
        (
            message(content=[{"type": "thinking", "thinking": "hm", "signature": "s"}]),
            "anthropic",
            "openai",
            "result.message.content[0].signature has no place",
        ),
        (
            {**CHAT, "body": {**CHAT["body"], "temperature": 1.5}},
            "openai",
            "anthropic",
            "body.temperature is above 1",
        ),
        ({**CHAT, "url": "/v1/embeddings"}, "openai", "anthropic", "url: anthropic has no batches"),
        (
            {**CHAT, "body": {"messages": []}},
            "openai",
            "anthropic",
            "model is missing: give --model",
        ),
        ({"custom_id": "a"}, "openai", "anthropic", "is neither a request nor a result"),
    ],
)
def test_what_has_no_words_there_is_named_by_line_and_field(
    tmp_path: Path, line: dict[str, Any], source: Form, target: Form, problem: str
) -> None:
    write_lines(tmp_path / "in.jsonl", [line])
    command = ["convert", "in.jsonl", "--from", source, "--to", target, "-o", "out.jsonl"]
    done = batch_gateway(*command, cwd=tmp_path)
    assert (done.returncode, f"line 1: {problem}" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_field_may_be_left_out_and_that_is_told(tmp_path: Path) -> None:
    line = {**MESSAGE, "params": {**MESSAGE["params"], "top_k": 5}}
    write_lines(tmp_path / "in.jsonl", [line, MESSAGE, line])
    command = ["convert", "in.jsonl", "--to", "openai", "-o", "out.jsonl", "--drop", "params.top_k"]
    done = batch_gateway(*command, cwd=tmp_path)
    assert (
        done.stdout
        == "out.jsonl: 3 lines from anthropic to openai, params.top_k left out 2 times\n"
    )
    assert read_lines(tmp_path / "out.jsonl") == [CHAT] * 3


def test_what_is_converted_can_be_run(tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", [MESSAGE])
    batch_gateway("convert", "in.jsonl", "--to", "openai", "-o", "out.jsonl", cwd=tmp_path)
    assert batch_gateway("validate", "out.jsonl", cwd=tmp_path).returncode == 0


def test_a_line_whose_fields_are_of_other_kinds_is_no_fault_of_the_program(tmp_path: Path) -> None:
    lines = [
        {"custom_id": "a", "params": {"model": "m", "max_tokens": 1, "messages": [7]}},
        {"custom_id": "b", "result": {"type": "succeeded", "message": {"usage": 3}}},
        message(usage={"input_tokens": "many"}),
        {"custom_id": 5, "params": {}},
        {"custom_id": "c", "params": []},
    ]
    write_lines(tmp_path / "in.jsonl", lines)
    done = batch_gateway("convert", "in.jsonl", "--to", "openai", "-o", "o.jsonl", cwd=tmp_path)
    assert (done.returncode, "5 of 5 lines" in done.stderr) == (2, True), done.stderr


def test_a_line_that_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_blocks, "MAX_LINE_BYTES", 1000)
    source = BytesSource(b'{"custom_id":"' + b"a" * 600_000 + b'"}\n')
    with pytest.raises(InputError, match="the input: the line at byte 0 is too long"):
        convert_file(source, tmp_path / "out.jsonl", "openai")
    assert not list(tmp_path.iterdir())


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    text = json.dumps(MESSAGE) + "\n"
    (tmp_path / "in.jsonl").write_text(text * 2, "utf-8-sig")
    batch_gateway("convert", "in.jsonl", "--to", "openai", "-o", "out.jsonl", cwd=tmp_path)
    assert read_lines(tmp_path / "out.jsonl") == [CHAT] * 2


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", [MESSAGE])
    (tmp_path / "mine").write_text("mine")
    done = batch_gateway("convert", "in.jsonl", "--to", "openai", "-o", "mine", cwd=tmp_path)
    assert (done.returncode, (tmp_path / "mine").read_text()) == (2, "mine")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
TURNS = st.lists(TEXT, min_size=1, max_size=4)


@given(
    system=st.none() | TEXT, turns=TURNS, tokens=st.integers(1, 9), stop=st.lists(TEXT, max_size=2)
)
def test_any_chat_of_words_comes_back_from_anthropic(
    system: str | None, turns: list[str], tokens: int, stop: list[str]
) -> None:
    roles = ["user", "assistant"] * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    body = {"model": "m", "messages": messages, "max_completion_tokens": tokens, "stop": stop}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    there = through(line, "openai", "anthropic")
    assert json.loads(json.dumps(through(there, "anthropic", "openai"))) == line


def test_results_of_all_forms_come_back() -> None:
    line = result({"id": "x", "model": "m", "object": "chat.completion", **chat("Hi")})
    for form in ("vllm", "mistral"):
        there = through(line, "openai", form)
        back = through(there, form, "openai")
        assert back["response"]["body"] == line["response"]["body"]
