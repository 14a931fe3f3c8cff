"""Conditions such as "p95>30s" under which a run counts as failed, and whether one holds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from batch_gateway.durations import format_duration, parse_duration
from batch_gateway.engine.progress import RunOutcome, RunSummary
from batch_gateway.errors import ConfigError
from batch_gateway.histogram import Histogram
from batch_gateway.report.distributions import Distributions
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["Threshold", "which_hold"]

_FORM = rare_pattern(r"\s*([^<>=]*?)\s*(>=|<=|>|<)\s*([^<>=]*?)\s*")
_MEASURE = rare_pattern(
    r"(?:(latency|ttft|tokens_per_second)\.)?(min|mean|max|p(?!0)[0-9]{1,2}(?:\.[0-9]{1,3})?)"
    r"|(failed|truncated)"
)
_NUMBER = rare_pattern(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(%?)")
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_RATE = "tokens_per_second"
_EXAMPLES = (
    "p95>30s (of the latency), ttft.p99>2s, tokens_per_second.p50<10, failed>1% or truncated>100"
)


class Threshold(msgspec.Struct, frozen=True):
    """A condition under which a run counts as failed.

    Attributes:
        text: as it was given.
        measure: latency, ttft or tokens_per_second, of answers; or failed or truncated, of lines.
        statistic: of answers: min, mean, max, or a percentile such as p95; else empty.
        comparison: one of > >= < <=.
        limit: seconds, tokens a second, lines, or a share of them from 0 to 1.
        is_share: whether it is a share.
    """

    text: str
    measure: str
    statistic: str
    comparison: str
    limit: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str, field: str = "fail_if") -> Threshold:
        """ "p95>30s", "ttft.mean>=500ms", "failed>1%" for example. Raises ConfigError."""
        form = _FORM.fullmatch(text)
        if form is None or not all(form.groups()):
            raise ConfigError(field, f"{text!r:.80} is no condition: write such as {_EXAMPLES}")
        name, comparison, wanted = form.groups()
        found = _MEASURE.fullmatch(name)
        if found is None:
            raise ConfigError(
                field,
                f"{text!r:.80}: {name!r:.80} is nothing that is measured: write such as"
                f" {_EXAMPLES}; of answers there are p1 to p99.9, min, mean and max",
            )
        measure = found[3] or found[1] or "latency"
        if measure in ("latency", "ttft"):
            limit, is_share = _duration(field, text, wanted), False
        else:
            limit, is_share = _number(field, text, wanted, may_be_share=found[3] is not None)
        return cls(text.strip(), measure, found[2] or "", comparison, limit, is_share)

    def why(self, summary: RunSummary, answers: Distributions) -> str:
        """A sentence where the condition holds, or cannot be judged though there are answers.

        `failed` is of all lines of the input, everything else of this run's answers.
        """
        if not self.statistic:
            return self._of_lines(summary)
        values = {
            "latency": answers.latencies,
            "ttft": answers.first_tokens,
            _RATE: answers.token_rates,
        }[self.measure]
        if values.count:
            found = _read(values, self.statistic)
            return self._if(found, self._written(found))
        if not answers.latencies.count:
            return ""
        cure = {
            "ttft": ": only streamed answers tell it, for which --stream-upstream asks",
            _RATE: ": no answer says how many tokens it has",
        }[self.measure]
        return f"{self.text}: not known{cure}"

    def _of_lines(self, summary: RunSummary) -> str:
        figures = summary.figures
        is_failed = self.measure == "failed"
        count = summary.failed if is_failed else sum(figures.cut_off.values())
        lines = summary.total if is_failed else figures.succeeded
        share = count / lines if lines else 0.0
        of = f"{count:,} of {lines:,}"
        return self._if(share if self.is_share else count, of + f", {share:.3%}" * self.is_share)

    def _if(self, found: float, written: str) -> str:
        holds = _COMPARISONS[self.comparison](found, self.limit)
        return f"{self.text}: it is {written}" if holds else ""

    def _written(self, found: float) -> str:
        return f"{found:,.1f}" if self.measure == _RATE else format_duration(found)


def which_hold(
    thresholds: Iterable[Threshold], summary: RunSummary, answers: Distributions
) -> tuple[str, ...]:
    """A sentence for each of those that hold of a run; none of one that ended early."""
    if summary.outcome is not RunOutcome.COMPLETED:
        return ()
    return tuple(filter(None, (one.why(summary, answers) for one in thresholds)))


def _read(values: Histogram, statistic: str) -> float:
    if statistic == "mean":
        return values.sum / values.count
    if statistic in ("min", "max"):
        return values.lowest if statistic == "min" else values.highest
    return values.quantile(float(statistic[1:]) / 100) or 0.0


def _duration(field: str, text: str, wanted: str) -> float:
    try:
        return parse_duration(wanted, field)
    except ConfigError as error:
        raise ConfigError(field, f"{text!r:.80}: {error.problem}") from error


def _number(field: str, text: str, wanted: str, *, may_be_share: bool) -> tuple[float, bool]:
    found = _NUMBER.fullmatch(wanted)
    is_share = found is not None and found[2] == "%"
    if found is None or (is_share and (not may_be_share or float(found[1]) > 100)):
        forms = "a number of lines, or a share such as 1%" if may_be_share else "a number"
        raise ConfigError(field, f"{text!r:.80}: {wanted!r:.80} is not {forms}")
    return float(found[1]) / (100 if is_share else 1), is_share
