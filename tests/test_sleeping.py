"""No test sleeps to make something happen: it waits until it has, or lets virtual time pass."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
_PASSES = "a limit of real time passes, and that nothing happens is what is tried"
_SLOW = "a server that takes this long is what is tried"
_CHANCE = "whatever moment it is, the same must hold"
# Each function that sleeps otherwise, and why that makes nothing happen.
EXCEPTIONS: dict[str, str] = {
    "cli/test_outage.py"
    "::test_no_line_spends_its_retries_on_an_outage_and_work_goes_on_soon_after": _PASSES,
    "cli/test_outage.py::test_nor_on_one_of_a_gateway_that_has_answered_a_lot_just_now": _PASSES,
    "client/streaming/test_reception.py"
    "::test_an_answer_that_has_ended_outlives_the_silence_after_it::script": _SLOW,
    "client/streaming/test_reception.py"
    "::test_heartbeats_are_life_as_long_as_a_choice_goes_on::script": _SLOW,
    "client/streaming/test_stream.py::test_a_reader_that_is_behind_makes_the_gateway_wait": _PASSES,
    "engine/test_crash.py"
    "::test_a_command_killed_forty_times_gives_each_line_one_result_and_repeats_none_on_disk": (
        _CHANCE
    ),
    "fleet/chaos.py::torment": _CHANCE,
    "fleet/harms.py::last": _PASSES,
    "http/behaviour/test_deadlines.py"
    "::test_waiting_for_a_connection_does_not_count_as_connecting": _PASSES,
    "http/behaviour/test_streaming.py"
    "::test_a_body_may_take_longer_than_every_limit_between_its_pieces::script": _SLOW,
    "http/behaviour/test_streaming.py"
    "::test_a_reader_that_takes_its_time_is_not_taken_for_a_silent_server": _PASSES,
    "http/behaviour/test_streaming.py"
    "::test_a_reader_that_takes_its_time_is_not_taken_for_a_silent_server::script": _SLOW,
    "http/behaviour/test_streaming.py"
    "::test_a_slow_beginning_is_not_held_to_the_idle_timeout::script": _SLOW,
    "http/native/test_cancellation.py"
    "::test_cancelling_at_random_moments_leaks_no_slot_and_mixes_no_answers::some": _CHANCE,
    "http/native/test_failures.py::test_a_unix_socket_with_a_full_queue_is_waited_for": _PASSES,
    "peers/answering/asgi_app.py::app": _SLOW,
    "server/test_killed.py"
    "::test_a_service_killed_thirty_times_gives_each_line_one_result_and_repeats_none_on_disk": (
        _CHANCE
    ),
    "peers/test_foreign_servers.py::_use_connections_that_are_being_closed": (
        "the server's own clock closes connections, which nobody can see before it is over"
    ),
}


def sleeping_functions(path: Path) -> Iterator[str]:
    """The functions that let real time pass, other than while they wait for something.

    A `while` around it is such a wait, a method `sleep` is a clock's, a sleep of 0 is a turn of the
    event loop, and where time is virtual it takes none.
    """
    text = path.read_text("utf-8")
    if "from tests.virtual_time import" not in text:
        yield from _sleeping(ast.parse(text), path.relative_to(TESTS).as_posix(), waits=False)


def _sleeping(node: ast.AST, place: str, *, waits: bool) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        if node.name == "sleep":
            return
        place, waits = f"{place}::{node.name}", False
    waits = waits or isinstance(node, ast.While)
    if isinstance(node, ast.Call) and not waits and _is_sleep(node):
        yield place
    for child in ast.iter_child_nodes(node):
        yield from _sleeping(child, place, waits=waits)


def _is_sleep(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    long = not call.args or getattr(call.args[0], "value", None) != 0
    return name == "sleep" and long


def test_only_these_functions_of_the_tests_sleep() -> None:
    found = {place for path in TESTS.rglob("*.py") for place in sleeping_functions(path)}
    assert not found - EXCEPTIONS.keys(), "wait in a `while` for what shall happen, or see above"
    assert not EXCEPTIONS.keys() - found, "these sleep no longer"
