"""Prometheus text under the names that vLLM uses, for whatever scrapes model servers."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from batch_gateway.simulator.inference import Inference
from batch_gateway.simulator.journal import Journal
from batch_gateway.simulator.pacing import Pacing
from batch_gateway.simulator.prefix_cache import PrefixCache

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class _Histogram:
    def __init__(self, name: str, meaning: str) -> None:
        self._name = name
        self._meaning = meaning
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(_SECONDS, value)] += 1
        self._sum += value

    def lines(self) -> Iterable[str]:
        yield f"# HELP {self._name} {self._meaning}"
        yield f"# TYPE {self._name} histogram"
        total = 0
        bounds = [*map(str, _SECONDS), "+Inf"]
        for bound, count in zip(bounds, self._counts, strict=True):
            total += count
            yield f'{self._name}_bucket{{le="{bound}"}} {total}'
        yield f"{self._name}_sum {self._sum}"
        yield f"{self._name}_count {total}"


class Metrics:
    """Counts what was answered; the gauges are read when the page is asked for."""

    def __init__(self, pacing: Pacing, journal: Journal, prefixes: PrefixCache) -> None:
        self._prefixes = prefixes
        self._pacing = pacing
        self._journal = journal
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._succeeded: Counter[str] = Counter()
        self._first_token = _Histogram(
            "vllm:time_to_first_token_seconds", "From arrival to the first token."
        )
        self._latency = _Histogram(
            "vllm:e2e_request_latency_seconds", "From arrival to the end of the answer."
        )

    def observe(self, inference: Inference, status: int, whole: bool) -> None:
        """An answer has ended."""
        if not whole or status != 200:
            return
        self._prompt_tokens += inference.prompt_tokens
        self._generation_tokens += inference.output_tokens * inference.width
        self._succeeded[inference.answer.model] += 1
        self._latency.observe(inference.seconds)
        if inference.first_token_seconds is not None:
            self._first_token.observe(inference.first_token_seconds)

    def page(self) -> str:
        """The Prometheus text format, version 0.0.4."""
        return "\n".join([*self._gauges(), *self._counters(), *self._histograms()]) + "\n"

    def _gauges(self) -> Iterable[str]:
        pacing = self._pacing
        usage = "Share of the KV cache in use, 0 to 1."
        yield from _single("vllm:num_requests_running", "Running requests.", pacing.running)
        yield from _single("vllm:num_requests_waiting", "Queued requests.", pacing.waiting)
        yield from _single("vllm:kv_cache_usage_perc", usage, pacing.kv_usage)
        # The name before vLLM 0.10, which schedulers may still read.
        yield from _single("vllm:gpu_cache_usage_perc", usage, pacing.kv_usage)

    def _counters(self) -> Iterable[str]:
        tokens = ("prompt", self._prompt_tokens), ("generation", self._generation_tokens)
        for kind, count in tokens:
            yield from _single(f"vllm:{kind}_tokens_total", f"{kind} tokens.", count, "counter")
        prefixes = ("queries", self._prefixes.queried_tokens), ("hits", self._prefixes.hit_tokens)
        for kind, count in prefixes:
            meaning = f"Prefix cache {kind}, in tokens."
            yield from _single(f"vllm:prefix_cache_{kind}_total", meaning, count, "counter")
        name = "vllm:request_success_total"
        yield f"# HELP {name} Requests that were answered."
        yield f"# TYPE {name} counter"
        for model, count in self._succeeded.items():
            yield f'{name}{{model_name="{_escaped(model)}"}} {count}'
        name = "simulator:responses_total"
        yield f"# HELP {name} Answers by HTTP status; 0 is none."
        yield f"# TYPE {name} counter"
        for status, count in self._journal.by_status.items():
            yield f'{name}{{status="{status}"}} {count}'

    def _histograms(self) -> Iterable[str]:
        yield from self._first_token.lines()
        yield from self._latency.lines()


def _single(name: str, meaning: str, value: float, kind: str = "gauge") -> Iterable[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    yield f"{name} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
