"""The readme of the package: README.md without what leads nowhere outside of the repository."""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["CustomMetadataHook", "readable_alone"]

_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
_IMAGE_OF_THE_REPOSITORY = re.compile(r"!\[[^\]]*\]\((?![a-z]+:)[^)]*\)")
# A list of links, which would be one of words.
_LINKS_ALONE = re.compile(r"^## More\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_WHERE_THE_PAGES_ARE = """\
## More

The documentation is the folder `docs` of the source archive, from `docs/index.md` on: recipes,
every setting, the service, errors by message and what to do about each.
"""
_LINK_INTO_THE_REPOSITORY = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)[^)]*\)")


def readable_alone(readme: str) -> str:
    """The text with the words of links to other files, without such images and without comments."""
    text = _IMAGE_OF_THE_REPOSITORY.sub("", _COMMENT.sub("", readme))
    text = _LINKS_ALONE.sub(_WHERE_THE_PAGES_ARE, text)
    return _LINK_INTO_THE_REPOSITORY.sub(r"\1", text)


class CustomMetadataHook(MetadataHookInterface):
    """What hatchling asks for each wheel and each sdist; the name is its."""

    def update(self, metadata: dict[str, object]) -> None:
        text = readable_alone((Path(self.root) / "README.md").read_text("utf-8"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
