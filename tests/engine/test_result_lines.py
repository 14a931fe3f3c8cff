"""Whatever a gateway answers, the line that is written is JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.client.interfaces.interpret_answer import interpret
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.engine.results import failure_outcome, success_outcome
from batch_gateway.errors import InferenceError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.redaction import Redactor
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock

ENDPOINTS = ("/v1/chat/completions", "/v1/embeddings", "/rerank")
BEGINNINGS = (
    *(b"", b"\xef\xbb\xbf", b"\xff\xfe", b" \n", b"\x00"),
    *(b'{"choices":[{"message":{"content":"', b'{"data":[{"embedding":[', b'{"error":{"message":"'),
)
ENDS = (b"", b'"}}]}', b"]}]}", b'"}}', b"}", b"\xef\xbb\xbf", b"\n\n")
MIDDLES = st.binary(max_size=30) | st.sampled_from(
    [
        b"NaN",
        b"1e999",
        b"\\ud800",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"\x85",
        b"9" * 400,
        b"\\u0000",
    ]
)


def line_of(endpoint: str, status: int, body: bytes) -> bytes:
    request = PreparedRequest(request_id="r", model="m", endpoint=endpoint, body=b"{}")
    response = HTTPResponse(status, Headers(), body)
    try:
        answer = interpret(response, request, ManualClock(), Redactor(["a-secret-key"]))
    except InferenceError as error:
        return failure_outcome(0, "batch_req_1", "a", error).line
    return success_outcome(0, "batch_req_1", "a", answer).line


@given(
    st.sampled_from(ENDPOINTS),
    st.sampled_from([200, 201, 400, 500]),
    st.sampled_from(BEGINNINGS),
    st.lists(MIDDLES, max_size=4).map(b"".join),
    st.sampled_from(ENDS),
)
def test_a_line_is_one_line_of_json_whatever_the_body(
    endpoint: str, status: int, beginning: bytes, middle: bytes, end: bytes
) -> None:
    line = line_of(endpoint, status, beginning + middle + end)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    written = json.loads(line.decode())
    assert written["custom_id"] == "a"
    assert (written["response"] is None) == (written["error"] is not None)
