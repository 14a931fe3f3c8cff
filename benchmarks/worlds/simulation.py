"""Clients with concurrency policies against the model of batching, event by event.

Nothing waits and nothing reads a clock: time jumps from one event to the next, and random numbers
come from the world's seed, so that every run repeats exactly.
"""

from __future__ import annotations

import random

from batch_gateway.concurrency.server_load import Load
from batch_gateway.errors import GatewayConnectionError
from batch_gateway.simulator.batching import EventKind
from benchmarks.worlds.agenda import Agenda
from benchmarks.worlds.client import Client
from benchmarks.worlds.gateway import Gateway, saturated
from benchmarks.worlds.people import People, Person
from benchmarks.worlds.policy import Policy
from benchmarks.worlds.pool import Pool
from benchmarks.worlds.record import Line, Record
from benchmarks.worlds.world import Change, World

__all__ = ["Simulation", "simulate"]


class Simulation:
    """One run of one world, with a policy for each of its clients; `run` brings back what was
    seen. A policy that knows more than a client does looks at everything else that is public."""

    def __init__(self, world: World, *policies: Policy) -> None:
        if len(policies) != len(world.clients):
            raise ValueError(f"{world.name} has {len(world.clients)} clients")
        self.world = world
        self.record = Record(world)
        self.policies = policies
        self.agenda = Agenda()
        self.pool = Pool(world)
        self._gateway = Gateway(world, self.pool)
        self.clients = [
            Client(world, policy, number, self.agenda, self._gateway, self.record)
            for number, policy in enumerate(policies)
        ]
        self._weather = random.Random(f"{world.seed}:weather")
        for policy in policies:
            policy.enters(self)

    def run(self) -> Record:
        self._plan()
        end = self.world.duration
        self._send_what_may_go()
        while True:
            event = self.pool.next_event_time()
            due = self.agenda.next_time(end)
            at = due if event is None or due <= event else event
            if at >= end:
                break
            self._pass_time(at)
            if at == due:
                self.agenda.run_next()
            self._hear_servers()
            self._send_what_may_go()
        self._pass_time(end)
        self.pool.touch(end)
        self._hear_servers()
        self.record.close()
        return self.record

    def _pass_time(self, now: float) -> None:
        self.record.pass_time(now, self.policies, self.pool.waiting)
        self.agenda.now = now

    def _send_what_may_go(self) -> None:
        for client in self.clients:
            client.send_what_may_go()

    def _plan(self) -> None:
        world, agenda = self.world, self.agenda
        for change in world.changes:
            agenda.at(change.at, self._change, change)
        for client in self.clients:
            client.plan()
            if client.policy.looks_every:
                agenda.at(client.policy.looks_every, self._look, client)
        if world.interactive is not None:
            People(world.interactive, world.seed, agenda, self.pool, self.record).plan()
        if world.wobble is not None:
            agenda.at(0.0, self._wobble)
        if world.stalls is not None:
            agenda.at(world.stalls.every, self._stall)

    # -- what happens to the servers -------------------------------------------------------

    def _change(self, change: Change) -> None:
        alone, now = len(self.pool.pods) == 1, self.agenda.now
        pod = self.pool.pods[change.server]
        self._gateway.reachable = not (alone and change.resets)
        if change.resets:
            for line in [line for line in self.record.running if line.pod is pod]:
                self.pool.cancel(pod, line, now)
                del self.record.running[line]
                line.client.answer(line, GatewayConnectionError("reset"))
        self.pool.change(pod, change.capacity, now)

    def _wobble(self, _: None) -> None:
        wobble = self.world.wobble
        assert wobble is not None
        self.pool.set_pace(1 / self._weather.uniform(1, wobble.most), self.agenda.now)
        seconds = self._weather.uniform(wobble.shortest, wobble.longest)
        self.agenda.after(seconds, self._wobble)

    def _stall(self, _: None) -> None:
        stalls = self.world.stalls
        assert stalls is not None
        self.pool.set_pace(0.0, self.agenda.now)
        self.agenda.after(stalls.seconds, self._go_on)
        self.agenda.after(stalls.every, self._stall)

    def _go_on(self, _: None) -> None:
        self.pool.set_pace(1.0, self.agenda.now)

    # -- what the servers say --------------------------------------------------------------

    def _look(self, client: Client) -> None:
        pool = self.pool
        caches = [pod.batch.kv_usage for pod in pool.pods if pod.batch.capacity.kv_cache_tokens]
        servers = sum(pod.serves for pod in pool.pods) or 1
        usage = sum(caches) / len(caches) if caches else None
        load = Load(pool.running, pool.waiting, usage, servers=servers)
        self.agenda.after(self.world.round_trip / 2, self._looked, (client, load))
        self.agenda.after(client.policy.looks_every, self._look, client)

    def _looked(self, client_and_load: tuple[Client, Load]) -> None:
        client, load = client_and_load
        client.policy.looked(load, self.agenda.now)

    def _hear_servers(self) -> None:
        for kind, who in self.pool.advance(self.agenda.now):
            if isinstance(who, Line):
                self._hear_of_line(kind, who)
            elif isinstance(who, Person) and kind is EventKind.FIRST_TOKEN:
                self.record.person_served(who, self.agenda.now)

    def _hear_of_line(self, kind: EventKind, line: Line) -> None:
        if kind is EventKind.FIRST_TOKEN:
            line.client.first_token(line)
            return
        del self.record.running[line]
        if kind is EventKind.FINISHED:
            self._gateway.answered(line)
        line.client.answer(line, None if kind is EventKind.FINISHED else saturated(self.world))


def simulate(world: World, *policies: Policy) -> Record:
    return Simulation(world, *policies).run()
