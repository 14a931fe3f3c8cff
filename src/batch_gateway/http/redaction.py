"""Takes secrets out of what a gateway says: some gateways quote the key they refuse.

Only failures are looked through. A good answer and the request's own id are the user's and stay
as they are.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

import msgspec

from batch_gateway.errors import InferenceError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.spellings import CUT, Span, looks_escaped, readings, spelt_spans
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["Redactor", "is_credential", "secrets_of_header", "secrets_of_url"]

_CREDENTIAL = rare_pattern(
    r"auth(?!or(?:ity|s)?(?:$|[-_]))|key|token|secret|cookie|passw|passphrase|passcode|pwd|credential|signature|jwt"
    r"|bearer|session|assertion|hmac|saml"
    r"|(?:^|[-_])(?:creds?|otp|pass|pat|psk|pw|sid|sig)(?:$|[-_])",
    re.IGNORECASE,
)
# Inside one value: what digests and signatures are made of.
_PARAMETER = rare_pattern(
    r"(?:credential|signature|response|token|key|secret|password)\s{0,4}=\s{0,4}\"?([^\s\",;]+)",
    re.IGNORECASE,
)
# Bearer, Basic, Token and whatever else stands before the secret itself.
_SCHEME = rare_pattern(r"[A-Za-z][A-Za-z0-9_-]{1,30}")
_MASK = "[redacted]"
# What `short_text` leaves of a message is shorter.
_LONGEST_MESSAGE = 4096
# Shorter values ("1", "batch") are no secrets, and masking them would garble honest text.
_SHORTEST_SECRET = 8
# What vendors' keys begin with ("sk-proj-") and a few signs more, as they show masked keys.
_LONGEST_PREFIX = 16
# But what a user has put where a password goes is one.
_SHORTEST_PASSWORD = 6


def is_credential(header: str) -> bool:
    """Whether the value of a header of this name is likely a secret."""
    return _CREDENTIAL.search(header) is not None


def secrets_of_header(name: str, value: str) -> Iterator[str]:
    """What must not be shown of a header that is sent; nothing where it is harmless."""
    scheme, _, rest = value.partition(" ")
    if not is_credential(name) and scheme.lower() != "bearer":
        return
    if rest and _SCHEME.fullmatch(scheme):
        value = rest.strip()
    yield from _long(value)
    if scheme.lower() == "basic":
        yield from _secrets_of_basic(value)
    for found in _PARAMETER.finditer(value):
        yield from _long(found.group(1))
    if "cookie" in name.lower():
        for cookie in value.split(";"):
            yield from _long(cookie.partition("=")[2].strip().strip('"'))


def secrets_of_url(url: str) -> Iterator[str]:
    """The password in a URL such as a proxy's, as it is written and as it is sent."""
    user_info = urlsplit(url).netloc.rpartition("@")[0]
    plain = unquote(user_info)
    yield from _secrets_of_user_info(user_info)
    yield from _secrets_of_user_info(plain)
    # A user without a password is sent with an empty one.
    sent = plain if ":" in user_info else f"{plain}:"
    yield from _long(base64.b64encode(sent.encode()).decode().rstrip("="))


def _secrets_of_basic(token: str) -> Iterator[str]:
    yield from _long(token.rstrip("="))
    try:
        plain = base64.b64decode(f"{token.rstrip('=')}==")
    except (binascii.Error, ValueError):
        return
    yield from _secrets_of_user_info(plain.decode("utf-8", "replace"))


def _secrets_of_user_info(user_info: str) -> Iterator[str]:
    user, _, password = user_info.partition(":")
    yield from _long(user_info)
    if len(password) >= _SHORTEST_PASSWORD:
        yield password
    elif not password:
        yield from _long(user)  # where a key stands alone


def _long(value: str) -> Iterator[str]:
    if len(value) >= _SHORTEST_SECRET:
        yield value


