"""The progress bar on a terminal."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batch_gateway.cli.progress_display import Display, View, counted, in_flight_text, time_left
from batch_gateway.cli.terminal_text import one_line, printable
from batch_gateway.report.scales import number_text

__all__ = ["LiveDisplay", "render"]

_UP_AND_ERASED = "\r\x1b[2K\x1b[1A"
_SHOW_CURSOR = b"\x1b[?25h\n"
_SHORTEST_BAR, _WIDEST_BAR = 4, 60
_GAP = 2
_MOST_PACES = 3


def render(view: View, width: int, *, is_ascii: bool = False) -> RenderableType:
    """The bar with how far and how long, the counters and rates, why no more is sent at a time, and
    why nothing moves if so.

    What a narrow terminal has no room for is left out, the least important first; `is_ascii` where
    it has no other characters.
    """
    lines: list[RenderableType] = [_bar(view, width), _counters(view, width, is_ascii)]
    lines += [_line(words, "dim", is_ascii) for words in _paces(view)]
    if view.standstill:
        lines.append(_line(view.standstill, "yellow", is_ascii))
    return Group(*lines)


def _line(words: str, style: str, is_ascii: bool) -> Text:
    overflow = "crop" if is_ascii else "ellipsis"
    return Text(one_line(words), style=style, no_wrap=True, overflow=overflow)


def _paces(view: View) -> Iterator[str]:
    if view.run.stopping:
        return
    yield from (pace.words for pace in view.paces[:_MOST_PACES])
    if len(view.paces) > _MOST_PACES:
        yield f"and {counted(len(view.paces) - _MOST_PACES, 'gateway')} more"


def _bar(view: View, width: int) -> Table:
    now = view.run
    share = now.done / now.total if now.total else 1.0
    texts = {
        "done": Text(f"{now.done:,} of {now.total:,}", style="bold"),
        "percent": Text(f"{int(share * 100)}%"),
        "left": Text(time_left(view), style="cyan"),
    }
    kept = _fitting(texts, width, gap=_GAP, first_to_go=("percent", "left"))
    row = Table.grid(padding=(0, _GAP, 0, 0))
    room = width - sum(text.cell_len + _GAP for text in kept)
    cells: list[RenderableType] = list(kept)
    if room >= _SHORTEST_BAR:
        bar = ProgressBar(
            total=max(now.total, 1),
            completed=now.done if now.total else 1,
            width=min(_WIDEST_BAR, room),
            complete_style="yellow" if now.stopping else "cyan",
            finished_style="green",
        )
        cells.insert(0, bar)
    for _ in cells:
        row.add_column(no_wrap=True)
    row.add_row(*cells)
    return row


def _step(words: str, share: float | None, width: int, *, is_ascii: bool) -> RenderableType:
    text = _line(words, "", is_ascii)
    room = width - text.cell_len - _GAP
    if share is None or room < _SHORTEST_BAR:
        return text
    row = Table.grid(padding=(0, _GAP, 0, 0))
    bar = ProgressBar(
        total=1.0,
        completed=share,
        width=min(_WIDEST_BAR, room),
        complete_style="cyan",
        finished_style="green",
    )
    row.add_column(no_wrap=True)
    row.add_column(no_wrap=True)
    row.add_row(bar, text)
    return row


def _counters(view: View, width: int, is_ascii: bool) -> Text:
    failed, retries = view.run.failed, view.run.figures.retries
    parts = {
        "failed": Text(f"{failed:,} failed", style="bold red" if failed else "dim"),
        "in flight": Text(in_flight_text(view)),
        "retries": Text(counted(retries, "retry", "retries"), style="yellow" if retries else "dim"),
        "requests": Text(f"{view.rates.requests:,.1f} requests/s"),
        "tokens": Text(f"{number_text(view.rates.tokens)} tokens/s"),
    }
    first_to_go = ("tokens", "retries") if retries else ("retries", "tokens")
    gap = Text(", " if is_ascii else " · ", style="dim")
    line = gap.join(
        _fitting(parts, width, gap=gap.cell_len, first_to_go=(*first_to_go, "in flight"))
    )
    line.no_wrap = True
    line.overflow = "crop" if is_ascii else "ellipsis"
    return line


def _fitting(
    parts: Mapping[str, Text], width: int, *, gap: int, first_to_go: Sequence[str]
) -> list[Text]:
    """As many of the parts as fit, in their order; those that may not go stay."""
    kept = {name: text for name, text in parts.items() if text}
    for name in first_to_go:
        if sum(text.cell_len + gap for text in kept.values()) - gap <= width:
            break
        kept.pop(name, None)
    return list(kept.values())


class LiveDisplay(Display):
    """Redraws in place, ten times a second, and is gone when the run is over."""

    interval = 0.1

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now = now
        self._live: Live | None = None
        self._drawn: RenderableType = ""
        self._width = console.width
        # A short first pass is over before anybody could read about it.
        self._next_check = now() + 3 * self.interval

    def note(self, text: str) -> None:
        # No markup and no highlighting: the text may quote what a gateway said.
        with contextlib.suppress(OSError):
            self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def checking(self, done: int, total: int) -> None:
        if self._now() < self._next_check:
            return
        self._next_check = self._now() + self.interval
        share = done / total if total else 1.0
        self._update(Text(f"Checking the input  {int(share * 100)}%", style="dim"))

    def show(self, view: View) -> None:
        console = self._console
        self._update(render(view, console.width, is_ascii=console.options.ascii_only))

    def step(self, words: str, share: float | None) -> None:
        console = self._console
        self._update(_step(words, share, console.width, is_ascii=console.options.ascii_only))

    def _update(self, renderable: RenderableType) -> None:
        # A terminal that hung up ends the display, not the run.
        with contextlib.suppress(OSError):
            self._redraw(renderable)

    def _redraw(self, renderable: RenderableType) -> None:
        if self._live is None:
            # Redrawn by us alone: a thread of its own would draw while the loop is busy.
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        if self._console.width != self._width:
            self._go_up()
            self._width = self._console.width
        self._drawn = renderable
        self._live.update(renderable, refresh=True)

    def _go_up(self) -> None:
        """A terminal that became narrower has broken what was drawn into more lines."""
        width = max(1, self._console.width)
        options = self._console.options.update(width=self._width)
        lines = self._console.render_lines(self._drawn, options, pad=False)
        cells = [cell_len("".join(part.text for part in line).rstrip()) for line in lines]
        more = sum(max(0, -(-cell // width) - 1) for cell in cells)
        self._console.file.write(_UP_AND_ERASED * more)

    def close(self) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None

    def leave(self) -> None:
        if self._live is not None:
            os.write(self._console.file.fileno(), _SHOW_CURSOR)
