"""What is checked before anything is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from batch_gateway import InferenceRequest, InvalidRequestError
from batch_gateway.client.prepare import prepare
from tests.client.manual_clock import ManualClock

MESSAGES = [{"role": "user", "content": "hi"}]


def test_a_mapping_becomes_json_with_its_endpoint_and_model() -> None:
    prepared = prepare(InferenceRequest(params={"model": "m", "messages": MESSAGES}), ManualClock())
    assert prepared.endpoint == "/v1/chat/completions"
    assert prepared.model == "m"
    assert json.loads(prepared.body) == {"model": "m", "messages": MESSAGES}


def test_params_may_be_any_mapping() -> None:
    params = MappingProxyType({"model": "m", "messages": MESSAGES})
    prepared = prepare(InferenceRequest(params=params), ManualClock())
    assert json.loads(prepared.body) == params


def test_bytes_are_sent_untouched() -> None:
    body = b'{ "model" : "m",\n "prompt":"hi", "big": 12345678901234567890.10 }'
    prepared = prepare(InferenceRequest(params=body), ManualClock())
    assert prepared.body is body
    assert (prepared.model, prepared.endpoint) == ("m", "/v1/completions")


def test_the_model_of_the_request_is_put_into_params_that_lack_one() -> None:
    prepared = prepare(InferenceRequest(model="m", params={"prompt": "hi"}), ManualClock())
    assert json.loads(prepared.body)["model"] == "m"


def test_a_request_without_an_id_gets_one_and_no_two_are_alike() -> None:
    request = InferenceRequest(params={"model": "m", "prompt": "hi"})
    ids = {prepare(request, ManualClock()).request_id for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (None, "must be an InferenceRequest, or a mapping that is its parameters"),
        ("Hello!", "must be an InferenceRequest, or a mapping that is its parameters"),
        ({"prompt": "x"}, "model is missing"),
        ({"model": "m"}, "cannot tell the endpoint"),
        ({"params": {}}, "must be an InferenceRequest"),
        (InferenceRequest(params=None), "params must be a mapping or JSON bytes"),  # type: ignore[arg-type]
        (InferenceRequest(params={}), "cannot tell the endpoint"),
        (InferenceRequest(params={"prompt": "x"}), "model is missing"),
        (InferenceRequest(params={"model": "", "prompt": "x"}), "model is missing"),
        (InferenceRequest(params={"model": 7, "prompt": "x"}), "params['model'] must be a string"),
        (InferenceRequest(model="a", params={"model": "b", "prompt": "x"}), "make them agree"),
        (InferenceRequest(params={"model": "m", "prompt": object()}), "cannot be sent as JSON"),
        (InferenceRequest(params=b"{not json"), "params are not JSON"),
        (InferenceRequest(params=b"[]"), "params: Expected `object`"),
        (InferenceRequest(params=b'{"model":1,"prompt":"x"}'), "params: Expected `str | null`"),
        (InferenceRequest(params=b'{"prompt":"x"}'), "model is missing"),
        (
            InferenceRequest(params={"model": "m"}, endpoint="http://elsewhere/v1"),
            "is not a relative path",
        ),
        (
            InferenceRequest(params={"model": "m", "prompt": "x"}, request_id="a\r\nX: y"),
            "must be 1 to 512 visible ASCII characters",
        ),
        (
            InferenceRequest(params={"model": "m", "prompt": "x"}, headers={"Host": "evil"}),
            "headers['Host']: is set by the transport",
        ),
        (
            InferenceRequest(
                params={"model": "m", "prompt": "x"},
                deadline=datetime(2027, 1, 1),
            ),
            "deadline needs a time zone",
        ),
        (
            InferenceRequest(params={"model": "m", "prompt": "x"}, deadline="5m"),  # type: ignore[arg-type]
            "deadline must be a datetime",
        ),
    ],
)
def test_a_wrong_request_says_what_is_wrong(request_: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        prepare(request_, ManualClock())
    assert says in caught.value.message
    assert caught.value.attempts == 0


@dataclass
class Sampling:
    temperature: float


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"temperature": float("nan")}, "params['temperature'] is nan"),
        ({"temperature": float("-inf")}, "params['temperature'] is -inf"),
        ({"logit_bias": {"50256": float("inf")}}, "params['logit_bias']['50256'] is inf"),
        ({"stop": [{"x": (1, 2.5, float("nan"))}]}, "params['stop'][0]['x'][2] is nan"),
        ({"sampling": Sampling(float("nan"))}, "params['sampling']['temperature'] is nan"),
        ({"stop": None, "top_p": float("nan")}, "params['top_p'] is nan"),
    ],
)
@pytest.mark.parametrize("model", ["", "m"])
def test_a_number_that_json_does_not_have_is_refused_by_its_place(
    params: dict[str, Any], says: str, model: str
) -> None:
    named = params if model else {"model": "m", **params}
    with pytest.raises(InvalidRequestError) as caught:
        prepare(InferenceRequest(params={"prompt": "x", **named}, model=model), ManualClock())
    assert f"{says}, which is no number in JSON" in str(caught.value)


def test_null_is_sent_as_null() -> None:
    params = {"model": "m", "prompt": "say null", "stop": None, "bias": {"1": [None, 0.5]}}
    prepared = prepare(InferenceRequest(params=params), ManualClock())
    assert json.loads(prepared.body) == params


def test_the_error_names_the_request() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        prepare(InferenceRequest(request_id="req-7", params={}), ManualClock())
    assert caught.value.request_id == "req-7"


def test_a_deadline_is_an_instant_however_it_is_given() -> None:
    clock = ManualClock(start=50, wall_time=1_793_577_600.0)

    def deadline(value: Any) -> float:
        params = {"model": "m", "prompt": "x"}
        return prepare(InferenceRequest(params=params, deadline=value), clock).deadline

    assert deadline(None) == float("inf")
    assert deadline(30) == 80
    assert deadline(timedelta(minutes=1)) == 110
    assert deadline(datetime.fromtimestamp(1_793_577_610, UTC)) == pytest.approx(60)
