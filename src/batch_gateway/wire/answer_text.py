"""The words that a model answered with, wherever the answers of an endpoint have them. Pure."""

from __future__ import annotations

from typing import Any, cast

__all__ = ["answer_text"]

_TEXTS = ("text", "output_text")


def answer_text(body: Any) -> str:
    """The text of a decoded answer, "" where it has none.

    Of chat and completions that of the first choice; of `/v1/responses` all of its messages, as
    OpenAI's SDKs have it in `output_text`. Reasoning, refusals and calls of tools are no text.
    """
    if not isinstance(body, dict):
        return ""
    answer = cast("dict[str, Any]", body)
    choices = answer.get("choices")
    if isinstance(choices, list) and choices:
        return _of_choice(cast("list[Any]", choices)[0])
    output = answer.get("output")
    messages = cast("list[Any]", output) if isinstance(output, list) else []
    return "".join(_of_content(_field(item, "content")) for item in messages)


def _of_choice(choice: Any) -> str:
    text = _field(choice, "text")
    if isinstance(text, str):
        return text
    return _of_content(_field(_field(choice, "message"), "content"))


def _of_content(content: Any) -> str:
    """`content` is text, or a list of parts of which some are."""
    if isinstance(content, str):
        return content
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    texts = (_field(part, "text") for part in parts if _field(part, "type") in _TEXTS)
    return "".join(text for text in texts if isinstance(text, str))


def _field(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
