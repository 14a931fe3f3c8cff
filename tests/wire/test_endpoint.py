"""Which endpoint parameters mean."""

from __future__ import annotations

from typing import Any

import pytest

from batch_gateway import ErrorCategory, InvalidRequestError, determine_endpoint
from batch_gateway.wire.endpoint import check_endpoint

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"


@pytest.mark.parametrize(
    ("params", "endpoint"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, CHAT),
        ({"messages": [], "tools": []}, CHAT),
        ({"prompt": "hi"}, "/v1/completions"),
        ({"prompt": ["a", "b"]}, "/v1/completions"),
        ({"input": "hi", "encoding_format": "float"}, EMBEDDINGS),
        ({"input": "hi", "dimensions": 8}, EMBEDDINGS),
        ({"input": ["a", "b"]}, EMBEDDINGS),
        ({"input": [1, 2, 3]}, EMBEDDINGS),
        ({"input": [[1, 2], [3]]}, EMBEDDINGS),
        ({"input": "hi", "instructions": "be brief"}, RESPONSES),
        ({"input": "hi", "max_output_tokens": 5}, RESPONSES),
        ({"input": [{"role": "user", "content": "hi"}]}, RESPONSES),
        ({"prompt": {"id": "pmpt_1"}}, RESPONSES),
        ({"prompt": {"id": "pmpt_1"}, "input": "hi"}, RESPONSES),
    ],
)
def test_parameters_tell_the_endpoint(params: dict[str, Any], endpoint: str) -> None:
    assert determine_endpoint(params) == endpoint


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "params need 'messages'"),
        ({"model": "m", "max_tokens": 3}, "params need 'messages'"),
        ({"messages": None}, "params need 'messages'"),
        ({"input": "hi"}, "'input' alone fits /v1/embeddings and /v1/responses"),
        ({"input": []}, "'input' alone fits"),
        ({"input": "hi", "dimensions": 8, "tools": []}, "'dimensions' is for /v1/embeddings"),
        ({"messages": [], "prompt": "x"}, "'messages' and 'prompt' contradict"),
        ({"messages": [], "input": "x"}, "'messages' and 'input' contradict"),
    ],
)
def test_an_ambiguous_or_empty_request_says_what_was_missing(
    params: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        determine_endpoint(params)
    assert says in caught.value.message
    assert caught.value.category is ErrorCategory.INVALID_REQ
    assert not caught.value.is_retryable


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/custom/path-1.0", "/v1/x:y"])
def test_a_path_below_the_gateway_is_an_endpoint(path: str) -> None:
    assert check_endpoint(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "v1/chat/completions",
        "http://evil/v1",
        "//evil/v1",
        "/v1/../admin",
        "/v1/./x",
        "/v1/..",
        "/",
        "/v1/",
        "/v1?x=1",
        "/v1#x",
        "/v1/a b",
        "/v1\r\nX: y",
        "/v1\n",
        "",
    ],
)
def test_anything_that_could_leave_the_gateway_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not a relative path"):
        check_endpoint(path)
