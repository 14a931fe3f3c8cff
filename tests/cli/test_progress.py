"""What a run shows while it goes on."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import msgspec
import pytest
from rich.console import Console

from batch_gateway.cli.choose_display import choose_display
from batch_gateway.cli.live_display import LiveDisplay, render
from batch_gateway.cli.progress_display import (
    Display,
    Gateways,
    LineDisplay,
    View,
    follow,
    plain_line,
    time_left,
)
from batch_gateway.cli.rates import Rates
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.progress import RunStats
from batch_gateway.wire.usage import Usage
from tests.client.manual_clock import ManualClock

BUSY = View(
    RunStats(
        total=10_000,
        figures=Figures(succeeded=1230, failed=4, sent_again={1: 17}, usage=Usage(4, 5)),
    ),
    Rates(52.13, 10_412),
    in_flight=64,
    seconds_left=168.2,
)
FAR = "1,234 of 10,000"


def terminal(width: int = 100) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=width, color_system=None), screen


def drawn(view: View, width: int = 100) -> list[str]:
    console, screen = terminal(width)
    console.print(render(view, width))
    return screen.getvalue().splitlines()


class FailingStream(io.StringIO):
    def write(self, s: str) -> int:
        raise BrokenPipeError


def test_the_plain_line_holds_every_figure() -> None:
    assert plain_line(BUSY) == (
        "1,234 of 10,000 done, 4 failed, 64 in flight, 17 retries, 52.1 requests/s, "
        "10.4k tokens/s, 2m48s left"
    )


def test_the_plain_line_leaves_out_what_did_not_happen() -> None:
    quiet_start = View(RunStats(total=10), Rates(), 2)
    assert plain_line(quiet_start) == "0 of 10 done, 2 in flight, 0.0 requests/s"


def test_the_bar_shows_how_far_how_long_and_how_well() -> None:
    bar, counters = drawn(BUSY)
    assert bar.split()[1:] == ["1,234", "of", "10,000", "12%", "2m48s", "left"]
    assert counters == ("4 failed · 64 in flight · 17 retries · 52.1 requests/s · 10.4k tokens/s")


def test_a_narrow_terminal_cuts_and_does_not_wrap() -> None:
    lines = drawn(BUSY, width=48)
    assert len(lines) == 2
    assert all(len(line.rstrip()) <= 48 for line in lines)


@pytest.mark.parametrize(
    ("width", "bar", "counters"),
    [
        (60, f"{FAR}  12%  2m48s left", "4 failed · 64 in flight · 17 retries · 52.1 requests/s"),
        (50, f"{FAR}  12%  2m48s left", "4 failed · 64 in flight · 52.1 requests/s"),
        (34, f"{FAR}  12%  2m48s left", "4 failed · 52.1 requests/s"),
        (29, f"{FAR}  2m48s left", "4 failed · 52.1 requests/s"),
        (26, FAR, "4 failed · 52.1 requests/s"),
    ],
)
def test_a_narrow_terminal_keeps_what_matters_most(width: int, bar: str, counters: str) -> None:
    first, second = drawn(BUSY, width)
    assert first.lstrip(" ━╸").rstrip() == bar
    assert second == counters


@pytest.mark.parametrize("width", [1, 5, 12, 20])
def test_no_terminal_is_so_narrow_that_lines_wrap(width: int) -> None:
    lines = drawn(BUSY, width)
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)


def test_a_run_that_is_nearly_done_does_not_say_so_too_early() -> None:
    view = View(RunStats(total=10_000, figures=Figures(succeeded=9_999)), Rates())
    assert "99%" in drawn(view)[0]


@pytest.mark.parametrize("draw", [plain_line, lambda view: drawn(view)[0]])
def test_a_stopping_run_says_so_instead_of_guessing(draw: Callable[[View], str]) -> None:
    run = RunStats(total=10, figures=Figures(succeeded=1), stopping=True)
    view = View(run, Rates(1), 2, 5.0)
    assert "stopping" in draw(view)
    assert "left" not in draw(view)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.02, "1s left"), (12.4, "12s left"), (168.2, "2m48s left"), (7320, "2h02m left")],
)
def test_time_left_is_as_exact_as_it_can_be_trusted(seconds: float, text: str) -> None:
    assert time_left(View(RunStats(total=10), Rates(), seconds_left=seconds)) == text


def test_off_a_terminal_a_line_comes_every_ten_seconds() -> None:
    clock, log = ManualClock(), io.StringIO()
    display, run = LineDisplay(log), RunStats(total=1000)

    def look() -> Gateways:
        # Two lines a second, and the end of the world after a minute.
        elapsed = clock.monotonic() - 1000
        if elapsed >= 60:
            raise TimeoutError
        run.figures.succeeded = int(elapsed * 2)
        return Gateways()

    with pytest.raises(TimeoutError):
        asyncio.run(follow(run, look, display, clock))
    lines = log.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("20 of 1,000 done")
    assert "2.0 requests/s" in lines[-1]


def test_on_a_terminal_the_bar_is_redrawn_in_place_and_vanishes() -> None:
    console, screen = terminal()
    display = LiveDisplay(console)
    display.show(BUSY)
    display.show(BUSY)
    display.close()
    written = screen.getvalue()
    assert written.count("1,234 of 10,000") >= 2
    assert "\x1b[1A" in written  # up a line, to draw over it
    assert written.index("\x1b[?25l") < written.rindex("\x1b[?25h")  # cursor off, then on again


def test_a_short_first_pass_is_not_shown_and_a_long_one_ten_times_a_second() -> None:
    console, screen = terminal()
    now = 0.0
    display = LiveDisplay(console, now=lambda: now)
    for step in range(1000):
        now = step / 1000
        display.checking(step, 1000)
    display.close()
    shown = screen.getvalue().count("Checking the input")
    assert 6 <= shown <= 9
    assert "30%" in screen.getvalue()
    assert "10%" not in screen.getvalue()


def test_the_display_suits_the_stream() -> None:
    assert isinstance(choose_display(io.StringIO(), quiet=False), LineDisplay)
    assert type(choose_display(io.StringIO(), quiet=True)) is Display


def test_in_a_cell_of_a_notebook_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name, value in (("TERM", "xterm-color"), ("GIT_PAGER", "less")):
        monkeypatch.setenv(name, value)
    assert isinstance(choose_display(Terminal(), quiet=False), LiveDisplay)
    monkeypatch.setenv("GIT_PAGER", "cat")
    assert isinstance(choose_display(Terminal(), quiet=False), LineDisplay)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_terminal_is_sent_no_character_that_it_does_not_have(encoding: str) -> None:
    sent = io.BytesIO()
    screen = io.TextIOWrapper(sent, encoding=encoding, errors="strict")
    display = LiveDisplay(Console(file=screen, force_terminal=True, width=60, color_system=None))
    display.show(msgspec.structs.replace(BUSY, standstill="nothing done for 12s; " * 4))
    display.step("Uploading a file of a very long name " * 3, 0.5)
    display.close()
    screen.flush()
    assert ("·".encode() in sent.getvalue()) == (encoding == "utf-8")


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    LineDisplay(FailingStream()).note("nobody reads this")


@pytest.mark.parametrize(("width", "more"), [(100, 0), (60, 2), (30, 5)])
def test_after_the_terminal_became_narrower_nothing_of_the_old_lines_is_left(
    width: int, more: int
) -> None:
    console, screen = terminal(width=100)
    display = LiveDisplay(console)
    display.show(BUSY)
    old = [len(line) for line in drawn(BUSY, 100)]
    assert sum(-(-length // width) - 1 for length in old) == more
    screen.seek(0)
    screen.truncate()
    console.width = width
    display.show(BUSY)
    # The terminal has broken the two lines into more, and the cursor is at the end of the last.
    assert screen.getvalue().count("\x1b[1A") == 1 + more
    display.close()
