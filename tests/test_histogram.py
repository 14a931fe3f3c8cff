"""Values in buckets: near quantiles, exact sums, and adding that loses nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.histogram import DURATIONS, Histogram
from batch_gateway.metrics.series import SIZE_BUCKETS

# Sums of such are exact, so that any order gives the same.
VALUES = st.integers(0, 10_000_000).map(lambda number: number / 64)


def counted(values: list[float], bounds: tuple[float, ...] = tuple(DURATIONS)) -> Histogram:
    histogram = Histogram(bounds)
    for value in values:
        histogram.add(value)
    return histogram


@given(st.lists(st.floats(0.001, 100_000), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_a_tenth_of_the_true_one(values: list[float], share: float) -> None:
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    found = counted(values).quantile(share)
    assert found is not None
    assert true / 1.1 <= found <= true * 1.1
    assert min(values) <= found <= max(values)


@given(st.lists(st.floats(0, 1e9)), st.floats(0, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one_whatever_the_bounds(
    values: list[float], share: float
) -> None:
    found = counted(values, SIZE_BUCKETS).quantile(share)
    if not values:
        assert found is None
        return
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    edges = [-math.inf, *SIZE_BUCKETS, math.inf]
    assert found is not None
    assert any(low <= found <= high and low < true <= high for low, high in pairwise(edges))


@given(st.lists(VALUES), st.lists(VALUES), st.lists(VALUES))
def test_histograms_add_up_in_any_order_to_what_all_values_in_one_are(
    first: list[float], second: list[float], third: list[float]
) -> None:
    one, two, three = map(counted, (first, second, third))
    assert one + two == two + one == counted(first + second)
    assert (one + two) + three == one + (two + three)
    assert one + counted([]) == one
    many, more = counted(first), counted(first)
    many.add_all(second)
    more += two
    assert many == more == one + two


@given(st.lists(VALUES), st.integers(1, 10))
def test_every_value_is_in_a_bucket_that_spans_it(values: list[float], step: int) -> None:
    histogram = counted(values)
    buckets = histogram.buckets(step)
    assert histogram.count == sum(count for *_, count in buckets) == len(values)
    assert histogram.sum == sum(values)
    assert [low for low, *_ in buckets[1:]] == pytest.approx([high for _, high, _ in buckets[:-1]])
    for low, high, count in buckets[1:-1]:
        assert count == sum(low < value <= high for value in values)


def test_adding_leaves_the_parts_alone() -> None:
    part = counted([1.0])
    both = part + counted([2.0])
    part.add(3.0)
    assert (both.count, both.highest) == (2, 2.0)


def test_a_histogram_can_be_sent_to_another_process() -> None:
    histogram = counted([0.5, 700.0])
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(histogram), type=Histogram)
    assert sent.counts == histogram.counts
    assert (sent + histogram).quantile(0.1) == pytest.approx(0.5)
