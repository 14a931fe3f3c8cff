"""Chaos: a fleet with work, to which something is done every few seconds, by chance.

    python -m tests.fleet.chaos --seconds 600 [--seed N]

prints the seed, each harm, and in the end a table of them. The exit code is 0 when every batch
ended with each line once and nothing whose result was registered was sent again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import httpx2

from batch_gateway.testing import simulated_gateway
from tests.fleet.harms import HARMS
from tests.fleet.relay import relaying
from tests.fleet.running import Fleet
from tests.peers.object_stores import Seaweed, running_seaweed
from tests.peers.postgres import PostgresServer, running_postgres

__all__ = ["a_fleet"]

LATENCY_SCALE = 5.0
LONGEST = 60.0
OUTAGES = ("the database is stopped hard", "the store of files is killed")
"""The first of each lasts as long as any."""


@contextlib.contextmanager
def a_fleet(
    folder: Path, database: PostgresServer, store: Seaweed, *, workers: int
) -> Iterator[Fleet]:
    """One process of the API and so many workers, with a simulated gateway, whole and started."""
    with ExitStack() as stack:
        gateway = stack.enter_context(
            simulated_gateway(latency_scale=LATENCY_SCALE, output_tokens=1)
        )
        ways = [stack.enter_context(relaying(database.port)) for _ in range(workers)]
        fleet = Fleet(folder, database, gateway, ways, store)
        stack.callback(fleet.end)
        fleet.start_api()
        for number in range(workers):
            fleet.start_worker(number)
        yield fleet


def harms_to_come(chance: Random, longest: float) -> Iterator[tuple[str, float]]:
    """Every harm once, in any order, then every harm again; and how many seconds each lasts."""
    long_ones = set(OUTAGES)
    while True:
        for harm in chance.sample(list(HARMS), len(HARMS)):
            yield harm, longest if harm in long_ones else min(longest, chance.expovariate(1 / 10))
            long_ones.discard(harm)


def torment(fleet: Fleet, chance: Random, seconds: float) -> Counter[str]:
    """Give it work and harm it, again and again; which harms, how often."""
    began, done = time.monotonic(), Counter[str]()
    for harm, lasts in harms_to_come(chance, min(LONGEST, seconds / 10)):
        if time.monotonic() > began + seconds:
            break
        if fleet.lines_left() < 5_000:
            with contextlib.suppress(httpx2.HTTPError):
                fleet.submit(chance.randint(500, 3_000))
        time.sleep(chance.uniform(0, 5))
        fleet.start_those_that_ended()
        print(f"{time.monotonic() - began:6.1f} s: {harm} ({lasts:.1f} s)", flush=True)
        HARMS[harm](fleet, chance, lasts)
        done[harm] += 1
    fleet.start_those_that_ended()
    fleet.wait_for_ends()
    fleet.check()
    return done


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--workers", type=int, default=3)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        tempfile.TemporaryDirectory(prefix="chaos-store-") as objects,
        running_postgres("of-chaos") as database,
        running_seaweed(Path(objects)) as store,
    ):
        database.make_template()
        with a_fleet(Path(folder), database, store, workers=asked.workers) as fleet:
            done = torment(fleet, Random(asked.seed), asked.seconds)
            for harm, times in sorted(done.items()):
                print(f"{times:4d}  {harm}")
            repeated, requests = fleet.repeated()
            lines = sum(fleet.batches.values())
            print(f"{len(fleet.batches)} batches, {lines:,} lines: each once")
            print(f"{repeated:,} of {requests:,} requests were received more than once, none after")
            print("its result was registered")
    return 0


if __name__ == "__main__":
    sys.exit(main())
