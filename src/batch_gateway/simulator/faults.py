"""The faults a request can ask for, how they are written, and which one a request meets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

__all__ = [
    "FAULTS",
    "FAULT_OPTIONS",
    "MODEL_PREFIX",
    "Fault",
    "FaultKind",
    "drawn_spec",
    "fault_from_model",
    "fault_from_rates",
    "parse_fault",
]

MODEL_PREFIX = "fault-"


class FaultKind(Enum):
    """Where in an answer a fault does its work."""

    ANSWER = "another answer takes the place of the right one"
    WIRE = "the right answer is sent wrongly, or not at all"
    STREAM = "the event stream of an answer goes wrong"


@dataclass(frozen=True)
class FaultDescription:
    """What a fault does, and what its argument means ("" when it takes none)."""

    kind: FaultKind
    meaning: str
    argument: str = ""
    default: float = 0.0


_ANSWER, _WIRE, _STREAM = FaultKind.ANSWER, FaultKind.WIRE, FaultKind.STREAM

FAULTS: Mapping[str, FaultDescription] = MappingProxyType(
    {
        "refuse-then-ok": FaultDescription(
            _ANSWER,
            "the first N attempts of a request id get `status` (503), later ones the answer",
            "N",
            1,
        ),
        "empty-body": FaultDescription(_ANSWER, "200 with Content-Length 0"),
        "not-json": FaultDescription(_ANSWER, "200 with a sentence where JSON should be"),
        "truncated-json": FaultDescription(_ANSWER, "200, framed well, half of the JSON"),
        "html-502": FaultDescription(_ANSWER, "502 with a proxy's HTML page"),
        "empty-500": FaultDescription(_ANSWER, "500 without a body, as Envoy without a picker"),
        "saturated": FaultDescription(_ANSWER, "llm-d: queue full, 429"),
        "ttl-expired": FaultDescription(_ANSWER, "llm-d: waited too long in the queue, 429"),
        "no-endpoints": FaultDescription(_ANSWER, "llm-d: no model server, 503"),
        "shutting-down": FaultDescription(_ANSWER, "llm-d: draining, 503"),
        "evicted": FaultDescription(_ANSWER, "llm-d: evicted in flight, 429"),
        "shed": FaultDescription(_ANSWER, "llm-d: sheddable request dropped, 429, no reason"),
        "admission-refused": FaultDescription(_ANSWER, "llm-d: an admission plugin said no, 500"),
        "parse-error": FaultDescription(_ANSWER, "llm-d: request not understood, 400"),
        "delay": FaultDescription(_WIRE, "the answer comes SECONDS late", "SECONDS", 1),
        "stall": FaultDescription(_WIRE, "nothing is ever answered"),
        "stall-body": FaultDescription(_WIRE, "headers and half of the body, then nothing"),
        "slow-headers": FaultDescription(
            _WIRE, "SECONDS pass before each line of the head", "SECONDS", 0.5
        ),
        "reset-before-headers": FaultDescription(_WIRE, "TCP reset instead of an answer"),
        "reset-during-headers": FaultDescription(_WIRE, "TCP reset inside the head"),
        "reset-after-headers": FaultDescription(_WIRE, "TCP reset after the head"),
        "half-body": FaultDescription(_WIRE, "right Content-Length, half of the body, closed"),
        "short-length": FaultDescription(
            _WIRE, "whole body, N bytes short of its Content-Length, closed", "N", 16
        ),
        "long-length": FaultDescription(
            _WIRE, "whole body, and N bytes more than its Content-Length", "N", 16
        ),
        "endless-body": FaultDescription(_WIRE, "a chunked body that never ends"),
        "malformed-head": FaultDescription(_WIRE, "a status line that is not HTTP"),
        "huge-head": FaultDescription(_WIRE, "headers that never end"),
        "close-without-answer": FaultDescription(_WIRE, "closed in good order, no byte sent"),
        "close-idle": FaultDescription(_WIRE, "good answer, then closed without saying so"),
        "close-on-next-request": FaultDescription(
            _WIRE, "good answer; the next request on that connection is met with a reset"
        ),
        "until-close": FaultDescription(_WIRE, "good answer without a length, ended by closing"),
        "chunked": FaultDescription(_WIRE, "good answer in chunks of N bytes", "N", 64),
        "informational": FaultDescription(_WIRE, "103 Early Hints, then the good answer"),
        "sse-truncated": FaultDescription(_STREAM, "closed after half of the events"),
        "sse-bad-chunk": FaultDescription(_STREAM, "half way, one event that is not JSON"),
        "sse-error-event": FaultDescription(_STREAM, "half way, an error event, then the end"),
        "sse-no-done": FaultDescription(_STREAM, "every event but the last one"),
    }
)
"""Every fault by name, besides `status-NNN`, which answers with that status."""

FAULT_OPTIONS = frozenset(
    {"after", "retry-after", "retry-after-ms", "should-retry", "status", "times"}
)
_STATUS = re.compile(r"status-([1-9][0-9][0-9])")


@dataclass(frozen=True)
class Fault:
    """One fault, as it was asked for.

    Attributes:
        name: a key of `FAULTS`, or "status".
        kind: where it acts.
        argument: seconds, a count or a status, by its description.
        options: `after` (seconds until it acts), `times` (only the first so many attempts of a
            request id), and for refusals `status`, `retry-after`, `retry-after-ms`,
            `should-retry`.
    """

    name: str
    kind: FaultKind
    argument: float
    options: Mapping[str, str]

    @property
    def after(self) -> float:
        return float(self.options.get("after", 0))

    @property
    def times(self) -> int | None:
        """How many attempts of one request id meet it; None is every one."""
        if self.name == "refuse-then-ok":
            return int(self.argument)
        return int(self.options["times"]) if "times" in self.options else None

    @property
    def status(self) -> int:
        """The HTTP status of `status-NNN` and `refuse-then-ok`."""
        return int(self.argument) if self.name == "status" else int(self.options["status"])


def parse_fault(spec: str) -> Fault:
    """Read `NAME[=ARGUMENT][;option=value]...`, e.g. `status-429;retry-after=2;times=1`.

    Raises ValueError that says what is wrong with it.
    """
    head, *rest = (part.strip() for part in spec.split(";"))
    name, _, argument = head.partition("=")
    return _build(name, argument, _options(rest))


def fault_from_model(model: str) -> Fault | None:
    """The fault in a model name such as `fault-status-500` or `fault-delay-0.2`, if any."""
    if not model.startswith(MODEL_PREFIX):
        return None
    head, *rest = model.removeprefix(MODEL_PREFIX).split(";")
    if _STATUS.fullmatch(head) or head in FAULTS:
        return _build(head, "", _options(rest))
    name, _, argument = head.rpartition("-")
    return _build(name, argument, _options(rest))


def _build(name: str, argument: str, options: dict[str, str]) -> Fault:
    status = _STATUS.fullmatch(name)
    if status is not None:
        return Fault("status", _ANSWER, float(status.group(1)), options)
    description = FAULTS.get(name)
    if description is None:
        known = ", ".join(["status-NNN", *FAULTS])
        raise ValueError(f"there is no fault {name!r}; there are {known}")
    if argument and not description.argument:
        raise ValueError(f"the fault {name!r} takes no argument, got {argument!r}")
    value = _number(name, argument) if argument else description.default
    if name == "refuse-then-ok":
        options.setdefault("status", "503")
    return Fault(name, description.kind, value, options)


def _options(parts: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in FAULT_OPTIONS:
            known = ", ".join(sorted(FAULT_OPTIONS))
            raise ValueError(f"there is no fault option {key!r}; there are {known}")
        if key in ("after", "times"):
            _number(key, value)
        if key == "status" and not re.fullmatch(r"[1-9][0-9][0-9]", value):
            raise ValueError(f"the fault option status={value!r} is not an HTTP status")
        options[key] = value
    return options


def _number(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError(f"the fault argument {name}={text!r} is not a number")
    return float(text)


def fault_from_rates(rates: Mapping[str, float], seed: int, key: str, attempt: int) -> Fault | None:
    """The fault that chance gives this attempt of the request `key`.

    Depends on nothing but its arguments, so the order in which requests arrive does not matter.
    """
    spec = drawn_spec(rates, seed, key, attempt)
    return None if spec is None else parse_fault(spec)


def drawn_spec(rates: Mapping[str, float], seed: int, key: str, attempt: int) -> str | None:
    """`fault_from_rates` before the fault is read."""
    if not rates:
        return None
    digest = hashlib.blake2b(f"{seed}:{key}:{attempt}".encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "big") / 2**64
    for spec, rate in rates.items():
        if draw < rate:
            return spec
        draw -= rate
    return None
