"""How a simulated endpoint picker behaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from batch_gateway.errors import ConfigError

__all__ = ["Choice", "PickerConfig"]

Choice = Literal["least-loaded", "prefix", "round-robin", "random"]


@dataclass(frozen=True, kw_only=True)
class PickerConfig:
    """Everything about a simulated picker.

    Attributes:
        choice: how a pod is chosen. "least-loaded" takes the one with the fewest requests;
            "prefix" weighs how much of the prompt a pod has read before against its load;
            "round-robin" and "random" look at neither.
        fallbacks: how many further endpoints are named behind the chosen one.
        rewrites: the model that is asked for instead, by the model of the request.
        session_affinity: hand out `x-session-token`, and send whoever brings it back to the
            same pod.
        seed: of random choices, and of who comes first among pods that are equally good.
        decisions_limit: how many decisions are remembered, the newest.
    """

    choice: Choice = "least-loaded"
    fallbacks: int = 0
    rewrites: Mapping[str, str] = field(default_factory=dict[str, str])
    session_affinity: bool = False
    seed: int = 0
    decisions_limit: int = 100_000

    def __post_init__(self) -> None:
        if self.choice not in get_args(Choice):
            known = ", ".join(get_args(Choice))
            raise ConfigError("choice", f"{self.choice!r} is not one of {known}")
        _require_count("fallbacks", self.fallbacks, 0)
        _require_count("decisions_limit", self.decisions_limit, 1)
        object.__setattr__(self, "rewrites", MappingProxyType(dict(self.rewrites)))

    def with_changes(self, **changes: Any) -> PickerConfig:
        """A copy with some settings changed. Raises ConfigError for an unknown name."""
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise ConfigError(unknown[0], "is not a setting of the simulated picker")
        return replace(self, **changes)


def _require_count(name: str, value: object, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(name, f"{value!r} is not a whole number of at least {minimum}")
