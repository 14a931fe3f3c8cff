"""The contenders by name: ours, those that it is measured against, and any other that can be
imported."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from benchmarks.worlds.knowing import KNOWING
from benchmarks.worlds.knowing_people import KnowsPeople
from benchmarks.worlds.ours import Ours, OursWithMetrics
from benchmarks.worlds.policy import AIMD, Fixed, Policy

__all__ = ["AIMD", "FORMS", "Fixed", "Ours", "OursWithMetrics", "Policy", "policy_named"]

FORMS = {"plain": "", "streamed": ", streamed", "metrics": ", with metrics"}
"""How much a controller sees, and what that adds to its name."""


def policy_named(name: str) -> Policy:
    """A new policy: `adaptive`, `AIMD`, `fixed 64`, or `module:factory`; a form may follow.

    A factory is called with whether answers are streamed and returns a `Policy`, or it is called
    with nothing and returns a controller with the methods of the product's own.
    """
    if (knowing := KnowsPeople.named(name)) is not None:
        return knowing
    base, _, form = name.partition(", ")
    streamed, metrics = form == "streamed", form == "with metrics"
    if base in KNOWING:
        return KNOWING[base]()
    if base == "AIMD":
        return AIMD()
    if base.startswith("fixed "):
        fixed = Fixed(int(base.removeprefix("fixed ").replace(",", "")))
        fixed.sees_first_token = streamed
        return fixed
    if base == "adaptive":
        return OursWithMetrics() if metrics else Ours(sees_first_token=streamed)
    found = _made(base, streamed)
    if isinstance(found, Policy):
        return found
    return OursWithMetrics(found) if metrics else Ours(found, sees_first_token=streamed)


def _made(spec: str, streamed: bool) -> Any:
    module, _, factory = spec.partition(":")
    if not factory:
        raise SystemExit(f"{spec}: no policy is called so; see --help")
    make = getattr(importlib.import_module(module), factory)
    return make(streamed) if inspect.signature(make).parameters else make()
