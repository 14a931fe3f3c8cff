"""The API of the service in a process of its own: `… benchmarks.servers.api_server DATA [STORE]`.

Prints its URL, and runs until standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from batch_gateway.server.api_state import ApiState
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.server.serving import serve
from batch_gateway.service.open_database import open_database
from batch_gateway.storage.from_url import opened_storage
from batch_gateway.storage.store_address import StoreAddress


async def _run(folder: Path, store: StoreAddress | None) -> None:
    config = ServerConfig(port=0, observability_port=0, max_file_bytes="4GiB", max_file_lines=None)
    database = await open_database(folder / "records.sqlite3")
    async with contextlib.AsyncExitStack() as stack:
        storage = await stack.enter_async_context(opened_storage(store, folder))
        stack.push_async_callback(database.aclose)
        api = await stack.enter_async_context(serve(ApiState(config, database, storage, None)))
        print(api.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    _data, *_stores = sys.argv[1:]
    _serving = _run(Path(_data), StoreAddress.parse(_stores[0]) if _stores else None)
    if sys.implementation.name == "cpython" and sys.platform != "win32":
        import uvloop

        uvloop.run(_serving)
    else:
        asyncio.run(_serving)
