"""Answers that have to be JSON as a schema says: others are asked for again, within bounds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    BadResponseError,
    CacheConfig,
    CoalescePolicy,
    ConfigError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    JSONSchema,
)
from tests.cli.commands import Finished, batch_gateway, chat_line, read_lines
from tests.cli.turning_server import Reply, TurningServer, turning_server
from tests.quick_retry import QUICK
from tests.tables.result_files import chat, write_lines

SCHEMA = {"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}}


@contextmanager
def saying(*texts: str | None, **message: Any) -> Iterator[tuple[str, Counter[str]]]:
    """A server that says these one after the other to each prompt, the last for ever; its URL."""
    asked: Counter[str] = Counter()

    def decide(_: TurningServer, __: int, body: dict[str, Any], ___: str) -> Reply:
        prompt = body["messages"][-1]["content"]
        text = texts[min(asked[prompt], len(texts) - 1)]
        asked[prompt] += 1
        return Reply(200, json.dumps(chat(text, **message)).encode())

    with turning_server(decide) as server:
        yield server.url, asked


def run(tmp_path: Path, url: str, *flags: str, lines: int = 3) -> Finished:
    write_lines(tmp_path / "q.jsonl", [chat_line(f"q{n}", content=f"p{n}") for n in range(lines)])
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    arguments = [
        "run",
        "q.jsonl",
        "--gateway",
        url,
        "-o",
        "r.jsonl",
        "--json-schema",
        "schema.json",
    ]
    (tmp_path / "quick.yaml").write_text("initial_backoff: 1ms\n")
    return batch_gateway(*arguments, "--config", "quick.yaml", *flags, cwd=tmp_path)


def test_an_answer_that_is_not_so_is_asked_for_again(tmp_path: Path) -> None:
    with saying("no json", '{"score": "x"}', '{"score": 5}') as (url, asked):
        done = run(tmp_path, url, "--json")
    assert done.returncode == 0, done.stderr
    assert set(asked.values()) == {3}
    assert json.loads(done.stdout)["retries"] == 6


def test_one_that_stays_so_is_a_failure_with_its_words(tmp_path: Path) -> None:
    with saying("no json") as (url, asked):
        done = run(tmp_path, url, "--json", "--max-failures", "100%", "--max-retries", "1")
    assert (done.returncode, set(asked.values())) == (1, {2})
    (first, *_), told = read_lines(tmp_path / "r.errors.jsonl"), json.loads(done.stdout)
    assert first["error"]["code"] == "invalid_answer"
    assert first["error"]["message"].startswith("the answer is not JSON: ")
    assert json.loads(first["error"]["body"])["choices"][0]["message"]["content"] == "no json"
    assert told["causes"][0]["count"] == 3
    batch_gateway("table", "r.jsonl", "-o", "t.jsonl", cwd=tmp_path)
    (row, *_) = read_lines(tmp_path / "t.jsonl")
    assert (row["text"], row["error_category"]) == ("no json", "INVALID_ANSWER")


def test_a_schema_that_no_answer_fits_stops_the_run(tmp_path: Path) -> None:
    with saying("no json") as (url, asked):
        done = run(tmp_path, url, "--max-retries", "0", "--concurrency", "4", lines=200)
    assert done.returncode == 3, done.stderr
    assert "the answer is not JSON" in done.stdout
    assert sum(asked.values()) < 100
    assert not read_lines(tmp_path / "r.errors.jsonl")


def test_a_schema_that_is_none_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with saying("x") as (url, asked):
        done = run(tmp_path, url, "--json-schema", "q.jsonl")
    assert (done.returncode, sum(asked.values())) == (2, 0)
    assert "--json-schema: q.jsonl is not JSON" in done.stderr


@pytest.mark.anyio
async def test_calls_of_tools_and_fences_of_markdown_are_right(tmp_path: Path) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    for text, more in [(None, {"tool_calls": calls}), ('```json\n{"score": 1}\n```', {})]:
        with saying(text, **more) as (url, _):
            config = HTTPInferenceClientConfig(url, retry=None, json_schema=JSONSchema(SCHEMA))
            async with HTTPInferenceClient(config) as client:
                answer = await client.generate(
                    {"model": "m", "messages": [{"role": "user", "content": "p"}]}
                )
            assert answer.status_code == 200


@pytest.mark.anyio
async def test_a_cached_answer_that_is_not_right_is_asked_for_anew(tmp_path: Path) -> None:
    request = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "p"}]}
    cache = CacheConfig(tmp_path / "cache")
    with saying("no json", '{"score": 5}') as (url, asked):
        async with HTTPInferenceClient(HTTPInferenceClientConfig(url, cache=cache)) as client:
            assert (await client.generate(request)).text == "no json"
        config = HTTPInferenceClientConfig(url, cache=cache, json_schema=JSONSchema(SCHEMA))
        for from_cache in (False, True):
            async with HTTPInferenceClient(config) as client:
                answer = await client.generate(request)
                assert (answer.text, answer.from_cache) == ('{"score": 5}', from_cache)
    assert asked["p"] == 2


@pytest.mark.anyio
async def test_a_program_hears_what_is_wrong(tmp_path: Path) -> None:
    with saying('{"score": "x"}') as (url, asked):
        config = HTTPInferenceClientConfig(url, retry=QUICK, json_schema=JSONSchema(SCHEMA))
        async with HTTPInferenceClient(config) as client:
            with pytest.raises(
                BadResponseError, match=r"at \$\.score, 'x' is not of type"
            ) as error:
                await client.generate(
                    {"model": "m", "messages": [{"role": "user", "content": "p"}]}
                )
    assert (error.value.code, error.value.attempts, asked["p"]) == ("invalid_answer", 3, 3)


def test_what_is_sent_together_cannot_be_checked_one_by_one() -> None:
    with pytest.raises(ConfigError, match="does not go with json_schema"):
        HTTPInferenceClientConfig(
            "http://h", coalesce=CoalescePolicy(8), json_schema=JSONSchema(SCHEMA)
        )


def test_equal_schemas_are_equal() -> None:
    assert JSONSchema({"a": 1, "b": 2}) == JSONSchema({"b": 2, "a": 1}) != JSONSchema(True)
    assert len({JSONSchema({"a": 1}), JSONSchema({"a": 1})}) == 1
