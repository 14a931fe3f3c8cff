"""Headers that a batch passes on to its gateway, encrypted where they are kept (Fernet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from batch_gateway.errors import ConfigError, RecordsError

__all__ = ["HeaderSeal"]

_decode = msgspec.json.Decoder(dict[str, str]).decode


class HeaderSeal:
    """Encrypts with the first of `keys` and reads what any of them wrote, so that keys can change.

    Raises ConfigError, which shows no key.
    """

    def __init__(self, keys: Sequence[str], field: str = "header_keys") -> None:
        if not keys:
            raise ConfigError(field, "there is no key")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except (ValueError, UnicodeEncodeError) as error:
            raise ConfigError(
                field,
                "a key is not 32 bytes in URL-safe base64 (`openssl rand -base64 32 | tr +/ -_`)",
            ) from error

    def seal(self, headers: Mapping[str, str]) -> bytes:
        return self._fernet.encrypt(msgspec.json.encode(headers))

    def open(self, sealed: bytes) -> Mapping[str, str]:
        """Raises RecordsError when none of the keys fits."""
        try:
            return _decode(self._fernet.decrypt(sealed))
        except InvalidToken as error:
            raise RecordsError(
                "the headers of a batch were encrypted with another key: add it to the keys"
            ) from error
