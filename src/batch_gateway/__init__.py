"""Run large numbers of LLM requests through an OpenAI-compatible inference gateway."""

import importlib
from typing import TYPE_CHECKING, Any

# First of all: it takes care of Ctrl-C while the rest is loaded.
from batch_gateway import loading as _loading
from batch_gateway.version import __version__ as __version__

if TYPE_CHECKING:
    from batch_gateway.public import *  # noqa: F403 - `public.__all__` lists them
    from batch_gateway.public import __all__ as __all__

del _loading


def __getattr__(name: str) -> Any:
    """Load the library when somebody asks for the first of its names, or for `__all__`."""
    public = importlib.import_module("batch_gateway.public")
    if name == "__all__" or name in public.__all__:
        globals()[name] = getattr(public, name)
    if name not in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(["__version__", *__getattr__("__all__")])
