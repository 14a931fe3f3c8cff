"""What is read from pages of metrics: those of model servers, of endpoint pickers, and rubbish."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from batch_gateway.client.layers.concurrency.load_page import combined, read_page
from batch_gateway.concurrency.server_load import Load

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a"} 37.0
vllm:num_requests_running{engine="1",model_name="a} \\" 9"} 5.0 1731000000000
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a"} 12.0
vllm:num_requests_waiting{engine="1",model_name="a"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.9
vllm:kv_cache_usage_perc{engine="1",model_name="a"} 0.1
vllm:gpu_cache_usage_perc{engine="0",model_name="a"} 0.9
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 3
"""
SGLANG = b"""\
sglang:token_usage{model_name="b"} 0.28
sglang:num_running_reqs{model_name="b"} 8
sglang:num_queue_reqs{model_name="b"} 4
"""
LLAMA_CPP = b"""\
llamacpp:requests_processing 8
llamacpp:requests_deferred 46
"""
PICKER = b"""\
llm_d_epp_average_running_requests{name="pool"} 20
llm_d_epp_average_queue_size{name="pool"} 1.5
llm_d_epp_average_kv_cache_utilization{name="pool"} 0.7
llm_d_epp_ready_endpoints{name="pool"} 4
inference_pool_average_queue_size{name="pool"} 1.5
inference_pool_ready_pods{name="pool"} 4
llm_d_epp_flow_control_queue_size{fairness_id="a",priority="0"} 3
llm_d_epp_flow_control_queue_size{fairness_id="b",priority="-1"} 2
llm_d_epp_flow_control_pool_saturation{inference_pool="pool",stage="prefill"} 0.4
llm_d_epp_flow_control_pool_saturation{inference_pool="pool",stage="decode"} 1.1
"""
OLD_PICKER = b"""\
inference_pool_average_kv_cache_utilization{name="pool"} 0.7
inference_pool_average_queue_size{name="pool"} 1.5
inference_pool_ready_pods{name="pool"} 2
inference_extension_flow_control_pool_saturation{inference_pool="pool"} 0.3
"""


def load_of(*bodies: bytes) -> Load | None:
    return combined(map(read_page, bodies))


def test_engines_of_vllm_are_added_up_and_their_cache_is_averaged() -> None:
    assert load_of(VLLM) == Load(running=42, waiting=12, kv_usage=0.5, servers=2)


def test_the_cache_has_an_older_name_in_vllm() -> None:
    old = b"\n".join(line for line in VLLM.splitlines() if b"kv_cache" not in line)
    load = load_of(old)
    assert load is not None
    assert load.kv_usage == 0.9


def test_sglang_is_understood_beside_vllm() -> None:
    assert load_of(SGLANG) == Load(running=8, waiting=4, kv_usage=0.28, servers=1)
    both = load_of(VLLM, SGLANG)
    assert both is not None
    assert (both.running, both.waiting, both.servers) == (50, 16, 3)


def test_llama_cpp_is_understood_without_a_cache() -> None:
    assert load_of(LLAMA_CPP) == Load(running=8, waiting=46, servers=1)


def test_averages_of_a_picker_count_for_every_endpoint_and_its_own_queue_counts_too() -> None:
    assert load_of(PICKER) == Load(
        running=80, waiting=6 + 5, kv_usage=0.7, saturation=1.1, servers=4
    )


def test_a_picker_of_the_inference_extension_has_older_names() -> None:
    assert load_of(OLD_PICKER) == Load(
        running=None, waiting=3, kv_usage=0.7, saturation=0.3, servers=2
    )


def test_servers_that_speak_for_themselves_are_not_counted_again_by_their_picker() -> None:
    load = load_of(VLLM, PICKER)
    assert load == Load(running=42, waiting=12 + 5, kv_usage=0.5, saturation=1.1, servers=2)


def test_collectors_that_cannot_write_a_colon_are_understood() -> None:
    assert load_of(VLLM.replace(b"vllm:", b"vllm_")) == load_of(VLLM)


@pytest.mark.parametrize(
    "body", [b"", b"<html>vllm:num_requests_waiting</html>", b"vllm:num_requests_waiting NaN\n"]
)
def test_a_page_without_a_known_metric_says_nothing(body: bytes) -> None:
    assert load_of(body) is None


def test_a_page_that_says_nothing_leaves_the_others_as_they_are() -> None:
    assert load_of(b"go_goroutines 9\n", VLLM) == load_of(VLLM)


@given(st.binary(max_size=400))
def test_no_page_does_any_harm(body: bytes) -> None:
    load = load_of(VLLM[:300] + body)
    assert load is not None
    assert all(value is None or math.isfinite(value) for value in load)


@given(
    st.dictionaries(
        st.text(max_size=12), st.floats(0, 1e9, allow_nan=False), min_size=1, max_size=5
    )
)
def test_whatever_the_labels_are_the_values_are_those_that_were_exposed(
    values: dict[str, float],
) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("vllm:num_requests_running", "x\ny", ["model"], registry=registry)
    for label, value in values.items():
        gauge.labels(label).set(value)
    load = load_of(generate_latest(registry))
    assert load is not None
    assert load.running == pytest.approx(sum(values.values()))
    assert load.servers == len(values)
