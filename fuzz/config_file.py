"""Coverage-guided fuzzing of config files.

    pip install atheris
    python -m fuzz.config_file --seconds 300

An input is a YAML file. A finding is
written to `crash-…` in the working directory: make it a seed in
`fuzz/seeds/config_file`, under a name that says what it is, and the tests will check it
from then on.
"""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

from batch_gateway.errors import ConfigError
from batch_gateway.settings.config_file import load_config_file
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "config_file"
_TEMPORARY = tempfile.TemporaryDirectory(prefix="config-file-")
atexit.register(_TEMPORARY.cleanup)
WORDS = (
    *("gateway: ", "model_gateways:\n  m: ", "url: ", "timeout: ", "concurrency: ", "headers:\n"),
    *("&a", "*a", "<<: *a", "!!python/object:os.system", "!!binary", "? ", "- ", "|\n", "{", "}"),
    *("2001-01-01", "0x7f", ".inf", ".nan", "~", "yes", "\n---\n", "%YAML 1.2\n", "\t", "5m"),
)


def check(data: bytes) -> None:
    """Fail when a file is neither settings nor refused with a place for every problem."""
    path = Path(_TEMPORARY.name) / "config.yaml"
    path.write_bytes(data)
    try:
        found = load_config_file(path)
    except ConfigError as error:
        assert str(path) in str(error)
        assert all(problem.startswith(str(path)) for problem in error.problems)
        return
    for name, given in found.values.items():
        assert given.place.startswith(f"{path}:"), (name, given)


if __name__ == "__main__":
    run(check, "config files", SEEDS, WORDS)
