"""Objects on standard input, as JSON, before the schemas of a version of Kubernetes; its problems.

Run by a Python that has kubernetes-validate.
"""

import json
import sys

import kubernetes_validate  # pyright: ignore[reportMissingImports]

for one in json.load(sys.stdin):
    try:
        kubernetes_validate.validate(one, sys.argv[1], strict=True)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(map(str, error.path))
        print(f"{one['kind']} {one['metadata']['name']}: {path}: {error.message}")
