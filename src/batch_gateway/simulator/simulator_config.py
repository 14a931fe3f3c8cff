"""How a simulated gateway behaves: capacity, latency, answers, refusals, faults, access."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from batch_gateway.config_checks import (
    PathLike,
    normalise_duration,
    require_choice,
    require_count,
    require_kind,
    require_kinds,
    require_number,
    require_positive,
)
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.simulator.answers.answer import OutputDistribution
from batch_gateway.simulator.faults import parse_fault
from batch_gateway.simulator.server_tls import require_certificates

__all__ = ["RefusalStyle", "SimulatorConfig", "checked_rates"]

RefusalStyle = Literal["llm-d", "openai"]


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Everything about a simulated gateway. Durations are seconds or Go-style strings.

    The defaults are one workstation GPU serving a 7B model; see `small_gpu`.

    Attributes:
        seats: sequences that run at the same time; further ones queue.
        queue_limit: how many may queue before a request is refused with 429; None never refuses.
        queue_ttl: the longest a request may queue before it is refused; None waits for ever.
        kv_cache_tokens: tokens of prompts and answers that running sequences hold together;
            None is no limit. A request that never fits is refused with 400.
        prefix_cache_tokens: tokens of earlier prompts that need not be read again where a new
            one begins the same way; 0 is no prefix cache.
        prefill_tokens_per_second: how fast prompts are read.
        prefill_chunk_tokens: prompt tokens read in one step of the engine, between which every
            running sequence gets its next token.
        time_per_token: between two tokens of one sequence that runs alone.
        load_growth: share of `time_per_token` that each further running sequence adds to it.
        tokens_per_second: ceiling for all running sequences together; None is no ceiling.
        jitter: standard deviation of the random factor on step times; 0 is none.
        seed: of the jitter and of `faults`.
        latency_scale: factor on every simulated time; 0 answers at once, without a model.
        output_tokens: mean length of an answer, before `max_tokens` cuts it.
        output_distribution: "fixed", "uniform" (0.5 to 1.5 times the mean) or "geometric".
        default_max_tokens: the limit for a request that names none.
        embedding_dimensions: length of vectors for a request that names none.
        objectives: priority by name of an InferenceObjective, as in its header. Higher goes
            first; negative is sheddable.
        requests_per_minute: a quota; beyond it requests are refused with 429, whatever the load.
            None is no quota.
        requests_burst: how many of the quota may come at once after a rest.
        refusal_style: the shape of refusals under load: "llm-d" (dropped-reason headers and
            plain text) or "openai" (JSON and Retry-After).
        faults: probability by fault, such as {"status-503": 0.01, "stall": 0.001}.
        models: the names it serves; None serves any.
        pod_name: what every answer says in `x-inference-pod`; None says nothing.
        journal_limit: how many request ids are remembered, the newest.
        api_key: what `Authorization: Bearer` must say; None lets everybody in.
        tls_certificate, tls_key: PEM files that make it an https server; both or neither.
        tls_client_ca: PEM file of the authority that client certificates must come from.
    """

    seats: int = 256
    queue_limit: int | None = None
    queue_ttl: Duration | None = None
    kv_cache_tokens: int | None = None
    prefix_cache_tokens: int = 0
    prefill_tokens_per_second: float = 10_000.0
    prefill_chunk_tokens: int = 512
    time_per_token: Duration = 0.0219
    load_growth: float = 0.0052
    tokens_per_second: float | None = None
    jitter: float = 0.0
    seed: int = 0
    latency_scale: float = 1.0
    output_tokens: int = 32
    output_distribution: OutputDistribution = "uniform"
    default_max_tokens: int = 256
    embedding_dimensions: int = 8
    objectives: Mapping[str, int] = field(default_factory=dict[str, int])
    requests_per_minute: float | None = None
    requests_burst: int = 1
    refusal_style: RefusalStyle = "llm-d"
    faults: Mapping[str, float] = field(default_factory=dict[str, float])
    models: Sequence[str] | None = None
    pod_name: str | None = None
    journal_limit: int = 1_000_000
    api_key: str | None = field(default=None, repr=False)
    tls_certificate: PathLike | None = None
    tls_key: PathLike | None = None
    tls_client_ca: PathLike | None = None

    @classmethod
    def instant(cls, **overrides: Any) -> SimulatorConfig:
        """Answers at once: for tests of behaviour, and as a fast server in benchmarks."""
        settings: dict[str, Any] = {"latency_scale": 0.0, "output_distribution": "fixed"}
        return cls(**(settings | overrides))

    @classmethod
    def small_gpu(cls, **overrides: Any) -> SimulatorConfig:
        """One workstation GPU serving a 7B model: about 2,000 tokens/s at 64 in flight.

        A thousand short requests take ten to twenty seconds. `docs/simulator.md` has the
        published measurements that the times come from.
        """
        settings: dict[str, Any] = {"jitter": 0.05}
        return cls(**(settings | overrides))

    def __post_init__(self) -> None:
        require_kinds(self, but=("models",))
        require_kind("seed", self.seed, int)
        self._normalise_durations()
        for name, minimum in _COUNTS.items():
            require_count(name, getattr(self, name), minimum=minimum)
        for name in ("queue_limit", "kv_cache_tokens"):
            if getattr(self, name) is not None:
                minimum = 0 if name == "queue_limit" else 1
                require_count(name, getattr(self, name), minimum=minimum)
        for name in ("load_growth", "jitter", "latency_scale"):
            require_number(name, getattr(self, name), finite=True)
        for name in ("prefill_tokens_per_second", "tokens_per_second", "requests_per_minute"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), above_zero=True, finite=True)
        require_choice("output_distribution", self.output_distribution, OutputDistribution)
        require_choice("refusal_style", self.refusal_style, RefusalStyle)
        object.__setattr__(self, "faults", checked_rates(self.faults, parse_fault))
        object.__setattr__(self, "objectives", MappingProxyType(dict(self.objectives)))
        self._check_models()
        self._check_tls()

    def with_changes(self, **changes: Any) -> SimulatorConfig:
        """A copy with some settings changed. Raises ConfigError for an unknown name."""
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise ConfigError(unknown[0], "is not a setting of the simulator")
        return replace(self, **changes)

    def _normalise_durations(self) -> None:
        normalise_duration(self, "time_per_token")
        require_positive("time_per_token", seconds(self.time_per_token))
        if self.queue_ttl is not None:
            normalise_duration(self, "queue_ttl")

    def _check_models(self) -> None:
        if self.models is None:
            return
        if isinstance(self.models, str) or not self.models:
            raise ConfigError("models", "must be a list of names, or None to serve any")
        require_kind("models", self.models, Sequence[str])
        object.__setattr__(self, "models", tuple(self.models))

    def _check_tls(self) -> None:
        require_certificates(self.tls_certificate, self.tls_key, self.tls_client_ca)


_COUNTS = {
    "seats": 1,
    "prefix_cache_tokens": 0,
    "journal_limit": 1,
    "prefill_chunk_tokens": 1,
    "output_tokens": 1,
    "default_max_tokens": 1,
    "embedding_dimensions": 1,
    "requests_burst": 1,
}


def checked_rates(
    faults: Mapping[str, float], parse: Callable[[str], object]
) -> Mapping[str, float]:
    """A copy of probabilities by fault. Raises ConfigError, also for what `parse` refuses."""
    for spec, rate in faults.items():
        try:
            parse(spec)
        except ValueError as error:
            raise ConfigError("faults", str(error)) from error
        require_number(f"faults[{spec!r}]", rate, finite=True)
    if sum(faults.values()) > 1 + 1e-9:
        raise ConfigError("faults", "the probabilities add up to more than 1")
    return MappingProxyType(dict(faults))
