"""A Compose file on standard input, as JSON, before its specification, strictly.

Run by a Python that has compose-spec.
"""

import sys

from compose_spec import PyCompose  # pyright: ignore[reportMissingImports]

try:
    PyCompose.from_json(sys.stdin.read()).validate()
except ValueError as error:
    print(error)
