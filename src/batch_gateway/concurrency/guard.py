"""How many of ours leave others on the same server their room, learnt from first tokens alone."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from itertools import islice

from batch_gateway.concurrency.door import Door, Window
from batch_gateway.concurrency.events import Started

__all__ = ["Guard", "State"]

_MEMORY = 20.0  # seconds: room that is gone for longer was taken by nobody who comes in bursts
_FELL, _FEW = 0.95, 2.0  # room that comes and goes by more than one in twenty, and two, is others'
_SHARE = 0.94  # of what fitted at the worst; what comes next may be a little worse
# Of what ever fitted, so much stays ours: who takes more may be another batch, whose guard takes
# ours for people.
_CLAIM = 0.5
_OFTEN = 5  # windows within `_MEMORY` that show a full server; fewer are chance
# Seconds that the room is kept: it may have been chance at first, and is to outlive a lull.
_FIRST, _THEN = 150.0, 600.0
_GROWS = 0.6  # ln, in as long as it was kept: what is one burst too far is only a little too far


class State(Enum):
    FREE = "nobody else is known"
    KEEPS = "room is kept for others"
    RELAXES = "the room is given back little by little"


class Guard(Door):
    """A cap on how many may be in flight, for the sake of people whom the same server answers.

    Two means, both of which only lower what others allow:

    - the `Door`, at once: so few of ours wait for their first token that nobody waits for long;
    - a memory of the room that is left when others are there, so that they need not even wait
      until ours have come down. It begins when room was seen to go and to come back: a server that
      became smaller stays so, and one that is slow, stands still or reads many prompts at once has
      as much room as ever.

    | state | what happens | next |
    |---|---|---|
    | FREE | in 20 s the server is full five times, with 5 % fewer, and takes more again | KEEPS |
    | KEEPS, RELAXES | the server is full with no more than `room` | KEEPS less, half at least |
    | KEEPS, RELAXES | it is full for 6 s and two answers on end | FREE, for ten minutes at least |
    | KEEPS | 2.5 minutes after the first time, 10 after others | RELAXES |
    | RELAXES | `room` has grown, 80 % in as long as it was kept, beyond what ever fitted | FREE |

    Each lesson costs those who come just then. People are served once ours give way; another batch
    takes what ours leave, and the server stays full. Without first tokens, or where few of the
    answers are streamed, nothing is ever capped.

    Attributes:
        state: as in the table.
        room: how many of ours leave others their room; infinity where nobody is known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state = State.FREE
        self.room = math.inf
        self._seen: deque[tuple[float, Window]] = deque()
        self._ever_fitted = 0.0
        self._until = self._placed = self._kept = 0.0

    def ended(self, started: Started, answered: bool, in_flight: int, now: float) -> None:
        super().ended(started, answered, in_flight, now)
        if self.state is not State.FREE and not self.watches:
            self._forget()

    def heed(self, window: Window, now: float) -> None:
        # Of two windows in a row the greater: whoever comes down from too many comes down too far.
        self._placed, fitted = window.placed, max(self._placed, window.placed)
        self.shared = self.state is not State.FREE
        if window.lasts:
            self._forget(until=now + _THEN if self.shared else self._until)
        elif self.state is State.FREE:
            self._look_for_others(window._replace(placed=fitted), now)
        elif window.full:
            self._keep(min(self.room, fitted), now)
        elif now > self._until:
            self.state = State.RELAXES
            self.room *= math.exp(_GROWS * (now - self._until) / self._kept)
            self._until = now
            if self.room > self._ever_fitted:
                self._forget()

    def _forget(self, until: float = 0.0) -> None:
        """Nobody is known, and nobody is looked for until then."""
        self.state, self.room, self.claim, self._until = State.FREE, math.inf, 0.0, until
        self._seen.clear()

    def _look_for_others(self, window: Window, now: float) -> None:
        """Whether the room went and has come back."""
        seen = self._seen
        while seen and seen[0][0] < now - _MEMORY:
            seen.popleft()
        seen.append((now, window))
        full = [(one.placed, -at) for at, (_, one) in enumerate(seen) if one.full]
        if window.late or len(full) < _OFTEN or now < self._until:
            return
        least, last = min(full)
        most = max(one.placed for _, one in islice(seen, 1 - last))
        if min(most, window.placed) > least / _FELL + _FEW:
            self._ever_fitted = most
            seen.clear()
            self._keep(least, now)

    def _keep(self, fitted: float, now: float) -> None:
        self._kept = _FIRST if self.state is State.FREE else _THEN
        self.state = State.KEEPS
        self.claim = _CLAIM * self._ever_fitted
        self.room = max(1.0, self.claim, _SHARE * fitted)
        self._until = max(self._until, now + self._kept)
