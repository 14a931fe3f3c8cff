"""The engine: a batch file checked, planned, and run through clients, with its output as journal.

It knows no HTTP server, no database and no command line.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_gateway.engine.public import *  # noqa: F403 - `public.__all__` lists them
    from batch_gateway.engine.public import __all__ as __all__


def __getattr__(name: str) -> Any:
    """Load the whole engine when somebody asks for the first of its names, or for `__all__`."""
    public = importlib.import_module("batch_gateway.engine.public")
    globals().update({each: getattr(public, each) for each in ("__all__", *public.__all__)})
    if name not in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return globals()[name]


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
