"""Who is measured, under which name, on which event loop, and who is too slow for what."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from benchmarks.contenders.contract import Open

__all__ = ["BASELINE", "ROSTER", "Contender"]

BASELINE = "aiohttp + orjson"


@dataclass(frozen=True)
class Contender:
    """`opener` is "module:function" below this package, imported only where it runs.

    `most_in_flight` is where measuring it would take minutes; `rounds` caps the repetitions.
    """

    name: str
    opener: str
    loop: str = "uvloop"
    most_in_flight: int = 1_000_000
    rounds: int = 1_000
    only_plain: bool = False

    def load(self) -> Open:
        module, _, function = self.opener.partition(":")
        return getattr(importlib.import_module(f"benchmarks.contenders.{module}"), function)


ROSTER = {
    contender.name: contender
    for contender in (
        Contender("floor: asyncio.Protocol + httptools", "floor:open_client"),
        Contender("batch-gateway, bare transport", "ours:open_bare_transport"),
        Contender("batch-gateway, generate()", "ours:open_generate"),
        Contender("batch-gateway, generate(), stock asyncio", "ours:open_generate", loop="asyncio"),
        Contender(BASELINE, "bare_aiohttp:open_client"),
        Contender("pyreqwest + orjson", "bare_pyreqwest:open_client"),
        Contender(
            "openai SDK",
            "openai_sdk:open_client",
            most_in_flight=1_000,
            rounds=1,
            only_plain=True,
        ),
        Contender(
            "openai SDK on aiohttp",
            "openai_sdk:open_client_on_aiohttp",
            most_in_flight=1_000,
            rounds=1,
            only_plain=True,
        ),
    )
}
