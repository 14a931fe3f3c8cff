"""Memory does not grow with the rows of an input."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

from batch_gateway.engine.source import FileSource
from batch_gateway.inputs.prompt_template import Template
from batch_gateway.inputs.read_input import InputOptions, plan_of
from batch_gateway.inputs.recipe import Recipe

ASKED = InputOptions(recipe=Recipe(model="m", template=Template.parse("{text}")))


def peak_of(path: Path, rows: int) -> int:
    with path.open("w") as file:
        file.write("text,nr\n")
        file.writelines(f'"{"x" * 500}\nof row {n}",{n}\n' for n in range(rows))
    gc.collect()
    tracemalloc.start()
    try:
        with plan_of(FileSource.open(path), ASKED) as plan:
            assert plan.total == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_table_of_many_rows_takes_little_more_memory_than_one_of_few(tmp_path: Path) -> None:
    few, many = peak_of(tmp_path / "few.csv", 1_000), peak_of(tmp_path / "many.csv", 11_000)
    # Five megabytes of text more, of which some fifty bytes a row are remembered.
    assert many - few < 10_000 * 100
