"""The API in the test's own event loop, and the ways to ask it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import openai

from batch_gateway.server.api_state import ApiState
from batch_gateway.server.page_routes import WebPage
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.server.serving import serve
from batch_gateway.service.batch_records import BatchRecord, record_event
from batch_gateway.service.leftover_files import remove_leftovers
from batch_gateway.service.open_database import open_database
from batch_gateway.service.sealed_headers import HeaderSeal
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.storage.folder import LocalFolder

LINE = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}\n'


@dataclass
class ManualTime:
    """Seconds since the epoch, as the test says."""

    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Api:
    """A running API, and what is behind it."""

    url: str
    observability_url: str
    state: ApiState
    folder: Path
    time: ManualTime
    http: httpx2.AsyncClient
    stack: contextlib.AsyncExitStack
    added: list[str] = field(default_factory=list[str])
    cancelled: list[str] = field(default_factory=list[str])

    def sdk(self, key: str = "k", tenant: str | None = None) -> openai.AsyncOpenAI:
        headers = {} if tenant is None else {"X-MaaS-Username": tenant}
        sdk = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, default_headers=headers
        )
        self.stack.push_async_callback(sdk.close)
        return sdk

    async def upload(
        self, data: bytes = LINE, purpose: str = "batch", headers: Mapping[str, str] | None = None
    ) -> str:
        """The id of a new file."""
        answer = await self.http.post(
            "/v1/files",
            data={"purpose": purpose},
            files={"file": ("in.jsonl", data)},
            headers=headers,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    async def submit(self, file_id: str | None = None, **different: Any) -> httpx2.Response:
        headers = different.pop("headers", None)
        body = {
            "input_file_id": await self.upload(headers=headers) if file_id is None else file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        return await self.http.post("/v1/batches", json=body | different, headers=headers)

    async def submit_as(self, tenant: dict[bytes, bytes]) -> tuple[str, str]:
        """A new file of this tenant, and a batch over it."""
        body, headers = form(("purpose", None, b"batch"), ("file", "f", LINE))
        typed = {name.encode(): value.encode() for name, value in headers.items()}
        file = await self.http.post("/v1/files", content=body, headers=tenant | typed)
        wanted = {
            "input_file_id": file.json()["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        batch = await self.http.post("/v1/batches", json=wanted, headers=tenant)
        return file.json()["id"], batch.json()["id"]

    async def happen(self, batch_id: str, event: BatchEvent, **changes: Any) -> BatchRecord:
        """What the processor does to a batch."""
        return await self.state.database.write(
            partial(record_event, batch_id=batch_id, event=event, now=self.time(), **changes)
        )

    async def send(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        """The answer to raw bytes: its status, headers and body."""
        async with self.connection() as (reader, writer):
            writer.write(data)
            return await read_answer(reader)

    @contextlib.asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def stored(self) -> list[str]:
        """Everything in the store, finished or not."""
        root = self.folder / "files"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def open_objects(self) -> list[str]:
        """The objects of the store that this process has open."""
        root = str(self.folder / "files" / "objects")
        links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        return [link for link in links if link.startswith(root)]

    async def clear(self) -> int:
        return await remove_leftovers(self.state.database, self.state.storage, self.time())


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = [line.partition(": ") for line in head[1:-2]]
    headers = {name: value for name, _, value in pairs}
    status = int(head[0].split()[1])
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return status, headers, body


def message_of(body: bytes) -> str:
    return msgspec.json.decode(body)["error"]["message"]


@contextlib.asynccontextmanager
async def running_api(
    folder: Path, *, has_page: bool = False, records: str | None = None, **settings: Any
) -> AsyncIterator[Api]:
    anywhere: dict[str, Any] = {"port": 0, "observability_port": 0}
    config = ServerConfig(**(anywhere | settings))
    seal = HeaderSeal(config.header_keys) if config.header_keys else None
    time = ManualTime()
    database = await open_database(records or folder / "records.sqlite3")
    storage = LocalFolder(folder / "files")
    added: list[str] = []
    cancelled: list[str] = []
    state = ApiState(
        config,
        database,
        storage,
        seal,
        added.append,
        lambda batch: cancelled.append(batch.id),
        now=time,
    )
    try:
        async with contextlib.AsyncExitStack() as stack:
            page = WebPage(state)
            more_routes = page.routes if has_page else ()
            running = await stack.enter_async_context(serve(state, more_routes=more_routes))
            stack.callback(page.stop)
            http = await stack.enter_async_context(
                httpx2.AsyncClient(base_url=running.url, timeout=30)
            )
            urls = running.url, running.observability_url
            yield Api(*urls, state, folder, time, http, stack, added, cancelled)
    finally:
        await database.aclose()
        await storage.aclose()


def form(
    *parts: tuple[str, str | None, bytes], boundary: str = "xyz", end: bool = True
) -> tuple[bytes, Mapping[str, str]]:
    """A multipart body of (name, filename, value), and its headers."""
    body = b""
    for name, filename, value in parts:
        named = "" if filename is None else f'; filename="{filename}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
        body += head.encode() + value + b"\r\n"
    body += f"--{boundary}--\r\n".encode() if end else b""
    return body, {"content-type": f"multipart/form-data; boundary={boundary}"}
