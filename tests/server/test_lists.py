"""Lists: their pages, orders and limits."""

from __future__ import annotations

import pytest

from tests.server.running import Api

pytestmark = pytest.mark.anyio


@pytest.mark.specified("lists.empty")
async def test_empty_lists_have_the_ids_of_the_original(api: Api) -> None:
    empty = {"object": "list", "data": [], "has_more": False}
    assert (await api.http.get("/v1/files")).json() == {**empty, "first_id": "", "last_id": ""}
    assert (await api.http.get("/v1/batches")).json() == {
        **empty,
        "first_id": None,
        "last_id": None,
    }


@pytest.mark.specified("lists.order", "lists.after", "files.purposes")
async def test_a_list_is_newest_first_and_begins_after_an_id_or_an_offset(api: Api) -> None:
    ids = [await api.upload(purpose=("batch", "vision")[n % 2]) for n in range(5)][::-1]

    async def ask(query: str) -> list[str]:
        page = (await api.http.get(f"/v1/files?{query}")).json()
        found = [item["id"] for item in page["data"]]
        assert (page["first_id"], page["last_id"]) == ((found[0], found[-1]) if found else ("", ""))
        return found

    assert await ask("") == ids
    assert await ask("order=asc") == ids[::-1]
    assert await ask(f"after={ids[1]}&limit=2") == ids[2:4]
    assert await ask(f"after={ids[1]}&order=asc") == [ids[0]]
    assert await ask("after=2") == ids[2:]
    assert await ask("after=0&limit=1") == ids[:1]
    assert await ask("after=99") == []
    assert await ask("purpose=vision") == ids[1::2]
    assert await ask("purpose=unknown") == []
    assert await ask(f"purpose=batch&after={ids[0]}&limit=1") == [ids[2]]


@pytest.mark.specified("lists.limits")
async def test_a_list_has_twenty_items_unless_it_is_told(api: Api) -> None:
    file_id = await api.upload()
    for _ in range(21):
        await api.submit(file_id)
    page = (await api.http.get("/v1/batches")).json()
    assert (len(page["data"]), page["has_more"]) == (20, True)
    page = (await api.http.get("/v1/batches?limit=100")).json()
    assert (len(page["data"]), page["has_more"]) == (21, False)
    assert (await api.http.get("/v1/batches?limit=21")).json()["has_more"] is False


@pytest.mark.specified("lists.limits", "never.500")
@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=1e2", "limit=10001"),
        *("limit=" + "9" * 5000, "limit=%00", "limit=%D9%A1", "order=up", "order=DESC"),
        *("after=-1", "after=%00", "after=" + "x" * 1000),
    ],
)
async def test_an_odd_query_is_refused(api: Api, query: str) -> None:
    for path in ("files", "batches"):
        answer = await api.http.get(f"/v1/{path}?{query}")
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.specified("lists.limits")
async def test_batches_are_at_most_a_hundred_and_files_ten_thousand_a_page(api: Api) -> None:
    answer = await api.http.get("/v1/batches?limit=101")
    assert answer.json()["error"]["message"] == "limit must be a number between 1 and 100"
    assert (await api.http.get("/v1/files?limit=10000")).status_code == 200
