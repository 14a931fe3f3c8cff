"""autobatcher: calls as of a gateway, which it makes batches of; prints the answers as JSON.

Arguments: base URL, API key.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

autobatcher: Any = importlib.import_module("autobatcher")


async def main(url: str, key: str) -> None:
    quick = {"batch_window_seconds": 0.05, "poll_interval_seconds": 0.05}
    async with autobatcher.BatchOpenAI(base_url=url, api_key=key, **quick) as client:
        messages = [{"role": "user", "content": "Hello!"}]
        chats = [client.chat.completions.create(model="m", messages=messages) for _ in range(5)]
        said = [answer.choices[0].message.content for answer in await asyncio.gather(*chats)]
        inputs = [client.embeddings.create(model="m", input=f"text {n}") for n in range(3)]
        vectors = [answer.data[0].embedding for answer in await asyncio.gather(*inputs)]
        asked = [client.responses.create(model="m", input=f"Hello {n}!") for n in range(3)]
        told = [answer.output_text for answer in await asyncio.gather(*asked)]
    print(json.dumps({"chats": said, "embeddings": vectors, "responses": told}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
