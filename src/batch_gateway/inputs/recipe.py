"""How rows become requests: the model, the template and what else somebody asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec

from batch_gateway.errors import ConfigError
from batch_gateway.inputs.prompt_template import Template
from batch_gateway.wire.endpoint import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

__all__ = ["MODERATIONS", "OF_TEXT", "Recipe"]

MODERATIONS = "/v1/moderations"
OF_TEXT = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MODERATIONS)
"""What a prompt can be for."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How rows become requests.

    Attributes:
        model: of requests that name none.
        model_override: of all requests, whatever they name.
        system: the system message of chats that have none, the instructions of responses.
        template: of the prompt; without it rows have a column `prompt` or `messages`.
        params: of requests that do not have them themselves.
        endpoint: that rows are for; chats unless given. Lines of a batch have their own.
        id_column: whose values are the custom_ids; else `custom_id`, or request-1 and so on.
    """

    model: str | None = None
    model_override: str | None = None
    system: str | None = None
    template: Template | None = None
    params: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    endpoint: str | None = None
    id_column: str | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.model_override is not None:
            raise ConfigError("model", "is a default, and model_override is for all: give one")
        for name in ("model", "model_override", "endpoint", "id_column"):
            if getattr(self, name) == "":
                raise ConfigError(name, "is empty")
        if self.endpoint is not None and self.endpoint not in OF_TEXT:
            raise ConfigError(
                "endpoint",
                f"{self.endpoint!r:.80} is none for prompts: {', '.join(OF_TEXT)} are; lines of a"
                " batch file name theirs as url",
            )
        if self.system is not None and self.endpoint not in (None, CHAT, RESPONSES):
            raise ConfigError("system", f"means nothing to {self.endpoint}")

    @property
    def does_nothing(self) -> bool:
        """Whether lines of a batch stay as they are."""
        return msgspec.structs.replace(self, endpoint=None) == Recipe()

    def marks(self) -> dict[str, str]:
        """Four hexadecimal digits for each part of it, to know it again; by its name."""
        parts = {
            "model": self.model or self.model_override,
            "system message": self.system,
            "template": self.template and self.template.text,
            "parameters": sorted(self.params.items()) or None,
            "endpoint": self.endpoint,
            "id column": self.id_column,
        }
        return {
            name: f"{crc32(msgspec.json.encode(value)) & 0xFFFF:04x}"
            for name, value in parts.items()
        }
