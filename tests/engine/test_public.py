"""What `batch_gateway.engine` gives is listed, loaded when it is asked for, and documented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from batch_gateway import engine

PAGE = Path(__file__).parents[2] / "docs" / "engine.md"


def test_the_names_are_sorted_and_all_that_dir_shows() -> None:
    assert dir(engine) == engine.__all__ == sorted(engine.__all__)


@pytest.mark.parametrize("name", engine.__all__)
def test_a_name_is_there_and_documented(name: str) -> None:
    assert getattr(engine, name).__module__.startswith(("batch_gateway.engine.", "typing", "coll"))
    assert re.search(rf"\b{name}\b", PAGE.read_text("utf-8"))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"batch_gateway\.engine.* has no attribute 'Motor'"):
        _ = engine.Motor


def test_a_part_of_the_engine_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys, batch_gateway.engine.failure_limit\n"
        "print('batch_gateway.engine.run' in sys.modules)\n"
        "from batch_gateway.engine import run_plan\n"
        "print('batch_gateway.engine.run' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
