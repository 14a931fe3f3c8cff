"""What fuzzing of the judge of answers starts from, and what it found."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import answer_judge


@pytest.mark.parametrize("seed", sorted(answer_judge.SEEDS.iterdir()), ids=lambda path: path.name)
def test_the_judge_keeps_its_promises_for_a_seed(seed: Path) -> None:
    answer_judge.check(seed.read_bytes())
