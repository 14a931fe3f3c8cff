"""A gateway that counts how often it was asked each prompt, and fails as the prompt says.

`python -m benchmarks.peers.counting_gateway DELAY` prints its URL. The answer to a prompt repeats
it, so that an answer on the wrong line is seen.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from aiohttp import web

from benchmarks.peers.trouble import TROUBLE, answer_to

_COUNTS: Counter[str] = Counter()


async def _chat(request: web.Request) -> web.Response:
    asked = json.loads(await request.read())
    prompt = asked["messages"][-1]["content"] if asked.get("messages") else ""
    _COUNTS[prompt] += 1
    await asyncio.sleep(float(sys.argv[1]))
    name = prompt.partition(":")[0]
    if name in TROUBLE and _COUNTS[prompt] <= TROUBLE[name][2]:
        status, body, _ = TROUBLE[name]
        return web.Response(status=status, text=body, content_type="application/json")
    message = {"role": "assistant", "content": answer_to(prompt)}
    usage = {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1790000000}
    return web.json_response({**head, "model": asked["model"], "choices": [choice], "usage": usage})


async def _counts(_: web.Request) -> web.Response:
    return web.json_response(_COUNTS)


async def _main() -> None:
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", _chat), web.get("/counts", _counts)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print("http://{}:{}".format(*runner.addresses[0][:2]), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
