"""`read_requests`: files, tables and iterables of a program, for `run_batch` and `BatchRun`."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import BatchRun, ConfigError, InputError, read_requests, run_batch
from batch_gateway.testing import GatewayHandle
from tests.engine.batch_files import read_lines

pytestmark = pytest.mark.anyio

COLUMNS = {"review": ["good", "bad"], "stars": [5, 1], "nr": ["a", "b"]}
ASK: dict[str, Any] = {"model": "tiny", "template": "{review}: {stars}", "id_column": "nr"}


def prompts(source: Any, **told: Any) -> dict[str, str]:
    lines = map(json.loads, read_requests(source, **{**ASK, **told}))
    return {line["custom_id"]: line["body"]["messages"][-1]["content"] for line in lines}


def rows() -> list[dict[str, Any]]:
    names = list(COLUMNS)
    return [dict(zip(names, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]


def csv_file(folder: Path) -> Path:
    path = folder / "a.csv"
    path.write_text("review,stars,nr\ngood,5,a\nbad,1,b\n")
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "a path": csv_file,
    "a name": lambda folder: str(csv_file(folder)),
    "pandas": lambda _: import_module("pandas").DataFrame(COLUMNS),
    "polars": lambda _: import_module("polars").DataFrame(COLUMNS),
    "pyarrow": lambda _: import_module("pyarrow").table(COLUMNS),
    "mappings": lambda _: rows(),
    "a generator": lambda _: iter(rows()),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_requests_come_from_every_source(tmp_path: Path, source: str) -> None:
    assert prompts(SOURCES[source](tmp_path)) == {"a": "good: 5", "b": "bad: 1"}


def test_prompts_may_come_alone() -> None:
    assert prompts(["Hi", "Ho"], template=None, id_column=None) == {
        "request-1": "Hi",
        "request-2": "Ho",
    }


def test_lines_of_a_batch_may_be_mappings() -> None:
    body = {"messages": []}
    line = {"custom_id": "a", "method": "POST", "url": "/chat/completions", "body": body}
    (made,) = map(json.loads, read_requests([line], model="m"))
    assert made == {**line, "url": "/v1/chat/completions", "body": {**body, "model": "m"}}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_what_is_missing_in_a_table_is_told(library: str) -> None:
    module = import_module(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    table = make({"review": ["good", None], "stars": [1.5, None], "nr": ["a", "b"]})
    first, second = map(json.loads, read_requests(table, **ASK))
    assert first["body"]["messages"][0]["content"] == "good: 1.5"
    assert "has nothing in the column 'review'" in str(second)


@pytest.mark.parametrize(
    ("source", "told", "field"),
    [
        ("pandas", {"template": "{reviw}"}, "template"),
        ("polars", {"id_column": "number"}, "id_column"),
        ("mappings", {"limit": 0}, "limit"),
        ("mappings", {"format": "xml"}, "format"),
        ("mappings", {"endpoint": "/v1/x"}, "endpoint"),
    ],
)
def test_what_cannot_be_is_told_at_once(
    tmp_path: Path, source: str, told: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_requests(SOURCES[source](tmp_path), **{**ASK, **told})
    assert caught.value.field == field


@pytest.mark.parametrize("source", [7, {"a": 1}, b"a.csv", None])
def test_what_has_no_rows_is_refused(source: object) -> None:
    with pytest.raises(ConfigError, match="source"):
        read_requests(source, model="m")


async def test_they_run_and_a_bad_row_costs_no_other(gateway: GatewayHandle) -> None:
    requests = read_requests([*rows(), {"nr": "c"}, 7], **ASK)
    results = [result async for result in run_batch(requests, gateway=gateway.url)]
    assert sorted(result.custom_id for result in results if result.ok) == ["a", "b"]
    errors = sorted(str(result.error) for result in results if not result.ok)
    assert len(errors) == 2
    assert "has no column 'review'" in errors[0]
    assert "is neither a mapping nor a prompt" in errors[1]


async def test_a_run_keeps_their_results_and_goes_on(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    for source in (rows(), csv_file(tmp_path), [*rows(), {"review": "so", "stars": 3, "nr": "c"}]):
        run = BatchRun(
            read_requests(source, **ASK), gateway=gateway.url, output=tmp_path / "r.jsonl"
        )
        summary = await run.start()
        assert summary.failed == summary.left_to_send == 0
    assert len(read_lines(tmp_path / "r.jsonl")) == 3
    assert len(gateway.journal()["requests"]) == 3


async def test_a_run_names_the_rows_that_are_wrong(tmp_path: Path, gateway: GatewayHandle) -> None:
    requests = read_requests([*rows(), {"nr": "c"}], **ASK)
    with pytest.raises(InputError) as caught:
        await BatchRun(requests, gateway=gateway.url, output=tmp_path / "r.jsonl").start()
    assert caught.value.problems[0].startswith("line 3: has no column 'review'")
