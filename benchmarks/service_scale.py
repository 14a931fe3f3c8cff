"""What the service asks of full tables, beside tables of a hundredth: `benchmarks.service_scale`.

1,000 tenants with 10,000 batches and 1,000,000 files, beside 10 with 100 and 10,000: a tenant has
as many of each, and as many batches are under way. Each question is asked of both in turns, as the
service asks it, and the medians are compared. What 10,000 batches that all wait cost a worker that
looks for work is shown beside.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection

from batch_gateway.service.batch_records import poll_batch
from batch_gateway.service.database import Database
from batch_gateway.service.open_database import open_database
from batch_gateway.service.worker_records import free_jobs_and_share
from benchmarks.machine import describe
from benchmarks.many_records import QUESTIONS, Records, batch_id, fill, open_all
from benchmarks.tables import Aim, print_aims, print_table, write_json

_FEW = Records(tenants=10, batches=100, files=10_000, open=100)
_MANY = Records(tenants=1_000, batches=10_000, files=1_000_000, open=100)

Question = Callable[[Database], Awaitable[object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--database", nargs=2, metavar="URL", help="two empty ones, in the place of a new server"
    )
    parser.add_argument("--rounds", type=int, default=200, help="of each question, in turns")
    parser.add_argument("--files", type=int, default=_MANY.files, help="in the full tables")
    given = parser.parse_args()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    with _databases(given.database) as (few, many):
        asyncio.run(_compare(few, many, _MANY._replace(files=given.files), given.rounds))


@contextmanager
def _databases(given: list[str] | None) -> Iterator[tuple[str, str]]:
    if given is not None:
        yield given[0], given[1]
        return
    from tests.peers.postgres import running_postgres

    with running_postgres("of-a-benchmark") as server:
        yield server.new_database(), server.new_database()


async def _compare(few_url: str, many_url: str, records: Records, rounds: int) -> None:
    few, many = [await open_database(url) for url in (few_url, many_url)]
    try:
        began = time.monotonic()
        await fill(few, _FEW)
        await fill(many, records)
        print(f"filled in {time.monotonic() - began:.0f} s")
        ratios = await _ask_both(few, many, rounds)
        await open_all(many)
        waiting = statistics.median([await _seconds(_free_jobs, many) for _ in range(10)])
    finally:
        await few.aclose()
        await many.aclose()
    figures = {"ratios": ratios, "free jobs, all batches wait, ms": waiting * 1e3}
    print(
        f"\njobs that are free where all {records.batches:,} batches wait: {waiting * 1e3:.1f} ms"
    )
    aims = [Aim(f"full beside small, {name}", ratio, 2.0) for name, ratio in ratios.items()]
    print_aims(aims)
    write_json("service_scale", figures, aims)


async def _ask_both(few: Database, many: Database, rounds: int) -> dict[str, float]:
    """How much longer the answer takes where there are many records."""
    rows, ratios = list[list[str]](), dict[str, float]()
    for name, question in _questions().items():
        # What a connection is asked for the first time it has to plan.
        for database in (few, many):
            for _ in range(10):
                await _seconds(question, database)
        pairs = [
            (await _seconds(question, few), await _seconds(question, many)) for _ in range(rounds)
        ]
        small, full = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
        ratios[name] = full / small
        rows.append([name, f"{small:.2f}", f"{full:.2f}", f"{ratios[name]:.2f}"])
    print_table("what is asked", ["", "small, ms", "full, ms", "ratio"], rows)
    return ratios


def _questions() -> dict[str, Question]:
    def of_transaction(action: Callable[[Connection], object]) -> Question:
        return lambda database: database.write(action)

    polled = {"status poll": _poll}
    return polled | {name: of_transaction(action) for name, action in QUESTIONS.items()}


def _poll(database: Database) -> Awaitable[object]:
    return poll_batch(database, "tenant-7", batch_id(7))


def _free_jobs(database: Database) -> Awaitable[object]:
    return database.read(partial(free_jobs_and_share, owner="worker", lease=30.0))


async def _seconds(question: Question, database: Database) -> float:
    began = time.perf_counter()
    await question(database)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
