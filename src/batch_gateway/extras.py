"""How an extra is added to this installation, by the tool that made it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["command_for"]

_NAME = "batch-gateway"
# What a receipt of uv says of a requirement that is no release of a registry.
_SOURCES = ("directory", "editable", "path", "url", "git")


def command_for(extra: str, prefix: Path | None = None) -> str:
    """The command that adds it: of pip, pipx or uv, whichever installed what is in `prefix`.

    `prefix` is the root of an environment, by default the one that this runs in.
    """
    root = Path(sys.prefix) if prefix is None else prefix
    wanted = f"'{_NAME}[{extra}]'"
    if (root / "uv-receipt.toml").exists():
        return " ".join(_of_a_tool(root / "uv-receipt.toml", extra))
    if (root / "pipx_metadata.json").exists():
        # The environment is called as the program is, --suffix included.
        return f"pipx inject {shlex.quote(root.name)} {wanted}"
    return f"uv pip install {wanted}" if _made_by_uv(root) else f"pip install {wanted}"


def _made_by_uv(root: Path) -> bool:
    try:
        lines = (root / "pyvenv.cfg").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.partition("=")[0].strip() == "uv" for line in lines)


def _of_a_tool(receipt: Path, extra: str) -> Iterator[str]:
    """uv makes a tool anew, and would leave out what is not named again."""
    requirements = _requirements(receipt)
    own = [one for one in requirements if one.get("name") == _NAME]
    sources = (one[key] for one in own for key in _SOURCES if key in one)
    yield f"uv tool install {shlex.quote(str(next(sources, _NAME)))}"
    extras = dict.fromkeys([*(name for one in own for name in one.get("extras", ())), extra])
    yield f"--with '{_NAME}[{','.join(extras)}]'"
    for one in requirements:
        if one not in own:
            named = f"{one.get('name', '')}{one.get('specifier', '')}"
            yield f"--with {shlex.quote(named)}"


def _requirements(receipt: Path) -> list[dict[str, Any]]:
    """Those that a tool was installed with; none where the receipt says nothing of them."""
    import tomllib  # noqa: PLC0415 - for this one mistake

    try:
        return tomllib.loads(receipt.read_text("utf-8"))["tool"]["requirements"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
