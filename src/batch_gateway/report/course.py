"""What was collected of requests in a form to be stored, and added up however often work began."""

from __future__ import annotations

import heapq
import zlib
from operator import attrgetter

import msgspec

from batch_gateway.engine.figures import Additive, Cause, Figures
from batch_gateway.report.collected import MOST_SLOW, Collected, SlowRequest
from batch_gateway.report.distributions import Distributions
from batch_gateway.report.timeline import MAX_SLICES, Slice, Totals, coarser

__all__ = ["Course", "Stretch", "pack_course", "unpack_course"]

# What a page shows of causes is far less, and messages that name requests are all different.
_MOST_CAUSES = 100
_LONGEST_NAME = 200


class Stretch(msgspec.Struct, frozen=True):
    """A stretch of time in slices, each `width` seconds wide.

    Attributes:
        began, ended: in seconds since the epoch; the first slice begins with the stretch.
    """

    began: float = 0.0
    ended: float = 0.0
    width: float = 0.0
    slices: tuple[Slice, ...] = ()

    def __add__(self, other: Stretch) -> Stretch:
        """Both, on the axis of time of the earlier one, to within the width of a slice."""
        if not self.slices or not other.slices:
            return self if self.slices else other
        first, second = sorted((self, other), key=attrgetter("began"))
        width, ended = max(first.width, second.width), max(first.ended, second.ended)
        while (ended - first.began) / width >= MAX_SLICES:
            width *= 2
        slices, later = first.as_wide(width), second.as_wide(width)
        offset = int((second.began - first.began) / width)
        slices += [Slice() for _ in range(offset + len(later) - len(slices))]
        for index, one in enumerate(later, offset):
            slices[index] += one
        return Stretch(first.began, ended, width, tuple(slices))

    def as_wide(self, width: float) -> list[Slice]:
        """The slices, with neighbours made one until they have this width."""
        slices, own = list(self.slices), self.width
        while own < width:
            slices, own = coarser(slices), own * 2
        return slices


class Slowest(msgspec.Struct, frozen=True):
    """The slowest of some requests, as many as are kept; the slowest first."""

    requests: tuple[SlowRequest, ...] = ()

    def __add__(self, other: Slowest) -> Slowest:
        both = (*self.requests, *other.requests)
        return Slowest(tuple(heapq.nlargest(MOST_SLOW, both, key=attrgetter("duration"))))


class Course(Additive):
    """What a report shows of lines and of the requests that they were sent as.

    Attributes:
        figures: of the lines that were recorded.
        time: when requests ended, and what was at the gateways.
        totals: by gateway and model.
    """

    figures: Figures = msgspec.field(default_factory=Figures)
    time: Stretch = Stretch()
    totals: dict[tuple[str, str], Totals] = msgspec.field(
        default_factory=dict[tuple[str, str], Totals]
    )
    distributions: Distributions = msgspec.field(default_factory=Distributions)
    slowest: Slowest = Slowest()

    @classmethod
    def of(cls, collected: Collected, figures: Figures, now: float) -> Course:
        """What is collected until `now`, in seconds since the epoch."""
        line = collected.timeline
        return cls(
            figures,
            Stretch(now - collected.elapsed, now, line.width, tuple(line.slices)),
            dict(collected.totals),
            collected.distributions,
            Slowest(tuple(collected.slowest())),
        )

    def collected(self) -> Collected:
        """As a page shows it."""
        time = self.time
        shown = Collected()
        shown.seconds = time.ended - time.began
        shown.timeline.width, shown.timeline.slices = time.width, list(time.slices)
        shown.totals.update(self.totals)
        shown.distributions.include(self.distributions)
        for slow in self.slowest.requests:
            shown.keep(slow)
        return shown


def pack_course(course: Course) -> bytes:
    """Some kilobytes, whatever it is about."""
    figures = course.figures
    chief = figures.chief_causes(_MOST_CAUSES)
    causes = {one.message: _short(one) for one in chief}
    small = msgspec.structs.replace(figures, causes=causes)
    whole = msgspec.structs.replace(course, figures=small)
    return zlib.compress(msgspec.msgpack.encode(whole), 1)


def _short(cause: Cause) -> Cause:
    return msgspec.structs.replace(cause, custom_id=cause.custom_id[:_LONGEST_NAME])


def unpack_course(data: bytes) -> Course:
    """Takes what a later version has written, too, without what that one adds."""
    return _decode(zlib.decompress(data))


_decode = msgspec.msgpack.Decoder(Course).decode
