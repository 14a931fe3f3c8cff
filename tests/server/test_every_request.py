"""What holds for every request: ids, headers, unknown URLs, methods, and the other port."""

from __future__ import annotations

import httpx2
import pytest

from batch_gateway.errors import RecordsError, StorageError, StorageFullError
from batch_gateway.service.statuses import BatchEvent
from tests.server.running import Api, message_of

pytestmark = pytest.mark.anyio


@pytest.mark.specified("routes.unknown")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("GET", "/v1/files/"),
        ("GET", "/v1/models"),
        ("PUT", "/v1/files"),
        ("PATCH", "/v1/files/file_1"),
        ("POST", "/v1/files/file_1"),
        ("DELETE", "/v1/batches/batch_1"),
        ("GET", "/v1/batches/batch_1/cancel"),
        ("POST", "/v1/files/a/b/content"),
        ("GET", "//v1/files"),
        ("BREW", "/v1/files"),
    ],
)
async def test_what_is_no_route_is_404_in_json(api: Api, method: str, path: str) -> None:
    if method == "BREW":
        # What is no method of HTTP does not get past the parser.
        status, headers, body = await api.send(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        assert (status, headers["content-type"]) == (400, "application/json")
        assert message_of(body)
        return
    answer = await api.http.request(method, f"{api.url}{path}")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "code": None,
        "type": "not_found_error",
        "message": f"Unknown request URL: {method} {path}",
        "param": None,
    }


@pytest.mark.specified("head")
async def test_head_works_where_get_does(api: Api) -> None:
    file_id = await api.upload()
    batch_id = (await api.submit(file_id)).json()["id"]
    for path in (
        *("/v1/files", f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"),
        *("/v1/batches", f"/v1/batches/{batch_id}"),
    ):
        answer = await api.http.head(path)
        whole = await api.http.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == whole.headers["content-length"]
    assert (await api.http.head("/v1/batches/batch_1/cancel")).status_code == 404


@pytest.mark.specified("options")
async def test_options_is_204(api: Api) -> None:
    for path in ("/v1/files", "/v1/batches/x/cancel", "/"):
        answer = await api.http.options(path)
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.specified("request_id", "security_headers")
async def test_every_answer_has_a_request_id_and_the_security_headers(api: Api) -> None:
    answers = [
        await api.http.get("/v1/files"),
        await api.http.get("/nowhere"),
        await api.http.options("/v1/files"),
        await api.http.post("/v1/batches", content=b"{"),
        await api.http.get(f"/v1/files/{await api.upload()}/content"),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


@pytest.mark.specified("request_id")
async def test_a_request_id_that_is_given_is_echoed_if_it_is_one(api: Api) -> None:
    async def echoed(given: str) -> str:
        return (await api.http.get("/v1/files", headers={"x-request-id": given})).headers[
            "x-request-id"
        ]

    assert await echoed("abc-123") == "abc-123"
    for odd in ("a b", "x" * 500, ""):
        assert await echoed(odd) != odd


@pytest.mark.specified("observability")
async def test_health_readiness_and_metrics_are_on_their_own_port(api: Api) -> None:
    await api.upload()
    await api.http.get("/v1/files/file_1")
    assert (await api.http.get("/health")).status_code == 404
    async with httpx2.AsyncClient(base_url=api.observability_url) as other:
        health = await other.get("/health")
        assert (health.status_code, health.text) == (200, "ok")
        assert (await other.get("/ready")).status_code == 200
        text = (await other.get("/metrics")).text
        assert (await other.get("/v1/files")).status_code == 404
    assert 'http_requests_total{method="POST",path="/v1/files",status="200"} 1.0' in text
    assert 'path="/v1/files/{file_id}",status="404"} 1.0' in text
    assert 'path="other",status="404"} 1.0' in text
    assert "http_requests_in_flight 0.0" in text
    assert 'http_request_duration_seconds_count{method="POST",path="/v1/files"} 1.0' in text


@pytest.mark.specified("observability.backlog")
async def test_what_is_left_to_do_is_shown_by_model_until_nothing_is(api: Api) -> None:
    async def figures() -> list[str]:
        async with httpx2.AsyncClient(base_url=api.observability_url) as other:
            lines = (await other.get("/metrics")).text.splitlines()
        return [
            line
            for line in lines
            if line.startswith(("batch_backlog_l", "batch_backlog_t", "batch_nearest"))
        ]

    assert await figures() == []
    file_id = await api.upload()
    one, two, new = [
        (await api.submit(file_id, completion_window=window)).json()["id"]
        for window in ("24h", "1h", "2h")
    ]
    for batch_id, total in ((one, 100), (two, 10)):
        await api.happen(
            batch_id,
            BatchEvent.VALID,
            total=total,
            model="m",
            completed=3,
            failed=1,
            input_tokens=40,
            output_tokens=120,
        )
    api.time.seconds += 600
    assert await figures() == [
        'batch_backlog_lines{model=""} 0.0',
        'batch_backlog_lines{model="m"} 102.0',
        'batch_backlog_tokens{model="m",type="prompt"} 1020.0',
        'batch_backlog_tokens{model="m",type="generation"} 3060.0',
        'batch_nearest_deadline_seconds{model=""} 6600.0',
        'batch_nearest_deadline_seconds{model="m"} 3000.0',
    ]
    for batch_id in (one, two, new):
        await api.http.post(f"/v1/batches/{batch_id}/cancel")
    assert await figures() == []


@pytest.mark.specified("observability")
async def test_who_cannot_reach_the_records_is_not_ready(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(statement: str, *values: object) -> None:
        raise RecordsError("the database is gone")

    monkeypatch.setattr(api.state.database, "poll", fail)
    async with httpx2.AsyncClient(base_url=api.observability_url) as other:
        answer = await other.get("/ready")
        assert (answer.status_code, answer.text) == (503, "not ready: the database is gone")
        assert (await other.get("/health")).status_code == 200


@pytest.mark.specified("errors.envelope")
@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (RecordsError("secret place"), 503, "server_error"),
        (StorageError("secret place"), 503, "server_error"),
        (StorageFullError("secret place"), 507, "server_error"),
        (RuntimeError("secret place"), 500, "server_error"),
    ],
)
async def test_a_failure_of_ours_is_said_in_the_envelope_without_its_inside(
    api: Api, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int, kind: str
) -> None:
    def fail(*values: object) -> None:
        raise failure

    monkeypatch.setattr(api.state.storage, "upload", fail)
    body = {"purpose": "batch"}
    answer = await api.http.post("/v1/files", data=body, files={"file": b"x"})
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == kind
    assert "secret place" not in answer.text
    assert (await api.http.get("/v1/files")).json()["data"] == []
