"""Looking names up and racing addresses, without a network."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from batch_gateway.http import race as race_module
from batch_gateway.http.addresses import Address, Addresses, alternated
from batch_gateway.http.race import first_to_connect
from tests.http.native.raw_server import LIMIT, wait_until

pytestmark = pytest.mark.anyio
V4, V6 = socket.AF_INET, socket.AF_INET6


def v4(number: int) -> Address:
    return V4, (f"192.0.2.{number}", 80)


def v6(number: int) -> Address:
    return V6, (f"2001:db8::{number}", 80, 0, 0)


def test_families_alternate_and_each_turn_starts_at_another_address() -> None:
    found = [v6(1), v6(2), v4(1), v4(2), v4(3)]
    assert alternated(found, 0) == [v6(1), v4(1), v6(2), v4(2), v4(3)]
    assert alternated(found, 1) == [v6(2), v4(2), v6(1), v4(3), v4(1)]
    assert alternated(found, 3) == [v6(2), v4(1), v6(1), v4(2), v4(3)]
    assert alternated([v4(1)], 7) == [v4(1)]


class Names:
    """Stands in for the resolver: counts, fails and waits as told."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: list[Address] | OSError = [v4(1), v4(2)]
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 100.0

    def of(self, host: str = "gateway") -> Addresses:
        return Addresses(host, 80, look_up=self.look_up, clock=lambda: self.now)

    async def look_up(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def names() -> Names:
    return Names()


async def test_many_dials_share_one_look_up(names: Names) -> None:
    addresses = names.of()
    names.gate.clear()
    waiting = [asyncio.create_task(addresses.resolve()) for _ in range(50)]
    await wait_until(lambda: names.asked)
    names.gate.set()
    orders = await asyncio.gather(*waiting)
    assert names.asked == 1
    assert orders.count([v4(1), v4(2)]) == orders.count([v4(2), v4(1)]) == 25


@pytest.mark.parametrize("steps", range(6))
async def test_a_dial_at_any_step_of_a_look_up_gets_its_addresses(names: Names, steps: int) -> None:
    addresses = names.of()
    first = asyncio.create_task(addresses.resolve())
    for _ in range(steps):
        await asyncio.sleep(0)
    assert sorted(await addresses.resolve()) == [v4(1), v4(2)]
    assert sorted(await first) == [v4(1), v4(2)]
    assert names.asked == 1


async def test_an_answer_is_used_for_some_seconds_or_until_it_is_distrusted(names: Names) -> None:
    addresses = names.of()
    await addresses.resolve()
    names.now += 4.9
    await addresses.resolve()
    assert names.asked == 1
    names.now += 0.2
    await addresses.resolve()
    assert names.asked == 2
    addresses.distrust()
    await addresses.resolve()
    assert names.asked == 3


async def test_one_caller_giving_up_leaves_the_look_up_to_the_others(names: Names) -> None:
    addresses = names.of()
    names.gate.clear()
    first, second = (asyncio.create_task(addresses.resolve()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    names.gate.set()
    assert await second == [v4(2), v4(1)] or second.result() == [v4(1), v4(2)]


async def test_a_failed_look_up_is_told_to_all_and_not_remembered(names: Names) -> None:
    addresses = names.of()
    names.answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    results = await asyncio.gather(*(addresses.resolve() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, socket.gaierror) for result in results)
    assert names.asked == 1
    names.answer = [v4(9)]
    assert await addresses.resolve() == [v4(9)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_look_up(names: Names, host: str) -> None:
    addresses = names.of(host)
    names.now += 1e6
    addresses.distrust()
    ((_, (address, port, *_)),) = await addresses.resolve()
    assert (address, port) == (host, 80)
    assert names.asked == 0


class Network:
    """Attempts that end when and how a test says."""

    def __init__(self) -> None:
        self.attempts: dict[Address, asyncio.Future[socket.socket]] = {}
        self.cancelled: list[Address] = []
        self.order: list[Address] = []

    async def connect(self, address: Address) -> socket.socket:
        self.order.append(address)
        attempt = self.attempts.setdefault(address, asyncio.get_running_loop().create_future())
        try:
            return await attempt
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise

    def ends(self, address: Address, how: socket.socket | OSError) -> None:
        attempt = asyncio.get_running_loop().create_future()
        if isinstance(how, OSError):
            attempt.set_exception(how)
        else:
            attempt.set_result(how)
        self.attempts[address] = attempt


async def started(network: Network, count: int) -> None:
    await wait_until(lambda: len(network.order) == count)


def refused() -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, "refused")


@pytest.fixture
def sock() -> Iterator[Callable[[], socket.socket]]:
    made: list[socket.socket] = []

    def make() -> socket.socket:
        made.append(socket.socket())
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_a_failed_address_makes_room_for_the_next_at_once(
    sock: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network()
    network.ends(v6(1), refused())
    network.ends(v4(1), winner := sock())
    monkeypatch.setattr(race_module, "_STAGGER", 1000.0)
    async with asyncio.timeout(LIMIT):
        assert await first_to_connect([v6(1), v4(1), v4(2)], network.connect) is winner
    assert network.order == [v6(1), v4(1)]


async def test_a_silent_address_is_overtaken_and_cancelled(sock) -> None:
    network = Network()
    network.ends(v4(1), winner := sock())
    assert await first_to_connect([v6(1), v4(1)], network.connect) is winner
    assert network.cancelled == [v6(1)]


async def test_a_second_success_is_closed(sock) -> None:
    network = Network()
    race = asyncio.create_task(first_to_connect([v6(1), v4(1)], network.connect))
    await started(network, 2)
    first, second = sock(), sock()
    network.attempts[v6(1)].set_result(first)
    network.attempts[v4(1)].set_result(second)
    winner = await race
    assert {first, second} == {winner, first if winner is second else second}
    loser = first if winner is second else second
    assert loser.fileno() == -1
    assert winner.fileno() != -1


async def test_a_cancelled_race_cancels_every_attempt(sock) -> None:
    network = Network()
    race = asyncio.create_task(first_to_connect([v6(1), v4(1)], network.connect))
    await started(network, 2)
    race.cancel()
    await asyncio.wait([race])
    assert race.cancelled()
    assert sorted(network.cancelled) == sorted([v6(1), v4(1)])


async def test_when_all_fail_the_error_that_says_most_is_raised() -> None:
    network = Network()
    network.ends(v6(1), OSError(errno.ENETUNREACH, "no route"))
    network.ends(v4(1), refused())
    with pytest.raises(ConnectionRefusedError):
        await first_to_connect([v6(1), v4(1)], network.connect)
    with pytest.raises(OSError, match="no address"):
        await first_to_connect([], network.connect)
