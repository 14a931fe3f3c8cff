"""Tenants: named by a header or proven by a key, and strangers to each other on every route."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.server.app import api_routes
from batch_gateway.server.page_routes import WebPage
from batch_gateway.service.api_keys import create_api_key, list_api_keys, revoke_api_key
from batch_gateway.service.batch_records import poll_batch
from batch_gateway.service.sealed_headers import HeaderSeal
from tests.server.conftest import Start
from tests.server.running import LINE, Api, running_api

pytestmark = pytest.mark.anyio

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def as_tenant(*names: str) -> Any:
    return [("x-maas-username", name) for name in names]


async def ids_of(api: Api, headers: Any) -> list[str]:
    page = (await api.http.get("/v1/files", headers=headers)).json()
    return [item["id"] for item in page["data"]]


@pytest.mark.specified("tenants.header")
async def test_the_last_value_of_the_header_names_the_tenant(api: Api) -> None:
    file_id = await api.upload(headers={"X-MaaS-Username": "a"})
    assert await ids_of(api, as_tenant("b", "a")) == [file_id]
    assert await ids_of(api, as_tenant("a", "b")) == []


@pytest.mark.specified("tenants.header")
async def test_without_the_header_the_tenant_is_default(api: Api) -> None:
    file_id = await api.upload()
    assert await ids_of(api, as_tenant("default")) == [file_id]
    assert await ids_of(api, as_tenant("")) == [file_id]


@pytest.mark.specified("tenants.header")
async def test_the_header_can_have_another_name(start: Start) -> None:
    async with start(tenant_header="X-Team") as api:
        file_id = await api.upload(headers={"X-Team": "a"})
        assert await ids_of(api, [("x-team", "a")]) == [file_id]
        assert await ids_of(api, as_tenant("a")) == []


@pytest.mark.specified("tenants.keys")
async def test_with_keys_on_a_key_says_who_it_is_and_the_header_counts_for_nothing(
    start: Start,
) -> None:
    async with start(api_keys=True) as api:

        async def new_key(tenant: str) -> tuple[str, str]:
            key, secret = await api.state.database.write(
                partial(create_api_key, tenant=tenant, label="ci", now=1.0)
            )
            return key.id, secret

        key_id, secret = await new_key("a")
        _, other = await new_key("b")
        sdk = api.sdk(secret, tenant="b")
        file = await sdk.files.create(file=LINE, purpose="batch")
        assert [found.id async for found in api.sdk(secret).files.list()] == [file.id]
        assert [found.id async for found in api.sdk(other).files.list()] == []
        await api.state.database.write(partial(revoke_api_key, key_id=key_id, now=2.0))
        with pytest.raises(openai.AuthenticationError):
            await sdk.files.retrieve(file.id)
        keys = await api.state.database.read(list_api_keys)
        assert [(key.tenant, key.revoked_at) for key in keys] == [("a", 2), ("b", None)]
        everything = b"".join(path.read_bytes() for path in api.folder.glob("records*"))
        assert secret.encode() not in everything
        assert secret not in repr(keys)


@pytest.mark.specified("tenants.keys", "errors.envelope")
@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer x", "Basic x", "x" * 5000, "Bearer \xff"]
)
async def test_with_keys_on_none_is_401_on_every_route(start: Start, value: str | None) -> None:
    async with start(api_keys=True) as api:
        headers = {} if value is None else {b"authorization": value.encode("latin-1")}
        for method, path in ROUTES:
            url = path.format(file="file_1", batch="batch_1")
            answer = await api.http.request(method, url, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["www-authenticate"] == "Bearer"


ROUTES = (
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file}"),
    ("DELETE", "/v1/files/{file}"),
    ("GET", "/v1/files/{file}/content"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/{batch}"),
    ("POST", "/v1/batches/{batch}/cancel"),
)
# Of the page, whose list is also asked for as events that do not end.
PAGE = (
    ("GET", "/"),
    ("GET", "/batches/{batch}"),
    ("GET", "/batches/{batch}/report"),
    ("POST", "/batches/{batch}/cancel"),
    ("GET", "/files/{file}"),
)
ENDLESS = (("GET", "/events"), ("GET", "/batches/{batch}/events"))
OF_NOBODY = (("GET", "/static/{name}"), ("POST", "/sign-in"), ("POST", "/sign-out"))


@pytest.mark.specified("tenants.isolation")
async def test_no_route_is_left_out_of_what_tenants_are_told_apart_on(api: Api) -> None:
    found = [*api_routes(api.state), *WebPage(api.state).routes]
    served = [
        (method, route.path.replace("_id}", "}"))
        for route in found
        for method in (route.methods or set[str]()) - {"HEAD"}
    ]
    assert sorted(served) == sorted(ROUTES + PAGE + ENDLESS + OF_NOBODY)


names = st.sampled_from(["alice", "bob", "default", "Alice", "a" * 256, "\u00e9"])
queries = st.sampled_from(["", "?order=asc", "?after={file}", "?after={batch}", "?after=0"])


@pytest.mark.specified("tenants.isolation")
@settings(max_examples=12, deadline=None)
@given(
    st.lists(names, min_size=2, max_size=2, unique=True),
    st.lists(st.tuples(st.sampled_from(ROUTES + PAGE), queries), min_size=5, max_size=15),
)
def test_one_tenant_cannot_see_use_list_count_or_guess_what_another_has(
    tmp_path_factory: pytest.TempPathFactory,
    tenants: list[str],
    asked: list[tuple[tuple[str, str], str]],
) -> None:
    asyncio.run(_tell_apart(tmp_path_factory.mktemp("isolation"), tenants, asked))


async def _tell_apart(
    folder: Path, tenants: list[str], asked: list[tuple[tuple[str, str], str]]
) -> None:
    owner, stranger = ({b"x-maas-username": name.encode("latin-1")} for name in tenants)
    async with running_api(folder, has_page=True, max_files=3, max_batches=2) as api:
        await api.submit_as(owner)
        await api.submit_as(stranger)
        file_id, batch_id = await api.submit_as(owner)
        real = {"file": file_id, "batch": batch_id}
        imagined = {kind: value[:-4] + "beef" for kind, value in real.items()}
        before = await _all_of(api, owner)
        for (method, path), query in asked:
            answers = [
                await _ask(api, stranger, method, path + query, ids) for ids in (real, imagined)
            ]
            # What is another's looks to the last letter as what never was.
            assert _shape(answers[0], real) == _shape(answers[1], imagined)
        for _, path in ENDLESS[1:]:
            answer = await api.http.get(path.format(**real), headers=stranger)
            assert answer.status_code == 404
        assert await _all_of(api, owner) == before
        await poll_batch(api.state.database, owner[b"x-maas-username"].decode("latin-1"), batch_id)


async def _ask(
    api: Api, tenant: dict[bytes, bytes], method: str, path: str, ids: dict[str, str]
) -> httpx2.Response:
    body = None
    if (method, path.partition("?")[0]) == ("POST", "/v1/batches"):
        body = {
            "input_file_id": ids["file"],
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
        }
    url = path.format(**ids)
    from_the_page = {b"sec-fetch-site": b"same-origin"}
    return await api.http.request(method, url, headers=tenant | from_the_page, json=body)


def _shape(answer: httpx2.Response, ids: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    text = answer.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    own = ("date", "x-request-id", "content-length")
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return answer.status_code, text, headers


async def _all_of(api: Api, tenant: dict[bytes, bytes]) -> list[Any]:
    return [(await api.http.get(f"/v1/{kind}", headers=tenant)).json() for kind in LISTS]


LISTS = ("files", "batches")


@pytest.mark.specified("headers.pass_through")
async def test_named_headers_are_kept_for_the_gateway_encrypted_and_shown_nowhere(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with start(pass_through_headers=["Authorization", "X-Team"], header_keys=[KEY]) as api:
        headers = {"Authorization": "Bearer secret-1", "X-Team": "magenta", "X-Other": "no"}
        answer = await api.submit(headers=headers)
        batch_id = answer.json()["id"]
        record = await poll_batch(api.state.database, "default", batch_id)
        assert record.headers is not None
        assert HeaderSeal([KEY]).open(record.headers) == {
            "Authorization": "Bearer secret-1",
            "X-Team": "magenta",
        }
        shown = answer.text + (await api.http.get("/v1/batches")).text
        shown += (await api.http.get(f"/v1/batches/{batch_id}")).text + caplog.text
        everything = b"".join(path.read_bytes() for path in api.folder.glob("records*"))
        for hidden in ("secret-1", "magenta"):
            assert hidden not in shown
            assert hidden.encode() not in everything
        assert KEY not in repr(api.state.config)


@pytest.mark.specified("headers.pass_through")
async def test_headers_that_are_not_named_are_not_kept(start: Start) -> None:
    async with start(pass_through_headers=["X-Team"], header_keys=[KEY]) as api:
        batch = (await api.submit(headers={"Authorization": "Bearer x"})).json()
        assert (await poll_batch(api.state.database, "default", batch["id"])).headers is None
