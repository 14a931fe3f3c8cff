"""What each part of the controller brings: `python -m benchmarks.worlds.ablation`.

One mechanism after another is taken out, and the worlds that its part has to do with are run
without it. Shown is what the worst of them loses, in the worst of the seeds: in goodput, of the
quota, or of the leftover, and how much longer anybody waits. What brings nothing has no place in
the controller, unless a test shows what it is for. `--part finder --seeds 1 2 3` looks closer.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from batch_gateway.concurrency import (
    ceiling,
    controller,
    door,
    finder,
    guard,
    pace,
    rank_step,
    rounds,
    server_load,
    waiting_seats,
)
from batch_gateway.concurrency.failures import Failures
from batch_gateway.concurrency.finder import Finder, Shown, State
from batch_gateway.concurrency.waiting_seats import Waits
from benchmarks.tables import write_json
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.suite import variant
from benchmarks.worlds.table import Cell, cell

__all__ = ["WITHOUT", "Without", "taken_out"]

Cells = tuple[tuple[str, str], ...]
"""Of worlds and contenders."""

_PLAIN, _STREAMED, _METRICS = "adaptive", "adaptive, streamed", "adaptive, with metrics"


def _cells(contender: str, *names: str) -> Cells:
    return tuple((name, contender) for name in names)


_FINDING = _cells(
    _PLAIN,
    *("queues, 64 seats", "lengths, few distinct", "lengths, all equal", "stalls, slow"),
    *("wobble 1..4, 256 seats", "busy client, slow server", "pool, one dies"),
)
_REFUSED = _cells(
    _PLAIN,
    *("refuses", "wobble 1..4, refuses", "chance 5%, refuses", "quota", "quota, slow"),
    *("full replica, at random", "two clients, refuses", "quota of each minute, small"),
)
_SHUT = (*_REFUSED, ("scale-from-zero", _PLAIN))
_GUARDED = _cells(
    _STREAMED, "shared, 64 seats", "wobble 1..4, 256 seats", "pool of 2", "busy client, slow server"
)
_LOOKED_AT = _cells(_METRICS, "shared, 64 seats", "queues, 64 seats", "pool, one dies")
_FAILING = _cells(_PLAIN, "outage", "flaky", "pool, one dies")


# -- taking out ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Without:
    """A mechanism that can be taken out: `change` leaves the controller without it."""

    part: str
    what: str
    cells: Cells
    change: Callable[[ExitStack], None]


def _set(*changes: tuple[Any, str, Any]) -> Callable[[ExitStack], None]:
    """(owner, attribute, value) each."""

    def change(stack: ExitStack) -> None:
        for owner, name, value in changes:
            stack.enter_context(patch.object(owner, name, value))

    return change


def _moves(shown: Shown, move: str, *states: State) -> Callable[[ExitStack], None]:
    """What shows this leads to that step in these states, or both, as far as it leads anywhere."""

    def change(stack: ExitStack) -> None:
        changed = {
            (state, shown): getattr(Finder, move)
            for state in states or State
            if (state, shown) in Finder.MOVES
        }
        stack.enter_context(patch.dict(Finder.MOVES, changed))

    return change


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _always(value: Any) -> Callable[..., Any]:
    def answer(*_: Any, **__: Any) -> Any:
        return value

    return answer


@contextmanager
def taken_out(without: Without) -> Iterator[None]:
    with ExitStack() as stack:
        without.change(stack)
        stack.enter_context(variant(f"without {without.part}: {without.what}"))
        yield


def _unweighed(round_: Any, latency: float, tokens: int, in_flight: float) -> None:
    round_.typical = 0.0
    _ADD(round_, latency, tokens, in_flight)


def _has_enough(round_: Any, limit: int, now: float) -> bool:
    return _IS_OVER(round_, min(limit, round_.count), now)


_ADD, _IS_OVER = rounds.Round.add, rounds.Round.is_over


def _by_one(step: Any, rank: int, now: float) -> None:
    _RAISE_CEILING(step, rank, now)
    step.stride = 1


_RAISE_CEILING = rank_step.RankStep._raise  # pyright: ignore[reportPrivateUsage]


def _never_queues(found: door.Door, rate: float) -> None:
    _LEARN(found, rate)
    found.queues = False


_LEARN = door.Door.learn


# -- the mechanisms ------------------------------------------------------------------------

_F, _W = "finder", "waits"
WITHOUT: tuple[Without, ...] = (
    Without(
        _F, "elasticity: a hold stays where it is", _FINDING, _moves(Shown.UNSURE, "_look_again")
    ),
    Without(_F, "down from a hold", _FINDING, _moves(Shown.PAYS_NOT, "_follow", State.HOLD)),
    Without(_F, "up from a hold", _FINDING, _moves(Shown.PAYS, "_follow", State.HOLD)),
    Without(_F, "what nothing of ours explains", _FINDING, _set((finder, "_SHIFT", 1e9))),
    Without(_F, "strides by elasticity", _FINDING, _set((finder, "_SHORTEST", finder._DOUBLE))),
    Without(_F, "noise that was learnt", _FINDING, _set((finder, "_MEMORY", math.inf))),
    Without(_F, "forgetting evidence", _FINDING, _set((finder, "_FORGET", 1.0))),
    Without(_F, "at most so far above what is used", _FINDING, _set((finder, "_AHEAD", 1e9))),
    Without(_F, "likely where nobody waits", _FINDING, _set((finder, "_NEXT_TO_NOBODY", -9.0))),
    Without(_F, "a sway by the root", _FINDING, _set((finder, "_sway", _always(0.08)))),
    Without(_W, "all of it", _FINDING, _set((Waits, "learn", _nothing))),
    Without(_W, "the queue of one raise", _FINDING, _set((waiting_seats, "_AT_ONCE", 9.0))),
    Without(_W, "waits that last", _FINDING, _set((waiting_seats, "_LASTS", 9.0))),
    Without(_W, "the least that rises", _FINDING, _set((waiting_seats, "_RISE", 0.0))),
    Without(
        _W,
        "more the fewer",
        _FINDING,
        _set((waiting_seats, "_MAY_WAIT", 1e9), (waiting_seats, "_MOST_MAY", 0.08)),
    ),
    Without("rounds", "weights of long answers", _FINDING, _set((rounds.Round, "add", _unweighed))),
    Without("rounds", "one length", _FINDING, _set((rounds.TypicalLength, "learn", _nothing))),
    Without("rounds", "settling", _FINDING, _set((rounds, "_SETTLE", 0.0))),
    Without("rounds", "a whole turn", _FINDING, _set((rounds.Round, "is_over", _has_enough))),
    Without("rounds", "fewer answers in a climb", _FINDING, _set((rounds, "_SHARE_IN_CLIMB", 2))),
    Without("rounds", "no round of little use", _FINDING, _set((controller, "_USED", 0.0))),
    Without("failures", "all of it", _FAILING, _set((Failures, "failed", _always(False)))),
    Without("ceiling", "a number that is refused from", _REFUSED, _set((rank_step, "SURE", 1e9))),
    Without(
        "ceiling", "tries by two, three", _REFUSED, _set((rank_step.RankStep, "_raise", _by_one))
    ),
    Without("ceiling", "tries apart", _REFUSED, _set((ceiling, "_APART", 0.0))),
    Without("ceiling", "a tenth for others", _REFUSED, _set((rank_step, "_YIELD", 1.0))),
    Without("ceiling", "longer between tries", _REFUSED, _set((rank_step, "_RAREST", 100.0))),
    Without("ceiling", "forgotten when nobody meets it", _REFUSED, _set((ceiling, "_CALM", 10**9))),
    Without("ceiling", "held at once", _SHUT, _set((ceiling.Ceiling, "_hold", _nothing))),
    Without("ceiling", "longer and longer pauses", _SHUT, _set((ceiling, "_LONGEST", 0.0))),
    Without("ceiling", "reopening", _SHUT, _set((ceiling, "_REOPENING", 0))),
    Without("pace", "all of it", _REFUSED, _set((pace.Pace, "_consider", _nothing))),
    Without("pace", "windows of a quota", _REFUSED, _set((pace.Pace, "reopened", _nothing))),
    Without(
        "pace",
        "a window that is used up",
        _REFUSED,
        _set((pace.Pace, "is_used_up", _always(False))),
    ),
    Without("pace", "cuts", _REFUSED, _set((pace.Pace, "_cut", _nothing))),
    Without("pace", "explained by a ceiling", _REFUSED, _set((pace.Pace, "explained", _nothing))),
    Without("pace", "patience", _REFUSED, _set((pace, "_PATIENCE", 1))),
    Without("pace", "late timers", _REFUSED, _set((pace, "_LATE", 0.0))),
    Without("door", "all of it", _GUARDED, _set((door.Door, "allowed_now", _always(10**9)))),
    Without("door", "full: fewer wait", _GUARDED, _set((door, "_TWICE", 10**9))),
    Without(
        "door",
        "behind: answers that end meanwhile",
        _GUARDED,
        _set((door, "_BEHIND", 0.0), (door, "_CHANCE", 0.0)),
    ),
    Without("door", "as many first tokens as ends", _GUARDED, _set((door, "_AS_MANY", 1e9))),
    Without("door", "twice in a row", _GUARDED, _set((door, "_TWICE", 1))),
    Without("door", "usual after 6 s", _GUARDED, _set((door, "_LONG", 1e9))),
    Without("door", "slowly up while it waits", _GUARDED, _set((door, "_FORGET", 25.0))),
    Without("door", "here is the knee", _GUARDED, _set((door.Door, "learn", _never_queues))),
    Without("guard", "all of it", _GUARDED, _set((guard.Guard, "_keep", _nothing))),
    Without("guard", "half stays ours", _GUARDED, _set((guard, "_CLAIM", 0.0))),
    Without("guard", "less the first time", _GUARDED, _set((guard, "_FIRST", 600.0))),
    Without("guard", "six in a hundred more", _GUARDED, _set((guard, "_SHARE", 1.0))),
    Without(
        "metrics",
        "all of it",
        _LOOKED_AT,
        _set((controller.AdaptiveController, "advise", _nothing)),
    ),
    Without(
        "metrics",
        "room for others",
        _LOOKED_AT,
        _set((server_load.ServerLoad, "_beside_others", _always(math.inf))),
    ),
    Without(
        "metrics",
        "waits that are short",
        _LOOKED_AT,
        _set((server_load.ServerLoad, "_lasts", _always(True))),
    ),
    Without("metrics", "giving way", _LOOKED_AT, _set((server_load, "_RELAX", 0.0))),
    Without("metrics", "firmness that grows", _LOOKED_AT, _set((server_load, "_FIRM", 600.0))),
)


# -- the table -----------------------------------------------------------------------------

_NOTABLE = 0.01
"""A world that loses or gains a smaller share is not named."""


def main() -> None:
    options = _parse_options()
    usual: dict[tuple[str, str], Cell] = {}
    rows: list[dict[str, Any]] = []
    _print("part", "without", "the worst loss", "what else it does")
    _print(*["---"] * 4)
    for without in WITHOUT:
        if options.part and without.part not in options.part:
            continue
        for one in without.cells:
            if one not in usual:
                usual[one] = _cell(one, options.seeds)
        with taken_out(without):
            found = {one: _cell(one, options.seeds) for one in without.cells}
        lost = {one[0]: _share(usual[one]) - _share(found[one]) for one in without.cells}
        worst = max(lost, key=lambda name: lost[name])
        named = f"{lost[worst]:.1%} in *{worst}*" if lost[worst] >= _NOTABLE else "none"
        effects = [text for one in without.cells for text in _effects(usual[one], found[one])]
        _print(without.part, without.what, named, "; ".join(effects))
        rows.append({"part": without.part, "without": without.what, "lost": lost})
    write_json("worlds-ablation", {"without": rows}, [])


def _cell(one: tuple[str, str], seeds: Sequence[int]) -> Cell:
    return cell(WORLDS[one[0]], one[1], seeds)


def _share(found: Cell) -> float:
    shares = (found.least(figure) for figure in ("quota", "used", "goodput"))
    return next(share for share in shares if share is not None)


_WORSE = {"ttft": ("p99", 1.1, 0.0), "wait": ("wait", 1.5, 0.05), "refused": ("refused", 1.5, 0.02)}
"""Of these figures: what they are called, and what is worth a word: so many times, and more."""


def _effects(usual: Cell, found: Cell) -> Iterator[str]:
    """What became worse or better than before in one world, beside its share."""
    gained = _share(found) - _share(usual)
    if gained >= _NOTABLE:
        yield f"*{found.world.name}* gains {gained:.1%}"
    for name, (called, times, more) in _WORSE.items():
        was, now = usual.most(name), found.most(name)
        if was is not None and now is not None and now > max(times * was, was + more):
            yield f"{called} of *{found.world.name}* {was:.2f} to {now:.2f}"


def _print(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", help="only this one, such as finder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    return parser.parse_args()


if __name__ == "__main__":
    main()
