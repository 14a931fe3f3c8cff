"""Try an installed copy: import every module, and do the main jobs. Usage: … RESULTS_FILE."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import platform
import subprocess
import sys
from pathlib import Path

import batch_gateway
from batch_gateway import HTTPInferenceClient
from batch_gateway.testing import simulated_pool

LINES = 100
# Loaded by alembic, which tells them what to do.
LOADED_BY_OTHERS = "batch_gateway.service.migrations."
PARAMS = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


def import_everything() -> int:
    names = [
        module.name
        for module in pkgutil.walk_packages(batch_gateway.__path__, "batch_gateway.")
        if not module.name.startswith(LOADED_BY_OTHERS) and not module.name.endswith("__main__")
    ]
    for name in names:
        importlib.import_module(name)
    return len(names)


def run_a_batch(results: Path) -> None:
    requests = results.with_suffix(".requests")
    line = {"method": "POST", "url": "/v1/chat/completions", "body": PARAMS}
    requests.write_text(
        "".join(json.dumps({"custom_id": f"id-{n}", **line}) + "\n" for n in range(LINES))
    )
    command = [sys.executable, "-m", "batch_gateway", "run", str(requests)]
    options = ["--gateway", "simulator", "-o", str(results), "--quiet"]
    subprocess.run([*command, *options], check=True, timeout=120)
    assert len(results.read_text().splitlines()) == LINES


async def use_the_library(url: str) -> None:
    async with HTTPInferenceClient(url) as client:
        response = await client.generate(PARAMS)
        streamed = [chunk.text async for chunk in client.stream(PARAMS)]
    assert response.text == "".join(streamed)


def main() -> None:
    modules = import_everything()
    run_a_batch(Path(sys.argv[1]))
    with simulated_pool(pods=2) as pool:
        for url in (pool.pods[0].url, pool.url):
            asyncio.run(use_the_library(url))
            with HTTPInferenceClient(url).blocking() as client:
                assert client.generate(PARAMS).text
    print(f"Python {platform.python_version()}: {modules} modules, a batch, the library")


if __name__ == "__main__":
    main()
