"""requests, aiohttp and httpx: uploads in all of their ways, a batch of each, and its results.

Arguments: base URL, API key. requests.jsonl is in the working folder. Prints as JSON, by client,
the final batch and the text of its output.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

aiohttp: Any = importlib.import_module("aiohttp")
httpx: Any = importlib.import_module("httpx")
requests: Any = importlib.import_module("requests")

NAME = "requests.jsonl"
REQUESTS = Path(NAME).read_bytes()
PURPOSE = {"purpose": "batch"}
WANTED = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
TYPED = ("ü.jsonl", REQUESTS, "application/jsonl")


def uploads_of_requests(http: Any, url: str) -> Iterator[Any]:
    with Path(NAME).open("rb") as file:
        yield http.post(f"{url}/files", data=PURPOSE, files={"file": file})
    yield http.post(f"{url}/files", files={"file": TYPED, "purpose": (None, "batch")})
    form = requests.Request("POST", url, data=PURPOSE, files={"file": TYPED}).prepare()
    chunked = (form.body[start : start + 50] for start in range(0, len(form.body), 50))
    asking = {"Content-Type": form.headers["Content-Type"], "Expect": "100-continue"}
    yield http.post(f"{url}/files", data=chunked, headers=asking)


def uploads_of_httpx(http: Any, url: str) -> Iterator[Any]:
    with Path(NAME).open("rb") as file:
        yield http.post(f"{url}/files", data=PURPOSE, files={"file": file})
    yield http.post(f"{url}/files", files=[("file", TYPED), ("purpose", (None, "batch"))])


def drive(http: Any, url: str, uploads: Iterator[Any]) -> tuple[dict[str, Any], str]:
    file_id = ""
    for answer in uploads:
        file_id = answer.json()["id"]
        assert http.get(f"{url}/files/{file_id}/content").content == REQUESTS
    batch = http.post(f"{url}/batches", json={"input_file_id": file_id, **WANTED}).json()
    while batch["completed_at"] is None:
        time.sleep(0.05)
        batch = http.get(f"{url}/batches/{batch['id']}").json()
    output = http.get(f"{url}/files/{batch['output_file_id']}/content")
    return batch, output.content.decode()


def forms_of_aiohttp() -> Iterator[Any]:
    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(REQUESTS), 50):
            yield REQUESTS[start : start + 50]

    for content in (REQUESTS, Path(NAME).open("rb"), in_pieces()):  # noqa: SIM115
        for quoted in (True, False):
            form = aiohttp.FormData(quote_fields=quoted)
            form.add_field("file", content, filename="ü 1.jsonl", content_type="text/plain")
            form.add_field("purpose", "batch")
            yield form
            if content is not REQUESTS:
                break


async def drive_aiohttp(http: Any, url: str) -> tuple[dict[str, Any], str]:
    file_id = ""
    for form in forms_of_aiohttp():
        async with http.post(f"{url}/files", data=form, expect100=True) as answer:
            file_id = (await answer.json())["id"]
        async with http.get(f"{url}/files/{file_id}/content") as answer:
            assert await answer.read() == REQUESTS
    wanted = {"input_file_id": file_id, **WANTED}
    async with http.post(f"{url}/batches", json=wanted) as answer:
        batch = await answer.json()
    while batch["completed_at"] is None:
        await asyncio.sleep(0.05)
        async with http.get(f"{url}/batches/{batch['id']}") as answer:
            batch = await answer.json()
    async with http.get(f"{url}/files/{batch['output_file_id']}/content") as answer:
        return batch, (await answer.read()).decode()


async def main(url: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with requests.Session() as http:
        http.headers.update(headers)
        by_requests = drive(http, url, uploads_of_requests(http, url))
    with httpx.Client(headers=headers) as http:
        by_httpx = drive(http, url, uploads_of_httpx(http, url))
    async with aiohttp.ClientSession(headers=headers) as http:
        by_aiohttp = await drive_aiohttp(http, url)
    print(json.dumps({"requests": by_requests, "httpx": by_httpx, "aiohttp": by_aiohttp}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
