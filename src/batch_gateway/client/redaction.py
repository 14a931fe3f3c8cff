"""Takes secrets out of what a gateway says: some gateways quote the key they refuse."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Redactor", "is_credential"]

_CREDENTIAL = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
_MASK = "[redacted]"
# Shorter values ("1", "batch") are no secrets, and masking them would garble honest text.
_SHORTEST_SECRET = 8


def is_credential(header: str) -> bool:
    """Whether the value of a header of this name is likely a secret."""
    return _CREDENTIAL.search(header) is not None


class Redactor:
    """Replaces known secrets in text and bytes."""

    @classmethod
    def of_headers(cls, headers: Iterable[tuple[str, str]]) -> Redactor:
        """For the headers that are sent: the values of those whose names say credential."""
        values = (value for name, value in headers if is_credential(name))
        return cls(value.removeprefix("Bearer ") for value in values)

    def __init__(self, secrets: Iterable[str]) -> None:
        kept = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        # Longest first, so that a secret that contains another goes as a whole.
        self._secrets = sorted(kept, key=len, reverse=True)
        self._encoded = [secret.encode("latin-1") for secret in self._secrets]

    def in_text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def in_bytes(self, data: bytes) -> bytes:
        for secret in self._encoded:
            data = data.replace(secret, _MASK.encode())
        return data
