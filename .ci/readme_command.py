"""Print one of the two set-up commands of README.md, so that what is checked is what is printed.

Usage: readme_command.py demo|test
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def setup_command(name: str) -> str:
    text = README.read_text("utf-8")
    found = re.search(rf"<!-- setup: {name} -->\s*```sh\n(.*?)```", text, re.DOTALL)
    if found is None:
        sys.exit(f"README.md has no set-up command marked '{name}'")
    return found.group(1).strip()


if __name__ == "__main__":
    print(setup_command(sys.argv[1]))
