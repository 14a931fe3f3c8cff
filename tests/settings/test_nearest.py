"""What somebody meant by a name that is none is offered, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.settings.nearest import near_names, nearest
from batch_gateway.settings.table import settings_of

FLAGS = [
    one.flag_name
    for group in settings_of("run").values()
    for one in group
    if one.flag_name and not one.is_hidden
]
UNLIKE_ANY = ["--to", "--verbose", "--foo", "--x", "--yes", "--", "--zzzzzzzzzzzz"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--gatewey", "--gateway"),
        ("--agteway", "--gateway"),
        ("--concurency", "--concurrency"),
        ("--max_retries", "--max-retries"),
        ("--retries", "--max-retries"),
        ("--max-concurrency", "--concurrency"),
        ("--apikeyfile", "--api-key-file"),
        ("--RPM", "--rpm"),
    ],
)
def test_a_name_with_a_typing_error_or_some_of_the_words_is_near(given: str, meant: str) -> None:
    assert near_names(given, FLAGS) == [meant]


def test_names_that_are_equally_near_are_all_offered() -> None:
    assert set(near_names("--api-key", FLAGS)) == {
        "--api-key-file",
        "--api-key-env",
        "--api-key-header",
    }


@pytest.mark.parametrize("unlike", UNLIKE_ANY)
def test_a_guess_is_not_offered(unlike: str) -> None:
    assert nearest(unlike, FLAGS) == ""


@given(st.sampled_from(FLAGS), st.data())
def test_one_letter_too_few_is_near_to_what_was_meant(flag: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(2, len(flag) - 1))
    less = flag[:place] + flag[place + 1 :]
    if less not in FLAGS and len(flag.replace("-", "")) > 2:
        assert flag in near_names(less, FLAGS)


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=9))
def test_what_is_offered_is_known_and_never_many(name: str, known: list[str]) -> None:
    found = near_names(name, known)
    assert len(found) <= 3
    assert set(found) <= set(known)
