"""What fuzzing of streams starts from, and whatever it found once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.event_stream import SEEDS, check


@pytest.mark.parametrize("seed", sorted(SEEDS.iterdir()), ids=lambda seed: seed.name)
def test_the_reader_keeps_its_promises_for_a_seed_however_it_is_cut(seed: Path) -> None:
    data = seed.read_bytes()
    check(data)
    for first in range(0, min(len(data), 255), 3):
        for step in (0, 1, 7):
            check(bytes([data[0], first, step]) + data[3:])
