"""What a simulated engine can do: seats, queue, KV cache, and how long a step takes."""

from __future__ import annotations

import random
from dataclasses import dataclass

from batch_gateway.durations import parse_duration
from batch_gateway.simulator.simulator_config import SimulatorConfig

__all__ = ["JITTER_STEPS", "Capacity"]

JITTER_STEPS = 16
"""How many steps share one random factor; longer stretches of steps are not taken at once."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The part of `SimulatorConfig` that the model of batching needs; times in seconds."""

    seats: int = 256
    queue_limit: int | None = None
    queue_ttl: float | None = None
    kv_cache_tokens: int | None = None
    prefill_tokens_per_second: float = 10_000.0
    prefill_chunk_tokens: int = 512
    time_per_token: float = 0.0219
    load_growth: float = 0.0052
    tokens_per_second: float | None = None
    jitter: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, config: SimulatorConfig) -> Capacity:
        """From a configuration, with `latency_scale` (more than 0) applied to every time."""
        scale = config.latency_scale
        ttl, ceiling = config.queue_ttl, config.tokens_per_second
        return cls(
            seats=config.seats,
            queue_limit=config.queue_limit,
            queue_ttl=None if ttl is None else parse_duration(ttl) * scale,
            kv_cache_tokens=config.kv_cache_tokens,
            prefill_tokens_per_second=config.prefill_tokens_per_second / scale,
            prefill_chunk_tokens=config.prefill_chunk_tokens,
            time_per_token=parse_duration(config.time_per_token) * scale,
            load_growth=config.load_growth,
            tokens_per_second=None if ceiling is None else ceiling / scale,
            jitter=config.jitter,
            seed=config.seed,
        )

    def step_time(self, sequences: int, prompt_tokens: int = 0, step: int = 0) -> float:
        """Seconds that one step takes with so many sequences and prompt tokens in it.

        `step` is its number since the start, which with the seed decides its jitter.
        """
        decode = self.time_per_token * (1 + self.load_growth * max(0, sequences - 1))
        if self.tokens_per_second is not None:
            decode = max(decode, sequences / self.tokens_per_second)
        total = decode + prompt_tokens / self.prefill_tokens_per_second
        return total * self._jitter_factor(step) if self.jitter else total

    def _jitter_factor(self, step: int) -> float:
        # Log-normal with mean 1: never negative, and it does not change the mean throughput.
        draws = random.Random(f"{self.seed}:{step // JITTER_STEPS}")  # noqa: S311 - not a secret
        return draws.lognormvariate(-(self.jitter**2) / 2, self.jitter)
