"""How lines ended, in words for people; programs get the stable names."""

from __future__ import annotations

from collections.abc import Mapping

from batch_gateway.errors import ErrorCategory

__all__ = ["CATEGORIES", "WORDS_OF_CUT_OFF", "categories_in_words", "cut_off_in_words"]

CATEGORIES: Mapping[str, str] = {
    ErrorCategory.RATE_LIMIT: "refused for load",
    ErrorCategory.SERVER_ERROR: "failed by the gateway",
    ErrorCategory.INVALID_REQ: "refused as wrong",
    ErrorCategory.AUTH_ERROR: "refused for the key",
    ErrorCategory.UNKNOWN: "refused otherwise",
}
WORDS_OF_CUT_OFF: Mapping[str, str] = {
    "length": "at the token limit",
    "content_filter": "by a content filter",
    "incomplete": "for no reason given",
}


def categories_in_words(counts: Mapping[str, int]) -> str:
    """Failures, the most frequent kind first: "2 refused for load, 1 refused as wrong"."""
    frequent = sorted(counts.items(), key=lambda kind: -kind[1])
    return ", ".join(f"{count:,} {CATEGORIES[kind]}" for kind, count in frequent)


def cut_off_in_words(counts: Mapping[str, int]) -> str:
    """Answers that are not whole: "3 answers at the token limit, 1 by a content filter"."""
    frequent = sorted(counts.items(), key=lambda kind: -kind[1])
    first, *others = [f"{count:,} {{}}{WORDS_OF_CUT_OFF[kind]}" for kind, count in frequent]
    named = first.format("answer " if frequent[0][1] == 1 else "answers ")
    return ", ".join([named, *(other.format("") for other in others)])
