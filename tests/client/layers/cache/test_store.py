"""The file: limits, age, damage, and other processes."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from batch_gateway.client.layers.cache import store_thread
from batch_gateway.client.layers.cache.place import check_place
from batch_gateway.client.layers.cache.store import AnswerStore, StoredAnswer
from batch_gateway.client.layers.cache.store_thread import StoreThread
from batch_gateway.errors import ConfigError

MIB = 2**20
FOREVER = float("inf")


def answer(text: str = "x", created: float = 0.0, size: int = 0) -> StoredAnswer:
    return StoredAnswer(text.encode() * (size or 1), "application/json", created)


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def opened(path: Path, max_age: float = FOREVER, now: float = 0.0) -> AnswerStore:
    return AnswerStore(path, MIB, max_age, now)


def test_what_was_written_is_there_for_the_next_who_opens_it(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    store.write({name(1): answer("one"), name(2): answer("two")}, (), 0.0)
    store.write({name(1): answer("uno")}, (), 1.0)
    store.close()
    again = opened(tmp_path / "c")
    assert again.get(name(1), 2.0) == answer("uno")
    assert again.get(name(2), 2.0) == answer("two")
    assert again.get(name(3), 2.0) is None
    again.close()
    assert (tmp_path / "c").stat().st_mode & 0o077 == 0


def test_it_stays_within_its_size_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    for number in range(100):
        store.write({name(number): answer("x", size=20_000)}, {name(0)}, float(number))
        assert (tmp_path / "c").stat().st_size <= MIB + 50_000
    assert store.get(name(0), 100.0) is not None
    assert store.get(name(99), 100.0) is not None
    kept = [n for n in range(1, 100) if store.get(name(n), 100.0) is not None]
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) > 30
    store.close()


def test_an_answer_as_large_as_the_cache_does_not_push_out_all_others(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    store.write({name(1): answer()}, (), 0.0)
    store.write({name(2): answer("x", size=MIB)}, (), 1.0)
    assert (store.get(name(1), 1.0), store.get(name(2), 1.0)) == (answer(), None)
    store.close()


def test_old_answers_are_not_given_and_dropped_when_it_is_opened(tmp_path: Path) -> None:
    store = opened(tmp_path / "c", max_age=60.0)
    store.write({name(1): answer("old", 0.0), name(2): answer("new", 50.0)}, (), 50.0)
    assert store.get(name(1), 59.0) is not None
    assert store.get(name(1), 61.0) is None
    store.close()
    store = opened(tmp_path / "c", max_age=60.0, now=61.0)
    store.close()
    store = opened(tmp_path / "c")
    assert store.get(name(1), 61.0) is None
    assert store.get(name(2), 61.0) is not None
    store.close()


def test_bytes_that_have_changed_are_no_answer(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    store.write({name(1): answer()}, (), 0.0)
    store.close()
    with sqlite3.connect(tmp_path / "c") as tampering:
        tampering.execute("UPDATE answers SET body = x'00'")
    tampering.close()
    store = opened(tmp_path / "c")
    assert store.get(name(1), 0.0) is None
    store.close()


def thread(path: Path) -> StoreThread:
    return StoreThread(path, MIB, FOREVER, lambda: 0.0)


def fill_and_close(path: Path, numbers: range) -> None:
    async def fill() -> None:
        store = thread(path)
        for number in numbers:
            store.put(name(number), answer(str(number)))
            assert await store.get(name(number)) == answer(str(number))
        await store.close()

    asyncio.run(fill())


def found(path: Path, numbers: range) -> list[bool]:
    async def look() -> list[bool]:
        store = thread(path)
        answers = await asyncio.gather(*(store.get(name(number)) for number in numbers))
        await store.close()
        return [one is not None for one in answers]

    return asyncio.run(look())


@pytest.mark.parametrize("damage", ["garbage", "torn", "zeros", "middle"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "c"
    fill_and_close(path, range(2000))
    whole = path.read_bytes()
    spoilt = {
        "garbage": os.urandom(50_000),
        "torn": whole[: len(whole) // 3],
        "zeros": bytes(len(whole)),
        "middle": whole[:4096] + os.urandom(len(whole) - 4096),
    }[damage]
    path.write_bytes(spoilt)
    with caplog.at_level(logging.WARNING, "batch_gateway.cache"):
        assert not all(found(path, range(2000)))
        fill_and_close(path, range(10))
    assert all(found(path, range(10)))
    assert "is damaged" in caplog.text
    aside = list(tmp_path.glob("c.damaged-*"))
    assert len(aside) == 1


def test_a_disk_that_cannot_be_written_costs_the_cache_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    assert found(folder / "c", range(3)) == [False] * 3
    assert "is not used any more: No such file or directory" in caplog.text


def test_any_number_of_keys_is_looked_up_at_once_and_each_has_its_own_answer(
    tmp_path: Path,
) -> None:
    store = opened(tmp_path / "c")
    store.write({name(n): answer(str(n)) for n in range(0, 2000, 2)}, (), 0.0)
    for keys in (range(0), range(1), range(7, 10), range(256), range(1990, 2010), range(2000)):
        found = store.find([name(n) for n in keys], 0.0)
        assert found == {name(n): answer(str(n)) for n in keys if n % 2 == 0 and n < 2000}
    store.close()


def test_all_that_were_used_count_as_used_last(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    store.write({name(n): answer("x", size=2_000) for n in range(300)}, (), 0.0)
    store.write({}, {name(n) for n in range(290)}, 1.0)
    store.write({name(n): answer("x", size=2_000) for n in range(300, 500)}, (), 2.0)
    kept = set(store.find([name(n) for n in range(500)], 2.0))
    assert not kept & {name(n) for n in range(290, 300)}
    assert kept >= {name(n) for n in range(300, 500)}
    store.close()


def test_a_disk_that_hangs_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()

    class Hanging(AnswerStore):
        def find(self, keys: Sequence[bytes], now: float) -> dict[bytes, StoredAnswer]:
            let_go.wait(20)
            return super().find(keys, now)

    monkeypatch.setattr("batch_gateway.client.layers.cache.store_worker.AnswerStore", Hanging)
    monkeypatch.setattr(store_thread, "LONGEST_LOOK_UP", 0.02)
    fill_and_close(tmp_path / "c", range(2))

    async def look() -> list[StoredAnswer | None]:
        store = thread(tmp_path / "c")
        given_up = await asyncio.gather(store.get(name(0)), store.get(name(1)))
        monkeypatch.setattr(store_thread, "LONGEST_LOOK_UP", 20.0)
        let_go.set()
        found = await store.get(name(1))
        await store.close()
        return [*given_up, found]

    assert asyncio.run(look()) == [None, None, answer("1")]


def refusal(path: Path) -> str:
    try:
        check_place(path)
    except ConfigError as error:
        return error.problem.removeprefix(f"{path} ")
    return ""


TEXT = "is a text file, not an answer cache"
OTHER = "is not an answer cache; name another, or delete it if it was a damaged one"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ""),
        (b'{"custom_id": "a"}\n', TEXT),
        ("Grüße".encode(), TEXT),
        ("Grüße".encode("latin-1"), TEXT),
        ("Grüße".encode("utf-16"), OTHER),
        ("Grüße".encode("utf-32"), OTHER),
        (b"bold: b\x08bo\x08o", OTHER),
        (b"\0asm\1\0\0\0", OTHER),
        (b"PK\3\4\x14\0", OTHER),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", OTHER),
        (bytes(5000), OTHER),
        (bytes(5000) + b"words", OTHER),
        (bytes(range(256)), OTHER),
        (random.Random(1).randbytes(5000), OTHER),
    ],
)
def test_a_file_that_is_no_cache_is_refused_and_stays_as_it_is(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    assert refusal(path) == problem
    assert path.read_bytes() == content
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("first_page", [bytes(4096), os.urandom(4096)], ids=["zeros", "garbage"])
def test_a_cache_whose_beginning_a_crash_has_spoilt_is_known_by_its_log(
    tmp_path: Path, first_page: bytes
) -> None:
    path = tmp_path / "c"
    store = opened(path)
    store.write({name(1): answer()}, (), 0.0)
    content = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    store.close()
    for file, bytes_then in content.items():
        (tmp_path / file).write_bytes(bytes_then)
    path.write_bytes(first_page + content["c"][4096:])
    assert refusal(path) == ""


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_files_where_sqlite_would_keep_its_own_are_refused_and_stay_as_they_are(
    tmp_path: Path, ending: str
) -> None:
    path, beside = tmp_path / "notes", tmp_path / f"notes{ending}"
    beside.write_text("mine")
    assert f"{beside} is in its way" in refusal(path)
    assert beside.read_text() == "mine"
    beside.unlink()
    opened(path).close()
    beside.write_bytes(bytes(100))
    assert refusal(path) == ""


def test_other_programs_databases_are_told_from_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert refusal(path) == ""
    for application in (7, 0):
        with sqlite3.connect(path) as other:
            other.execute(f"PRAGMA application_id = {application}")
            other.execute("CREATE TABLE t (x)")
        other.close()
        assert "another program's database" in refusal(path)
        path.unlink()
    opened(path).close()
    assert refusal(path) == ""


_TRY_TO_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    # SQLite's shared range: https://www.sqlite.org/src/file/src/os.h
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
"""


def try_to_lock(path: Path) -> bytes:
    """What a process says that wants the file for itself."""
    command = [sys.executable, "-c", _TRY_TO_LOCK, path]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).stderr


def test_looking_at_a_file_in_use_does_not_take_its_locks_away(tmp_path: Path) -> None:
    path = tmp_path / "c"
    first = opened(path)
    first.write({name(1): answer()}, (), 0.0)
    check_place(path)
    opened(path).close()
    assert b"BlockingIOError" in try_to_lock(path)
    assert first.get(name(1), 0.0) == answer()
    first.close()
    assert try_to_lock(path) == b""


def test_many_answers_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "c"
    fill_and_close(path, range(1500))
    assert all(found(path, range(1500)))
