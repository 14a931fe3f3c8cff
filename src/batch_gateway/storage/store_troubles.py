"""What an error of an object store means, and what cures it. Pure.

The texts of such errors hold addresses, key ids and whole signed requests; none of that is passed
on. What is known of an error is its HTTP status and the store's own code for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from batch_gateway.errors import (
    NotStoredError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from batch_gateway.storage.outage_log import OutageLog

__all__ = ["Trouble", "trouble_of"]

_STATUS = re.compile(r"status code: ([1-5][0-9]{2})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_CREDENTIAL_SOURCES = re.compile(
    r"169\.254\.|metadata\.google|oauth2|sts[.-]|/oauth/|credential|token request", re.IGNORECASE
)

_NO_BUCKET = "there is no such bucket: make it, or name another"
_WRONG_KEYS = "the store does not know these keys: look at them, and at what they are for"
_FORBIDDEN = "the keys do not allow it: they need to read, write, list and delete there"
_WRONG_REGION = "the bucket is in another region: name its own, as in ?region=eu-west-1"
_OLD_KEYS = "the keys have expired: give new ones"
_WRONG_TIME = "the clock of this machine is wrong, so that the store takes no request of it: set it"
_NO_KEYS = (
    "there are no keys: neither the environment nor a file has any, "
    "and this machine has no identity that the store knows"
)
_CURES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"), _NO_BUCKET),
    "InvalidBucketName": "the store takes no bucket of that name: name another",
    **dict.fromkeys(
        (
            *("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed"),
            *("InvalidToken", "InvalidSecurity", "InvalidAuthenticationInfo"),
            "NoAuthenticationInformation",
        ),
        _WRONG_KEYS,
    ),
    **dict.fromkeys(("ExpiredToken", "TokenRefreshRequired"), _OLD_KEYS),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), _WRONG_TIME),
    **dict.fromkeys(
        (
            *("AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"),
            *("IllegalLocationConstraintException", "AuthorizationQueryParametersError"),
        ),
        _WRONG_REGION,
    ),
    "BlobImmutableDueToPolicy": "the bucket keeps what it has unchanged: take another, or end that",
}
_BY_STATUS: Final = {301: _WRONG_REGION, 307: _WRONG_REGION, 401: _WRONG_KEYS, 403: _FORBIDDEN}
_FULL: Final = frozenset(
    {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "QuotaExceededException"}
)
# Answers of 4xx that may be others the next time.
_PASSING_CODES: Final = frozenset({"RequestTimeout", "OperationAborted", "SlowDown", "Throttling"})
_PASSING_STATUS: Final = frozenset({408, 425, 429})
_BEYOND_THE_END: Final = "InvalidRange"
# What connections fail of, as obstore names it.
_CAUSES: Final = (
    (
        "invalid peer certificate",
        "its TLS certificate is not trusted: name who signed it in SSL_CERT_FILE",
    ),
    ("dns error", "its host name is not known"),
    ("ConnectionRefused", "nobody listens there"),
    ("TimedOut", "it took too long"),
)


class Trouble(NamedTuple):
    """What an error of a store is.

    Attributes:
        words: for people, without an address or a key.
        may_pass: waiting may be the cure.
        kind: the error that it is for whoever uses the store.
        code: what the store calls it; empty where it does not say.
    """

    words: str
    may_pass: bool
    kind: type[StorageError] = StorageUnavailableError
    code: str = ""

    def of(self, name: str) -> StorageError:
        """The error for the object `name`."""
        return self.kind(f"{name} {self.words}" if self.is_missing else f"{name}: {self.words}")

    def tell(self, outage: OutageLog) -> None:
        """Of a store that is away, or of one that is there."""
        if self.kind is StorageUnavailableError:
            outage.met(f"the store of files cannot be used: {self.words}")
        elif self.is_missing:
            outage.over()

    @property
    def is_missing(self) -> bool:
        """There is no such object, in a store that works."""
        return self.kind is NotStoredError

    @property
    def is_beyond_the_end(self) -> bool:
        """The object is there, and ends before the bytes that were asked for."""
        return self.code == _BEYOND_THE_END


def trouble_of(error: Exception) -> Trouble:
    """What `error`, which is obstore's, means."""
    text, _, details = str(error).partition("Debug source:")
    found = _CODE.search(text)
    code = found[1] if found else ""
    status = int(match[1]) if (match := _STATUS.search(text)) else None
    if status == 416 or "Wanted range starting at" in text:
        return Trouble("ends before", False, StorageError, _BEYOND_THE_END)
    if code in _FULL or status == 507:
        return Trouble("the store has no room for more", False, StorageFullError, code)
    if code in _CURES:
        return Trouble(_CURES[code], False, code=code)
    if isinstance(error, FileNotFoundError):
        return Trouble("is not stored", False, NotStoredError, code)
    if type(error).__name__ == "PreconditionError":
        return Trouble("is another now than the one that was begun", False, StorageError, code)
    asks_for_keys = not code and _CREDENTIAL_SOURCES.search(text) is not None
    return _of_status(status, code, details, asks_for_keys=asks_for_keys)


def _of_status(status: int | None, code: str, details: str, *, asks_for_keys: bool) -> Trouble:
    told = f"{status}{f' {code}' if code else ''}"
    if asks_for_keys:
        # Whoever gives keys to a machine may be out of order as well.
        return Trouble(_NO_KEYS, True)
    if status is None:
        causes = [cause for phrase, cause in _CAUSES if phrase in details]
        return Trouble("the store does not answer" + "".join(f": {c}" for c in causes[:1]), True)
    if status >= 500 or status in _PASSING_STATUS or code in _PASSING_CODES:
        return Trouble(f"the store answers {told}", True, code=code)
    return Trouble(_BY_STATUS.get(status, f"the store refuses it with {told}"), False, code=code)
