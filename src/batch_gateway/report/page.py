"""What a report's page shows, put together from a run's figures and filled into the template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from batch_gateway.concurrency.telling import ConcurrencyStatistics
from batch_gateway.engine.outcome_words import WORDS_OF_CUT_OFF, cut_off_in_words
from batch_gateway.engine.progress import RunOutcome, RunSummary
from batch_gateway.report.causes import group_causes
from batch_gateway.report.charts import Chart, Series, distribution_chart, time_chart
from batch_gateway.report.collected import Collected, Line, SlowRequest
from batch_gateway.report.distributions import Distributions, Percentiles
from batch_gateway.report.places import Places, policy_of
from batch_gateway.report.reason_course import reason_rows, reason_strips
from batch_gateway.report.replace_file import GENERATOR
from batch_gateway.report.scales import duration_text, number_text
from batch_gateway.report.templates import templates_of
from batch_gateway.report.timeline import Slice, Totals
from batch_gateway.version import __version__

__all__ = ["Page", "RunFacts", "headline", "render_page"]

_FOLDER = Path(__file__).parent
# More would be narrower than a finger and mostly noise.
_COLUMNS = 60
_IN_FLIGHT = "In flight at the gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the page says that no client saw.

    Attributes:
        input, output, errors: names of the files.
        began: when, with its time zone.
        settings: (heading, (name, value) pairs) of what was configured, without secrets.
        paces: how many might be under way at each gateway at the end, and for how long what held
            that.
        hints: what may be the cure, a sentence each.
        next_steps: (what for, command) pairs.
        find_line: from a request id to its line, None when it cannot be told.
        cost: of this run's tokens, as it is shown, where prices are given.
        failed_if: conditions that the run was not to meet and does, a sentence each.
        headline: how it ended, where the summary does not know.
        left: what became of lines without a result.
        note: what else a reader has to know of the figures.
        back: (address, text) of the page that it is about.
    """

    input: str
    output: str
    errors: str
    began: datetime
    summary: RunSummary
    settings: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    paces: Sequence[tuple[str, ConcurrencyStatistics]]
    hints: Sequence[str]
    next_steps: Sequence[tuple[str, str]]
    find_line: Callable[[str], Line | None]
    cost: str = ""
    failed_if: Sequence[str] = ()
    headline: str = ""
    left: str = "left to send"
    note: str = ""
    back: tuple[str, str] | None = None


class Page(NamedTuple):
    """A document, and the content security policy that lets it be seen as it is meant."""

    html: str
    policy: str


def render_page(facts: RunFacts, collected: Collected) -> Page:
    """One HTML document that needs nothing else, with no script and no style but its own."""
    templates = templates_of(_FOLDER, number=number_text, duration=duration_text)
    places = Places()
    body = templates.get_template("body.html.jinja").render(
        version=__version__,
        at=places,
        facts=facts,
        summary=facts.summary,
        figures=facts.summary.figures,
        collected=collected,
        **_figures(facts, collected),
    )
    style = (_FOLDER / "page.css").read_text("utf-8") + places.rules()
    policy = policy_of(style)
    html = templates.get_template("page.html.jinja").render(
        generator=GENERATOR,
        policy=policy,
        title=f"{_headline(facts)}: {facts.input}",
        style=style,
        body=body,
    )
    return Page(html, policy)


def _figures(facts: RunFacts, collected: Collected) -> dict[str, Any]:
    total, figures = collected.total(), facts.summary.figures
    groups = group_causes(figures.causes.values())
    gateways = _rows(collected.by_gateway())
    return {
        "headline": _headline(facts),
        "tone": "bad" if facts.failed_if else _tone(facts.summary),
        "total": total,
        "courses": _courses(facts, collected),
        "distributions": _distributions(collected.distributions),
        "groups": groups,
        "untold": figures.failed - sum(group.count for group in groups),
        "models": _rows(collected.by_model()),
        "gateways": gateways if len(gateways) > 1 else [],
        "slowest": [_slow(request, facts.find_line) for request in collected.slowest()],
        "percentiles": list(_percentiles(collected.distributions)),
        "words_of_cut_off": WORDS_OF_CUT_OFF,
        "cut_off": cut_off_in_words(figures.cut_off) if figures.cut_off else "",
        "shares": _shares(facts),
        "reasons": reason_rows(facts.paces, facts.summary.seconds),
    }


def _headline(facts: RunFacts) -> str:
    return facts.headline or headline(facts.summary)


def headline(summary: RunSummary) -> str:
    """How the run ended, in one line, whichever way it did."""
    left = f", {summary.left_to_send:,} left to send" if summary.left_to_send else ""
    if summary.outcome is not RunOutcome.COMPLETED:
        return {
            RunOutcome.INTERRUPTED: f"Interrupted{left}",
            RunOutcome.DEADLINE: f"The deadline passed{left}",
            RunOutcome.GATEWAY_UNUSABLE: f"Stopped, the gateway cannot be used{left}",
            RunOutcome.TOO_MANY_FAILED: f"Stopped, too many requests failed{left}",
            RunOutcome.NOT_WRITTEN: f"Stopped, results cannot be written{left}",
            RunOutcome.INPUT_CHANGED: "Stopped, the input changed",
        }[summary.outcome]
    one, total = summary.total == 1, f"{summary.total:,}"
    if summary.succeeded == summary.total:
        return "The one request succeeded" if one else f"All {total} requests succeeded"
    return f"Done, {summary.failed:,} of {total} request{'' if one else 's'} failed"


