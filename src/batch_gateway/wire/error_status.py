"""The HTTP status that an error names, as a number or in the words of its code and type."""

from __future__ import annotations

from collections.abc import Iterable

from batch_gateway.wire.http2.grpc_status import HTTP_STATUS_OF_GRPC, StatusCode
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["is_final_word", "status_of_number", "status_of_words"]

_LONGEST_WORD = 200
_NO_LETTER = rare_pattern("[^a-z]+")

_STATUS_OF_GRPC_NAME = {
    StatusCode(code).name.replace("_", "").lower(): status
    for code, status in HTTP_STATUS_OF_GRPC.items()
}

# The request itself was refused for what it is, so that it will be refused again, whenever in an
# answer this is said.
_FINAL: tuple[tuple[int, tuple[str, ...]], ...] = (
    (400, ("contentfilter", "contentpolicy", "policyviolation", "invalidprompt", "datainspection")),
    (404, ("modelnotfound", "notfounderror")),
    (413, ("requesttoolarge", "payloadtoolarge", "entitytoolarge")),
)

# What codes and types say in words: those of OpenAI, Azure, Anthropic, Bedrock and S3, vLLM,
# llama.cpp, Mistral, DeepSeek. In this order, because some words hold others.
_STATUS_OF_WORDS: tuple[tuple[int, tuple[str, ...]], ...] = (
    *_FINAL,
    (
        429,
        (
            *("ratelimit", "toomanyrequests", "quota", "resourceexhausted", "throttl", "slowdown"),
            *("capacityexceeded", "exceededcapacity", "saturated"),
        ),
    ),
    (402, ("insufficientbalance", "insufficientcredit", "insufficientfunds", "paymentrequired")),
    (503, ("overloaded", "unavailable", "notready", "modelloading")),
    (504, ("timeout", "timedout", "deadlineexceeded")),
    (
        401,
        (
            *("authentication", "apikey", "unauthorized", "unauthenticated", "authfailure"),
            *("invalidtoken", "expiredtoken", "invalidcredential", "accesskeyid"),
            "signaturedoesnotmatch",
        ),
    ),
    (403, ("permission", "forbidden", "accessdenied", "notauthorized", "unsupportedcountry")),
    (404, ("notfound", "nosuch", "doesnotexist", "unknownmodel", "unimplemented")),
    (
        400,
        (
            *("invalidrequest", "badrequest", "contextlength", "contextsize", "contextwindow"),
            *("invalidargument", "invalidparameter", "invalidtype", "invalidvalue", "invalidinput"),
            *("validation", "unsupported", "missingrequired", "failedprecondition"),
        ),
    ),
    (409, ("conflict",)),
    (500, ("servererror", "internalerror", "internalserver", "internalfailure", "apierror")),
)


def status_of_number(value: object) -> int | None:
    """400 to 599 from a number or its digits; None for all else, such as a vendor's own codes."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    digits = str(value).strip() if isinstance(value, int) or len(value) < 10 else ""
    if digits.isascii() and digits.isdigit() and 400 <= int(digits) <= 599:
        return int(digits)
    return None


def status_of_words(words: Iterable[str]) -> int | None:
    """The status that the first of `words` with a known meaning stands for."""
    for word in map(_letters, words):
        found = _STATUS_OF_GRPC_NAME.get(word) or _looked_up(_STATUS_OF_WORDS, word)
        if found is not None:
            return found
    return None


def is_final_word(word: str) -> bool:
    """Whether a code or type says that the request will be refused again whenever it is sent."""
    return _looked_up(_FINAL, _letters(word)) is not None


def _letters(word: str) -> str:
    return _NO_LETTER.sub("", word[:_LONGEST_WORD].lower())


def _looked_up(table: tuple[tuple[int, tuple[str, ...]], ...], word: str) -> int | None:
    for status, signs in table:
        if any(sign in word for sign in signs):
            return status
    return None
