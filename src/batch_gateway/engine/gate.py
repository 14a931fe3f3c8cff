"""Whether a gateway, or one of its models, is still worth sending to: judged from how requests end.

A wrong URL makes every request fail, and so does a token that expired an hour ago or a quota that
is used up. Such a failure says nothing about its line, so it is held instead of being recorded,
until a request that was sent later has an answer. Without one, no more is sent after some failures
in a row, and what is held stays to be sent: one mistake must not become 100,000 error lines.

Failures are held in rows, one for the whole gateway and one for each model:

| sign of a failure     | counts where | when            | a full row, nothing sent later open   |
|-----------------------|--------------|-----------------|---------------------------------------|
| KEY                   | gateway      | always          | the gateway is shut                   |
| UNREACHED             | gateway      | until it lives  | the gateway is shut                   |
| DOUBT                 | gateway      | until it lives  | the gateway is shut                   |
| LOAD                  | gateway      | always          | the gateway is shut                   |
| USED_UP, MODEL        | model        | always          | the model is shut                     |
| PLACE                 | model        | always          | lines from elsewhere are tried first  |
| OWN, always the same  | gateway, and | until it lives  | lines from elsewhere are tried first  |
|                       | then model   |                 |                                       |

- **A row begins** with its first failure. Only requests that were sent after that count for it: an
  answer to an older one says nothing, because it was asked for while all was well.
- **A full row** (`limit` failures; of LOAD, once the gateway lives, ten times as many and twelve
  for each request under way) stops the sending of its gateway's or model's other lines. It is
  decided when the last of the later requests has ended.
- **A later answer ends a row.** What it held is sent once more (a page of an ingress up to three
  times), because the refusal may have been the gateway's; refused again, a line is recorded. DOUBT
  and OWN are recorded at once.
- **OWN in other words** than the ones held shows that the lines are to blame: all are recorded, and
  so is every later one.
- **When no line is left** rows that are not full are decided: OWN is recorded; DOUBT, if an earlier
  run had results; PLACE is sent again where the gateway lives, if it is a single line, or if lines
  refused in the same words had an answer to one that was sent after them. The rest stays to be
  sent, and the gateway or the model is shut.

Everything else is recorded as it comes. Until the first sign of life only `limit` requests are
under way, or all if that takes longer than `TRIAL_SECONDS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from batch_gateway.engine.rows import Row, Scope
from batch_gateway.engine.signs import Sign
from batch_gateway.engine.tickets import (
    RECORDED_AT_ONCE,
    Ended,
    Ticket,
    Verdict,
    is_to_be_sent_again,
)

__all__ = ["PROBES", "TRIAL_SECONDS", "Gate"]

TRIAL_SECONDS = 5.0
"""How long only a few requests are sent while none has ended. Long enough for the retries of
those few to run out, short beside the run that a slow model needs."""

PROBES = 16
"""Lines from elsewhere in the file that are tried before a model is given up. A file of which
three lines in four are refused for their content is given up once in a hundred times."""

_LIFE = Sign.LIFE
_HOLD_LIMIT = 10
_LEAST_HOLD_LIMIT = 3
# Limits for a minute pass, and may be told without how long they last: by their retries so many
# requests, and so many times those under way, take more than a minute.
_PATIENCE_WITH_LOAD = 10
_WAVES_OF_LOAD = 12

_OF_THE_GATEWAY = frozenset({Sign.KEY, Sign.UNREACHED, Sign.DOUBT, Sign.LOAD, Sign.OWN})
_MAYBE_THE_LINE = frozenset({Sign.PLACE, Sign.OWN})


class Gate:
    """The decisions for one gateway: no waiting and no clock.

    `limit` failures make a row full, and so many requests are sent at first: the retries of a
    thousand would take minutes to run out. `resumed` says that an earlier run had results.
    `records_all` records PLACE, MODEL, DOUBT and OWN as they come.

    Attributes:
        calm: nothing is held, and the gateway lives.
        whole: nothing was shut, neither the gateway nor one of its models.
        problem: why the gateway was shut, or None.
    """

    def __init__(self, limit: int, *, resumed: bool = False, records_all: bool = False) -> None:
        self.limit = limit
        self.calm = False
        self.whole = True
        self._resumed = resumed
        self._records_all = records_all
        self._gateway = Scope()
        self._models: dict[str, Scope] = {}
        self._passed: set[str] = set()
        self._open = self._widened = False
        self._sent = 0

    @classmethod
    def for_concurrency(
        cls, concurrency: int, *, resumed: bool = False, records_all: bool = False
    ) -> Gate:
        """With few requests at a time, ten failures would take too long to come together."""
        limit = max(_LEAST_HOLD_LIMIT, min(_HOLD_LIMIT, concurrency))
        return cls(limit, resumed=resumed, records_all=records_all)

    # --- what may be sent ---

    @property
    def most_in_flight(self) -> float:
        """How many requests may be under way, as far as the gate is concerned."""
        return float("inf") if self._open or self._widened else self.limit

    @property
    def has_answered(self) -> bool:
        return self._gateway.lives

    @property
    def problem(self) -> str | None:
        return self._gateway.problem

    def problems(self) -> dict[str, str]:
        """The models that were shut, and why."""
        found = {name: scope.problem for name, scope in self._models.items()}
        return {name: problem for name, problem in found.items() if problem is not None}

    @property
    def is_understood(self) -> bool:
        """Whether the gateway showed that it is one: an answer, or words about a request."""
        return self._open

    @property
    def maybe_the_lines(self) -> bool:
        """Whether something was shut for failures that may be the lines' own."""
        return any(scope.sign in _MAYBE_THE_LINE | {Sign.MODEL} for scope in self._scopes())

    def unknown_models(self) -> list[str]:
        """The models that were shut because there are none of that name."""
        return [name for name, scope in self._models.items() if scope.sign is Sign.MODEL]

    def is_shut(self, model: str) -> bool:
        """Whether the model's lines stay to be sent."""
        shut = model in self._models and self._models[model].problem is not None
        return shut or self.problem is not None

    def admits(self, model: str) -> bool:
        """Whether a line of the model may be sent now."""
        if self._gateway.full or self.is_shut(model):
            return False
        return model not in self._models or not self._models[model].full

    def widen(self) -> None:
        """`TRIAL_SECONDS` have passed: answers seem to take their time."""
        self._widened = True

    def to_probe(self) -> list[str | None]:
        """The models of which `PROBES` lines from elsewhere are to be tried, each once a row.

        None stands for lines of all models.
        """
        if self.calm:
            return []
        if self._is_probed_next(self._gateway):
            return [None]
        if self._gateway.full:
            return []
        return [name for name, scope in self._models.items() if self._is_probed_next(scope)]

    def _is_probed_next(self, scope: Scope) -> bool:
        for sign, row in scope.rows.items():
            if sign in _MAYBE_THE_LINE and row.is_due and not row.probed:
                row.probed = True
                return True
        return False

    # --- what happens ---

    def sent(self, index: int, model: str, sendings: int = 1) -> Ticket:
        """A line is sent; its ticket must come back in `ended` or `lost`."""
        self._sent += 1
        scope = self._models.get(model) or self._model(model)
        scope.under_way += 1
        if not self.calm:
            for row in (*self._gateway.rows.values(), *scope.rows.values()):
                row.later += 1
        return Ticket(self._sent, index, model, sendings)

    def lost(self, ticket: Ticket) -> None:
        """A request was cut off, which says nothing."""
        self._leave(ticket)

    def passes(self, ended: Ended) -> bool:
        """Whether a request has ended as nearly all do, with one answer among others: it is to be
        recorded then, and `ended` need not be asked.
        """
        scope = self._models[ended.ticket.model]
        if not (self.calm and scope.lives and ended.evidence.sign is _LIFE):
            return False
        scope.under_way -= 1
        scope.answered = max(scope.answered, ended.ticket.number)
        return True

    def ended(self, ended: Ended) -> Verdict:
        """A request has ended: what is to be done now."""
        ticket, sign = ended.ticket, ended.evidence.sign
        self._leave(ticket)
        if sign is Sign.LIFE:
            return self._answered(ended)
        if sign is Sign.NOTHING:
            return Verdict((ended,))
        if self.is_shut(ticket.model):
            return Verdict()
        if not self._is_held(ended):
            return Verdict((ended,))
        if sign in (Sign.OWN, Sign.MODEL):
            return self._hold_understood(ended)
        return self._hold(ended)

    def decide(self) -> None:
        """Shut what has a full row that nothing can end any more; no line waits as a probe."""
        for scope in self._scopes():
            for sign, row in list(scope.rows.items()):
                if row.is_due:
                    self._shut(scope, sign)

    def finish(self) -> Verdict:
        """No line is left and nothing under way: what to do with all that is held."""
        record, again = list[Ended](), list[Ended]()
        for scope in self._scopes():
            for sign, row in list(scope.rows.items()):
                if self._is_of_the_lines(sign, row):
                    for held in self._release(scope, sign):
                        (again if is_to_be_sent_again(held) else record).append(held)
                else:
                    self._shut(scope, sign)
        return Verdict(record, again)

    # --- how ---

    def _scopes(self) -> tuple[Scope, ...]:
        return (self._gateway, *self._models.values())

    def _model(self, model: str) -> Scope:
        scope = self._models.get(model)
        if scope is None:
            scope = self._models[model] = Scope()
        return scope

    def _under_way(self, scope: Scope) -> int:
        """How many requests of a model, or of the gateway, are."""
        scopes = self._models.values() if scope is self._gateway else (scope,)
        return sum(one.under_way for one in scopes)

    def _leave(self, ticket: Ticket) -> None:
        scope = self._models[ticket.model]
        scope.under_way -= 1
        if not self.calm:
            for row in (*self._gateway.rows.values(), *scope.rows.values()):
                if ticket.number > row.began:
                    row.later -= 1

    def _hold_understood(self, ended: Ended) -> Verdict:
        """It was understood, so that there is a gateway; but perhaps none of the lines is right."""
        self._open = True
        doubtful = self._release(self._gateway, Sign.DOUBT)
        scope = self._scope_of(ended)
        row = scope.rows.get(Sign.OWN)
        is_own = ended.evidence.sign is Sign.OWN
        if is_own and row is not None and row.held[0].evidence.kind != ended.evidence.kind:
            scope.told_apart = True
            return Verdict((*doubtful, *self._release(scope, Sign.OWN), ended))
        self._hold(ended)
        return Verdict(doubtful)

    def _hold(self, ended: Ended) -> Verdict:
        sign = ended.evidence.sign
        scope = self._scope_of(ended)
        row = scope.rows.get(sign)
        if row is None:
            limit, under_way = self.limit, self._under_way(scope)
            if sign is Sign.LOAD and scope.lives:
                limit = max(limit * _PATIENCE_WITH_LOAD, _WAVES_OF_LOAD * (under_way + 1))
            row = Row(self._sent, limit)
            # Any answer speaks for a start that was doubtful, but only a later one after a refusal.
            if sign in RECORDED_AT_ONCE:
                row = Row(0, limit, under_way)
            scope.rows[sign] = row
        row.held.append(ended)
        if sign is Sign.PLACE:
            self._note_passed(scope, (ended,))
        self.calm = False
        self._look(scope)
        return Verdict()

    def _scope_of(self, ended: Ended) -> Scope:
        """Where its failure counts."""
        sign, model = ended.evidence.sign, self._models[ended.ticket.model]
        is_apart = sign is Sign.OWN and self._gateway.lives
        return self._gateway if sign in _OF_THE_GATEWAY and not is_apart else model

    def _is_held(self, ended: Ended) -> bool:
        sign = ended.evidence.sign
        if sign is Sign.UNREACHED:
            return not self._gateway.lives
        if sign is Sign.DOUBT:
            return not (self._open or self._records_all)
        if sign is not Sign.OWN and not is_to_be_sent_again(ended):
            return False
        if self._records_all and sign in (Sign.PLACE, Sign.MODEL, Sign.OWN):
            return False
        if sign is Sign.OWN:
            scope = self._scope_of(ended)
            return not (scope.lives or scope.told_apart or self._gateway.told_apart)
        return True

    def _answered(self, ended: Ended) -> Verdict:
        ticket = ended.ticket
        scope = self._models[ticket.model]
        scope.answered = max(scope.answered, ticket.number)
        self._gateway.lives = scope.lives = self._open = True
        released: list[Ended] = []
        for place in (self._gateway, scope):
            for sign, row in list(place.rows.items()):
                self._note_passed(scope, row.held)
                if ticket.number > row.began:
                    released += self._release(place, sign)
        self.calm = not any(one.rows for one in self._scopes())
        record, again = [ended], list[Ended]()
        for held in released:
            (again if is_to_be_sent_again(held) else record).append(held)
        return Verdict(record, again)

    def _note_passed(self, scope: Scope, held: Iterable[Ended]) -> None:
        """Words with which a line was refused while one that was sent after it was not."""
        self._passed.update(one.evidence.kind for one in held if one.ticket.number < scope.answered)

    def _release(self, scope: Scope, sign: Sign) -> list[Ended]:
        row = scope.rows.pop(sign, None)
        self._look(scope)
        return [] if row is None else row.held

    def _look(self, scope: Scope) -> None:
        scope.full = any(row.is_full for row in scope.rows.values())

    def _shut(self, scope: Scope, sign: Sign) -> None:
        held = self._release(scope, sign)
        words, _ = Counter(one.outcome.message for one in held).most_common(1)[0]
        if sign is Sign.OWN:
            words = f"each of the first {len(held)} requests failed in the same way: {words}"
        elif scope.lives:
            words = f"the gateway began to refuse: {words}"
        scope.problem = words
        scope.sign = sign
        self.whole = False

    def _is_of_the_lines(self, sign: Sign, row: Row) -> bool:
        """What a row means that no later request can decide any more."""
        if row.is_full:
            return False
        if sign is Sign.DOUBT:
            return self._resumed
        if sign is Sign.LOAD:
            return len(row.held) < self.limit and (self._resumed or self._gateway.lives)
        if sign is Sign.PLACE and self._gateway.lives:
            return len(row.held) == 1 or all(one.evidence.kind in self._passed for one in row.held)
        return sign is Sign.OWN
