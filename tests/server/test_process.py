"""The API in a process of its own: over TLS, and told to stop in the middle of an upload."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import trustme

from tests.server.conftest import Start
from tests.server.running import LINE, form, read_answer

pytestmark = pytest.mark.anyio


@pytest.mark.specified("tls")
async def test_the_api_can_be_served_over_tls(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with start(tls_certificate=certificate, tls_key=key) as api:
        assert api.url.startswith("https://")
        async with httpx2.AsyncClient(base_url=api.url, verify=context) as http:
            assert (await http.get("/v1/files")).status_code == 200


SERVER = """
import asyncio, contextlib, signal, sys
from pathlib import Path
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.server.serving import serve
from batch_gateway.service.open_database import open_database
from batch_gateway.storage.folder import LocalFolder

async def main(folder):
    stop = asyncio.Event()
    # In development mode it tells of steps that took long, as any may on a busy machine.
    asyncio.get_running_loop().slow_callback_duration = 60
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = ServerConfig(port=0, observability_port=0, shutdown_timeout=30)
    database = await open_database(folder / "records.sqlite3")
    storage = LocalFolder(folder / "files")
    async with serve(ApiState(config, database, storage, None)) as api:
        print(api.url, flush=True)
        await stop.wait()
    await database.aclose()
    await storage.aclose()

asyncio.run(main(Path(sys.argv[1])))
"""


async def begin(folder: Path) -> tuple[asyncio.subprocess.Process, str, int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", SERVER, str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = urlsplit((await process.stdout.readline()).decode().strip())
    assert url.hostname is not None
    assert url.port is not None
    return process, url.hostname, url.port


@pytest.mark.specified("stop.graceful")
async def test_a_process_that_is_told_to_stop_finishes_the_upload_and_says_nothing_more(
    tmp_path: Path,
) -> None:
    process, host, port = await begin(tmp_path)
    body, headers = form(("purpose", None, b"batch"), ("file", "f", LINE * 10_000))
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: {headers['content-type']}\r\n\r\n"
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode() + body[:100_000])
    await writer.drain()
    while not list((tmp_path / "files" / "unfinished").iterdir()):
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    writer.write(body[100_000:])
    assert (await read_answer(reader))[0] == 200
    writer.close()
    output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")
    assert list((tmp_path / "files" / "unfinished").iterdir()) == []


@pytest.mark.specified("files.broken_upload")
async def test_a_process_killed_in_the_middle_of_an_upload_leaves_nothing_to_the_next(
    tmp_path: Path,
) -> None:
    process, host, port = await begin(tmp_path)
    body, headers = form(("purpose", None, b"batch"), ("file", "f", b"x" * 3_000_000), end=False)
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n"
    head += f"Content-Type: {headers['content-type']}\r\n\r\n"
    _, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode() + body)
    unfinished = tmp_path / "files" / "unfinished"
    while not sum(path.stat().st_size for path in unfinished.iterdir()):
        await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()
    writer.close()
    again, host, port = await begin(tmp_path)
    async with httpx2.AsyncClient(base_url=f"http://{host}:{port}") as http:
        assert (await http.get("/v1/files")).json()["data"] == []
    assert list(unfinished.iterdir()) == []
    again.send_signal(signal.SIGTERM)
    await again.communicate()
    assert again.returncode == 0
