"""The faults and oddities a request can ask a picker for, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from batch_gateway.simulator.answers.replies import LLMD_REFUSALS

__all__ = [
    "FAULT_HEADER",
    "MODEL_PREFIX",
    "PICKER_FAULTS",
    "REFUSALS",
    "PickerFault",
    "fault_in_model",
    "parse_picker_fault",
]

FAULT_HEADER = "x-simulate-picker-fault"
MODEL_PREFIX = "picker-fault-"


REFUSALS = LLMD_REFUSALS.keys() - {"evicted"}
"""Faults that refuse a request as the real picker does; eviction is `evict`."""


class _Description(NamedTuple):
    """What a fault does, and its argument: "" when it takes none, then what it is by default."""

    meaning: str
    argument: str = ""
    default: str = ""


PICKER_FAULTS: Mapping[str, _Description] = MappingProxyType(
    {
        # What it decides.
        "dead-first": _Description("N endpoints that are dead go before the right one", "N", "1"),
        "all-dead": _Description("N endpoints where nobody listens, and no other", "N", "1"),
        "no-destination": _Description("the answer names no endpoint"),
        # How it says so.
        "only-metadata": _Description("the endpoint is in the metadata and not in the header"),
        "only-header": _Description("the endpoint is in the header and not in the metadata"),
        "old-headers": _Description("only x-gateway- headers are understood, as by GAIE 1.5"),
        "path": _Description("`:path` is set to PATH", "PATH", "/v1/completions"),
        "set-header": _Description("a header is set", "NAME:VALUE", "x-prefiller-host-port:p:1"),
        "remove-header": _Description("a header is to be removed", "NAME", "x-remove-me"),
        "grow-body": _Description("the body gets a `user` of N bytes", "N", "200000"),
        "small-chunks": _Description("the body comes in chunks of N bytes", "N", "10"),
        "lightweight": _Description("as GAIE's lightweight picker: see below"),
        "early-close": _Description("the stream ends with OK behind the answer to the request"),
        "silent-response": _Description("nothing that is said of the response is answered"),
        # Not at all, or not now.
        "slow-pick": _Description("the answer comes SECONDS late", "SECONDS", "1"),
        "hang": _Description("nothing is ever answered"),
        "evict": _Description("429 while the request is under way, for `reason` (evicted)"),
        **{name: _Description("the refusal of that name") for name in sorted(REFUSALS)},
        "grpc-status": _Description("the call ends with gRPC status N", "N", "14"),
        "close": _Description("the call ends with OK before its time"),
        "reset-stream": _Description("RST_STREAM with HTTP/2 error N", "N", "2"),
        "reset-connection": _Description("TCP reset"),
        "goaway": _Description("GOAWAY with HTTP/2 error N; the call goes on", "N", "0"),
    }
)  # fmt: skip
"""Every fault by name, besides `status-NNN`, which refuses with that status."""

_MOMENTS = ("start", "picked", "response")
_ANYTIME = frozenset({"grpc-status", "close", "reset-stream", "reset-connection", "goaway"})
_OPTIONS = ("after", "at", "reason", "says", "times")
_STATUS = re.compile(r"status-([1-9][0-9][0-9])")


class PickerFault(NamedTuple):
    """One fault, as it was asked for.

    Attributes:
        name: a key of `PICKER_FAULTS`, or "status".
        argument: its own, or the default.
        options: `times` (only the first so many attempts of one request id); `at` ("start":
            as soon as the headers are there, "picked": behind the answer, "response": when
            the response headers come) of faults that end a call; `after` (seconds later);
            `reason` of an eviction; `says`, the message of a gRPC status.
    """

    name: str
    argument: str
    options: Mapping[str, str]

    @property
    def number(self) -> int:
        return int(self.argument)

    @property
    def seconds(self) -> float:
        """How long `slow-pick` lasts."""
        return float(self.argument)

    @property
    def at(self) -> str | None:
        """When it strikes; None for one that shapes what is said, and for an eviction."""
        if self.name in _ANYTIME:
            return self.options.get("at", "start")
        return "picked" if self.name == "early-close" else None

    @property
    def after(self) -> float:
        return float(self.options.get("after", 0))

    @property
    def times(self) -> int | None:
        return int(self.options["times"]) if "times" in self.options else None


def parse_picker_fault(spec: str) -> PickerFault:
    """Read `NAME[=ARGUMENT][;option=value]...`. Raises ValueError that says what is wrong."""
    head, *rest = (part.strip() for part in spec.split(";"))
    name, _, argument = head.partition("=")
    return _build(name, argument, rest)


def fault_in_model(model: str) -> PickerFault | None:
    """The fault in a model name such as `picker-fault-grpc-status-8`, if any.

    Raises ValueError.
    """
    if not model.startswith(MODEL_PREFIX):
        return None
    head, *rest = model.removeprefix(MODEL_PREFIX).split(";")
    if head in PICKER_FAULTS or _STATUS.fullmatch(head):
        return _build(head, "", rest)
    name, _, argument = head.rpartition("-")
    return _build(name, argument, rest)


def _build(name: str, argument: str, parts: list[str]) -> PickerFault:
    options = _options(parts)
    status = _STATUS.fullmatch(name)
    if status is not None:
        return PickerFault("status", status.group(1), options)
    description = PICKER_FAULTS.get(name)
    if description is None:
        known = ", ".join(["status-NNN", *PICKER_FAULTS])
        raise ValueError(f"there is no picker fault {name!r}; there are {known}")
    if argument and not description.argument:
        raise ValueError(f"the picker fault {name!r} takes no argument, got {argument!r}")
    if "at" in options and name not in _ANYTIME:
        raise ValueError(f"the picker fault {name!r} has its own time; it takes no at=")
    argument = argument or description.default
    _check(name, description.argument, argument)
    return PickerFault(name, argument, options)


def _check(name: str, kind: str, argument: str) -> None:
    pattern = {"N": r"[0-9]+", "SECONDS": r"[0-9]+(\.[0-9]+)?", "NAME:VALUE": r"[^:]+:.*"}
    if not re.fullmatch(pattern.get(kind, r".*"), argument):
        raise ValueError(f"the picker fault {name}={argument!r} is not {name}={kind}")


def _options(parts: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise ValueError(f"there is no picker fault option {key!r}; there are {known}")
        if key == "at" and value not in _MOMENTS:
            raise ValueError(f"at={value!r} is not one of {', '.join(_MOMENTS)}")
        if key in ("after", "times") and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            raise ValueError(f"{key}={value!r} is not a number")
        if key == "times" and "." in value:
            raise ValueError(f"times={value!r} is not a whole number")
        options[key] = value
    return options
