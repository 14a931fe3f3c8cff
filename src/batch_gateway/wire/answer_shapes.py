"""What an answer of each OpenAI endpoint must have: a quick test, and words for what is missing.

The quick test is a typed decoder that keeps next to nothing. What it accepts is an answer; what it
refuses may still be one, oddly shaped, and is then looked at field by field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["UNUSUAL", "Shape", "UsualAnswer", "UsualChat", "UsualCompletion", "shape_of"]

UNUSUAL = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What `Shape.decode` raises for a body that is not the usual answer."""

_Fields: TypeAlias = Mapping[str, Any]


# --- the quick test ---


class _AnyObject(msgspec.Struct, gc=False):
    """No field: the decoder walks the object, checks its syntax and keeps nothing."""


class _AnyArray(msgspec.Struct, array_like=True, gc=False):
    """The same for an array."""


class _Vector(msgspec.Struct, array_like=True, gc=False):
    first: msgspec.Raw


_NOTHING = msgspec.Raw(b"")


class _Success(msgspec.Struct, gc=False):
    status_code: Literal[0] | None = None


class _GroqExtra(msgspec.Struct, gc=False):
    error: None = None


class UsualAnswer(msgspec.Struct, gc=False, kw_only=True):
    """An answer in the usual form of its endpoint.

    The fields are those in which errors are reported (see `error_forms`), none of which says one,
    and the tokens, which are left as they came.
    """

    error: None = None
    errors: None = None
    error_code: Literal[0] | None = None
    error_msg: Literal[""] | None = None
    fault: None = None
    type: None = None
    base_resp: _Success | None = None
    success: bool | None = None
    ok: bool | None = None
    x_groq: _GroqExtra | None = None
    # What OpenAI's endpoints say; "error" is none of them.
    object: Literal["chat.completion", "text_completion", "list", "response", ""] | None = None
    usage: msgspec.Raw = _NOTHING


class _Entry(msgspec.Struct, gc=False, kw_only=True):
    error: None = None


class _Choice(_Entry, gc=False, kw_only=True):
    finish_reason: (
        Literal[
            "stop", "length", "tool_calls", "function_call", "content_filter",
            "STOP", "MAX_TOKENS", "eos", "eos_token", "end_turn", "max_tokens", "model_length",
            "repetition", "stop_sequence", "",
        ]
        | None
    ) = None  # fmt: skip


class _ChatChoice(_Choice, gc=False, kw_only=True):
    message: _AnyObject


class _TextChoice(_Choice, gc=False, kw_only=True):
    text: str


class _Embedding(_Entry, gc=False, kw_only=True):
    embedding: _Vector | Annotated[str, msgspec.Meta(min_length=1)]


class UsualChat(UsualAnswer, gc=False, kw_only=True):
    choices: Annotated[list[_ChatChoice], msgspec.Meta(min_length=1)]


class UsualCompletion(UsualAnswer, gc=False, kw_only=True):
    choices: Annotated[list[_TextChoice], msgspec.Meta(min_length=1)]


class _Embeddings(UsualAnswer, gc=False, kw_only=True):
    data: Annotated[list[_Embedding], msgspec.Meta(min_length=1)]


class _Moderation(UsualAnswer, gc=False, kw_only=True):
    results: Annotated[list[_Entry], msgspec.Meta(min_length=1)]


class _Response(UsualAnswer, gc=False, kw_only=True):
    output: _AnyArray
    status: Literal["completed", "incomplete"]


class _Foreign(UsualAnswer, gc=False, kw_only=True):
    choices: list[_Choice] | None = None
    code: None = None
    detail: None = None
    status: None = None
    status_code: None = None
    status_in_camel_case: None = msgspec.field(name="statusCode", default=None)
    error_message: None = msgspec.field(name="errorMessage", default=None)
    message: _AnyObject | None = None
    message_in_capitals: None = msgspec.field(name="Message", default=None)
    msg: None = None
    error_description: None = None
    err: None = None
    amazon_type: None = msgspec.field(name="__type", default=None)
    error_in_capitals: None = msgspec.field(name="Error", default=None)
    response: None = msgspec.field(name="Response", default=None)
    response_metadata: None = msgspec.field(name="ResponseMetadata", default=None)


# --- the words ---


class Shape(msgspec.Struct, frozen=True):
    """What is known of an endpoint's answers.

    Attributes:
        decode: raises one of `UNUSUAL` unless the body has the usual form. What it accepts is an
            answer, but for its `success`, its `ok`, and the encoding of its strings.
        list_name: the field with a list of what was asked for.
        entry_has: whether an entry of it has what an entry must have; None when nothing is known
            of the entries, nor whether there must be any.
        entry_needs: that in words.
        demands: whether the list must be there.
    """

    decode: Callable[[bytes], UsualAnswer]
    list_name: str
    entry_has: Callable[[_Fields], bool] | None = None
    entry_needs: str = ""
    demands: bool = True

    def missing(self, fields: _Fields) -> str:
        """What an answer would have and these fields do not; empty when it is all there."""
        entries = fields.get(self.list_name)
        if not self.demands:
            return ""
        if not isinstance(entries, list):
            return f"it has no {self.list_name!r}"
        if self.entry_has is None:
            return ""
        if not entries:
            return f"its {self.list_name!r} are empty"
        for entry in cast("list[object]", entries):
            if not isinstance(entry, dict) or not self.entry_has(cast("_Fields", entry)):
                return f"one of its {self.list_name!r} {self.entry_needs}"
        return ""


def _has_message(choice: _Fields) -> bool:
    return isinstance(choice.get("message"), dict)


def _has_text(choice: _Fields) -> bool:
    return isinstance(choice.get("text"), str)


def _has_embedding(entry: _Fields) -> bool:
    return isinstance(entry.get("embedding"), str | list | dict) and bool(entry["embedding"])


def _is_there(_: _Fields) -> bool:
    return True


def _decoder(kind: type[UsualAnswer]) -> Callable[[bytes], UsualAnswer]:
    return msgspec.json.Decoder(kind).decode


_CHAT = Shape(_decoder(UsualChat), "choices", _has_message, "has no message")
_COMPLETION = Shape(_decoder(UsualCompletion), "choices", _has_text, "has no text")
_EMBEDDINGS = Shape(_decoder(_Embeddings), "data", _has_embedding, "has no embedding")
_MODERATION = Shape(_decoder(_Moderation), "results", _is_there, "is no object")
_RESPONSE = Shape(_decoder(_Response), "output")
_FOREIGN = Shape(_decoder(_Foreign), "choices", demands=False)

# Under a version or below "openai", as Azure, Gemini and other aggregators place them: llama.cpp's
# own "/completions" and "/embeddings" have another form.
_VERSIONED = rare_pattern(
    r"/(?:v\d\w*|openai)/(?:.*/)?(completions|embeddings|moderations|responses)"
)
_SHAPES = {
    "completions": _COMPLETION,
    "embeddings": _EMBEDDINGS,
    "moderations": _MODERATION,
    "responses": _RESPONSE,
}


@lru_cache(maxsize=256)
def shape_of(endpoint: str) -> Shape:
    """The shape of answers of a path; one without demands for a path that is nobody's known."""
    if endpoint.endswith("/chat/completions"):
        return _CHAT
    match = _VERSIONED.search(endpoint)
    return _SHAPES[match.group(1)] if match and match.end() == len(endpoint) else _FOREIGN
