"""Several clients of ours on one server, and one that is short of CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.worlds.catalogue.plain import QUEUES, REFUSES
from benchmarks.worlds.catalogue.servers import QUICK, QUICK_ANSWERS, scaled
from benchmarks.worlds.world import Aims, Busy, World

__all__ = ["busy_worlds", "client_worlds"]


def client_worlds() -> Iterator[World]:
    """Each limit of a sweep is that of every client."""
    aims = Aims(goodput=0.9, wait=0.10, least=0.5)
    for count, word in ((2, "two"), (4, "four")):
        together = replace(
            QUEUES, group="clients", aims=aims, oracle=scaled(QUEUES.oracle, 1 / count)
        )
        yield replace(
            together,
            name=f"{word} clients",
            title=f"{word} of ours on one server, all from the start",
            clients=(0.0,) * count,
        )
        yield replace(
            together,
            name=f"{word} clients, one by one",
            title=f"{word} of ours on one server, each 40 s after the one before",
            clients=tuple(40.0 * number for number in range(count)),
        )
    refusing = replace(REFUSES, group="clients", aims=Aims(goodput=0.9, refused=0.05, least=0.5))
    yield replace(
        refusing,
        name="two clients, refuses",
        title="two of ours before 100 seats that refuse the next, one 40 s after the other",
        clients=(0.0, 40.0),
        oracle=(25, 40, 45, 48, 49, 50, 51, 55),
    )
    yield replace(
        refusing,
        name="four clients, refuses",
        title="four of ours before 100 seats that refuse the next, each 30 s after the one before",
        clients=(0.0, 30.0, 60.0, 90.0),
        oracle=(15, 20, 23, 24, 25, 26, 28),
    )


def busy_worlds() -> Iterator[World]:
    """A client whose answers wait for its own CPU."""
    quick = replace(
        QUEUES,
        group="busy",
        capacity=QUICK,
        lengths=QUICK_ANSWERS,
        duration=60,
        aims=Aims(goodput=0.9, wait=0.10),
        oracle=(16, 24, 32, 40, 48, 64, 96, 128),
    )
    yield replace(
        quick,
        name="busy client",
        title="4 ms of CPU an answer, where the server could bring two to three times as many",
        busy=Busy(0.004),
    )
    yield replace(
        quick,
        name="busy client, pauses",
        title="1 ms of CPU an answer, and others have the CPU for up to 0.3 s about once a second",
        busy=Busy(0.001, pauses_every=1.0, pause=0.3),
    )
    yield replace(
        QUEUES,
        name="busy client, slow server",
        title="12 ms of CPU an answer, pauses of up to 1 s, answers of 1 to 3 s",
        group="busy",
        busy=Busy(0.012, pauses_every=5.0, pause=1.0),
        aims=Aims(goodput=0.9, wait=0.10),
    )
