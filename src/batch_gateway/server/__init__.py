"""The HTTP face of the service: /v1/files and /v1/batches, as the OpenAI Batch API has them.

Raises ConfigError when it is imported without what the extra `server` installs.
"""

from __future__ import annotations

from importlib.util import find_spec

from batch_gateway.errors import ConfigError
from batch_gateway.extras import command_for

_NEEDED = (
    *("alembic", "cryptography", "python_multipart"),
    *("sqlalchemy", "starlette", "uvicorn"),
)
_missing = [name for name in _NEEDED if find_spec(name) is None]
if _missing:
    raise ConfigError(
        "serve",
        f"needs {', '.join(_missing)}: install it with `{command_for('server')}`",
    )
