"""Prometheus text under the names that vLLM uses, for whatever scrapes model servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from batch_gateway.histogram import Histogram
from batch_gateway.simulator.inference import Inference
from batch_gateway.simulator.pacing import Pacing
from batch_gateway.simulator.prefix_cache import PrefixCache
from batch_gateway.simulator.request_journal import Journal

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counts what was answered; the gauges are read when the page is asked for."""

    def __init__(self, pacing: Pacing, journal: Journal, prefixes: PrefixCache) -> None:
        self._prefixes = prefixes
        self._pacing = pacing
        self._journal = journal
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._succeeded: Counter[str] = Counter()
        self._first_token, self._latency = Histogram(_SECONDS), Histogram(_SECONDS)

    def observe(self, inference: Inference, status: int, whole: bool) -> None:
        """An answer has ended."""
        if not whole or status != 200:
            return
        self._prompt_tokens += inference.prompt_tokens
        self._generation_tokens += inference.output_tokens * inference.width
        self._succeeded[inference.answer.model] += 1
        self._latency.add(inference.seconds)
        if inference.first_token_seconds is not None:
            self._first_token.add(inference.first_token_seconds)

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
        yield from _head(name, "Requests that were answered.", "counter")
        for model, count in self._succeeded.items():
            yield f'{name}{{model_name="{_escaped(model)}"}} {count}'
        name = "simulator:responses_total"
        yield from _head(name, "Answers by HTTP status; 0 is none.", "counter")
        for status, count in self._journal.by_status.items():
            yield f'{name}{{status="{status}"}} {count}'

    def _histograms(self) -> Iterable[str]:
        for what, meaning, seen in (
            ("time_to_first_token", "From arrival to the first token.", self._first_token),
            ("e2e_request_latency", "From arrival to the end of the answer.", self._latency),
        ):
            name = f"vllm:{what}_seconds"
            yield from _head(name, meaning, "histogram")
            for bound, count in seen.cumulative():
                yield f'{name}_bucket{{le="{bound}"}} {count}'
            yield f"{name}_sum {seen.sum}"
            yield f"{name}_count {seen.count}"


def _single(name: str, meaning: str, value: float, kind: str = "gauge") -> Iterable[str]:
    yield from _head(name, meaning, kind)
    yield f"{name} {value}"


def _head(name: str, meaning: str, kind: str) -> Iterable[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
