"""Where the `batch-gateway` command starts: its version is told before anything is loaded."""

from __future__ import annotations

import sys
from typing import NoReturn

from batch_gateway.version import __version__

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    if sys.argv[1:] == ["--version"]:
        try:
            print(f"batch-gateway {__version__}", flush=True)
            sys.exit(0)
        except OSError:
            # A full disk, a reader that went away: the command line proper knows what to say.
            pass
    from batch_gateway.cli.main import main as run_command_line  # noqa: PLC0415

    run_command_line()
