"""The layer that sends single requests together and gives each its part of the answer."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

import msgspec

from batch_gateway.byte_size import byte_count
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest, Transport
from batch_gateway.client.layers.coalesce.coalesce_policy import CoalescePolicy
from batch_gateway.client.layers.coalesce.joining import Single, join, read_single
from batch_gateway.client.layers.coalesce.splitting import UnsplittableError, split
from batch_gateway.clock import Clock
from batch_gateway.durations import format_duration, seconds
from batch_gateway.errors import (
    BadResponseError,
    DeadlineExceededError,
    GatewayConnectionError,
    InferenceError,
)
from batch_gateway.wire.answer_judge import NO_ANSWER
from batch_gateway.wire.refusals import wants_room

__all__ = ["CoalescingTransport"]

_log = logging.getLogger("batch_gateway.coalesce")

# Statuses that may be one member's fault. 500: llama.cpp says so of an input that is too long.
_PERHAPS_ONE_MEMBER = frozenset({400, 413, 422, 500})
# So many joint requests in a row refused, whose members were all good: it takes no lists.
_MOST_UNEXPLAINED = 3

# Endpoint and model: what a gateway takes lists for, or does not.
_Route = tuple[str, str]


class _Member:
    """One request that waits for its part."""

    __slots__ = ("ended", "request", "single")

    def __init__(self, request: PreparedRequest, single: Single) -> None:
        self.request = request
        self.single = single
        # Its answer, or how often it was sent in vain when it is to go on alone.
        self.ended: asyncio.Future[InferenceResponse | int] = (
            asyncio.get_running_loop().create_future()
        )


class _Group:
    """Members that are sent together, and the task that waits for them and sends them."""

    __slots__ = ("alone", "bytes", "kind", "members", "sent", "task", "waiting")

    def __init__(self, kind: tuple[object, ...], envelope: int) -> None:
        self.kind = kind
        self.members: list[_Member] = []
        self.bytes = envelope
        self.waiting = 0
        self.sent = False
        self.task: asyncio.Task[None] | None = None
        # After a refusal, how many went on alone and have not succeeded yet.
        self.alone = 0


class CoalescingTransport:
    """Joins completions and embeddings with one prompt each and otherwise equal parameters.

    A joint request that is refused as invalid, or answered with nothing, harms nobody: its members
    go on alone. Any other error is everybody's. A member that is cancelled or runs out of time
    leaves the others alone; when the last has left, the joint request is cut off.
    """

    def __init__(
        self,
        inner: Transport,
        policy: CoalescePolicy,
        clock: Clock,
        on_coalesced: Callable[[int], None] | None = None,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._clock = clock
        self._on_coalesced = on_coalesced
        self._open: dict[tuple[object, ...], _Group] = {}
        self._groups: set[_Group] = set()
        self._takes_no_lists: set[_Route] = set()
        self._unexplained: Counter[_Route] = Counter()

    def send(self, request: PreparedRequest) -> CoroutineType[Any, Any, InferenceResponse]:
        single = self._single(request)
        if single is None:
            return self._inner.send(request)
        return self._send_with_others(request, single)

    async def _send_with_others(
        self, request: PreparedRequest, single: Single
    ) -> InferenceResponse:
        member = _Member(request, single)
        group = self._enter(member)
        remaining = request.deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(None if remaining == float("inf") else remaining):
                ended = await member.ended
        except TimeoutError as error:
            if isinstance(error, InferenceError):
                raise  # one of ours, about the joint request
            raise self._deadline_error(request) from error
        finally:
            self._leave(group, member)
        if isinstance(ended, InferenceResponse):
            return ended
        return await self._send_alone(group, member, sent_before=ended)

    def _single(self, request: PreparedRequest) -> Single | None:
        if (request.endpoint, request.model) in self._takes_no_lists:
            return None
        wait = seconds(self._policy.max_wait)
        if request.deadline - self._clock.monotonic() < 2 * wait:
            return None  # no time to wait for others
        return read_single(request)

    def _enter(self, member: _Member) -> _Group:
        kind = member.single.kind
        group = self._open.get(kind)
        size = member.single.size
        if group is not None and group.bytes + size > byte_count(self._policy.max_bytes):
            self._dispatch(group)
            group = None
        if group is None:
            envelope = len(member.request.body) - size
            group = self._open[kind] = _Group(kind, envelope)
            self._start(group, self._wait_and_send(group))
        group.members.append(member)
        group.waiting += 1
        group.bytes += size
        if len(group.members) >= self._policy.max_requests:
            self._dispatch(group)
        return group

    def _start(self, group: _Group, work: Coroutine[Any, Any, None]) -> None:
        """From now on this is what happens to the group."""
        if group.task is not None:
            group.task.cancel()
        group.task = task = asyncio.create_task(work)
        self._groups.add(group)

        def ended(_: object) -> None:
            if group.task is task:
                self._groups.discard(group)

        task.add_done_callback(ended)

    async def _wait_and_send(self, group: _Group) -> None:
        await self._clock.sleep(seconds(self._policy.max_wait))
        self._close(group)
        await self._send(group)

    def _dispatch(self, group: _Group) -> None:
        """Send a group now that waits for more."""
        self._close(group)
        self._start(group, self._send(group))

    def _close(self, group: _Group) -> None:
        group.sent = True
        if self._open.get(group.kind) is group:
            del self._open[group.kind]

    def _leave(self, group: _Group, member: _Member) -> None:
        """A member needs nothing more from its group."""
        if not member.ended.cancel() and not member.ended.cancelled():
            member.ended.exception()  # looked at, even when it was cancelled just now
        group.waiting -= 1
        if not group.sent:
            group.members.remove(member)
            group.bytes -= member.single.size
        if group.waiting == 0 and group.task is not None:
            self._close(group)
            group.task.cancel()

    async def _send(self, group: _Group) -> None:
        members = group.members
        if len(members) == 1:
            members[0].ended.set_result(0)
            return
        try:
            await self._send_joint(group)
        except InferenceError as error:
            self._failed(group, error)
        except Exception as error:  # noqa: BLE001 - everybody gets it, whatever it is
            for member in members:
                if not member.ended.done():
                    member.ended.set_exception(error)

    async def _send_joint(self, group: _Group) -> None:
        members = group.members
        if self._on_coalesced is not None:
            self._on_coalesced(len(members))
        response = await self._inner.send(join([(m.request, m.single) for m in members]))
        try:
            parts = split(response.body, [member.single.weight for member in members])
        except UnsplittableError as error:
            self._learn_no_lists(members[0].request, str(error))
            self._part_company(group, response.attempts)
            return
        self._unexplained.pop(_route(members[0].request), None)
        now = self._clock.monotonic()
        for member, part in zip(members, parts, strict=True):
            if not member.ended.done():
                answer = msgspec.structs.replace(
                    response,
                    request_id=member.request.request_id,
                    body=part,
                    duration=now - member.request.started,
                    coalesced=len(members),
                )
                member.ended.set_result(answer)

    def _failed(self, group: _Group, error: InferenceError) -> None:
        if isinstance(error, BadResponseError) and error.body.lstrip().startswith(b"["):
            # As llama.cpp answers several prompts: an array of answers, each good by itself.
            self._learn_no_lists(group.members[0].request, "it is an array")
            self._part_company(group, error.attempts)
        elif error.code == NO_ANSWER or (
            error.status_code in _PERHAPS_ONE_MEMBER and not wants_room(error)
        ):
            self._part_company(group, error.attempts)
        else:
            for member in group.members:
                _fail(member, error, coalesced=len(group.members))

    def _part_company(self, group: _Group, attempts: int) -> None:
        """Each member goes on alone, in its own task."""
        remaining = [member for member in group.members if not member.ended.done()]
        group.alone = len(remaining)
        for member in remaining:
            member.ended.set_result(attempts)

    async def _send_alone(
        self, group: _Group, member: _Member, sent_before: int
    ) -> InferenceResponse:
        try:
            response = await self._inner.send(member.request)
        except InferenceError as error:
            error.attempts += sent_before
            raise
        if not sent_before:
            return response
        group.alone -= 1
        if group.alone == 0:
            self._nobody_to_blame(member.request)
        attempts = response.attempts + sent_before
        return msgspec.structs.replace(response, attempts=attempts)

    def _nobody_to_blame(self, request: PreparedRequest) -> None:
        """A joint request was refused, and every member was good by itself."""
        route = _route(request)
        self._unexplained[route] += 1
        if self._unexplained[route] == _MOST_UNEXPLAINED:
            self._learn_no_lists(request, "it refuses what it takes one by one")

    def _learn_no_lists(self, request: PreparedRequest, reason: str) -> None:
        route = _route(request)
        if route not in self._takes_no_lists:
            self._takes_no_lists.add(route)
            _log.warning(
                "requests for %s to %s are sent one by one from now on: the gateway's answer to "
                "several at once cannot be used: %s",
                request.model,
                request.endpoint,
                reason,
            )

    def _deadline_error(self, request: PreparedRequest) -> DeadlineExceededError:
        allowed = format_duration(max(0.0, request.deadline - request.started))
        return DeadlineExceededError(
            f"the deadline passed {allowed} after the request was made",
            request_id=request.request_id,
            attempts=1,
        )

    async def aclose(self) -> None:
        """Cut off joint requests under way, and close what is inside."""
        groups = list(self._groups)
        for group in groups:
            if group.task is not None:
                group.task.cancel()
        await asyncio.gather(
            *(group.task for group in groups if group.task is not None), return_exceptions=True
        )
        closed = GatewayConnectionError("the client was closed", is_retryable=False)
        for group in groups:
            for member in group.members:
                _fail(member, closed)
        await self._inner.aclose()


def _route(request: PreparedRequest) -> _Route:
    return request.endpoint, request.model


def _fail(member: _Member, error: InferenceError, *, coalesced: int = 1) -> None:
    if not member.ended.done():
        copy = error.copy_for(
            member.request.request_id, attempts=error.attempts, coalesced=coalesced
        )
        member.ended.set_exception(copy)
