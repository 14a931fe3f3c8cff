"""What requests and answers show of themselves."""

from __future__ import annotations

import copy
import pickle

from batch_gateway import Headers, InferenceRequest, InferenceResponse


def test_a_request_shows_neither_header_values_nor_a_long_body() -> None:
    request = InferenceRequest(
        request_id="r-1",
        params={"model": "m", "prompt": "p" * 10_000},
        headers={"Authorization": "Bearer sk-secret"},
    )
    shown = repr(request)
    assert "sk-secret" not in shown
    assert "'r-1'" in shown
    assert "Authorization" in shown
    assert len(shown) < 500


def test_an_answer_shows_itself_in_one_short_line() -> None:
    body = b'{"id": "%s"}' % (b"x" * 1_000_000)
    shown = repr(InferenceResponse(request_id="r-1", status_code=200, body=body))
    assert shown.startswith("InferenceResponse(request_id='r-1', status_code=200, body=b'{")
    assert len(shown) < 300


def test_requests_and_answers_survive_pickling_and_copying() -> None:
    request = InferenceRequest(params=b'{"model": "m"}', headers={"A": "1"}, deadline=3.0)
    answer = InferenceResponse(
        request_id="r-1", status_code=200, headers=Headers.of({"A": "1"}), body=b"{}", attempts=2
    )
    for one in (request, answer):
        assert pickle.loads(pickle.dumps(one)) == one
        assert copy.deepcopy(one) == one
