"""Choosing among the pods that are there now, and remembering where everything was sent."""

from __future__ import annotations

import base64
import binascii
import random
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from batch_gateway.simulator.picker.choice import (
    PodLoad,
    by_load,
    by_prefix_and_load,
    by_turn,
    shuffled,
)
from batch_gateway.simulator.picker.incoming import IncomingRequest
from batch_gateway.simulator.picker.picker_config import PickerConfig
from batch_gateway.simulator.picker.prefix_index import PrefixIndex, block_keys

__all__ = ["Pod", "PodChooser"]


class Pod(Protocol):
    """A model server as a picker knows it."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str:
        """ "ip:port"."""
        ...

    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def kv_usage(self) -> float: ...


class PodChooser:
    """Asks the configured choice, with the load of this moment.

    Attributes:
        pods: those that may be chosen; may be replaced at any time.
    """

    def __init__(self, config: PickerConfig, pods: Sequence[Pod]) -> None:
        self.config = config
        self.pods: Sequence[Pod] = pods
        self._in_flight: Counter[str] = Counter()
        self._prefixes = PrefixIndex()
        self._turn = 0
        self._rng = random.Random(config.seed)  # noqa: S311 - not a secret

    def loads(self, subset: frozenset[str] | None = None) -> list[PodLoad]:
        """Every pod that may be chosen, with what it has to do."""
        return [
            PodLoad(
                pod.address, pod.running, pod.waiting, pod.kv_usage, self._in_flight[pod.address]
            )
            for pod in self.pods
            if subset is None or pod.address in subset or pod.address.rpartition(":")[0] in subset
        ]

    def random_endpoints(self) -> list[str]:
        """For a request without a body, of which nothing is known."""
        return self._named(shuffled(self.loads(), self._rng))

    def choose(self, request: IncomingRequest) -> list[str]:
        """Addresses, the chosen one first; none when there is no pod to choose."""
        loads = self.loads(request.subset)
        if not loads:
            return []
        chosen = self._named(self._session_first(request, self._ranked(request, loads)))
        if self.config.choice == "prefix":
            self._prefixes.sent(chosen[0], block_keys(request.target_model, request.prompt))
        return chosen

    def _ranked(self, request: IncomingRequest, loads: list[PodLoad]) -> list[PodLoad]:
        key = f"{self.config.seed}:{request.id}".encode()
        if self.config.choice == "round-robin":
            self._turn += 1
            return by_turn(loads, self._turn - 1)
        if self.config.choice == "random":
            return shuffled(loads, self._rng)
        if self.config.choice == "least-loaded":
            return by_load(loads, key)
        keys = block_keys(request.target_model, request.prompt)
        known = {pod.address: self._prefixes.known_share(pod.address, keys) for pod in loads}
        return by_prefix_and_load(loads, known, key)

    def _named(self, ranked: Sequence[PodLoad]) -> list[str]:
        return [pod.address for pod in ranked[: 1 + self.config.fallbacks]]

    # -- sessions --------------------------------------------------------------------------

    def _session_first(self, request: IncomingRequest, ranked: list[PodLoad]) -> list[PodLoad]:
        token = request.headers.get("x-session-token")
        if not token or not self.config.session_affinity:
            return ranked
        names = {pod.address: pod.name for pod in self.pods}
        wanted = _name_in(token)
        return sorted(ranked, key=lambda pod: names[pod.address] != wanted)

    def session_token(self, address: str) -> str | None:
        """What a response from this pod says, for the client to bring back."""
        if not self.config.session_affinity:
            return None
        names = {pod.address: pod.name for pod in self.pods}
        name = names.get(address)
        return None if name is None else base64.b64encode(name.encode()).decode()

    # -- what is under way -----------------------------------------------------------------

    def begun(self, address: str) -> None:
        """A request is on its way to the pod."""
        self._in_flight[address] += 1

    def over(self, address: str) -> None:
        """That request is over."""
        self._in_flight[address] -= 1
        if self._in_flight[address] <= 0:
            del self._in_flight[address]

    def in_flight(self, address: str) -> int:
        return self._in_flight[address]


def _name_in(token: str) -> str:
    try:
        return base64.b64decode(token, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
