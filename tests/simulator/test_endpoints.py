"""The answers of every endpoint, in OpenAI's shapes."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest

from batch_gateway.simulator.answers.words import words_for
from batch_gateway.testing import GatewayHandle, simulated_gateway

from .asking import CHAT, CHAT_PATH, Answered, ask, get

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
        },
    },
}


def error_of(answer: Answered) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_chat_answers_with_a_message_and_its_usage(gateway: GatewayHandle) -> None:
    answer = ask(gateway.url)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", "tiny")
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["completion_tokens"] == len(choice["message"]["content"].split()) == 32
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_same_request_gets_the_same_text_and_another_gets_another(
    gateway: GatewayHandle,
) -> None:
    texts = [
        ask(gateway.url, body=CHAT | extra).json()["choices"][0]["message"]["content"]
        for extra in ({}, {}, {"temperature": 0.5})
    ]
    assert texts[0] == texts[1] != texts[2]


def test_max_tokens_cuts_the_answer_and_says_so(gateway: GatewayHandle) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        (choice,) = ask(gateway.url, body=CHAT | {name: 3}).json()["choices"]
        assert choice["finish_reason"] == "length"
        assert len(choice["message"]["content"].split()) == 3


def test_lengths_follow_the_configured_distribution() -> None:
    lengths: dict[str, list[int]] = {}
    for shape in ("uniform", "geometric"):
        with simulated_gateway(output_tokens=20, output_distribution=shape) as gateway:
            lengths[shape] = [
                ask(gateway.url, body=CHAT | {"seed": i}).json()["usage"]["completion_tokens"]
                for i in range(60)
            ]
    assert all(10 <= length <= 30 for length in lengths["uniform"])
    assert all(length >= 1 for length in lengths["geometric"])
    assert 16 < sum(lengths["uniform"]) / 60 < 24
    assert max(lengths["geometric"]) > 30


def test_vllm_options_force_the_length(gateway: GatewayHandle) -> None:
    forced = CHAT | {"max_tokens": 50, "ignore_eos": True}
    assert ask(gateway.url, body=forced).json()["usage"]["completion_tokens"] == 50
    at_least = CHAT | {"max_tokens": 60, "min_tokens": 45}
    assert ask(gateway.url, body=at_least).json()["usage"]["completion_tokens"] == 45


def test_n_choices_have_their_own_texts(gateway: GatewayHandle) -> None:
    body = ask(gateway.url, body=CHAT | {"n": 3}).json()
    texts = {choice["message"]["content"] for choice in body["choices"]}
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len(texts) == 3
    assert body["usage"]["completion_tokens"] == 96


def test_a_required_tool_is_called_with_arguments_that_fit_its_schema(
    gateway: GatewayHandle,
) -> None:
    import json

    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        body = ask(gateway.url, body=CHAT | {"tools": [TOOL], "tool_choice": choice}).json()
        (answer,) = body["choices"]
        assert answer["finish_reason"] == "tool_calls"
        assert answer["message"]["content"] is None
        (call,) = answer["message"]["tool_calls"]
        assert call["function"]["name"] == "get_weather"
        arguments = json.loads(call["function"]["arguments"])
        assert isinstance(arguments["city"], str)
        assert arguments["unit"] in ("C", "F")
    assert ask(gateway.url, body=CHAT | {"tools": [TOOL]}).json()["choices"][0]["message"][
        "content"
    ]


def test_structured_output_fits_its_schema(gateway: GatewayHandle) -> None:
    import json

    schema = {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "minimum": 1},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "sure": {"type": "boolean"},
            "note": {"anyOf": [{"type": "null"}, {"type": "number"}]},
        },
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = ask(gateway.url, body=CHAT | {"response_format": wanted}).json()
    value = json.loads(body["choices"][0]["message"]["content"])
    assert value["score"] >= 1
    assert [type(tag) for tag in value["tags"]] == [str, str]
    assert value["sure"] in (True, False)
    assert value["note"] is None or isinstance(value["note"], float)
    plain = ask(gateway.url, body=CHAT | {"response_format": {"type": "json_object"}}).json()
    assert isinstance(json.loads(plain["choices"][0]["message"]["content"]), dict)


@pytest.mark.parametrize("prompt", ["Hello", ["Hello", "you"], [1, 2, 3], [[1, 2], [3]]])
def test_completions_take_every_form_of_prompt(gateway: GatewayHandle, prompt: Any) -> None:
    body = ask(gateway.url, "/v1/completions", {"model": "tiny", "prompt": prompt}).json()
    assert body["object"] == "text_completion"
    several = isinstance(prompt, list) and not isinstance(prompt[0], int)
    assert len(body["choices"]) == (2 if several else 1)
    assert body["usage"]["completion_tokens"] == 16 * len(body["choices"])


def test_embeddings_are_unit_vectors_that_depend_on_the_text_alone(
    gateway: GatewayHandle,
) -> None:
    body = ask(gateway.url, "/v1/embeddings", {"model": "tiny", "input": ["a", "b", "a"]}).json()
    vectors = [item["embedding"] for item in body["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert len(vectors[0]) == 8
    assert math.hypot(*vectors[0]) == pytest.approx(1)
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_embeddings_honour_dimensions_and_base64(gateway: GatewayHandle) -> None:
    asked = {"model": "tiny", "input": "a", "dimensions": 16}
    plain = ask(gateway.url, "/v1/embeddings", asked).json()["data"][0]["embedding"]
    packed = ask(gateway.url, "/v1/embeddings", asked | {"encoding_format": "base64"}).json()
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert struct.unpack("<16f", raw) == pytest.approx(plain)


def test_responses_answer_with_a_message(gateway: GatewayHandle) -> None:
    body = ask(gateway.url, "/v1/responses", {"model": "tiny", "input": "Hello"}).json()
    assert (body["object"], body["status"]) == ("response", "completed")
    assert body["output"][0]["content"][0]["type"] == "output_text"
    assert body["usage"]["output_tokens"] == 32
    cut = {"model": "tiny", "input": [{"role": "user", "content": "x"}], "max_output_tokens": 2}
    body = ask(gateway.url, "/v1/responses", cut).json()
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}


def test_moderations_find_nothing(gateway: GatewayHandle) -> None:
    body = ask(gateway.url, "/v1/moderations", {"input": ["a", "b"]}).json()
    assert [result["flagged"] for result in body["results"]] == [False, False]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT_PATH, b"{not json", None),
        (CHAT_PATH, b"[]", None),
        (CHAT_PATH, {"messages": []}, "model"),
        (CHAT_PATH, {"model": "tiny"}, "messages"),
        (CHAT_PATH, {"model": "tiny", "messages": []}, "messages"),
        (CHAT_PATH, CHAT | {"max_tokens": 0}, "max_tokens"),
        (CHAT_PATH, CHAT | {"max_tokens": "many"}, "max_tokens"),
        (CHAT_PATH, CHAT | {"tool_choice": "required"}, "tools"),
        (CHAT_PATH, CHAT | {"n": 1000}, "n"),
        ("/v1/completions", {"model": "tiny", "prompt": []}, "prompt"),
        ("/v1/completions", {"model": "tiny", "prompt": ["a", 1]}, "prompt"),
        ("/v1/embeddings", {"model": "tiny"}, "input"),
        ("/v1/embeddings", {"model": "tiny", "input": "a", "dimensions": -1}, "dimensions"),
        ("/v1/responses", {"model": "tiny", "input": ""}, "input"),
        ("/v1/moderations", {"input": []}, "input"),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(
    gateway: GatewayHandle, path: str, body: Any, param: str | None
) -> None:
    answer = ask(gateway.url, path, body)
    assert answer.status == 400
    error = error_of(answer)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


def test_unknown_models_and_paths_are_not_found() -> None:
    with simulated_gateway(models=["tiny"]) as gateway:
        answer = ask(gateway.url, body=CHAT | {"model": "huge"})
        assert (answer.status, error_of(answer)["code"]) == (404, "model_not_found")
        assert ask(gateway.url).status == 200
        assert [card["id"] for card in get(gateway.url, "/v1/models").json()["data"]] == ["tiny"]
        assert get(gateway.url, "/v1/models/tiny").json()["object"] == "model"
        assert get(gateway.url, "/v1/models/huge").status == 404
        assert error_of(get(gateway.url, "/v1/nothing"))["message"] == (
            "Invalid URL (GET /v1/nothing)"
        )
        assert get(gateway.url, CHAT_PATH).status == 405


def test_asks_for_the_api_key_it_was_given() -> None:
    with simulated_gateway(api_key="sk-right") as gateway:
        assert ask(gateway.url, Authorization="Bearer sk-right").status == 200
        wrong = ask(gateway.url, Authorization="Bearer sk-wrong")
        assert (wrong.status, error_of(wrong)["code"]) == (401, "invalid_api_key")
        assert ask(gateway.url).status == 401
        assert "sk-right" not in repr(gateway.config)


def test_metrics_are_prometheus_text_under_vllms_names(gateway: GatewayHandle) -> None:
    ask(gateway.url)
    ask(gateway.url, X_Simulate_Fault="status-503")
    page = get(gateway.url, "/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(
        line.rsplit(" ", 1) for line in page.body.decode().splitlines() if line[0] != "#"
    )
    assert samples["vllm:num_requests_running"] == "0"
    assert samples["vllm:num_requests_waiting"] == "0"
    assert samples["vllm:kv_cache_usage_perc"] == "0.0"
    assert samples["vllm:generation_tokens_total"] == "32"
    assert samples['vllm:request_success_total{model_name="tiny"}'] == "1"
    assert samples['simulator:responses_total{status="503"}'] == "1"
    assert samples['vllm:e2e_request_latency_seconds_bucket{le="+Inf"}'] == "1"


def test_every_byte_chooses_a_word() -> None:
    words = set(words_for(b"seed", 20_000))
    assert len(words) == 256
