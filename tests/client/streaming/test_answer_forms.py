"""What all answers of a gateway share is learnt from one of them, and read no more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest

from batch_gateway.client.streaming.answer_form import AnswerForm
from batch_gateway.client.streaming.known_forms import KnownForms
from batch_gateway.client.streaming.quick_reader import QuickReader
from batch_gateway.wire.chunks import Chunk
from fuzz.quick_reader import form_of, generally, quickly

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
LIMITS = (10**9, 10**6)
DONE = b"data: [DONE]\n\n"


def event(name: str, choices: list[Any], **more: Any) -> bytes:
    said = {"id": name, "created": 1700000000 + len(name), "model": "m", "choices": choices}
    return b"data: " + json.dumps({**said, **more}, separators=(",", ":")).encode() + b"\n\n"


def chat(name: str, *texts: str, reason: str = "stop", tokens: int = 7) -> list[bytes]:
    def choice(delta: dict[str, str], reason: str | None = None) -> list[Any]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]

    return [
        event(name, choice({"role": "assistant", "content": ""})),
        *(event(name, choice({"content": text})) for text in texts),
        event(name, choice({}, reason)),
        event(name, [], usage={"prompt_tokens": 5, "completion_tokens": tokens, "details": None}),
        DONE,
    ]


def completion(name: str, *texts: str, reason: str = "stop", tokens: int = 7) -> list[bytes]:
    def choice(text: str, reason: str | None = None) -> list[Any]:
        return [{"index": 0, "text": text, "finish_reason": reason}]

    return [
        event(name, choice(""), object="text_completion"),
        *(event(name, choice(text), object="text_completion") for text in texts),
        event(name, choice("", reason), object="text_completion"),
        event(name, [], object="text_completion", usage={"completion_tokens": tokens}),
        DONE,
    ]


def known(endpoint: str = CHAT) -> AnswerForm:
    answer = (chat if endpoint == CHAT else completion)("first", "one", " two", " three")
    form = form_of(endpoint, LIMITS, *answer)
    assert form is not None
    return form


@pytest.mark.parametrize(("endpoint", "answer"), [(CHAT, chat), (COMPLETIONS, completion)])
def test_an_answer_of_a_known_form_is_what_the_general_way_makes_of_it(
    endpoint: str, answer: Any
) -> None:
    said = answer("another%id{[", ' "A"\n', "größer", "\\", "100%", reason="length", tokens=123456)
    form = known(endpoint)
    for a_read, typed in itertools.product((1, 2, 3, 100), (True, False)):
        parts = [b"".join(said[at : at + a_read]) for at in range(0, len(said), a_read)]
        reader = QuickReader(endpoint, *LIMITS, form=form)
        assert quickly(reader, parts, typed) == generally(endpoint, LIMITS, parts, typed)
        assert reader.is_of_form


def test_an_answer_of_a_known_form_may_be_cut_anywhere() -> None:
    whole, form = b"".join(chat("another", "one", " two", " three")), known()
    expected = generally(CHAT, LIMITS, [whole], True)
    for cut in range(len(whole)):
        reader = QuickReader(CHAT, *LIMITS, form=form)
        assert quickly(reader, [whole[:cut], whole[cut:]], True) == expected


ODD = [
    b": a comment\n\n",
    event("other", [{"index": 0, "delta": {"content": "x"}}]),
    event("name", [{"index": 1, "delta": {"content": "x"}, "finish_reason": "stop"}]),
    event("name", [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c"}]}}]),
    b'data: {"error":{"message":"m","code":429}}\n\n',
    b"data: {broken\n\n",
    b"data: ",
    b"\n",
    DONE,
    chat("name")[1],
    chat("name", tokens=-1)[2],
    chat("name", reason="content_filter")[1],
    chat("other", "x")[1],
]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_of_another_form_is_read_as_if_none_were_known(odd: bytes) -> None:
    said, form = chat("name", "one", " two"), known()
    for place in range(len(said) + 1):
        parts = [*said[:place], odd, *said[place:]]
        for cut in (parts, [b"".join(parts)]):
            reader = QuickReader(CHAT, *LIMITS, form=form)
            assert quickly(reader, cut, True) == generally(CHAT, LIMITS, cut, True)


def test_an_answer_of_a_known_form_that_is_too_large_fails_as_any_other() -> None:
    said, form = chat("name", *["x" * 1_000] * 200), known()
    for limit in range(128 * 1024, 210 * 1000, 9_999):
        limits = (limit, 10**6)
        reader = QuickReader(CHAT, *limits, form=form)
        assert quickly(reader, said, False) == generally(CHAT, limits, said, False)


def test_no_form_is_learnt_of_an_answer_that_takes_much_besides_its_text() -> None:
    many = dict.fromkeys(map(str, range(700)), 1)
    [opening, *more] = chat("name", "one", " two", " three")
    wide = opening.replace(b'"model"', json.dumps(many).encode()[1:-1] + b',"model"')
    assert len(wide) < 8 * 1024
    assert form_of(CHAT, LIMITS, wide, *more) is None


REFUSAL = chat("name", "  ")[1].replace(b'"content"', b'"refusal"')
NOTHING_TO_LEARN = [
    chat("name", "one"),
    [*chat("name", "one", " two")[:-1]],
    [chat("name")[0], b": ping\n\n", *chat("name", "one", " two")[1:]],
    [*chat("name", "one", " two")[:3], *chat("other")[1:]],
    [*chat("name", "one", " two")[:3], REFUSAL, *chat("name", "three", " four")[1:]],
]


@pytest.mark.parametrize("answer", NOTHING_TO_LEARN)
def test_no_form_is_learnt_of_an_answer_that_shows_none(answer: list[bytes]) -> None:
    assert form_of(CHAT, LIMITS, *answer) is None


def read(forms: KnownForms, answer: Iterable[bytes]) -> bool:
    """Whether it was read by a form."""
    reader = forms.reader(CHAT, "m", *LIMITS)
    for part in answer:
        reader.take(part, None)
    forms.has_read(reader, CHAT, "m", reader.finish())
    return reader.is_of_form


def test_the_second_answer_of_a_gateway_is_read_by_the_form_of_the_first() -> None:
    forms = KnownForms()
    assert [read(forms, chat(name, "one", " two")) for name in "abc"] == [False, True, True]


def test_a_form_that_no_answer_has_any_more_is_replaced_by_that_of_a_later_one() -> None:
    forms = KnownForms()
    read(forms, chat("name", "one", " two"))
    others = [one.replace(b'"model"', b'"service_tier":"x","model"') for one in chat("a", "b", "c")]
    by_form = [read(forms, others) for _ in range(100)]
    assert by_form == [False] * by_form.index(True) + [True] * (100 - by_form.index(True))


def test_answers_that_were_under_way_when_a_form_was_learnt_say_nothing_about_it() -> None:
    forms, answer = KnownForms(), chat("name", "one", " two")
    early = [forms.reader(CHAT, "m", *LIMITS) for _ in range(10)]
    for reader in early:
        reader.take(b"".join(answer), None)
        forms.has_read(reader, CHAT, "m", reader.finish())
    assert read(forms, answer)


def test_one_tries_to_learn_less_and_less_often_from_answers_that_show_no_form() -> None:
    forms, answer = KnownForms(), [*chat("name", "one"), b": no more\n\n"]
    lessons = [number for number in range(3_000) if _is_lesson(forms, answer)]
    gaps = [later - sooner for sooner, later in itertools.pairwise(lessons)]
    assert lessons[0] == 0
    assert gaps == sorted(gaps)
    assert len(lessons) < 20


def _is_lesson(forms: KnownForms, answer: Iterable[bytes]) -> bool:
    reader = forms.reader(CHAT, "m", *LIMITS)
    is_lesson = reader.is_lesson
    for part in answer:
        reader.take(part, None)
    forms.has_read(reader, CHAT, "m", reader.finish())
    return is_lesson


def test_chunks_of_a_known_form_have_all_that_the_server_sent() -> None:
    reader, chunks = QuickReader(CHAT, *LIMITS, form=known()), list[Chunk]()
    said = chat("name", "one", " two")
    for part in said:
        reader.take(part, lambda more, _: chunks.extend(more))
    assert [chunk.raw for chunk in chunks] == [json.loads(one[6:]) for one in said[:-1]]
