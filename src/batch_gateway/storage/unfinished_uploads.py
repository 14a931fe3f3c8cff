"""Ending uploads in parts that nobody will end, which S3 keeps, and bills, for ever.

obstore cannot list them, so that these two requests are signed and sent here
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from batch_gateway.errors import StorageUnavailableError
from batch_gateway.storage.s3_keys import S3Keys
from batch_gateway.storage.s3_places import S3Place

__all__ = ["ABANDONED_AFTER", "UnfinishedUploads", "signed_headers"]

_log = logging.getLogger("batch_gateway.storage")

ABANDONED_AFTER: Final = timedelta(days=1)
"""No upload that somebody still works on is as old."""

_NO_BODY: Final = hashlib.sha256(b"").hexdigest()
_MOST_ANSWER_BYTES: Final = 16 * 1024 * 1024
_TIMEOUT: Final = 30.0
_NAMESPACE: Final = "{*}"


class _Upload(NamedTuple):
    key: str
    upload_id: str
    begun: datetime


class UnfinishedUploads:
    """Those to `place` whose keys begin with `prefix`; `keys` gives what signs the requests."""

    def __init__(self, place: S3Place, prefix: str, keys: Callable[[], S3Keys | None]) -> None:
        self._place, self._prefix, self._keys = place, prefix, keys

    async def end_abandoned(self, older_than: timedelta = ABANDONED_AFTER) -> int:
        """End those that were begun so long ago; how many that were.

        The store's clock counts. Raises StorageUnavailableError.
        """
        try:
            return await asyncio.to_thread(self._end_abandoned, older_than)
        except (OSError, http.client.HTTPException, ElementTree.ParseError, ValueError) as error:
            told = f" ({error.code})" if isinstance(error, urllib.error.HTTPError) else ""
            raise StorageUnavailableError(
                f"Unfinished uploads cannot be listed or ended{told}; a lifecycle rule"
                " (AbortIncompleteMultipartUpload) does that as well"
            ) from None

    def _end_abandoned(self, older_than: timedelta) -> int:
        ended = 0
        for page, now in self._pages():
            for upload in page:
                if now - upload.begun > older_than:
                    self._ask("DELETE", f"/{upload.key}", {"uploadId": upload.upload_id})
                    _log.info("%s: an upload that was not finished is ended", upload.key)
                    ended += 1
        return ended

    def _pages(self) -> Iterator[tuple[list[_Upload], datetime]]:
        """Up to a thousand at a time, and when the store says that is."""
        query = {"uploads": ""} | ({"prefix": f"{self._prefix}/"} if self._prefix else {})
        while True:
            body, date = self._ask("GET", "", query)
            root = ElementTree.fromstring(body)  # noqa: S314 - of the store that we trust with all
            yield list(_uploads_in(root)), date
            if root.findtext(f"{_NAMESPACE}IsTruncated") != "true":
                return
            query |= {
                "key-marker": root.findtext(f"{_NAMESPACE}NextKeyMarker") or "",
                "upload-id-marker": root.findtext(f"{_NAMESPACE}NextUploadIdMarker") or "",
            }

    def _ask(self, method: str, path: str, query: Mapping[str, str]) -> tuple[bytes, datetime]:
        keys = self._keys()
        if keys is None:
            raise ValueError("the keys are gone")
        url = f"{self._place.url}{quote(path, safe='/-_.~')}?{_query(query.items())}"
        headers = signed_headers(method, url, self._place.region, keys, datetime.now(UTC))
        request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            date = answer.headers.get("date")
            now = datetime.now(UTC) if date is None else parsedate_to_datetime(date)
            return answer.read(_MOST_ANSWER_BYTES), now


def signed_headers(
    method: str, url: str, region: str, keys: S3Keys, now: datetime
) -> dict[str, str]:
    """The headers of a request without a body, with its signature (version 4)."""
    parts = urlsplit(url)
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": parts.netloc, "x-amz-content-sha256": _NO_BODY, "x-amz-date": moment}
    if keys.token is not None:
        headers["x-amz-security-token"] = keys.token
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    signed = ";".join(names)
    request = f"{method}\n{parts.path or '/'}\n{parts.query}\n{lines}\n{signed}\n{_NO_BODY}"
    scope = f"{day}/{region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{keys.secret}".encode()
    for word in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"):
        key = hmac.digest(key, word.encode(), "sha256")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, "
        f"SignedHeaders={signed}, Signature={key.hex()}"
    )
    return headers


def _query(items: Iterable[tuple[str, str]]) -> str:
    """As signatures want it: sorted, and with nothing but unreserved characters left as it is."""
    return "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(items)
    )


def _uploads_in(root: ElementTree.Element) -> Iterator[_Upload]:
    for found in root.iterfind(f"{_NAMESPACE}Upload"):
        texts = [found.findtext(f"{_NAMESPACE}{n}") or "" for n in ("Key", "UploadId", "Initiated")]
        yield _Upload(texts[0], texts[1], datetime.fromisoformat(texts[2]))
