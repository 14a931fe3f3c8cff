"""A key whose file holds another one by now: tokens that live an hour are renewed in place."""

from __future__ import annotations

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.config_checks import PathLike
from batch_gateway.errors import ConfigError, InferenceError
from batch_gateway.http.api_key import read_api_key_file
from batch_gateway.wire.refusal_words import is_refused_key

__all__ = ["KeyRenewalTransport"]


class KeyRenewalTransport:
    """A layer right above HTTP that reads the key's file again when the key is refused.

    A request whose key was refused is sent once more if there is another by then, and so are the
    others that went out with the old one; all later ones go out with the new key. `key` is
    what the file held first, which the layer below sends by itself; `header` is where it stands, or
    None for `Authorization: Bearer`.
    """

    def __init__(self, inner: Transport, path: PathLike, key: str, header: str | None) -> None:
        self._inner = inner
        self._name, self._scheme = ("Authorization", "Bearer ") if header is None else (header, "")
        self._path = path
        self._key = key
        self._renewed: tuple[tuple[str, str], ...] = ()

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        key = self._key
        try:
            return await self._inner.send(self._keyed(request))
        except InferenceError as error:
            if not is_refused_key(error) or not self._has_other_key(key):
                raise
        again = msgspec.structs.replace(request, attempt=request.attempt + 1)
        return await self._inner.send(self._keyed(again))

    def _keyed(self, request: PreparedRequest) -> PreparedRequest:
        if not self._renewed or self._has_own(request):
            return request
        return msgspec.structs.replace(request, headers=(*request.headers, *self._renewed))

    def _has_own(self, request: PreparedRequest) -> bool:
        return any(name.lower() == self._name.lower() for name, _ in request.headers)

    def _has_other_key(self, refused: str) -> bool:
        """Whether there is a key but `refused` by now."""
        if self._key != refused:
            return True
        try:
            key = read_api_key_file(self._path)
        except ConfigError:
            return False  # it may be being written just now
        if key == refused:
            return False
        self._key = key
        self._renewed = ((self._name, f"{self._scheme}{key}"),)
        return True

    async def aclose(self) -> None:
        await self._inner.aclose()
