"""Requests of Anthropic's Messages API as chats of OpenAI's, and the reverse. Pure.

https://platform.claude.com/docs/en/api/messages, and OpenAI's reference of chat completions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from batch_gateway.conversion.fields import CannotSayError, Fields
from batch_gateway.tables.columns import as_json_text

__all__ = ["chat_of_message", "message_of_chat", "tool_call_of", "tool_use_of"]

_SAME = {"model": "model", "temperature": "temperature", "top_p": "top_p"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_JOIN = "\n\n"
_SUCH = "such a message"


# --- to OpenAI ---


def chat_of_message(params: Fields) -> dict[str, Any]:
    """The body of a chat completion. Raises CannotSayError."""
    names = {**_SAME, "max_tokens": "max_completion_tokens", "stop_sequences": "stop"}
    body = params.moved(names)
    system = _words(params, "system", "system")
    messages = [] if system is None else [{"role": "system", "content": system}]
    for message in params.items("messages"):
        messages += _chat_messages(message)
    body["messages"] = messages
    tools = [_function(tool) for tool in params.items("tools")]
    if tools:
        body["tools"] = tools
    choice = params.take("tool_choice")
    if choice is not None:
        body |= _chat_choice(Fields(choice, params.path("tool_choice"), params.losses))
    metadata = params.take("metadata")
    if metadata is not None:
        about = Fields(metadata, params.path("metadata"), params.losses)
        body |= about.moved({"user_id": "user"})
        about.end()
    if params.take("stream"):
        params.lose("stream", "is not for batches")
    params.end()
    return body


def _words(fields: Fields, name: str, where: str) -> str | None:
    """The text in a field, or that of all blocks in it; None where it is not there."""
    found = fields.text_or_items(name)
    if found is None or isinstance(found, str):
        return found
    return _JOIN.join(_text(block, where) for block in found)


def _text(block: Fields, where: str) -> str:
    kind = block.text("type")
    if kind != "text":
        raise CannotSayError(f"{block.path('type')}: {kind} has no place in {where}")
    text = block.text("text")
    block.end()
    return text


def _chat_messages(message: Fields) -> Iterator[dict[str, Any]]:
    """A message may be several: results of tools are messages of their own."""
    role, content = message.text("role"), message.text_or_items("content") or ""
    message.end()
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    parts, calls = list[dict[str, Any]](), list[dict[str, Any]]()
    for block in content:
        kind = block.text("type")
        if kind == "text":
            parts.append({"type": "text", "text": block.text("text")})
        elif kind == "image":
            parts.append({"type": "image_url", "image_url": {"url": _image_url(block)}})
        elif kind == "tool_use" and role == "assistant":
            calls.append(tool_call_of(block))
        elif kind == "tool_result":
            yield _tool_message(block)
        else:
            raise CannotSayError(f"{block.path('type')}: {kind} has no place in a chat")
        block.end()
    said: Any = parts
    if all(part["type"] == "text" for part in parts):
        said = parts[0]["text"] if len(parts) == 1 else parts or None
    if calls:
        yield {"role": role, "content": said, "tool_calls": calls}
    elif parts:
        yield {"role": role, "content": said}


def _image_url(block: Fields) -> str:
    source = block.inner("source")
    kind = source.text("type")
    if kind == "url":
        url = source.text("url")
    elif kind == "base64":
        url = f"data:{source.text('media_type')};base64,{source.text('data')}"
    else:
        raise CannotSayError(f"{source.path('type')}: {kind} has no place in a chat")
    source.end()
    return url


def tool_call_of(block: Fields) -> dict[str, Any]:
    """The call of a tool that a block `tool_use` is."""
    arguments = as_json_text(block.take("input", {}))
    function = {"name": block.text("name"), "arguments": arguments}
    return {"id": block.text("id"), "type": "function", "function": function}


def _tool_message(block: Fields) -> dict[str, Any]:
    content = _words(block, "content", "the result of a tool") or ""
    if block.take("is_error"):
        block.lose("is_error")
    return {"role": "tool", "tool_call_id": block.text("tool_use_id"), "content": content}


def _function(tool: Fields) -> dict[str, Any]:
    kind = tool.take("type", "custom")
    if kind != "custom":
        raise CannotSayError(f"{tool.path('type')}: {kind} is a tool of Anthropic's servers")
    function = tool.moved(
        {"name": "name", "description": "description", "input_schema": "parameters",
         "strict": "strict"}
    )  # fmt: skip
    tool.end()
    return {"type": "function", "function": function}


def _chat_choice(choice: Fields) -> dict[str, Any]:
    kind = choice.text("type")
    said: Any = _CHOICES.get(kind)
    if kind == "tool":
        said = {"type": "function", "function": {"name": choice.text("name")}}
    if said is None:
        raise CannotSayError(f"{choice.path('type')}: {kind} has no place in a chat")
    parallel = {"parallel_tool_calls": False} if choice.take("disable_parallel_tool_use") else {}
    choice.end()
    return {"tool_choice": said, **parallel}


# --- from OpenAI ---


def message_of_chat(body: Fields, max_tokens: int | None) -> dict[str, Any]:
    """The `params` of a message. Raises CannotSayError.

    `max_tokens` is for those that name no limit, without which Anthropic takes none.
    """
    params = body.moved(_SAME)
    if params.get("temperature", 0) > 1:
        raise CannotSayError(f"{body.path('temperature')} is above 1, the most at Anthropic")
    newer, older = body.take("max_completion_tokens"), body.take("max_tokens")
    params["max_tokens"] = newer or older or max_tokens
    if params["max_tokens"] is None:
        raise CannotSayError(
            f"{body.path('max_tokens')} is missing, which Anthropic wants: give --max-tokens N"
        )
    stop = body.take("stop")
    if stop is not None:
        params["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    user = body.take("user")
    if user is not None:
        params["metadata"] = {"user_id": user}
    params |= _messages(body)
    params |= _tools(body)
    if body.take("n", 1) != 1:
        body.lose("n", "is more than the one answer of Anthropic's")
    if body.take("stream"):
        body.lose("stream", "is not for batches")
    body.end()
    return params


def _messages(body: Fields) -> dict[str, Any]:
    system, messages = list[str](), list[dict[str, Any]]()
    for message in body.items("messages"):
        role = message.text("role")
        if role in ("system", "developer"):
            if messages:
                raise CannotSayError(
                    f"{message.path('role')}: {role} behind other messages has no place there"
                )
            system.append(_words(message, "content", _SUCH) or "")
        elif role == "tool":
            result = {
                "type": "tool_result",
                "tool_use_id": message.text("tool_call_id"),
                "content": _words(message, "content", _SUCH) or "",
            }
            _append(messages, "user", [result])
        elif role in ("user", "assistant"):
            _append(messages, role, _blocks(message))
        else:
            raise CannotSayError(f"{message.path('role')}: {role} has no place there")
        message.end()
    found: dict[str, Any] = {"messages": messages}
    return {"system": _JOIN.join(system), **found} if system else found


def _append(messages: list[dict[str, Any]], role: str, content: Any) -> None:
    """Results of tools that follow each other are one message."""
    last = messages[-1] if messages else {}
    both = last.get("role") == role and isinstance(content, list)
    if both and isinstance(last["content"], list):
        last["content"] += content
    else:
        messages.append({"role": role, "content": content})


def _blocks(message: Fields) -> Any:
    content = message.text_or_items("content") or ""
    calls = [tool_use_of(call, ("type",)) for call in message.items("tool_calls")]
    if isinstance(content, str):
        if not calls:
            return content
        return [*([{"type": "text", "text": content}] if content else []), *calls]
    return [*(_block(part) for part in content), *calls]


def _block(part: Fields) -> dict[str, Any]:
    kind = part.text("type")
    if kind == "text":
        block = {"type": "text", "text": part.text("text")}
    elif kind == "image_url":
        image = part.inner("image_url")
        url = image.text("url")
        image.end()
        found = _DATA_URL.fullmatch(url)
        source = {"type": "url", "url": url}
        if found:
            source = {"type": "base64", "media_type": found[1], "data": found[2]}
        block = {"type": "image", "source": source}
    else:
        raise CannotSayError(f"{part.path('type')}: {kind} has no place in a message")
    part.end()
    return block


def tool_use_of(call: Fields, harmless: Collection[str]) -> dict[str, Any]:
    """The block `tool_use` that a call of a tool is; `harmless` of its fields have no place."""
    call_id = call.text("id")
    function = call.inner("function")
    name, arguments = function.text("name"), function.text("arguments")
    try:
        given = json.loads(arguments or "{}")
    except ValueError as error:
        raise CannotSayError(f"{function.path('arguments')} are no JSON") from error
    function.end()
    call.end(harmless=harmless)
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def _tools(body: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tools = list[dict[str, Any]]()
    for tool in body.items("tools"):
        kind = tool.text("type")
        if kind != "function":
            raise CannotSayError(f"{tool.path('type')}: {kind} has no place there")
        function = tool.inner("function")
        names = {"name": "name", "description": "description", "strict": "strict"}
        schema = function.take("parameters", {"type": "object", "properties": {}})
        tools.append({**function.moved(names), "input_schema": schema})
        function.end()
        tool.end()
    if tools:
        found["tools"] = tools
    choice, parallel = body.take("tool_choice"), body.take("parallel_tool_calls", True)
    if choice is not None or not parallel:
        found["tool_choice"] = _message_choice(body, choice or "auto")
        if not parallel:
            found["tool_choice"]["disable_parallel_tool_use"] = True
    return found


def _message_choice(body: Fields, choice: Any) -> dict[str, Any]:
    kinds = {theirs: ours for ours, theirs in _CHOICES.items()}
    if isinstance(choice, str):
        if choice not in kinds:
            raise CannotSayError(f"{body.path('tool_choice')}: {choice} has no place there")
        return {"type": kinds[choice]}
    named = Fields(choice, body.path("tool_choice"), body.losses)
    named.take("type")
    function = named.inner("function")
    name = function.text("name")
    function.end()
    named.end()
    return {"type": "tool", "name": name}
