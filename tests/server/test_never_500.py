"""No input makes the server fail: odd requests to every route, in their thousands elsewhere too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

import msgspec
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.running import Api, form, running_api

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT")
FIELDS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")


class Driven(NamedTuple):
    """An API in a thread, and ids that are there."""

    portal: BlockingPortal
    api: Api
    file_id: str
    batch_id: str


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    folder = tmp_path_factory.mktemp("fuzz")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_api(folder, has_page=True)) as api,
    ):
        yield Driven(portal, api, *portal.call(api.submit_as, {}))


odd_text = st.one_of(
    st.sampled_from(["", "\0", "-1", "0", "9" * 40, "1e9", "\ud7ff", "../..", "%", "{}", "null"]),
    st.text(max_size=20),
)
odd_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
good = {
    "endpoint": "/v1/embeddings",
    "completion_window": "24h",
    "metadata": {"a": "b"},
    "output_expires_after": {"anchor": "created_at", "seconds": 3600},
}
batch_bodies = st.one_of(
    st.binary(max_size=50),
    odd_json.map(msgspec.json.encode),
    st.dictionaries(st.sampled_from(FIELDS), odd_json).map(
        lambda odd: msgspec.json.encode(good | odd)
    ),
)
part = st.tuples(
    st.sampled_from(
        [
            *("file", "purpose", "expires_after[seconds]", "expires_after[anchor]", "x"),
            # What follows the name of the field, and the head after it.
            *("file\"; filename*=utf-8''%e2%82%ac; x=\"", 'file"; filename*="', "expires_after"),
            *(
                'file"\r\nContent-Encoding: gzip\r\nx: "',
                'file"\r\nContent-Type: multipart/x\r\nx: "',
            ),
        ]
    ),
    st.one_of(
        st.none(), st.text(st.characters(codec="utf-8", exclude_characters='"\r\n'), max_size=9)
    ),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"batch", b"vision", b"created_at"])),
)
form_bodies = st.tuples(st.lists(part, max_size=5), st.booleans()).map(
    lambda drawn: form(*drawn[0], end=drawn[1])[0]
)
cut_bodies = st.tuples(form_bodies, st.integers(0, 400)).map(lambda drawn: drawn[0][: drawn[1]])
ids = st.one_of(
    st.sampled_from(["{file}", "{batch}"]),
    st.binary(min_size=1, max_size=12).map(lambda raw: quote_from_bytes(raw, safe="")),
)
paths = st.one_of(
    st.sampled_from(["/v1/files", "/v1/batches", "/", "/sign-in", "/sign-out"]),
    st.tuples(st.sampled_from(["/files", "/batches", "/static"]), ids).map("/".join),
    st.tuples(
        st.sampled_from(["files", "batches"]), ids, st.sampled_from(["", "/content", "/cancel"])
    ).map(lambda drawn: f"/v1/{drawn[0]}/{drawn[1]}{drawn[2]}"),
)
queries = st.dictionaries(
    st.sampled_from(["after", "limit", "order", "purpose", "x"]), odd_text, max_size=3
)
header_values = st.binary(max_size=30).map(
    lambda raw: bytes(byte for byte in raw if 32 < byte < 127 or byte > 159)
)
headers = st.dictionaries(
    st.sampled_from(
        [
            *(b"x-maas-username", b"range", b"if-none-match", b"if-range", b"x-request-id"),
            *(b"if-match", b"accept", b"cookie", b"content-encoding", b"content-type"),
            *(b"host", b"origin", b"sec-fetch-site", b"x-forwarded-host"),
        ]
    ),
    header_values,
    max_size=3,
)


@pytest.mark.specified("never.500")
@settings(max_examples=100, deadline=None)
@given(st.sampled_from(METHODS), paths, queries, headers, batch_bodies)
def test_an_odd_request_is_answered_with_less_than_500(
    driven: Driven, method: str, path: str, query: Any, odd: Any, body: bytes
) -> None:
    url = path.replace("{file}", driven.file_id).replace("{batch}", driven.batch_id)
    answer = driven.portal.call(
        lambda: driven.api.http.request(
            method, f"{driven.api.url}{url}", params=query, headers=odd, content=body
        )
    )
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD" and url.startswith("/v1/"):
        assert set(answer.json()["error"]) == {"code", "type", "message", "param"}


@pytest.mark.specified("never.500", "files.broken_upload")
@settings(max_examples=80, deadline=None)
@given(st.one_of(form_bodies, cut_bodies, st.binary(max_size=80)))
def test_an_odd_form_is_kept_whole_or_leaves_nothing(driven: Driven, body: bytes) -> None:
    before = set(driven.api.stored())
    answer = driven.portal.call(
        lambda: driven.api.http.post("/v1/files", content=body, headers=form()[1])
    )
    assert answer.status_code in (200, 400), answer.text
    new = set(driven.api.stored()) - before
    assert len(new) == (answer.status_code == 200)
    if new:
        assert (driven.api.folder / "files" / new.pop()).stat().st_size == answer.json()["bytes"]
