"""The templates and the static files of the page, loaded once."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import Environment

from batch_gateway.report.templates import templates_of

__all__ = ["CONTENT_SECURITY_POLICY", "StaticFile", "render", "static_file"]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_FOLDER = Path(__file__).parent / "page"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFile(NamedTuple):
    """A file as it is sent."""

    content: bytes
    media_type: str
    etag: str


def render(template: str, **values: object) -> str:
    """HTML in which everything that is not of the template itself is escaped."""
    return _templates().get_template(f"{template}.html.jinja").render(**values)


def static_file(name: str) -> StaticFile | None:
    """The file of that name, or None. Only names of the folder itself are any."""
    return _static_files().get(name)


@cache
def _static_files() -> dict[str, StaticFile]:
    return {
        path.name: _loaded(path) for path in (_FOLDER / "static").iterdir() if path.suffix in _TYPES
    }


def _loaded(path: Path) -> StaticFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return StaticFile(content, f"{_TYPES[path.suffix]}; charset=utf-8", f'"{digest}"')


@cache
def _templates() -> Environment:
    return templates_of(_FOLDER, size=_size)


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:,} B"
