"""A transport that asks an endpoint picker where each request goes, and sends it there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from batch_gateway.durations import format_duration, seconds
from batch_gateway.errors import InferenceError, RequestTimeoutError
from batch_gateway.grpc.channel import Http2Channel
from batch_gateway.grpc.contract import GrpcChannel
from batch_gateway.http.connection_errors import closed_error
from batch_gateway.http.exchange import Early, HTTPResponse, HTTPStream
from batch_gateway.http.origin_headers import merge_headers, origin_headers
from batch_gateway.http.own_loop import own_loop
from batch_gateway.http.sweeper import Sweeper
from batch_gateway.http.target import Target
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.picker.ask_health import check_health
from batch_gateway.picker.conversation import Choice, Conversation
from batch_gateway.picker.detour import Detour, PodsUnreachableError
from batch_gateway.picker.dialogue import Dialogue, Interrupted
from batch_gateway.picker.encode import QuestionEncoder, pieces_of
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig
from batch_gateway.picker.pods import Pod, Pods
from batch_gateway.picker.relay import Refusal, Relay
from batch_gateway.wire.ext_proc.names import PROCESS_METHOD
from batch_gateway.wire.scheduling_headers import DROPPED_REASON, NO_ENDPOINTS

__all__ = ["EndpointPickerExchanger"]

_NEVER = float("inf")

# How long a picker that has been told everything may take to end its stream, behind our back.
_FAREWELL_SECONDS = 1.0

# What is left of the patience with a picker that has just let an answer pass without a word.
_SHORT_PATIENCE = 0.05


class EndpointPickerExchanger:
    """An `HTTPExchanger` for `grpc://` gateways, for asyncio and uvloop.

    Belongs to the event loop of its first request. Raises ConfigError at construction when the
    API key or a certificate cannot be used. `channel` is where the
    picker is asked.
    """

    def __init__(
        self,
        config: TransportConfig,
        settings: EndpointPickerConfig,
        *,
        channel: GrpcChannel | None = None,
    ) -> None:
        target = Target.of(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._name = target.name
        self._settings = settings
        self._channel = channel or Http2Channel.of(config)
        self._health = None
        if settings.health is not None:
            self._health = Http2Channel.of(config.with_base_url(settings.health))
        authority = settings.authority or target.name
        self._encoder = QuestionEncoder(
            authority=authority,
            scheme="https" if target.tls else "http",
            locate=target.api.target,
            origin=merge_headers((("Accept-Encoding", "identity"),), origin_headers(config)),
            subset=settings.endpoint_subset,
        )
        self._pods = Pods(config, settings, target.name, authority)
        self._dialogues: set[Dialogue] = set()
        self._deadlines = Sweeper(self._expire)
        self._pick_timeout = _NEVER
        if settings.pick_timeout is not None:
            self._pick_timeout = seconds(settings.pick_timeout)
        self._patience = seconds(settings.echo_timeout)
        self._ignored = False
        self._most = config.max_response_bytes
        self._parting: asyncio.Future[None] | None = None

    async def post(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
    ) -> HTTPResponse:
        """See `HTTPExchanger.post`. Raises InvalidRequestError for what cannot be sent."""
        dialogue = await self._begin(path, headers, body, deadline)
        detour: Detour | None = None
        try:
            choice = await self._choice(dialogue, deadline)
            while not isinstance(choice, HTTPResponse):
                tried = () if detour is None else detour.tried
                try:
                    with dialogue:
                        pod, response = await self._pods.post(choice, deadline, tried)
                except Interrupted:
                    return dialogue.refusal
                except PodsUnreachableError as error:
                    detour = detour or Detour(path, headers, body, deadline)
                    detour.failed(error.problems)
                    dialogue, choice = await self._ask_again(dialogue, detour)
                else:
                    self._arm(dialogue, time.monotonic() + self._echo_patience())
                    answer = await dialogue.report(response, pod.served)
                    self._learn(dialogue)
                    return answer
            return choice
        finally:
            self._leave(dialogue)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
        begin_by: float,
        idle_timeout: float,
        early: Early | None = None,
    ) -> AsyncGenerator[HTTPStream]:
        """See `HTTPExchanger.stream`: without `early`, since what a pod says goes by the picker.

        Raises InvalidRequestError for what cannot be sent.
        """
        dialogue = await self._begin(path, headers, body, deadline, begin_by)
        detour: Detour | None = None
        pod: Pod | None = None
        try:
            choice = await self._choice(dialogue, min(deadline, begin_by))
            while pod is None and not isinstance(choice, HTTPResponse):
                tried = () if detour is None else detour.tried
                try:
                    with dialogue:
                        pod = await self._pods.reach(choice, min(deadline, begin_by), tried)
                except Interrupted:
                    choice = dialogue.refusal
                except PodsUnreachableError as error:
                    detour = detour or Detour(path, headers, body, deadline, begin_by)
                    detour.failed(error.problems)
                    dialogue, choice = await self._ask_again(dialogue, detour)
            if pod is None or isinstance(choice, HTTPResponse):
                yield Refusal(dialogue.refusal)
                return
            relay = Relay(dialogue, self._echo_patience(), self._arm, idle_timeout, self._most)
            answer = self._pods.stream(
                pod, choice, deadline=deadline, begin_by=begin_by, idle_timeout=idle_timeout
            )
            try:
                yield await relay.begin(answer)
            finally:
                await relay.aclose()
            self._learn(dialogue)
        finally:
            if pod is not None:
                self._pods.give_back(pod)
            self._leave(dialogue)

    async def pick(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: float,
    ) -> Choice | HTTPResponse:
        """Ask and send nothing: the choice, or the refusal in its place. Raises as `post` does."""
        dialogue = await self._begin(path, headers, body, deadline)
        try:
            choice = await self._choice(dialogue, deadline)
            await dialogue.half_close()
            return choice
        finally:
            self._leave(dialogue)

    def asked(self, path: str, headers: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Every header that the picker is told about such a request, by lower-case name."""
        return self._encoder.headers(path, headers, 0)[1]

    async def connect(self, *, deadline: float, health: bool = True) -> None:
        """Make sure that the picker can be reached and takes requests.

        Raises as `post` does, and ServerError when its health service says that it is not
        serving. A picker without one at that address counts as serving, unless the address is
        that of its health service. Without `health` it is only reached.
        """
        self._require_usable()
        await self._channel.connect(deadline=deadline)
        if not health:
            return
        channel = self._health or self._channel
        name = self._settings.health or self._name
        await check_health(channel, name, deadline=deadline, required=self._health is not None)

    async def aclose(self) -> None:
        """Close every connection; requests under way are aborted."""
        self._closed = True
        if self._loop is not None and self._loop.is_closed():
            self._deadlines.stop()
            return
        for dialogue in list(self._dialogues):
            dialogue.abort(closed_error())
        await self._pods.aclose()
        await self._part()
        self._deadlines.stop()
        await self._channel.aclose()
        if self._health is not None:
            await self._health.aclose()

    @property
    def streams(self) -> int:
        """How many streams to the picker are open."""
        return len(self._dialogues)

    def __repr__(self) -> str:
        return f"<EndpointPickerExchanger {self._name} {self.streams} streams>"

    # --- one request ---

    async def _begin(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        deadline: float,
        begin_by: float = _NEVER,
        *,
        subset: Sequence[str] = (),
    ) -> Dialogue:
        """A stream that is open, with the question that is to be asked on it."""
        if self._closed or self._loop is not asyncio.get_running_loop():
            self._require_usable()
        encoder = self._encoder.among(subset) if subset else self._encoder
        head, by_name = encoder.headers(path, headers, len(body))
        pieces = pieces_of(body)
        if min(deadline, begin_by) <= time.monotonic():
            raise RequestTimeoutError("the deadline passed before the request was sent")
        stream = await self._channel.open(PROCESS_METHOD, deadline=deadline, begin_by=begin_by)
        conversation = Conversation(self._name, by_name, pieces, most=self._most)
        dialogue = Dialogue(stream, conversation, self._name, self._forget)
        if len(pieces) == 1:
            dialogue.question = (head, encoder.body_message(body, last=True))
        else:
            dialogue.question = itertools.chain((head,), encoder.body(pieces))
        self._dialogues.add(dialogue)
        return dialogue

    async def _choice(self, dialogue: Dialogue, deadline: float) -> Choice | HTTPResponse:
        self._arm(dialogue, min(deadline, time.monotonic() + self._pick_timeout))
        try:
            choice = await dialogue.ask()
        except RequestTimeoutError as error:
            if time.monotonic() < deadline:
                limit = format_duration(self._pick_timeout)
                error.message += f": {limit} (endpoint_picker.pick_timeout, --pick-timeout)"
                error.args = (error.message,)
            raise
        dialogue.deadline = _NEVER
        return choice or dialogue.refusal

    async def _ask_again(
        self, unreached: Dialogue, detour: Detour
    ) -> tuple[Dialogue, Choice | HTTPResponse]:
        """Another choice, or the refusal in its place, on another stream.

        Raises what the detour comes to when the picker chooses no pod that can be reached.
        """
        while True:
            subset = detour.next_subset(self._pods.working())
            if subset is None:
                raise self._pods.unreachable(detour.tried)
            dialogue = await self._begin(*detour.question, subset=subset)
            try:
                choice = await self._choice(dialogue, detour.choose_by)
            except BaseException as error:
                self._leave(dialogue)
                if not subset or not _has_no_pods(error):
                    raise
            else:
                if not subset or not _has_no_pods(choice):
                    # Only now, so that a picker that goes by load has seen both.
                    self._leave(unreached)
                    return dialogue, choice
                self._leave(dialogue)
            detour.failed({})

    def _leave(self, dialogue: Dialogue) -> None:
        farewell = time.monotonic() + _FAREWELL_SECONDS
        dialogue.leave(farewell)
        if dialogue.deadline == farewell:
            self._deadlines.arm(farewell)

    def _forget(self, dialogue: Dialogue) -> None:
        self._dialogues.discard(dialogue)
        if self._parting is not None and not self._dialogues and not self._parting.done():
            self._parting.set_result(None)

    # --- time ---

    def _arm(self, dialogue: Dialogue, at: float) -> None:
        dialogue.deadline = at
        if at < self._deadlines.wakes_at:
            self._deadlines.arm(at)

    def _expire(self, now: float) -> float:
        earliest = _NEVER
        for dialogue in list(self._dialogues):
            if dialogue.deadline <= now:
                dialogue.expire()
            earliest = min(earliest, dialogue.deadline)
        return earliest

    def _echo_patience(self) -> float:
        return min(self._patience, _SHORT_PATIENCE) if self._ignored else self._patience

    def _learn(self, dialogue: Dialogue) -> None:
        """A picker that does not hand answers back is not waited for long every time."""
        if dialogue.conversation.echo.answered:
            self._ignored = False
        elif dialogue.ran_late:
            self._ignored = True

    # --- life ---

    async def _part(self) -> None:
        """Let the picker end the streams of the last answers, so that it counts them as ended."""
        if not self._dialogues:
            return
        self._parting = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._parting

    def _require_usable(self) -> None:
        self._loop = own_loop(self._loop, closed=self._closed)


def _has_no_pods(end: Choice | HTTPResponse | BaseException) -> bool:
    """Whether the picker found no pod among those that it was to choose from."""
    if isinstance(end, HTTPResponse):
        return end.headers.get(DROPPED_REASON) == NO_ENDPOINTS
    return isinstance(end, InferenceError) and end.dropped_reason == NO_ENDPOINTS