def _tone(summary: RunSummary) -> str:
    if summary.reason:
        return "bad"
    all_good = summary.outcome is RunOutcome.COMPLETED and summary.succeeded == summary.total
    return "good" if all_good else "mixed"


def _shares(facts: RunFacts) -> list[tuple[str, str, float]]:
    """(name, style, percent) of the lines of the input."""
    summary = facts.summary
    lines = max(summary.total, 1)
    return [
        ("succeeded", "good", summary.succeeded / lines * 100),
        ("failed", "bad", summary.failed / lines * 100),
        (facts.left, "left", summary.left_to_send / lines * 100),
    ]


def _courses(facts: RunFacts, collected: Collected) -> list[Chart]:
    timeline = collected.timeline.at_most(_COLUMNS)
    slices = timeline.slices
    # A single stretch has no course.
    if len(slices) < 2 or not any(one.succeeded or one.failed for one in slices):
        return []
    seconds = facts.summary.seconds or collected.elapsed
    spans = [timeline.width] * len(slices)
    # The last slice is cut short by the end of the run.
    rest = collected.elapsed - timeline.width * (len(slices) - 1)
    spans[-1] = min(max(rest, timeline.width / 4), timeline.width)

    def rates(of: Callable[[Slice], int]) -> list[float | None]:
        return [of(one) / span for one, span in zip(slices, spans, strict=True)]

    charts = [
        ("Throughput", "requests/s", [
            *_if_any(Series("succeeded", "good", rates(lambda one: one.succeeded), is_area=True)),
            *_if_any(Series("failed", "bad", rates(lambda one: one.failed), is_area=True)),
            *_if_any(Series("retries", "retry", rates(lambda one: one.retries))),
        ]),
        (_IN_FLIGHT, "requests", [
            Series("in flight", "flight", [one.mean_in_flight() for one in slices], is_area=True),
            Series("most", "peak", [one.peak if one.samples else None for one in slices]),
            *_if_any(Series("limit at the knee", "knee-line", [one.mean_knee() for one in slices])),
            *_if_any(Series("limit", "limit", [one.mean_limit() for one in slices])),
        ]),
        ("Tokens", "tokens/s", [
            *_if_any(Series("generated", "output", rates(lambda one: one.usage.output_tokens))),
            *_if_any(Series("read", "input", rates(lambda one: one.usage.input_tokens))),
        ]),
    ]  # fmt: skip
    pauses, reasons = _pauses(slices), reason_strips(slices)
    drawn = [
        time_chart(
            title, unit, series, width=timeline.width, seconds=seconds, bands=pauses,
            states=reasons if title == _IN_FLIGHT else (),
        )
        for title, unit, series in charts
        if series
    ]  # fmt: skip
    if collected.distributions.latencies.count:
        drawn.append(_latency_course(slices, timeline.width, seconds, pauses))
    return drawn


def _latency_course(
    slices: Sequence[Slice], width: float, seconds: float, pauses: Sequence[tuple[int, int, str]]
) -> Chart:
    series = [
        Series(name, f"quantile q{number}", [one.latencies.quantile(share) for one in slices])
        for number, (share, name) in enumerate(((0.5, "median"), (0.95, "95 %"), (0.99, "99 %")))
    ]
    return time_chart(
        "Latency of the answers", "", series,
        width=width, seconds=seconds, write="duration", bands=pauses,
    )  # fmt: skip


def _if_any(series: Series) -> list[Series]:
    return [series] if any(series.values) else []


def _pauses(slices: Sequence[Slice]) -> list[tuple[int, int, str]]:
    """Runs of slices in which a circuit breaker was open for most of the time."""
    found: list[tuple[int, int, str]] = []
    for index, one in enumerate(slices):
        if not one.samples or one.paused * 2 < one.samples:
            continue
        if found and found[-1][0] + found[-1][1] == index:
            first, length, note = found.pop()
            found.append((first, length + 1, note))
        else:
            found.append((index, 1, "paused: a gateway was down"))
    return found


def _distributions(found: Distributions) -> list[Chart]:
    charts = (
        ("Latency, with retries and waits", found.latencies),
        ("Time to first token", found.first_tokens),
    )
    return [distribution_chart(title, values) for title, values in charts if values.count]


def _percentiles(
    found: Distributions,
) -> Iterator[tuple[str, Callable[[float], str], Percentiles]]:
    """(what, how it is written, its figures), of what is known."""
    shown = (
        ("latency", duration_text, found.latencies),
        ("first token", duration_text, found.first_tokens),
        ("tokens/s of an answer", number_text, found.token_rates),
    )
    for name, write, values in shown:
        if (figures := Percentiles.of(values)) is not None:
            yield name, write, figures


def _rows(totals: dict[str, Totals]) -> list[tuple[str, Totals]]:
    return sorted(
        totals.items(), key=lambda item: (-item[1].usage.output_tokens, -item[1].succeeded, item[0])
    )


def _slow(
    request: SlowRequest, find_line: Callable[[str], Line | None]
) -> tuple[SlowRequest, Line | None]:
    return request, request.line or find_line(request.request_id)
