"""What fuzzing of result files starts from, and whatever it found once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.result_scan import SEEDS, check


@pytest.mark.parametrize("seed", sorted(SEEDS.iterdir()), ids=lambda seed: seed.name)
def test_the_scanner_keeps_its_promises_for_a_seed_wherever_it_is_cut(seed: Path) -> None:
    data = seed.read_bytes()
    for end in range(0, len(data), 7):
        check(data[:end])
    check(data)
