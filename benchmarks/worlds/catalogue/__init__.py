"""The worlds, each with its aims, in groups of a kind."""

from __future__ import annotations

from benchmarks.worlds.catalogue.clients import busy_worlds, client_worlds
from benchmarks.worlds.catalogue.people import people_worlds
from benchmarks.worlds.catalogue.plain import length_worlds, plain_worlds
from benchmarks.worlds.catalogue.pools import pool_worlds
from benchmarks.worlds.catalogue.refusals import (
    cap_worlds,
    chance_worlds,
    quota_worlds,
    replica_worlds,
)
from benchmarks.worlds.catalogue.weather import stall_worlds, wobble_worlds

__all__ = ["GROUPS", "WORLDS"]

_ALL = (
    *plain_worlds(),
    *length_worlds(),
    *wobble_worlds(),
    *stall_worlds(),
    *chance_worlds(),
    *quota_worlds(),
    *replica_worlds(),
    *cap_worlds(),
    *client_worlds(),
    *busy_worlds(),
    *pool_worlds(),
    *people_worlds(),
)

WORLDS = {world.name: world for world in _ALL}
GROUPS = {world.group: [w.name for w in _ALL if w.group == world.group] for world in _ALL}
