"""What a run is remembered by: sums over all of it, and a timeline for plots and settling times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from batch_gateway.concurrency.events import Started
from batch_gateway.errors import InferenceError
from batch_gateway.wire.refusals import wants_room
from benchmarks.worlds.policy import Policy
from benchmarks.worlds.pool import Pod
from benchmarks.worlds.world import World

if TYPE_CHECKING:
    from benchmarks.worlds.client import Client
    from benchmarks.worlds.people import Person

__all__ = ["BIN", "Line", "Record"]

BIN = 0.5
"""Seconds of one point of the timeline."""


class Line:
    """A line of the batch on its way.

    Attributes:
        sent: when it was sent last.
        started: what its client's policy said to that.
        pod: the server that runs it or lets it wait.
    """

    __slots__ = ("attempt", "client", "output", "pod", "prompt", "sent", "started")

    def __init__(self, client: Client, prompt: int, output: int) -> None:
        self.client = client
        self.prompt = prompt
        self.output = output
        self.attempt = 0
        self.sent = 0.0
        self.started: Started | None = None
        self.pod: Pod | None = None


class Record:
    """Filled by a simulation. Tokens are output tokens of the batch's own lines.

    Attributes:
        running: lines that a server has, in order of being sent.
        tokens_late: for each client, the tokens of answers in the second half.
    """

    def __init__(self, world: World) -> None:
        bins = int(world.duration / BIN) + 1
        self.world = world
        self.sent = 0
        self.refused = 0
        self.errors = 0
        self.lost = 0
        self.completed = 0
        self.tokens = 0
        self.tokens_late = [0] * len(world.clients)
        self.latency_sum = 0.0
        self.waiting_area = 0.0
        self.running: dict[Line, None] = {}
        self.first_tokens: list[float] = []
        self._waiting_people: dict[Person, None] = {}
        self._now = 0.0
        self.tokens_by_bin = [0.0] * bins
        self.refused_by_bin = [0] * bins
        self.limit_by_bin = [0.0] * bins
        self.in_flight_by_bin = [0.0] * bins
        self.waiting_by_bin = [0.0] * bins
        self.latency_by_bin = [0.0] * bins
        self.completed_by_bin = [0] * bins

    def pass_time(self, now: float, policies: Sequence[Policy], waiting: int) -> None:
        """Everything was as it is now since the last call."""
        then, self._now = self._now, now
        self.waiting_area += waiting * (now - then)
        limit = sum([policy.limit for policy in policies])
        in_flight = sum([policy.in_flight for policy in policies])
        index = int(then / BIN)
        while then < now:
            until = min(now, (index + 1) * BIN)
            share = (until - then) / BIN
            self.limit_by_bin[index] += limit * share
            self.in_flight_by_bin[index] += in_flight * share
            self.waiting_by_bin[index] += waiting * share
            then, index = until, index + 1

    def finished(self, now: float, line: Line) -> None:
        index, latency = int(now / BIN), now - line.sent
        self.completed += 1
        self.tokens += line.output
        if now >= self.world.duration / 2:
            self.tokens_late[line.client.number] += line.output
        self.latency_sum += latency
        self.latency_by_bin[index] += latency
        self.completed_by_bin[index] += 1
        # Tokens are counted where they were made, not where their answer arrived: a long answer
        # would look like a burst.
        self._spread(line.sent, now, line.output)

    def _spread(self, then: float, now: float, tokens: float) -> None:
        rate = tokens / max(1e-9, now - then)
        index = int(then / BIN)
        while then < now:
            until = min(now, (index + 1) * BIN)
            self.tokens_by_bin[index] += rate * (until - then)
            then, index = until, index + 1

    def failed(self, now: float, error: InferenceError) -> None:
        if wants_room(error):
            self.refused += 1
            self.refused_by_bin[int(now / BIN)] += 1
        else:
            self.errors += 1

    def person_came(self, person: Person) -> None:
        self._waiting_people[person] = None

    def person_served(self, person: Person, now: float) -> None:
        del self._waiting_people[person]
        self.first_tokens.append(now - person.came)

    def close(self) -> None:
        """Count what is half done, and everybody who still waits for a first token."""
        for line in self.running:
            assert line.pod is not None
            made = line.pod.batch.generated(line)
            self.tokens += made
            self._spread(line.sent, self._now, made)
        self.running.clear()
        self.first_tokens += [self._now - person.came for person in self._waiting_people]

    # -- figures ---------------------------------------------------------------------------

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.world.duration

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.sent)

    @property
    def wait_share(self) -> float:
        """Mean time in the server's queue over the mean time of service (Little's law)."""
        wait = self.waiting_area / max(1, self.completed)
        latency = self.latency_sum / max(1, self.completed)
        return wait / max(1e-9, latency - wait)

    @property
    def least_share(self) -> float:
        """What the client with the fewest tokens has in the second half, over an equal share."""
        whole = sum(self.tokens_late)
        return min(self.tokens_late) * len(self.tokens_late) / max(1, whole)

    @property
    def first_token_p99(self) -> float:
        return percentile(self.first_tokens, 0.99)

    def figures(self) -> dict[str, Any]:
        return {
            "tokens_per_second": round(self.tokens_per_second, 1),
            "completed": self.completed,
            "sent": self.sent,
            "refused_share": round(self.refused_share, 4),
            "wait_share": round(self.wait_share, 4),
            "lost": self.lost,
            "least_share": round(self.least_share, 4),
            "first_token_p99": round(self.first_token_p99, 4),
            "first_token_p50": round(percentile(self.first_tokens, 0.5), 4),
        }


def percentile(values: list[float], share: float) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
