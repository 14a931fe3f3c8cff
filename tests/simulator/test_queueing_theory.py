"""The model against what is known about queues, and against published measurements of vLLM."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from batch_gateway.simulator.capacity import Capacity

from .worlds import closed_loop, erlang_c_wait, multi_server_wait, open_loop

TOKEN = 0.01
MEAN_TOKENS = 100  # a mean service time of one second


def fixed(draws: random.Random) -> int:
    return MEAN_TOKENS


def geometric(draws: random.Random) -> int:
    # The discrete sibling of the exponential distribution of M/M/c.
    return math.ceil(math.log1p(-draws.random()) / math.log1p(-1 / MEAN_TOKENS))


def flat(seats: int) -> Capacity:
    """Seats that do not slow each other down: the servers of queueing theory."""
    return Capacity(seats=seats, time_per_token=TOKEN, load_growth=0)


def test_waits_as_erlang_c_says() -> None:
    seats, rate = 8, 0.7 * 8
    runs = [open_loop(flat(seats), rate, geometric, 15_000, seed) for seed in range(6)]
    mean = statistics.fmean(run.mean_wait for run in runs)
    # The standard error of so many arrivals is some 7 %; docs/simulator.md has a longer run.
    assert mean == pytest.approx(erlang_c_wait(rate, 1.0, seats), rel=0.15)


def test_waits_as_pollaczek_and_khinchine_say_for_answers_of_one_length() -> None:
    rate = 0.7
    run = open_loop(flat(1), rate, fixed, arrivals=40_000)
    assert run.mean_wait == pytest.approx(rate / (2 * (1 - rate)), rel=0.10)


@pytest.mark.parametrize(("seats", "load"), [(1, 0.9), (8, 0.9), (32, 0.9)])
def test_waits_as_a_plain_multi_server_queue_with_the_same_arrivals(
    seats: int, load: float
) -> None:
    run = open_loop(flat(seats), load * seats, geometric, arrivals=20_000)
    plain = multi_server_wait(load * seats, geometric, TOKEN, seats, arrivals=20_000)
    # A newcomer joins at the next step, a hundredth of its service: that is the difference.
    assert run.mean_wait == pytest.approx(plain, rel=0.03)


def test_littles_law_holds_for_all_that_is_present() -> None:
    run = open_loop(flat(8), 6.4, geometric, arrivals=20_000)
    assert run.mean_present == pytest.approx(run.arrival_rate * run.mean_stay, rel=0.01)


def test_overload_saturates_at_seats_over_service_time() -> None:
    run = open_loop(flat(8), 2 * 8, fixed, arrivals=5_000)
    assert run.tokens_per_second == pytest.approx(8 / TOKEN, rel=0.01)


def test_throughput_rises_and_then_stays_while_latency_goes_on_rising() -> None:
    capacity = Capacity(seats=64, time_per_token=0.02, load_growth=0.01)
    runs = [closed_loop(capacity, n, 40 * n, 20, 50) for n in (1, 8, 32, 64, 128, 256)]
    rates = [run.tokens_per_second for run in runs]
    assert rates[:4] == sorted(rates[:4])
    assert rates[4] == pytest.approx(rates[3], rel=0.03)
    assert rates[5] == pytest.approx(rates[3], rel=0.03)
    firsts = [run.mean_first_token for run in runs]
    assert firsts == sorted(firsts)
    assert firsts[5] > 2 * firsts[4] > 4 * firsts[3]


# Requests, output tokens/s and median ms between tokens, by requests in flight:
# Qwen2.5-7B-Instruct, vLLM 0.23.0, one RTX A6000, 51 tokens an answer.
# https://ld-singh.github.io/ai-factory-ops-lab/portfolio-lab/06-validation-reports/inference-benchmark-report/
A6000 = {
    1: (12, 42.3, 21.9),
    2: (12, 84.0, 22.0),
    4: (12, 153.1, 22.1),
    8: (12, 240.4, 22.3),
    64: (512, 2127.6, 27.5),
    128: (512, 3138.1, 36.0),
    256: (512, 4039.9, 53.1),
    512: (512, 3896.1, 56.4),
}


@pytest.mark.parametrize("in_flight", A6000)
def test_the_default_is_near_a_published_curve_of_vllm(in_flight: int) -> None:
    requests, tokens_per_second, token_ms = A6000[in_flight]
    capacity = Capacity()
    # The page does not say how long its prompts are; they read like one question each.
    run = closed_loop(capacity, in_flight, requests, prompt=20, output=51)
    assert run.tokens_per_second == pytest.approx(tokens_per_second, rel=0.15)
    step = capacity.step_time(min(in_flight, capacity.seats)) * 1000
    assert step == pytest.approx(token_ms, rel=0.10)


# Output tokens/s by requests in flight: Mistral-7B-Instruct-v0.3, vLLM, one RTX 4090, 300
# requests of 256 prompt tokens, about 100 tokens an answer.
# https://mushfiqrahman.dev/benchmarking-mistral-7b-on-rtx-4090-vllm-concurrency-latency-and-capacity-planning/
RTX_4090 = {4: 210, 8: 377, 16: 644, 32: 975, 48: 1190}


@pytest.mark.parametrize("in_flight", RTX_4090)
def test_two_numbers_fit_it_to_another_published_curve(in_flight: int) -> None:
    capacity = Capacity(seats=256, time_per_token=0.0165, load_growth=0.0145)
    run = closed_loop(capacity, in_flight, 300, prompt=256, output=100)
    assert run.tokens_per_second == pytest.approx(RTX_4090[in_flight], rel=0.05)
