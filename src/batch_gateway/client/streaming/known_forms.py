"""The forms that answers of one gateway have, learnt by all requests to it together."""

from __future__ import annotations

from batch_gateway.client.streaming.answer_form import AnswerForm
from batch_gateway.client.streaming.quick_reader import QuickReader

__all__ = ["KnownForms"]

# So many answers in a row that are not of a form show that it holds no longer.
_MOST_MISSES = 3
# Answers between two of which one tries to learn: at first, and when that was always in vain.
_SHORTEST_REST, _LONGEST_REST = 8, 1024
# Endpoints with a model each; who sends with more of them learns anew now and then.
_MOST_KNOWN = 64


class _Known:
    __slots__ = ("form", "left", "misses", "rest")

    def __init__(self) -> None:
        self.form: AnswerForm | None = None
        self.misses = 0
        # Answers until it is tried again to learn from one, and how many those will be next.
        self.left = 0
        self.rest = _SHORTEST_REST


class KnownForms:
    """By endpoint and model: an answer's reader is made here, and told about when it was read."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}

    def reader(self, endpoint: str, model: str, most_answer: int, most_event: int) -> QuickReader:
        """What reads an answer, by the form that the ones before had."""
        known = self._of(endpoint, model)
        if known.form is not None:
            return QuickReader(endpoint, most_answer, most_event, form=known.form)
        is_lesson = known.left == 0
        if is_lesson:
            known.left, known.rest = known.rest, min(2 * known.rest, _LONGEST_REST)
        else:
            known.left -= 1
        return QuickReader(endpoint, most_answer, most_event, is_lesson=is_lesson)

    def has_read(self, reader: QuickReader, endpoint: str, model: str, body: bytes) -> None:
        """An answer came to its end, and this is its body."""
        known = self._of(endpoint, model)
        if reader.is_of_form:
            known.misses, known.rest = 0, _SHORTEST_REST
            return
        form = reader.form(body)
        if form is not None:
            known.form, known.misses = form, 0
        elif reader.has_left and known.form is not None:
            known.misses += 1
            if known.misses >= _MOST_MISSES:
                known.form, known.left = None, known.rest

    def _of(self, endpoint: str, model: str) -> _Known:
        known = self._known.get((endpoint, model))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[endpoint, model] = _Known()
        return known
