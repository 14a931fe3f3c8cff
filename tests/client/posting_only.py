"""The part of an exchanger that stacks under test have no use for."""

from __future__ import annotations

from typing import Never

__all__ = ["PostingOnly"]


class PostingOnly:
    """Its heirs answer `post`; nothing else is to be asked of them."""

    def stream(self, *_arguments: object, **_settings: object) -> Never:
        raise AssertionError("nobody asked")

    async def connect(self, *, deadline: float) -> None:
        raise AssertionError("nobody asked")

    async def aclose(self) -> None:
        pass
