"""Mechanisms of the controller that are taken out for the time of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.worlds.ablation import WITHOUT, Without, taken_out
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import policy_named
from benchmarks.worlds.simulation import simulate

_MOMENT = replace(WORLDS["chance 5%, refuses"], duration=4.0)


def _figures() -> object:
    return simulate(_MOMENT, policy_named("adaptive, streamed")).figures()


@pytest.mark.parametrize("without", WITHOUT, ids=lambda one: f"{one.part}: {one.what}")
def test_each_mechanism_is_there_to_be_taken_out_and_is_back_afterwards(without: Without) -> None:
    usual = _figures()
    with taken_out(without):
        _figures()
    assert _figures() == usual
    assert all(name in WORLDS for name, _ in without.cells)


def test_no_two_are_called_the_same() -> None:
    assert len({(one.part, one.what) for one in WITHOUT}) == len(WITHOUT)
