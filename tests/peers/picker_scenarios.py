"""What is asked of a data plane before a picker and two pods, and what is kept of each case.

The same cases are played through Envoy and through the native client; what was kept is put into
one form, without ports, dates and chunk sizes, so that the two can be set side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.errors import InferenceError

from .envoy_pool import Reaching, running_envoy_pool
from .pool_pod import PoolPod, running_pod
from .recording_picker import (
    Answering,
    Conversation,
    RecordingPicker,
    running_recording_picker,
)

__all__ = [
    "RECORDING",
    "SCENARIOS",
    "Pool",
    "Scenario",
    "envoy_before_two_pods",
    "play",
    "read_recording",
]

RECORDING = Path(__file__).parent / "recordings" / "envoy.json"

_LIMIT_S = 30.0
_REFUSED = "127.0.0.1:1"
# Differ with the machine, the day or the version.
_OF_THE_MOMENT = ("date", "server", "user-agent", "x-forwarded-for", "x-envoy-external-address")
_PATH = "/v1/chat/completions"
_REFUSAL = (429, "rejected-saturated", '{"error": {"message": "the pool is full"}}')


@dataclass(frozen=True)
class Pool:
    """A data plane's URL, whom it asks and where it may post."""

    url: str
    picker: RecordingPicker
    first: PoolPod
    second: PoolPod


@dataclass(frozen=True)
class Scenario:
    """One request: the part of the model's name that says what the pod does, and the answers.

    `endpoints` are names: "first", "second" and "refused", where nobody listens.
    """

    pod: str = "plain"
    size: int = 20
    stream: bool = False
    endpoints: tuple[str, ...] = ("first",)
    answering: Answering = field(default_factory=Answering)


SCENARIOS: Mapping[str, Scenario] = {
    "a small body": Scenario(),
    "large bodies": Scenario("large", size=3_000_000),
    "a stream": Scenario("stream", stream=True),
    "a pod's error": Scenario("broken"),
    "a rewritten model": Scenario(answering=Answering(rename="tuned-plain")),
    "a rewritten model in a stream": Scenario(
        "stream", stream=True, answering=Answering(rename="tuned-stream")
    ),
    "set headers": Scenario(
        answering=Answering(
            set_headers=(
                ("x-prefiller-host-port", "10.0.0.9:8000"),
                ("x-case", "set by the picker"),
                (":path", "/v1/moved"),
            )
        )
    ),
    "a fallback": Scenario(endpoints=("refused", "second")),
    "a refusal": Scenario(answering=Answering(refusal=_REFUSAL)),
    "a picker that fails": Scenario(answering=Answering(failure="no pods in the pool")),
    "an eviction": Scenario("busy", answering=Answering(evict=True)),
}


@contextlib.contextmanager
def envoy_before_two_pods(folder: Path, reaching: Reaching) -> Iterator[Pool]:
    """A real Envoy, a picker that records, and two pods."""
    with contextlib.ExitStack() as running:
        picker = running.enter_context(running_recording_picker())
        first, second = (running.enter_context(running_pod()) for _ in range(2))
        pods = [first.address, second.address]
        envoy = running_envoy_pool(folder, picker_port=picker.port, pods=pods, reaching=reaching)
        yield Pool(running.enter_context(envoy).url, picker, first, second)


def play(pool: Pool, scenario: Scenario, *, reaches_a_pod: bool = True) -> dict[str, Any]:
    """What came of it, what the picker was told, and what the pod received."""
    addresses = {
        "first": pool.first.address,
        "second": pool.second.address,
        "refused": _REFUSED,
    }
    base = scenario.answering
    pool.picker.answering = Answering(
        endpoints=[addresses[name] for name in scenario.endpoints],
        set_headers=base.set_headers,
        rename=base.rename,
        refusal=base.refusal,
        failure=base.failure,
        evict=base.evict,
    )
    outcome = asyncio.run(_ask(pool, scenario))
    conversation = pool.picker.conversation()
    pod = pool.second if "second" in scenario.endpoints else pool.first
    received = None
    if reaches_a_pod and not base.refusal and not base.failure:
        received = pod.next_request()
        received["headers"] = _headers(received["headers"])
    names = {address: name for name, address in addresses.items()}
    kept = {"outcome": outcome, "told": _collapsed(conversation), "pod": received}
    return json.loads(_renamed(json.dumps(kept), names | {_authority(pool.url): "gateway"}))


def read_recording() -> dict[str, Any]:
    """What Envoy was seen to do: its version, and `cases` by name."""
    return json.loads(RECORDING.read_text("utf-8"))


async def _ask(pool: Pool, scenario: Scenario) -> dict[str, Any]:
    config = HTTPInferenceClientConfig(
        pool.url,
        api_key="sk-secret",
        headers={"x-case": "set by the caller"},
        retry=None,
        timeout=_LIMIT_S,
        stream_upstream=scenario.stream,
    )
    message = {"role": "user", "content": "y" * scenario.size}
    params = {"model": f"asked-{scenario.pod}", "messages": [message]}
    request = InferenceRequest(params=params, endpoint=_PATH, request_id="req-1")
    async with HTTPInferenceClient(config) as client:
        asking = asyncio.create_task(client.generate(request))
        if scenario.answering.evict:
            await asyncio.to_thread(pool.first.started.get, True, _LIMIT_S)
            pool.picker.evict()
        try:
            response = await asking
        except InferenceError as error:
            if scenario.answering.evict:
                await asyncio.to_thread(pool.first.aborted.get, True, _LIMIT_S)
            return {
                "category": error.category.name,
                "status": error.status_code,
                "message": str(error),
                "retryable": error.is_retryable,
            }
    body = response.json()
    choice = body["choices"][0]
    return {
        "status": response.status_code,
        "model": body["model"],
        "length": len(choice["message"]["content"]),
        "usage": body["usage"]["total_tokens"],
        "set by the picker": response.headers.get("x-went-into-resp-headers"),
    }


def _collapsed(conversation: Conversation) -> list[dict[str, Any]]:
    """Chunks of one body joined: their whole size, and whether the last of them ended it."""
    told: list[dict[str, Any]] = []
    for message in conversation.messages:
        one = {**message}
        if "headers" in one:
            one["headers"] = _headers(one["headers"])
        if told and told[-1]["kind"] == one["kind"] and "size" in one:
            assert told[-1]["end_of_stream"] is False, "a body went on after its end"
            one["size"] += told[-1]["size"]
            told[-1].update(one)
        else:
            told.append(one)
    return told


def _headers(pairs: Sequence[Sequence[str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, raw, *text in pairs:
        assert not text, f"{name}: in the field for text, which pickers do not read"
        assert name not in headers, f"{name}: twice"
        headers[name] = "…" if name in _OF_THE_MOMENT else raw
    return headers


def _authority(url: str) -> str:
    return url.partition("://")[2]


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for address, name in names.items():
        text = text.replace(f'"{address}"', f'"{name}"').replace(f"{address},", f"{name},")
        text = text.replace(f",{address}", f",{name}")
    return text
