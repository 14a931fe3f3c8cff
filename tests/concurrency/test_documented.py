"""The law in docs/concurrency.md is the one in the code, row by row."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from batch_gateway.concurrency import ceiling, pace, rank_step
from batch_gateway.concurrency.finder import Finder, Shown, State
from batch_gateway.concurrency.guard import Guard
from benchmarks.environment import REPOSITORY

PAGE = (REPOSITORY / "docs" / "concurrency.md").read_text("utf-8").splitlines()


def rows_of_the_finder() -> Iterator[str]:
    for shown in Shown:
        moves = {
            state: Finder.MOVES[state, shown] for state in State if (state, shown) in Finder.MOVES
        }
        if len(moves) > 1 and len(set(moves.values())) == 1:
            yield row("any", shown, moves[State.CLIMB])
        else:
            yield from (row(state.name, shown, move) for state, move in moves.items())


def row(state: str, shown: Shown, move: object) -> str:
    follows = (inspect.getdoc(move) or "").partition("\n\n")[0].replace("\n", " ")
    return f"| {state} | {shown.value} | {follows.removesuffix('.')} |"


def test_what_follows_from_each_round_is_in_the_docs_as_it_is_in_the_code() -> None:
    rows = list(rows_of_the_finder())
    assert [line for line in PAGE if line in rows] == rows, "\n".join(rows)


@pytest.mark.parametrize("documented", [Guard, ceiling, pace, rank_step])
def test_the_other_tables_are_the_same_too(documented: object) -> None:
    rows = [
        line for line in (inspect.getdoc(documented) or "").splitlines() if line.startswith("|")
    ]
    assert len(rows) > 4
    assert [line for line in PAGE if line in set(rows[2:])] == rows[2:], "\n".join(rows)
