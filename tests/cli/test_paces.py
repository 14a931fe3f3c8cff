"""Why no more is sent at a time: while a run goes on, and in its summary."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from batch_gateway.cli.live_display import render
from batch_gateway.cli.pace_summary import pace_hints, pace_json, pace_rows
from batch_gateway.cli.paces import GatewayPace, Pace, PaceNotes, PaceWatch
from batch_gateway.cli.progress_display import Gateways, LineDisplay, View, follow
from batch_gateway.cli.rates import Rates
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.telling import ConcurrencyStatistics, HeldReason
from batch_gateway.engine.progress import RunStats
from batch_gateway.testing import simulated_gateway
from tests.cli.commands import batch_gateway, write_batch
from tests.client.manual_clock import ManualClock

CLIMBING, KNEE, SHUT = Why(Reason.CLIMBING), Why(Reason.KNEE), Why(Reason.SHUT, 1.0)
PACE = Why(Reason.PACE, 600.0)


class OverError(Exception):
    """The run has been looked at for long enough."""


def at(
    limit: int, why: Why | None, waiting: int = 3, *held: HeldReason, gateway: str = "http://g"
) -> GatewayPace:
    return GatewayPace(gateway, ConcurrencyStatistics(limit, limit, waiting, why, held))


def lines_of(view: View, width: int = 100) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    console.print(render(view, width))
    return screen.getvalue().splitlines()


def view_of(*paces: Pace, stopping: bool = False) -> View:
    return View(RunStats(total=10, stopping=stopping), Rates(), paces=paces)


def logged(pace: Callable[[float], GatewayPace], seconds: int) -> list[str]:
    """The lines that stay, of a run whose output is no terminal."""
    clock, log = ManualClock(), io.StringIO()
    began, run = clock.monotonic(), RunStats(total=10_000)

    def look() -> Gateways:
        elapsed = clock.monotonic() - began
        if elapsed > seconds:
            raise OverError
        run.figures.succeeded = int(elapsed)
        return Gateways((pace(elapsed),))

    with pytest.raises(OverError):
        asyncio.run(follow(run, look, LineDisplay(log), clock))
    return [line for line in log.getvalue().splitlines() if " done, " not in line]


def test_a_terminal_shows_the_reason_under_the_counters() -> None:
    assert lines_of(view_of(Pace("", 64, KNEE)))[2:] == ["64 at a time: more brought nothing"]


def test_each_of_several_gateways_is_named_and_few_are_shown() -> None:
    shown = lines_of(view_of(*(Pace(f"http://g{n}", n, KNEE) for n in range(5))), width=30)
    assert [line.rstrip() for line in shown[2:]] == [
        *(f"http://g{n}: {n} at a time: more …" for n in range(3)),
        "and 2 gateways more",
    ]


def test_a_run_that_stops_is_held_by_nothing() -> None:
    assert len(lines_of(view_of(Pace("", 64, KNEE), stopping=True))) == 2


def test_nothing_is_said_where_nobody_waits_or_nothing_is_found_out() -> None:
    watch = PaceWatch()
    assert watch.look([at(64, KNEE, 0)], 0.0) == ()
    assert watch.look([at(64, None)], 1.0) == ()
    assert watch.look([], 2.0) == ()


def test_a_moment_in_which_nobody_waits_changes_nothing() -> None:
    watch = PaceWatch()
    assert watch.look([at(64, KNEE)], 0.0) == (Pace("", 64, KNEE, 0.0),)
    assert watch.look([at(64, KNEE, 0)], 1.5) == (Pace("", 64, KNEE, 1.5),)
    assert watch.look([at(64, KNEE, 0)], 2.5) == ()


def test_while_everything_is_refused_it_is_said_wherever_lines_wait() -> None:
    assert PaceWatch().look([at(1, SHUT, 0)], 0.0) == (Pace("", 1, SHUT, 0.0),)


def test_a_log_has_a_line_for_each_reason_that_holds() -> None:
    def pace(elapsed: float) -> GatewayPace:
        return at(64, KNEE) if elapsed < 50 else at(9, PACE)

    assert logged(pace, 120) == [
        "64 at a time: more brought nothing",
        "refusals do not depend on how many are under way: keeping to 600 a minute",
    ]


def test_a_log_has_no_lines_for_what_flickers_or_creeps() -> None:
    def flickering(elapsed: float) -> GatewayPace:
        return at(64, (CLIMBING, KNEE)[int(elapsed) % 2])

    def creeping(elapsed: float) -> GatewayPace:
        return at(64 + int(elapsed) % 3, KNEE)

    assert logged(flickering, 120) == []
    assert len(logged(creeping, 120)) == 1


def test_a_limit_that_has_doubled_is_said_again() -> None:
    notes = PaceNotes()
    assert notes.new([Pace("", 64, KNEE, 20.0)])
    assert not notes.new([Pace("", 70, KNEE, 30.0)])
    assert notes.new([Pace("", 128, KNEE, 40.0)]) == ["128 at a time: more brought nothing"]


def held(why: Why, limit: int, seconds: float) -> HeldReason:
    return HeldReason(why, limit, seconds)


def test_the_summary_says_how_many_at_the_end_why_and_what_share_each_reason_had() -> None:
    figures = at(64, KNEE, 0, held(KNEE, 64, 88.0), held(CLIMBING, 40, 9.0), held(PACE, 9, 1.0))
    assert list(pace_rows([figures], 100.0)) == [
        ("pace", "64 at a time at the end"),
        (
            "why",
            "88 % of the run more brought nothing, 9 % trying whether more bring more",
        ),
    ]


def test_a_run_that_was_over_at_once_has_no_shares() -> None:
    rows = list(pace_rows([at(16, CLIMBING, 0, held(CLIMBING, 16, 0.2))], 0.3))
    assert rows == [("pace", "16 at a time at the end: trying whether more bring more")]


def test_each_of_several_gateways_has_a_row_and_few_are_shown() -> None:
    paces = [at(n, KNEE, 0, held(KNEE, n, 50.0), gateway=f"g{n}") for n in range(1, 9)]
    rows = list(pace_rows(paces, 100.0))
    assert rows[0] == ("pace", "g1: 1 at a time at the end; 50 % of the run more brought nothing")
    assert len(rows) == 6
    assert rows[-1] == ("pace", "and 3 gateways more")


def test_a_quota_is_said_with_what_would_help() -> None:
    [hint] = pace_hints([at(9, PACE, 0, held(PACE, 9, 55.2))], 60.0, "")
    assert hint == (
        "Kept to 600 a minute for 92 % of the run: the gateway refuses what comes faster, however"
        " few are under way, as a quota does. A higher quota there would make it shorter."
    )


def test_a_server_that_is_used_well_needs_no_help() -> None:
    assert pace_hints([at(64, KNEE, 0, held(KNEE, 64, 55.0))], 60.0, "") == ()
    assert pace_hints([at(9, PACE, 0, held(PACE, 9, 10.0))], 60.0, "") == ()
    assert pace_hints([at(9, PACE)], 60.0, "") == ()


def test_what_bounds_the_number_on_this_side_is_named() -> None:
    figures = at(30, Why(Reason.BOUND), 0, held(Why(Reason.BOUND), 30, 50.0))
    [hint] = pace_hints([figures], 100.0, "the limit on open files (ulimit -n)")
    assert hint == (
        "Kept to 30 at a time for 50 % of the run: the limit on open files (ulimit -n) allows no"
        " more."
    )


def test_a_program_is_told_the_same_in_figures() -> None:
    figures = at(9, PACE, 0, held(PACE, 9, 55.2), held(CLIMBING, 16, 3.0))
    assert pace_json([figures], 60.0) == [
        {
            "gateway": "http://g",
            "limit": 9,
            "reason": "pace",
            "figure": 600.0,
            "why": "refusals do not depend on how many are under way: keeping to 600 a minute",
            "reasons": [
                {"reason": "pace", "limit": 9, "figure": 600.0, "seconds": 55.2, "share": 0.92},
                {
                    "reason": "climbing",
                    "limit": 16,
                    "figure": None,
                    "seconds": 3.0,
                    "share": 0.05,
                },
            ],
        }
    ]


def test_a_run_says_that_its_gateway_refuses_more(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 300)
    with simulated_gateway(
        seats=4, queue_limit=0, output_tokens=5, time_per_token=0.008, latency_scale=1.0
    ) as gateway:
        done = batch_gateway(
            *("run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--json"), cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    [found] = summary["concurrency"]
    assert found["gateway"] == gateway.url
    reasons = {one["reason"]: one for one in found["reasons"]}
    # How soon and how near to four it comes is the controller's affair, and the machine's.
    assert reasons["ceiling"]["share"] > 0.1
    assert 1 <= reasons["ceiling"]["figure"] <= 5
    assert sum(one["seconds"] for one in reasons.values()) <= summary["duration_seconds"]
    assert [one["seconds"] for one in found["reasons"]] == sorted(
        (one["seconds"] for one in found["reasons"]), reverse=True
    )


@pytest.mark.parametrize("flags", [["--concurrency", "4"], ["--concurrency", "4", "--rpm", "9000"]])
def test_a_run_with_a_number_that_was_given_finds_no_reasons(
    tmp_path: Path, flags: list[str]
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 200)
    with simulated_gateway() as gateway:
        arguments = ("run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--json")
        done = batch_gateway(*arguments, *flags, cwd=tmp_path)
    assert json.loads(done.stdout)["concurrency"] == []
    assert json.loads(done.stdout)["hints"] == []
    assert "at a time:" not in done.stderr


def test_a_run_that_its_own_rate_holds_back_blames_no_gateway(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 60)
    with simulated_gateway() as gateway:
        arguments = ("run", batch, "--gateway", gateway.url, "-o", "out.jsonl", "--json")
        done = batch_gateway(*arguments, "--rpm", "1800", cwd=tmp_path)
    summary = json.loads(done.stdout)
    assert summary["duration_seconds"] > 0.9
    [found] = summary["concurrency"]
    assert sum(one["share"] for one in found["reasons"]) < 0.2
    assert summary["hints"] == []


def test_isolated_models_are_told_apart(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", ["large", "small"] * 20)
    with simulated_gateway() as gateway:
        arguments = ("run", batch, "--gateway", gateway.url, "-o", "out.jsonl")
        done = batch_gateway(*arguments, "--isolate-models", cwd=tmp_path)
    for model in ("large", "small"):
        assert re.search(
            rf"pace +{re.escape(gateway.url)} \({model}\): \d+ at a time at the end", done.stdout
        )
