"""Constants that are found by themselves and changed for the time of a run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.worlds.constants import Found, constants_of, half_and_twice, patched
from benchmarks.worlds.suite import _variants  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ModuleType]:
    (tmp_path / "defines_some.py").write_text(
        "import math\n"
        "WORTH = 0.15\n"
        '"""What a raise\nis worth."""\n'
        "_FEWEST, _MOST = 4, 64  # answers\n"
        "# Seconds, which nobody\n"
        "# minds.\n"
        "_LIMIT: float = 2.5\n"
        "NOTHING, ON, WORDS = 0, True, ('a', 1)\n"
        "lower = 3\n"
        "def doubled(): return 2 * WORTH\n"
    )
    (tmp_path / "uses_one.py").write_text(
        "from defines_some import WORTH, doubled\ndef own(): return WORTH\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = [importlib.import_module(name) for name in ("defines_some", "uses_one")]
    for module in made:
        monkeypatch.delitem(sys.modules, module.__name__)
    return made


def test_numbers_with_names_in_capitals_are_found_where_they_are_defined(
    modules: list[ModuleType],
) -> None:
    found = {constant.place: constant.value for constant in constants_of(modules)}
    assert found == {
        "defines_some.WORTH": 0.15,
        "defines_some._FEWEST": 4,
        "defines_some._MOST": 64,
        "defines_some._LIMIT": 2.5,
    }


def test_the_reason_of_a_constant_is_what_the_code_says_beside_it(
    modules: list[ModuleType],
) -> None:
    found = {constant.name: constant.reason for constant in constants_of(modules)}
    assert found == {
        "WORTH": "What a raise is worth.",
        "_FEWEST": "answers",
        "_MOST": "answers",
        "_LIMIT": "Seconds, which nobody minds.",
    }


def test_a_constant_is_changed_wherever_it_is_used_and_changed_back(
    modules: list[ModuleType],
) -> None:
    defines, uses = modules
    worth = next(constant for constant in constants_of(modules) if constant.name == "WORTH")
    with patched(worth, 0.3):
        assert defines.doubled() == 0.6
        assert uses.own() == 0.3
        # What is measured meanwhile is kept under another name.
        assert _variants == ["defines_some.WORTH=0.3"]
    assert uses.own() == 0.15
    assert defines.doubled() == 0.3
    assert _variants == []


@pytest.mark.parametrize(
    ("value", "half", "twice"),
    [(4, 2, 8), (1, 1, 2), (0.15, 0.075, 0.3), (0.9, 0.95, 0.8), (60.0, 30.0, 120.0)],
)
def test_a_share_near_one_is_changed_in_its_distance_to_it(
    value: float, half: float, twice: float
) -> None:
    assert half_and_twice(value) == pytest.approx((half, twice))


def test_a_world_that_falls_off_a_cliff_is_named() -> None:
    usual = Found({"queues": 0.95, "wobble": 0.9, "shared": 0.8}, {"shared": 1.2})
    found = Found({"queues": 0.94, "wobble": 0.5, "shared": 0.8}, {"shared": 2.0})
    assert found.fallen(usual) == ["wobble 0.90 to 0.50", "p99 of shared 1.20 to 2.00"]
    assert usual.fallen(found) == []
