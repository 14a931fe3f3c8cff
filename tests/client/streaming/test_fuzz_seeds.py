"""What fuzzing of streams starts from, and whatever it found once."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_gateway import InferenceError
from batch_gateway.client.streaming.answer_reader import AnswerReader
from fuzz import assembler, event_stream
from tests.linear_cost import assert_linear


@pytest.mark.parametrize("seed", sorted(event_stream.SEEDS.iterdir()), ids=lambda seed: seed.name)
def test_the_reader_keeps_its_promises_for_a_seed_however_it_is_cut(seed: Path) -> None:
    data = seed.read_bytes()
    event_stream.check(data)
    for first in range(0, min(len(data), 255), 3):
        for step in (0, 1, 7):
            event_stream.check(bytes([data[0], first, step]) + data[3:])


ASSEMBLER_SEEDS = sorted(assembler.SEEDS.iterdir())


@pytest.mark.parametrize("seed", ASSEMBLER_SEEDS, ids=lambda seed: seed.name)
def test_the_assembler_keeps_its_promises_for_a_seed_of_any_endpoint(seed: Path) -> None:
    data = seed.read_bytes()
    assembler.check(data)
    for endpoint in range(len(assembler.ENDPOINTS)):
        for step in range(0, 32, 3):
            assembler.check(bytes([endpoint, step]) + data[2:])


@pytest.mark.parametrize("seed", ASSEMBLER_SEEDS, ids=lambda seed: seed.name)
def test_the_assembler_takes_twice_as_long_for_twice_as_many_events(seed: Path) -> None:
    endpoint, _, wire = assembler.stream(seed.read_bytes())
    once = wire.removesuffix(assembler.DONE)

    def read(times: int) -> None:
        reader = AnswerReader(endpoint, 10**9)
        try:
            list(reader.feed(once * times + assembler.DONE))
            reader.finish()
        except InferenceError:
            pass

    assert_linear(read, 10)
