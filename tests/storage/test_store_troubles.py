"""What errors of stores mean: whether to wait, what to do, and nothing of what they show."""

from __future__ import annotations

import logging

import pytest
from obstore import exceptions

from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.errors import (
    NotStoredError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from batch_gateway.storage.insisting import Insisting
from batch_gateway.storage.outage_log import OutageLog
from batch_gateway.storage.store_troubles import trouble_of

pytestmark = pytest.mark.anyio

OUTAGE = OutageLog("the store", logging.getLogger("batch_gateway.test"))

ASKED = "Generic S3 error: Error performing PUT http://HIDDEN.example/b/x?sig=HIDDEN in 1ms - "
DETAILS = '\n\nDebug source:\nGeneric { uri: "http://HIDDEN", body: "<StringToSign>HIDDEN" }'


def said(
    status: int, code: str = "", *, kind: type[Exception] = exceptions.GenericError
) -> Exception:
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>HIDDEN</AWSAccessKeyId></Error>"
    return kind(f"{ASKED}Server returned non-2xx status code: {status} Words: {body}{DETAILS}")


def unanswered(cause: str) -> Exception:
    return exceptions.GenericError(f"{ASKED}HTTP error: error sending request{DETAILS} {cause}")


PASSING = [
    (said(500, "InternalError"), "answers 500 InternalError"),
    (said(503, "SlowDown"), "answers 503 SlowDown"),
    (said(503), "answers 503"),
    (said(429), "answers 429"),
    (said(408), "answers 408"),
    (said(400, "RequestTimeout"), "answers 400 RequestTimeout"),
    (said(409, "OperationAborted"), "answers 409 OperationAborted"),
    (unanswered("ConnectionRefused"), "does not answer: nobody listens there"),
    (unanswered("dns error: failed to lookup"), "does not answer: its host name is not known"),
    (unanswered("TimedOut"), "does not answer: it took too long"),
    (
        unanswered("invalid peer certificate: UnknownIssuer"),
        "certificate is not trusted: .*SSL_CERT",
    ),
    (unanswered("?"), "the store does not answer$"),
    (exceptions.GenericError("Got invalid list response: no XML"), "the store does not answer$"),
    (
        exceptions.GenericError(
            "Error performing PUT http://169.254.169.254/latest/api/token in 1ms - "
            "Server returned non-2xx status code: 403 Forbidden"
        ),
        "there are no keys",
    ),
]
LASTING = [
    (said(404, "NoSuchBucket", kind=FileNotFoundError), "no such bucket: make it"),
    (said(404, "ContainerNotFound", kind=FileNotFoundError), "no such bucket: make it"),
    (said(403, "AccessDenied", kind=exceptions.PermissionDeniedError), "keys do not allow it"),
    (said(403, "SignatureDoesNotMatch"), "does not know these keys"),
    (said(403, "InvalidAccessKeyId"), "does not know these keys"),
    (said(401, kind=exceptions.UnauthenticatedError), "does not know these keys"),
    (said(400, "ExpiredToken"), "keys have expired"),
    (said(403, "RequestTimeTooSkewed"), "the clock of this machine is wrong"),
    (said(400, "AuthorizationHeaderMalformed"), "in another region: name its own"),
    (said(301, "PermanentRedirect"), "in another region: name its own"),
    (said(409, "BlobImmutableDueToPolicy"), "keeps what it has unchanged"),
    (said(400, "KMS.DisabledException"), "refuses it with 400"),
]
NOW_OTHER = exceptions.PreconditionError(f"{ASKED}{DETAILS}")


@pytest.mark.parametrize(("error", "words"), [*PASSING, *LASTING])
def test_an_error_says_what_would_help_and_shows_nothing_that_came_with_it(
    error: Exception, words: str
) -> None:
    trouble = trouble_of(error)
    assert trouble.may_pass is ((error, words) in PASSING)
    with pytest.raises(StorageUnavailableError, match=f"files/x: .*{words}") as caught:
        raise trouble.of("files/x")
    assert "HIDDEN" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        said(416, "InvalidRange"),
        exceptions.GenericError(
            "Generic MicrosoftAzure error: Wanted range starting at 10, but object was only 10"
        ),
        exceptions.GenericError(
            "Generic InMemory error: Invalid range: Wanted range starting at 9, but object was only"
        ),
    ],
)
def test_a_range_behind_the_end_is_of_an_object_that_is_there(error: Exception) -> None:
    assert trouble_of(error).is_beyond_the_end


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (said(404, "NoSuchKey", kind=FileNotFoundError), NotStoredError),
        (said(404, kind=FileNotFoundError), NotStoredError),
        (said(507), StorageFullError),
        (said(403, "QuotaExceeded"), StorageFullError),
        (NOW_OTHER, StorageError),
    ],
)
def test_what_is_missing_and_what_is_full_are_errors_of_their_own(
    error: Exception, kind: type[StorageError]
) -> None:
    told = trouble_of(error).of("files/x")
    assert type(told) is kind
    assert "HIDDEN" not in str(told)
    assert not trouble_of(error).may_pass


class Waits:
    """A clock that goes on by what it is told to wait, and a store that is away till then."""

    def __init__(self, away: float) -> None:
        self.now, self._away, self.tries = 0.0, away, 0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall_time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def ask(self) -> str:
        self.tries += 1
        if self.now < self._away:
            raise said(503, "SlowDown")
        return "done"


async def test_a_store_that_is_away_is_asked_again_after_waits_that_double_up_to_five_seconds() -> (
    None
):
    store = Waits(60)
    assert await Insisting(100, store, OUTAGE).result_of(store.ask, "x") == "done"
    for number, wait in enumerate(store.waits):
        longest = min(0.1 * 2**number, 5.0)
        assert longest / 2 <= wait <= longest
    assert store.tries < 40
    assert len(set(store.waits)) == len(store.waits)


async def test_after_its_patience_the_last_word_of_the_store_is_told() -> None:
    store = Waits(1e9)
    with pytest.raises(StorageUnavailableError, match="x: the store answers 503 SlowDown"):
        await Insisting(8, store, OUTAGE).result_of(store.ask, "x")
    assert 8 <= store.now <= 13


@pytest.mark.parametrize("error", [said(403), said(404, kind=FileNotFoundError), NOW_OTHER])
async def test_what_lasts_is_told_at_once(error: Exception) -> None:
    tries = 0

    async def ask() -> None:
        nonlocal tries
        tries += 1
        raise error

    with pytest.raises(StorageError):
        await Insisting(100, SYSTEM_CLOCK, OUTAGE).result_of(ask, "x")
    assert tries == 1


async def test_faults_of_our_own_are_not_taken_for_the_stores() -> None:
    async def ask() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await Insisting(100, SYSTEM_CLOCK, OUTAGE).result_of(ask, "x")


async def test_a_store_that_is_away_is_told_of_once_and_again_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Waits(100)
    outage = OutageLog("the store", logging.getLogger("batch_gateway.test"), store)

    async def lacks() -> None:
        raise said(404, kind=FileNotFoundError)

    for _ in range(5):
        with pytest.raises(StorageUnavailableError):
            await Insisting(8, store, outage).result_of(store.ask, "x")
    words = "the store of files cannot be used: the store answers 503 SlowDown"
    assert caplog.messages == [words]
    store.now = 100
    # It is there, though what was asked for is not.
    for _ in range(2):
        with pytest.raises(NotStoredError):
            await Insisting(8, store, outage).result_of(lacks, "x")
    await Insisting(8, store, outage).result_of(store.ask, "x")
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("the store is back after ")
