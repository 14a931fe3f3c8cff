"""What an answer says of itself, read in one go: its tokens, and whether it was cut off."""

from __future__ import annotations

import msgspec

from batch_gateway.wire.answer_shapes import UsualAnswer, UsualChat, UsualCompletion
from batch_gateway.wire.usage import Usage, WireUsage, parse_usage, summed_up, usage_of

__all__ = ["CUT_OFF", "AnswerFigures", "read_figures"]

CUT_OFF = ("length", "content_filter", "incomplete")
"""Why an answer is not whole: too long, filtered, or for a reason that its server does not give."""

# Those of OpenAI, of Mistral (model_length), TGI and Anthropic (max_tokens), Gemini's, which some
# adapters pass through, Zhipu's (sensitive), Bedrock's (guardrail_…) and Cohere's (error_…).
_MEANINGS = {
    **dict.fromkeys(
        (
            "length", "max_tokens", "max_output_tokens", "model_length", "max_length",
            "model_context_window_exceeded", "error_limit",
        ),
        "length",
    ),
    **dict.fromkeys(
        (
            "content_filter", "content_filtered", "safety", "recitation", "blocklist", "spii",
            "prohibited_content", "sensitive", "image_safety", "guardrail_intervened",
            "error_toxic",
        ),
        "content_filter",
    ),
    "incomplete": "incomplete",
}  # fmt: skip


class _Reason(msgspec.Struct):
    # SGLang's own form; elsewhere the type alone stands there.
    type: str | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | _Reason | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Ending(msgspec.Struct):
    choices: list[_Choice] | None = None
    # Of /v1/responses.
    status: str | None = None
    incomplete_details: _Incomplete | None = None


class _Body(_Ending):
    usage: WireUsage | None = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_usage = msgspec.json.Decoder(WireUsage | None).decode
_decode_ending = msgspec.json.Decoder(_Ending).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

AnswerFigures = tuple[Usage | None, str | None]
"""The tokens of an answer, or None without any that make sense; and why it was cut off, one of
`CUT_OFF`, or None for one that ended by itself.
"""


def read_figures(body: bytes, usual: UsualAnswer | None = None) -> AnswerFigures:
    """Those of a response body, of which `usual` is what was read already. Never raises."""
    if isinstance(usual, (UsualChat, UsualCompletion)):
        choices = usual.choices
        if len(choices) == 1 and choices[0].finish_reason == "stop":
            try:
                usage = _decode_usage(usual.usage)
                return summed_up(usage) if usage is not None else usage_of(None, body), None
            except _UNREADABLE:
                pass
    try:
        found = _decode(body)
    except _UNREADABLE:
        return parse_usage(body), _cut_off_alone(body)
    return usage_of(found.usage, body), _cut_off(found)


def _cut_off_alone(body: bytes) -> str | None:
    """Where one of the two is not what it should be, the other may be."""
    try:
        return _cut_off(_decode_ending(body))
    except _UNREADABLE:
        return None


def _cut_off(ending: _Ending) -> str | None:
    if ending.status == "incomplete":
        details = ending.incomplete_details
        reason = "" if details is None else details.reason or ""
        return _MEANINGS.get(reason.lower(), "incomplete")
    for choice in ending.choices or ():
        reason = choice.finish_reason
        kind = reason.type if isinstance(reason, _Reason) else reason
        if kind is not None and (meaning := _MEANINGS.get(kind.lower())):
            return meaning
    return None
