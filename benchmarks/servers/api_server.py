"""The API of the service in a process of its own: `python -m benchmarks.servers.api_server DATA`.

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
from batch_gateway.storage.folder import LocalFolder


async def _run(folder: Path) -> None:
    config = ServerConfig(port=0, observability_port=0, max_file_bytes="4GiB", max_file_lines=None)
    database = await open_database(folder / "records.sqlite3")
    storage = LocalFolder(folder / "files")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(storage.aclose)
        stack.push_async_callback(database.aclose)
        api = await stack.enter_async_context(serve(ApiState(config, database, storage, None)))
        print(api.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if sys.implementation.name == "cpython" and sys.platform != "win32":
        import uvloop

        uvloop.run(_run(Path(sys.argv[1])))
    else:
        asyncio.run(_run(Path(sys.argv[1])))
