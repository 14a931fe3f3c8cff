"""One request's way past pods that cannot be reached: what the picker is asked next. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batch_gateway.errors import InferenceError

__all__ = ["Detour", "PodsUnreachableError"]

# Answers in a row that name no pod which was not tried already. Pickers that choose at random, or
# in turn, name another sooner or later, and so do those that go by load, because the question
# before is taken back only when the next has been answered.
_MOST_IN_VAIN = 4


class PodsUnreachableError(Exception):
    """No pod of a choice can be reached, and nothing was sent to any.

    Attributes:
        problems: what is wrong with each, by endpoint.
    """

    def __init__(self, problems: Mapping[str, InferenceError]) -> None:
        super().__init__(", ".join(problems))
        self.problems = problems


class Detour:
    """Decides what the picker is asked when no pod of its choice can be reached.

    To choose among the pods that are known to work, then among all again (there may be new ones),
    in turn, as long as there is something to learn.

    Args:
        path, headers, body, deadline, begin_by: the request, as `HTTPExchanger.stream` has them.

    Attributes:
        question: the same, in this order.
        tried: the pods that were chosen in vain, with what is wrong with each.
    """

    def __init__(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        deadline: float,
        begin_by: float = float("inf"),
    ) -> None:
        self.question = (path, headers, body, deadline, begin_by)
        self.choose_by = min(deadline, begin_by)
        self.tried: dict[str, InferenceError] = {}
        self._in_vain = 0
        self._among_known = False

    def failed(self, problems: Mapping[str, InferenceError]) -> None:
        """These pods of a choice could not be reached; none when the picker found no pod."""
        self._in_vain = 0 if problems.keys() - self.tried.keys() else self._in_vain + 1
        self.tried.update(problems)

    def next_subset(self, known: Sequence[str]) -> Sequence[str] | None:
        """Which pods to have the picker choose among, empty for all; None to give up.

        `known` are the pods that work as far as is known.
        """
        if self._in_vain >= _MOST_IN_VAIN:
            return None
        self._among_known = bool(known) and not self._among_known
        return known if self._among_known else ()
