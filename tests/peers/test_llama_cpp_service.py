"""The service before a real model, and the openai package before the service."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.engine.batch_files import request, text_of
from tests.peers.batch_service import running_service
from tests.peers.llama import Llama

pytestmark = [pytest.mark.peer("llama.cpp"), pytest.mark.serves_a_module]

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def sdk(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "key").write_text(f"{llama.key}\n", "utf-8")
    gateway = ("--gateway", llama.url, "--api-key-file", "key", "--concurrency", "8")
    with (
        running_service(folder, *gateway) as service,
        openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


def chat(custom_id: str, words: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": words}]
    return request(custom_id, body={"model": "smollm2", "messages": messages, **more})


def submitted(sdk: openai.OpenAI, lines: list[dict[str, Any]]) -> str:
    file = sdk.files.create(file=("in.jsonl", text_of(lines)), purpose="batch")
    return sdk.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id


def until(sdk: openai.OpenAI, batch_id: str, is_there: Callable[[Batch], object]) -> Batch:
    end = time.monotonic() + LIMIT_S
    while not is_there(batch := sdk.batches.retrieve(batch_id)):
        assert time.monotonic() < end, batch
        time.sleep(0.05)
    return batch


def results(sdk: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    lines = sdk.files.content(file_id).text.splitlines() if file_id else []
    return {line["custom_id"]: line for line in map(json.loads, lines)}


def test_a_batch_is_answered_by_the_model_line_for_line(sdk: openai.OpenAI) -> None:
    asked = {f"say-{word}": word for word in ("red", "green", "blue", "white", "black", "brown")}
    lines = [
        chat(custom_id, "What is your colour?", grammar=f'root ::= "{word}"')
        for custom_id, word in asked.items()
    ]
    batch_id = submitted(sdk, [*lines, chat("bad", "hi", temperature="hot")])
    batch = until(sdk, batch_id, lambda now: now.completed_at)
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 7, "completed": 6, "failed": 1}
    output = results(sdk, batch.output_file_id)
    bodies = {name: line["response"]["body"] for name, line in output.items()}
    answers = {name: body["choices"][0]["message"]["content"] for name, body in bodies.items()}
    assert answers == asked
    usage = [body["usage"] for body in bodies.values()]
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(one["prompt_tokens"] for one in usage)
    assert batch.usage.output_tokens == sum(one["completion_tokens"] for one in usage)
    [bad] = results(sdk, batch.error_file_id).values()
    assert (bad["custom_id"], bad["response"]["status_code"]) == ("bad", 400)
    assert "type must be number" in bad["response"]["body"]["error"]["message"]


def test_a_batch_cancelled_in_the_middle_keeps_what_is_done_and_frees_the_model(
    sdk: openai.OpenAI, llama: Llama
) -> None:
    short = [chat(f"short-{n}", f"Say {n}.", max_tokens=1) for n in range(4)]
    long = [
        chat(f"long-{n}", f"Tell story {n}.", max_tokens=900, ignore_eos=True) for n in range(20)
    ]
    batch_id = submitted(sdk, short + long)
    until(sdk, batch_id, lambda now: now.request_counts and now.request_counts.completed >= 4)
    llama.wait_until_busy()
    sdk.batches.cancel(batch_id)
    batch = until(sdk, batch_id, lambda now: now.cancelled_at)
    llama.wait_until_idle()
    output = results(sdk, batch.output_file_id)
    errors = results(sdk, batch.error_file_id)
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {
        "total": 24, "completed": len(output), "failed": len(errors)
    }  # fmt: skip
    assert output.keys() >= {f"short-{n}" for n in range(4)}
    assert output.keys() | errors.keys() == {one["custom_id"] for one in short + long}
    assert {one["error"]["code"] for one in errors.values()} == {"batch_cancelled"}
