"""What fuzzing starts from, and whatever it found once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.response_reader import SEEDS, check


@pytest.mark.parametrize("seed", sorted(SEEDS.iterdir()), ids=lambda seed: seed.name)
def test_the_reader_keeps_its_promises_for_a_seed_however_it_is_cut(seed: Path) -> None:
    data = seed.read_bytes()
    check(data)
    for first in range(min(len(data), 255)):
        for step in (0, 1, 7):
            check(bytes([first, step]) + data[2:])
