"""What a migration may do, so that processes of the version before work on meanwhile and after:
their statements name the tables and columns that they know, and must go on to mean the same."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from batch_gateway.service.migrate import NEWEST
from batch_gateway.service.migrations import versions

FIRST = "0001"


class Recorder:
    """Takes the place of Alembic's `op`, and says what a step would do that it may not."""

    def __init__(self) -> None:
        self.wrongs: list[str] = []
        self._new = set[str]()

    def create_table(self, name: str, *parts: Any, **options: Any) -> None:
        self._new.add(name)
        for part in parts:
            # Who deletes a row of an old table knows of no others that belong to it.
            if isinstance(part, sa.ForeignKeyConstraint) and part.ondelete is None:
                self.wrongs.append(f"{name} keeps rows of others from being deleted")

    def create_index(self, name: str, table: str, *columns: Any, **options: Any) -> None:
        if options.get("unique") and table not in self._new:
            self.wrongs.append(f"{name} refuses rows that {table} took before")

    def add_column(self, table: str, column: sa.Column[Any]) -> None:
        # Who adds a row does not name it.
        if not column.nullable and column.server_default is None and table not in self._new:
            self.wrongs.append(f"{table}.{column.name} has to be given")
        if column.unique or column.foreign_keys:
            self.wrongs.append(f"{table}.{column.name} refuses rows that were taken before")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: self.wrongs.append(f"{name} changes what is there")


def steps() -> Iterator[ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(versions.__path__)]
    for name in sorted(names):
        yield importlib.import_module(f"{versions.__name__}.{name}")


def wrongs_of(step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    recorder = Recorder()
    monkeypatch.setattr(step, "op", recorder)
    step.upgrade()
    return recorder.wrongs


def test_every_step_only_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = list[str]()
    for step in steps():
        revisions.append(step.revision)
        if step.revision != FIRST:
            assert wrongs_of(step, monkeypatch) == [], step.__name__
    assert revisions == [f"{number:04}" for number in range(1, int(NEWEST) + 1)]


WRONG: dict[str, Callable[[Any], None]] = {
    "drop": lambda op: op.drop_column("files", "bytes"),
    "rename": lambda op: op.rename_table("files", "objects"),
    "change": lambda op: op.alter_column("files", "bytes", nullable=True),
    "rewrite": lambda op: op.execute("UPDATE files SET bytes = 0"),
    "demand": lambda op: op.add_column("files", sa.Column("x", sa.Text(), nullable=False)),
    "single": lambda op: op.create_index("one", "files", ["bytes"], unique=True),
    "hold": lambda op: op.create_table(
        "x",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.ForeignKeyConstraint(["id"], ["files.id"]),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_process_of_the_version_before_would_trip_over_is_found(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ModuleType("step")
    monkeypatch.setattr(step, "op", None, raising=False)
    monkeypatch.setattr(step, "upgrade", lambda: WRONG[wrong](vars(step)["op"]), raising=False)
    assert len(wrongs_of(step, monkeypatch)) == 1
