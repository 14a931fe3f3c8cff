"""Other web sites in the browser of somebody who reaches the service: kept out, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_gateway.server.web_sites import is_loopback
from tests.server.conftest import Start
from tests.server.running import Api, message_of, running_api

pytestmark = pytest.mark.anyio

CROSS = "Sec-Fetch-Site: cross-site"


def own(api: Api) -> str:
    return api.url.removeprefix("http://")


async def asked(api: Api, line: str, *headers: str) -> tuple[int, str]:
    """The status and message of a request with a Host of its own, {own} being the right one."""
    told = [header.replace("{own}", own(api)) for header in headers]
    if not any(header.startswith("Host:") for header in told):
        told.append(f"Host: {own(api)}")
    status, _, body = await api.send("\r\n".join([f"{line} HTTP/1.1", *told, "", ""]).encode())
    return status, message_of(body) if status >= 400 else ""


@pytest.mark.specified("web_sites.requests")
@pytest.mark.parametrize(
    "headers",
    [
        ["Sec-Fetch-Site: cross-site", "Origin: https://evil.example"],
        ["Sec-Fetch-Site: same-site", "Origin: http://127.0.0.1:9"],  # another port of this machine
        ["Sec-Fetch-Site: Same-Origin"],
        ["Sec-Fetch-Site: "],
        ["Origin: https://evil.example"],
        ["Origin: null"],
        ["Origin: http://{own}.evil.example"],
        ["Origin: http://evil.example/{own}"],
        ["Origin: http://["],
        ["Origin: "],
    ],
)
async def test_other_sites_cannot_change_anything(api: Api, headers: list[str]) -> None:
    batch = (await api.submit()).json()
    for line in (
        "POST /v1/files",
        "POST /v1/batches",
        f"POST /v1/batches/{batch['id']}/cancel",
        f"DELETE /v1/files/{batch['input_file_id']}",
    ):
        told = await asked(api, line, *headers)
        assert told == (403, "other web sites may not ask for this"), line
    assert api.cancelled == []
    assert (await api.http.get(f"/v1/files/{batch['input_file_id']}")).status_code == 200
    for safe in ("GET /v1/batches", "OPTIONS /v1/batches"):
        status, _ = await asked(api, safe, *headers)
        assert status < 300  # its answer is not for them either: nothing allows them to read it


@pytest.mark.specified("web_sites.requests")
async def test_no_answer_lets_other_sites_read_it(api: Api) -> None:
    origin = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for method in ("GET", "OPTIONS"):
        answer = await api.http.request(method, "/v1/files", headers=origin)
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.specified("web_sites.requests")
@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Origin: http://{own}"],
        ["Sec-Fetch-Site: same-origin", "Origin: https://batches.example"],  # behind a proxy
        ["Sec-Fetch-Site: none"],  # typed in, or an extension
        ["Host: batches.example"],
        ["Host: batches.example", "X-Forwarded-Host: batches.example"],
        ["Host: batches.example", "Origin: https://batches.example"],
        ["X-Forwarded-Host: batches.example", "Origin: http://batches.example"],
        ["Host: localhost:9999", "Origin: http://localhost:9999"],  # a forwarded port
    ],
)
async def test_programs_proxies_and_forwarded_ports_are_let_in(
    api: Api, headers: list[str]
) -> None:
    batch_id = (await api.submit()).json()["id"]
    assert await asked(api, f"POST /v1/batches/{batch_id}/cancel", *headers) == (200, "")


@pytest.mark.specified("web_sites.requests")
async def test_with_api_keys_a_page_elsewhere_may_have_one(start: Start) -> None:
    async with start(api_keys=True) as api:
        # It is refused for its key, which no browser adds by itself.
        status, message = await asked(api, "POST /v1/batches", CROSS)
        assert (status, message.split(":")[0]) == (401, "a valid API key is needed")


@pytest.mark.specified("web_sites.names")
@pytest.mark.parametrize("name", ["evil.example", "EVIL.example.", "127.0.0.1.evil.example", "a.b"])
async def test_a_name_that_means_this_machine_is_refused_when_the_web_may_own_it(
    tmp_path: Path, name: str
) -> None:
    async with running_api(tmp_path / "data", has_page=True) as api:
        port = own(api).rpartition(":")[2]
        host = f"{name}:{port}"
        for line in ("GET /v1/files", "POST /v1/batches", "GET /", "GET /events"):
            told = await asked(api, line, f"Host: {host}", f"Origin: http://{host}")
            assert told == (403, f"{host} is no name of this machine: ask 127.0.0.1 or localhost")


@pytest.mark.specified("web_sites.names")
@pytest.mark.parametrize(
    "host",
    [
        "localhost:{port}",
        "LocalHost.:{port}",
        "batches.localhost:{port}",
        "host.docker.internal:{port}",
        "studio.local:{port}",
        "127.0.0.1:{port}",
        "127.1:{port}",
        "[::1]:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "batches:{port}",
        "batches.example",
        "batches.example:443",
        "batches.example:99999999",
        "",
        ":",
        "a b:c",
    ],
)
async def test_names_of_this_machine_and_of_proxies_are_taken(api: Api, host: str) -> None:
    port = own(api).rpartition(":")[2]
    assert await asked(api, "GET /v1/files", f"Host: {host.format(port=port)}") == (200, "")


@pytest.mark.specified("web_sites.names")
@pytest.mark.parametrize(
    ("host", "is_alone"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("batches.example", False),
    ],
)
def test_names_are_looked_at_where_only_this_machine_can_ask(host: str, is_alone: bool) -> None:
    assert is_loopback(host) is is_alone