class Redactor:
    """Replaces known secrets in text, bytes, responses and errors, however they are spelt there."""

    @classmethod
    def of_headers(cls, headers: Iterable[tuple[str, str]]) -> Redactor:
        """For the headers that are sent."""
        return cls(secret for name, value in headers for secret in secrets_of_header(name, value))

    def __init__(self, secrets: Iterable[str]) -> None:
        given = {
            reading
            for secret in secrets
            for reading in readings(secret)
            if reading == secret or len(reading) >= _SHORTEST_PASSWORD
        }
        given.update(*((one.lower(), one.upper()) for one in given))
        # Bytes are looked through as Latin-1, whatever they are.
        as_bytes = (one.encode("utf-8", "replace").decode("latin-1") for one in given)
        self._secrets = frozenset(given.union(as_bytes))
        self._like_escapes = any(map(looks_escaped, self._secrets))

    def and_headers(self, headers: Iterable[tuple[str, str]]) -> Redactor:
        """For these headers, too."""
        more = Redactor.of_headers(headers)._secrets - self._secrets
        return Redactor(self._secrets | more) if more else self

    def in_text(self, text: str) -> str:
        """`text` without secrets, and without the beginning of one where it was cut."""
        if not self._secrets:
            return text
        spans, looked = spelt_spans(text, self._search, like_escapes=self._like_escapes)
        if not spans and looked == len(text):
            return text
        pieces: list[str] = []
        at = 0
        for start, end in spans:
            pieces += (text[at:start], _MASK)
            at = end
        return "".join((*pieces, text[at : max(at, looked)]))

    def in_bytes(self, data: bytes) -> bytes:
        """The same for bytes. UTF-16, in which a secret has other bytes, becomes UTF-8 for it."""
        if not self._secrets:
            return data
        encoding = json.detect_encoding(data)
        if not encoding.startswith("utf-8"):
            text = data.decode(encoding, "replace")
            clean = self.in_text(text)
            if clean != text:
                data = clean.encode("utf-8", "replace")
        text = data.decode("latin-1")
        clean = self.in_text(text)
        return data if clean is text else clean.encode("latin-1")

    def in_response(self, response: HTTPResponse) -> HTTPResponse:
        """The same for a whole response that is no answer."""
        if not self._secrets:
            return response
        headers = [(name, self.in_bytes(value)) for name, value in response.headers.raw]
        return msgspec.structs.replace(
            response, headers=Headers(headers), body=self.in_bytes(response.body)
        )

    def in_error(self, error: InferenceError) -> InferenceError:
        """`error` itself, with nothing secret in anything that it carries.

        The request's id stays, and a cause that has a secret in its words is dropped.
        """
        if not self._secrets:
            return error
        error.message = self.in_text(error.message)
        error.args = (error.message,)
        error.body = self.in_bytes(error.body)
        error.code = self.in_text(error.code)
        if error.dropped_reason is not None:
            error.dropped_reason = self.in_text(error.dropped_reason)
        limits = error.rate_limits.items()
        error.rate_limits = {self.in_text(name): self.in_text(value) for name, value in limits}
        if self._is_told_by(error.__cause__):
            error.__cause__ = None
        return error

    def _is_told_by(self, cause: BaseException | None) -> bool:
        while cause is not None:
            for said in (str(cause), repr(cause)):
                if self.in_text(said) != said:
                    return True
            cause = cause.__cause__ or cause.__context__
        return False

    def _search(self, text: str) -> Iterator[Span]:
        cuts = tuple(_cuts(text))
        for secret in self._secrets:
            yield from _occurrences(secret, text)
            for cut in cuts:
                yield from _beginnings(secret, text, cut)


def _occurrences(secret: str, text: str) -> Iterator[Span]:
    """Where it stands, or so much of its beginning that somebody else has cut it there."""
    head = secret[:_LONGEST_PREFIX]
    start = text.find(head)
    while start >= 0:
        end = start + _agreeing(secret, text[start : start + len(secret)])
        yield start, end
        start = text.find(head, end - len(head) + 1)


def _agreeing(one: str, other: str) -> int:
    """How many signs both begin with."""
    differ = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _beginnings(secret: str, text: str, cut: int) -> Iterator[Span]:
    """What is left of a secret where a text was cut in the middle of it."""
    before = text[max(0, cut - len(secret)) : cut]
    longest = min(len(before), len(secret) - 1)
    for length in range(longest, _SHORTEST_SECRET - 1, -1):
        if before.endswith(secret[:length]):
            yield cut - length, cut
            return


def _cuts(text: str) -> Iterator[int]:
    """Where a text may be cut: what arrived ends too early at times, and so does a short text."""
    yield len(text)
    cut = text.find(CUT) if len(text) <= _LONGEST_MESSAGE else -1
    while cut >= 0:
        yield cut
        cut = text.find(CUT, cut + 1)
