"""Lines of batch files in the forms of OpenAI, vLLM, Mistral and Anthropic. Pure.

Every line goes through the form of OpenAI.

| form      | request                         | result                             |
|-----------|---------------------------------|------------------------------------|
| openai    | custom_id, method, url, body    | id, custom_id, response, error     |
| vllm      | the same, for own endpoints too | the same; a refusal is in error    |
| mistral   | custom_id, body                 | the same, but for the request's id |
| anthropic | custom_id, params               | custom_id, result                  |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast, get_args

import msgspec

from batch_gateway.conversion.anthropic_requests import chat_of_message, message_of_chat
from batch_gateway.conversion.anthropic_results import line_of_result, result_of_line
from batch_gateway.conversion.fields import CannotSayError, Fields, Losses

__all__ = ["FORMS", "Form", "Wanted", "converted", "form_of"]

Form = Literal["openai", "vllm", "mistral", "anthropic"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)

_CHAT: Final = "/v1/chat/completions"
_OF_OPENAI: Final = frozenset(
    {_CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations"}
)
# vllm/entrypoints/openai/run_batch.py; those before the last are its score and rerank.
_OF_VLLM: Final = frozenset(
    {
        _CHAT, "/v1/completions", "/v1/embeddings", "/score", "/v1/score", "/rerank", "/v1/rerank",
        "/v2/rerank", "/v1/audio/transcriptions", "/v1/audio/translations",
    }
)  # fmt: skip
_OF_MISTRAL: Final = frozenset({_CHAT, "/v1/embeddings", "/v1/moderations"})
# What Mistral calls otherwise, and what it alone has (docs.mistral.ai/api).
_TO_MISTRAL: Final = {"seed": "random_seed", "max_completion_tokens": "max_tokens",
                      "dimensions": "output_dimension"}  # fmt: skip
_FROM_MISTRAL: Final = {"random_seed": "seed", "output_dimension": "dimensions"}
_ONLY_MISTRAL: Final = ("safe_prompt", "prompt_mode", "output_dtype")
_ALSO_MISTRAL: Final = frozenset(
    {
        "model", "messages", "temperature", "top_p", "max_tokens", "stop", "stream", "metadata",
        "response_format", "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n",
        "prediction", "parallel_tool_calls", "reasoning_effort", "input", "encoding_format",
    }
)  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a conversion.

    Attributes:
        source, target: the forms.
        model: of requests that name none.
        endpoint: that requests are for which name none, Mistral's.
        max_tokens: of requests that name no limit, for Anthropic.
    """

    source: Form
    target: Form
    model: str | None = None
    endpoint: str = _CHAT
    max_tokens: int | None = None


def form_of(line: Mapping[str, Any]) -> Form:
    """The form of a line; that of vLLM's is OpenAI's unless its endpoint says so."""
    if "params" in line or "result" in line:
        return "anthropic"
    if "body" in line and "url" not in line:
        return "mistral"
    url = line.get("url")
    return "vllm" if url in _OF_VLLM - _OF_OPENAI else "openai"


def converted(line: Any, wanted: Wanted, losses: Losses) -> dict[str, Any]:
    """The line in the other form. Raises CannotSayError for what that has no words for."""
    fields = Fields(line, "", losses)
    names = cast("Mapping[str, Any]", line).keys()
    if names & {"body", "params"}:
        return _request_from(_request(fields, wanted), wanted, losses)
    if names & {"response", "result"}:
        return _result_from(_result(fields, wanted), wanted, losses)
    raise CannotSayError("is neither a request nor a result of a batch")


# --- requests ---


def _request(line: Fields, wanted: Wanted) -> dict[str, Any]:
    """As a line of OpenAI's form."""
    custom_id = line.text("custom_id")
    if wanted.source == "anthropic":
        url, body = _CHAT, chat_of_message(line.inner("params"))
    else:
        url = line.take("url", wanted.endpoint if wanted.source == "mistral" else None)
        body = line.inner("body").rest()
        method = line.take("method", "POST")
        if not isinstance(url, str) or method != "POST":
            raise CannotSayError("url or method is not that of a request")
    line.end()
    if wanted.source == "mistral":
        body = _from_mistral(Fields(body, "body", line.losses))
    if body.get("model") is None and wanted.model is not None:
        body = {"model": wanted.model, **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def _request_from(line: dict[str, Any], wanted: Wanted, losses: Losses) -> dict[str, Any]:
    url, target = line["url"], wanted.target
    known = {"openai": _OF_OPENAI, "vllm": _OF_VLLM, "mistral": _OF_MISTRAL}.get(target, {_CHAT})
    if url not in known:
        raise CannotSayError(f"url: {target} has no batches of {url}")
    if line["body"].get("model") is None and target != "mistral":
        raise CannotSayError("model is missing: give --model NAME")
    body = Fields(line["body"], "body", losses)
    if target == "anthropic":
        return {"custom_id": line["custom_id"], "params": message_of_chat(body, wanted.max_tokens)}
    if target == "mistral":
        if url != wanted.endpoint:
            raise CannotSayError(
                f"url: a job of Mistral's is for one endpoint, {wanted.endpoint}, and this line for"
                f" {url}; --endpoint says another"
            )
        return {"custom_id": line["custom_id"], "body": _to_mistral(body)}
    return line


def _from_mistral(body: Fields) -> dict[str, Any]:
    found = body.moved(_FROM_MISTRAL)
    for name in _ONLY_MISTRAL:
        if body.take(name) is not None:
            body.lose(name)
    if (choice := body.take("tool_choice")) is not None:
        found["tool_choice"] = "required" if choice == "any" else choice
    return {**body.rest(), **found}


def _to_mistral(body: Fields) -> dict[str, Any]:
    found = body.moved({**{name: name for name in _ALSO_MISTRAL}, **_TO_MISTRAL})
    if found.get("tool_choice") == "required":
        found["tool_choice"] = "any"
    body.end()
    return found


# --- results ---


def _result(line: Fields, wanted: Wanted) -> dict[str, Any]:
    custom_id = line.text("custom_id")
    if wanted.source == "anthropic":
        found = line_of_result(line.inner("result"), custom_id)
        line.end()
        return found
    line_id = line.take("id", f"batch_req_{custom_id}")
    response, error = line.take("response"), line.take("error")
    line.end()
    if isinstance(response, dict):
        response = {"request_id": line_id, **cast("dict[str, Any]", response)}
        if error is not None and response.get("body") is None:
            # vLLM's way to say what the gateway refused.
            response, error = {**response, "body": {"error": _within(error)}}, None
    return {"id": line_id, "custom_id": custom_id, "response": response, "error": error}


def _result_from(line: dict[str, Any], wanted: Wanted, losses: Losses) -> dict[str, Any]:
    response = line["response"]
    if wanted.target == "anthropic":
        return {"custom_id": line["custom_id"], "result": result_of_line(Fields(line, "", losses))}
    if wanted.target == "mistral" and response is not None:
        shown = {name: value for name, value in response.items() if name != "request_id"}
        return {**line, "response": shown}
    if wanted.target == "vllm" and response is not None and response.get("status_code") != 200:
        error = _within(response.get("body"))
        return {**line, "response": {**response, "body": None}, "error": error}
    return line


def _within(error: Any) -> Any:
    """The error itself, without the object around it that OpenAI's bodies have."""
    return cast("dict[str, Any]", error).get("error", error) if isinstance(error, dict) else error
