"""What fuzzing of error bodies starts from, and whatever it found once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.error_body import SEEDS, check


@pytest.mark.parametrize("seed", sorted(SEEDS.iterdir()), ids=lambda seed: seed.name)
def test_the_reader_keeps_its_promises_for_a_seed_wherever_it_is_cut(seed: Path) -> None:
    data = seed.read_bytes()
    for end in range(min(len(data), 300) + 1):
        check(data[:end])
    check(data)
