"""Rules of style for where things stand, in place of attributes that a strict policy forbids."""

from __future__ import annotations

import base64
import hashlib

__all__ = ["Places", "policy_of"]


class Places:
    """Gives a class for each place that is asked for, and in the end the rules of all of them."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def __call__(self, **percent: float) -> str:
        """The class of what has these properties, `left` or `width` for example, in percent."""
        declared = ";".join(f"{name}:{value:.3f}%" for name, value in percent.items())
        return self._classes.setdefault(declared, f"at{len(self._classes)}")

    def rules(self) -> str:
        return "".join(f".{name}{{{declared}}}\n" for declared, name in self._classes.items())


def policy_of(style: str) -> str:
    """The content security policy of a page that has this style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'"
