"""OpenAI's own OpenAPI description of files and batches, mended where real objects differ from it.

In it optional fields may be missing but not null, errors are not described, and the content of a
file is JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["files_and_batches"]

_PATHS = (
    *("/files", "/files/{file_id}", "/files/{file_id}/content"),
    *("/batches", "/batches/{batch_id}", "/batches/{batch_id}/cancel"),
)
_NEVER_NULL = frozenset({"id", "object", "status", "endpoint", "bytes", "created_at", "filename"})
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
        }
    },
}


def files_and_batches(description: Path) -> dict[str, Any]:
    """The nine operations of the description in a YAML file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    whole: dict[str, Any] = yaml.load(description.read_text("utf-8"), loader)
    paths = {path: whole["paths"][path] for path in _PATHS}
    schemas = whole["components"]["schemas"]
    for name in ("Batch", "OpenAIFile", "ListBatchesResponse", "ListFilesResponse"):
        fields = schemas[name]["properties"]
        for field in fields.keys() - _NEVER_NULL:
            fields[field] = {"anyOf": [fields[field], {"type": "null"}]}
    for path, operations in paths.items():
        for method in operations.keys() & {"get", "post", "delete"}:
            answers = operations[method]["responses"]
            answers["4XX"] = _answer("application/json", _ERROR)
            if path.endswith("/content"):
                binary = {"type": "string", "format": "binary"}
                answers["200"] = _answer("application/octet-stream", binary)
    parts = {"paths": paths, "components": {"schemas": schemas}}
    return {"openapi": whole["openapi"], "info": whole["info"], **parts}


def _answer(content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "", "content": {content_type: {"schema": schema}}}
