"""The layer that answers from the cache, and sends identical requests in flight once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import CoroutineType
from typing import Any, Literal

from batch_gateway.byte_size import byte_count
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.client.layers.cache.cache_config import CacheConfig
from batch_gateway.client.layers.cache.key import answer_key
from batch_gateway.client.layers.cache.place import check_place
from batch_gateway.client.layers.cache.store import StoredAnswer
from batch_gateway.client.layers.cache.store_thread import LONGEST_LOOK_UP, StoreThread
from batch_gateway.clock import Clock
from batch_gateway.durations import format_duration, seconds
from batch_gateway.errors import DeadlineExceededError, InferenceError
from batch_gateway.wire.answer_judge import judge_answer
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.json_schema import JSONSchema

__all__ = ["CacheTransport"]


# What the leader of identical requests leaves to one that waits for it: the answer or error, or
# None for the lead itself.
_Legacy = InferenceResponse | InferenceError | None
_Flight = deque["asyncio.Future[_Legacy]"]
OnLookUp = Callable[[Literal["hit", "miss", "joined"]], None]


class CacheTransport:
    """Looks every request up, and keeps every good answer.

    Of identical requests under way the first leads: it looks up and sends, the others wait for
    what becomes of it. A leader that is cancelled, or whose own deadline passes, leaves the lead
    to the next. Streams pass as they are.

    Raises ConfigError when something else stands where the cache should be.
    """

    def __init__(
        self,
        inner: Transport,
        config: CacheConfig,
        clock: Clock,
        *,
        namespace: str,
        headers: Iterable[tuple[str, str]] = (),
        schema: JSONSchema | None = None,
        on_look_up: OnLookUp | None = None,
    ) -> None:
        self._path = Path(config.path)
        check_place(self._path)
        self._inner = inner
        self._config = config
        self._clock = clock
        self._namespace = namespace if config.namespace is None else config.namespace
        self._headers = tuple(headers)
        self._schema = schema
        self._on_look_up = on_look_up or _tell_nobody
        # Who is being sent; None as long as nobody else waits for it.
        self._flights: dict[bytes, _Flight | None] = {}
        self._thread: StoreThread | None = None
        self._closed = False

    @property
    def _store(self) -> StoreThread:
        # Made at the first request, since it belongs to that one's event loop.
        if self._thread is None:
            age = self._config.max_age
            self._thread = StoreThread(
                self._path,
                byte_count(self._config.max_bytes),
                float("inf") if age is None else seconds(age),
                self._clock.wall_time,
            )
        return self._thread

    def send(self, request: PreparedRequest) -> CoroutineType[Any, Any, InferenceResponse]:
        if request.sink is not None or self._closed:
            return self._inner.send(request)
        key = answer_key(request, self._namespace, self._headers)
        if key is None:
            return self._inner.send(request)
        return self._lead(key, request)

    async def _lead(
        self, key: bytes, request: PreparedRequest, *, inherited: bool = False
    ) -> InferenceResponse:
        if not inherited:
            if key in self._flights:
                return await self._follow(key, request)
            self._flights[key] = None
        try:
            kept = None if self._closed else await self._look_up(key, request)
            if kept is not None and self._is_answer(kept, request):
                self._on_look_up("hit")
                response = self._answer(request, kept.body, kept.content_type)
            else:
                self._on_look_up("miss")
                response = await self._inner.send(request)
                self._keep(key, response)
        except DeadlineExceededError:
            self._hand_over(key)
            raise
        except InferenceError as error:
            self._land(key, error)
            raise
        except BaseException:
            self._hand_over(key)
            raise
        self._land(key, response)
        return response

    def _look_up(self, key: bytes, request: PreparedRequest) -> Awaitable[StoredAnswer | None]:
        remaining = request.deadline - self._clock.monotonic()
        if remaining > LONGEST_LOOK_UP:
            return self._store.get(key)
        return self._look_up_within(remaining, key)

    async def _look_up_within(self, limit: float, key: bytes) -> StoredAnswer | None:
        try:
            async with asyncio.timeout(limit):
                return await self._store.get(key)
        except TimeoutError:
            return None  # a disk that hangs costs the cache's help, not the request

    def _is_answer(self, kept: StoredAnswer, request: PreparedRequest) -> bool:
        # An earlier version may have kept what it took for one, and others need no schema.
        if self._schema is not None and self._schema.problem_of_body(kept.body) is not None:
            return False
        return judge_answer(request.endpoint, kept.body, request.body) is None

    def _keep(self, key: bytes, response: InferenceResponse) -> None:
        if response.status_code == 200 and not self._closed:
            answer = StoredAnswer(response.body, _content_type(response), self._clock.wall_time())
            self._store.put(key, answer)

    async def _follow(self, key: bytes, request: PreparedRequest) -> InferenceResponse:
        legacy: asyncio.Future[_Legacy] = asyncio.get_running_loop().create_future()
        flight = self._flights[key]
        if flight is None:
            flight = self._flights[key] = deque()
        flight.append(legacy)
        remaining = request.deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(None if remaining == float("inf") else remaining):
                left = await legacy
        except BaseException as error:
            if legacy.done() and not legacy.cancelled() and legacy.result() is None:
                self._hand_over(key)
            legacy.cancel()
            if isinstance(error, TimeoutError):
                raise self._deadline_error(request) from error
            raise
        if left is None:
            return await self._lead(key, request, inherited=True)
        self._on_look_up("joined")
        if isinstance(left, InferenceError):
            raise left.copy_for(request.request_id, attempts=0)
        return self._answer(request, left.body, _content_type(left), left.status_code)

    def _hand_over(self, key: bytes) -> None:
        """Somebody who waits takes the lead; with nobody left the flight is over."""
        flight = self._flights[key]
        while flight:
            follower = flight.popleft()
            if not follower.done():
                follower.set_result(None)
                return
        del self._flights[key]

    def _land(self, key: bytes, legacy: InferenceResponse | InferenceError) -> None:
        for follower in self._flights.pop(key) or ():
            if not follower.done():
                follower.set_result(legacy)

    def _answer(
        self, request: PreparedRequest, body: bytes, content_type: str, status_code: int = 200
    ) -> InferenceResponse:
        return InferenceResponse(
            request_id=request.request_id,
            status_code=status_code,
            # The others are about an exchange that this request had no part in.
            headers=Headers(((b"content-type", content_type.encode("latin-1")),)),
            body=body,
            attempts=0,
            duration=self._clock.monotonic() - request.started,
            from_cache=True,
        )

    def _deadline_error(self, request: PreparedRequest) -> DeadlineExceededError:
        allowed = format_duration(max(0.0, request.deadline - request.started))
        return DeadlineExceededError(
            f"the deadline passed {allowed} after the request was made, "
            "while an identical request was under way",
            request_id=request.request_id,
        )

    async def aclose(self) -> None:
        """Close what is inside, and have what was answered written to disk."""
        try:
            await self._inner.aclose()
        finally:
            self._closed = True
            if self._thread is not None:
                thread, self._thread = self._thread, None
                await thread.close()


def _tell_nobody(result: str) -> None:
    pass


def _content_type(response: InferenceResponse) -> str:
    # Looked for where it is: an index of all headers would be made for this one look-up.
    for name, value in response.headers.raw:
        if len(name) == 12 and name.lower() == b"content-type":
            return value.decode("latin-1").strip()
    return "application/json"
