"""What is done to a fleet in drills: each harm, and how long it lasts where it lasts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from tests.fleet.running import LEASE, PATIENCE, Fleet

__all__ = ["HARMS", "HARMS_TO_THE_DATABASE", "HARMS_TO_THE_STORE", "Harm"]

Harm = Callable[[Fleet, Random, float], None]
"""Does it, for so many seconds where it lasts, and leaves the fleet whole again."""


def last(seconds: float) -> None:
    time.sleep(seconds)


def kill_a_worker(fleet: Fleet, chance: Random, seconds: float) -> None:
    number = chance.choice(sorted(fleet.workers))
    fleet.workers[number].kill()
    fleet.look_after_a_kill()
    fleet.start_worker(number)


def kill_all_workers(fleet: Fleet, chance: Random, seconds: float) -> None:
    for worker in fleet.workers.values():
        worker.kill()
    fleet.look_after_a_kill()
    for number in sorted(fleet.workers):
        fleet.start_worker(number)


def kill_the_api(fleet: Fleet, chance: Random, seconds: float) -> None:
    assert fleet.api is not None
    fleet.api.kill()
    fleet.start_api()


def pause_a_worker_past_its_lease(fleet: Fleet, chance: Random, seconds: float) -> None:
    worker = fleet.workers[chance.choice(sorted(fleet.workers))]
    worker.signal(signal.SIGSTOP)
    fleet.look()
    last(LEASE * 1.5 + seconds / 4)
    fleet.look()
    worker.signal(signal.SIGCONT)


def stop_a_worker(fleet: Fleet, chance: Random, seconds: float) -> None:
    """As a rolling update does; and another comes, whose clock is an hour off."""
    number = chance.choice(sorted(fleet.workers))
    assert fleet.started_worker(number).stop() == 0, fleet.logs()
    fleet.look()
    fleet.start_worker(number, clock_offset=chance.choice((-3600.0, 3600.0)))


def move_clocks(fleet: Fleet, chance: Random, seconds: float) -> None:
    """Of the API and of the workers, each forward or back by an hour while it runs."""
    assert fleet.api is not None
    for member in (fleet.api, *fleet.workers.values()):
        # Whoever has not said yet that it has started, may not heed it yet.
        if member.has_started and member.lives:
            member.signal(chance.choice((signal.SIGUSR1, signal.SIGUSR2)))
    fleet.look()


def stop_the_database_hard(fleet: Fleet, chance: Random, seconds: float) -> None:
    fleet.look()
    fleet.database.signal(signal.SIGKILL)
    last(seconds)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fleet.database.start()
        except RuntimeError:
            # What the last one had in memory may be there for a moment yet.
            assert time.monotonic() < end
        else:
            return


def pause_the_database(fleet: Fleet, chance: Random, seconds: float) -> None:
    """It answers nobody, and refuses nobody."""
    fleet.look()
    fleet.database.signal(signal.SIGSTOP)
    last(seconds)
    fleet.database.signal(signal.SIGCONT)


def cut_a_worker_off(fleet: Fleet, chance: Random, seconds: float) -> None:
    """From the database only: it still reaches the gateway and the files."""
    way = fleet.ways[chance.choice(sorted(fleet.workers))]
    fleet.look()
    way.open.clear()
    last(seconds)
    fleet.look()
    way.open.set()


def kill_the_store(fleet: Fleet, chance: Random, seconds: float) -> None:
    fleet.look()
    fleet.store.kill()
    last(seconds)
    fleet.store.start()


def pause_the_store(fleet: Fleet, chance: Random, seconds: float) -> None:
    fleet.look()
    fleet.store.pause()
    last(seconds)
    fleet.store.go_on()


HARMS_TO_THE_DATABASE: Final[Mapping[str, Harm]] = {
    "the database is stopped hard": stop_the_database_hard,
    "the database stands still": pause_the_database,
}
HARMS_TO_THE_STORE: Final[Mapping[str, Harm]] = {
    "the store of files is killed": kill_the_store,
    "the store of files stands still": pause_the_store,
}
HARMS: Final[Mapping[str, Harm]] = {
    "a worker is killed": kill_a_worker,
    "all workers are killed": kill_all_workers,
    "the API is killed": kill_the_api,
    "a worker stands still past its lease": pause_a_worker_past_its_lease,
    "a worker is told to stop, and one with a wrong clock comes": stop_a_worker,
    "clocks are moved by an hour": move_clocks,
    **HARMS_TO_THE_DATABASE,
    "a worker is cut off from the database": cut_a_worker_off,
    **HARMS_TO_THE_STORE,
}
