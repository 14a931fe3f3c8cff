"""What the server does with a request: access, faults, and which endpoint answers it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Callable, Mapping

from batch_gateway.simulator.answers.answer import Answer, Call
from batch_gateway.simulator.answers.chat import ChatAnswer
from batch_gateway.simulator.answers.completions import CompletionAnswer
from batch_gateway.simulator.answers.embeddings import EmbeddingAnswer
from batch_gateway.simulator.answers.moderations import ModerationAnswer
from batch_gateway.simulator.answers.replies import HeaderPairs, Reply, RequestError, openai_error
from batch_gateway.simulator.answers.responses import ResponsesAnswer
from batch_gateway.simulator.fault_replies import reply_without_answer
from batch_gateway.simulator.faults import (
    MODEL_PREFIX,
    Fault,
    FaultKind,
    fault_from_model,
    fault_from_rates,
    parse_fault,
)
from batch_gateway.simulator.inference import Inference, objective_of, start_inference
from batch_gateway.simulator.metrics import Metrics
from batch_gateway.simulator.pacing import Pacing
from batch_gateway.simulator.pages import Pages, model_not_found
from batch_gateway.simulator.prefix_cache import PrefixCache
from batch_gateway.simulator.quota import TokenBucket, beyond_quota
from batch_gateway.simulator.request_journal import Journal
from batch_gateway.simulator.server_connection import ServerConnection
from batch_gateway.simulator.server_exchange import Exchange
from batch_gateway.simulator.simulator_config import SimulatorConfig
from batch_gateway.simulator.wire_faults import ANSWERLESS, send_with_fault

__all__ = ["SimulatedSite"]

AnswerType = Callable[[Call], Answer]
_ANSWERS: Mapping[str, AnswerType] = {
    "/v1/chat/completions": ChatAnswer,
    "/v1/completions": CompletionAnswer,
    "/v1/embeddings": EmbeddingAnswer,
    "/v1/responses": ResponsesAnswer,
    "/v1/moderations": ModerationAnswer,
}
_EMPTY = Reply(200)


class SimulatedSite:
    """Handles every request of every connection of one gateway."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: SimulatorConfig) -> None:
        self.config = config
        self.journal = Journal(config.journal_limit)
        self.pacing = Pacing(loop, config)
        self.connections: set[ServerConnection] = set()
        self._idle = asyncio.Event()
        self._prefixes = PrefixCache()
        self._metrics = Metrics(self.pacing, self.journal, self._prefixes)
        self._pages = Pages(int(time.time()), self.journal, self._metrics.page)
        self._anonymous: Counter[bytes] = Counter()
        self.answer_headers = _answer_headers(config)
        self._quota = _quota(config)

    def configure(self, config: SimulatorConfig) -> None:
        if _quota_of(config) != _quota_of(self.config):
            self._quota = _quota(config)
        self.config = config
        self.journal.limit = config.journal_limit
        self.pacing.configure(config)
        self.answer_headers = _answer_headers(config)

    def add_page(self, path: str, content: Callable[[], object]) -> None:
        """Answer GETs of this path with what `content` returns, as JSON."""
        self._pages.add(path, content)

    # -- connections -----------------------------------------------------------------------

    def opened(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        self._idle.clear()
        self.journal.connection_opened()

    def closed(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        self.journal.connection_closed()
        if not self.connections:
            self._idle.set()

    async def all_closed(self) -> None:
        """Wait until no connection is left."""
        if self.connections:
            await self._idle.wait()

    # -- requests --------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        answer_type = _ANSWERS.get(request.path)
        if answer_type is not None and request.method == b"POST":
            self._infer(exchange, answer_type)
            return
        reply = self._pages.reply(request, self.config)
        if reply is None and request.path in self._pages.paths | _ANSWERS.keys():
            reply = openai_error(405, f"Not allowed to {request.method.decode()} here.")
        if reply is None:
            reply = openai_error(404, f"Invalid URL ({request.method.decode()} {request.path})")
        exchange.send(reply)

    def _infer(self, exchange: Exchange, answer_type: AnswerType) -> None:
        request_id = exchange.request.header(b"x-request-id")
        attempt = self.journal.request_received(request_id, exchange.request)
        exchange.on_end = lambda status, whole: self.journal.request_ended(
            request_id, status, whole=whole, right=False
        )
        try:
            self._authorise(exchange)
            self._count_against_quota()
            fault = self._fault_from_header(exchange)
            if self._meets_without_answer(exchange, fault):
                return
            answer = self._answer(exchange, answer_type)
            fault = fault or self._fault_of(exchange, answer, attempt)
            if self._meets_without_answer(exchange, fault):
                return
            _require_stream(answer, fault)
        except RequestError as error:
            exchange.send(error.reply)
            return
        self._run(exchange, answer, fault, request_id)

    def _run(
        self, exchange: Exchange, answer: Answer, fault: Fault | None, request_id: str
    ) -> None:
        if self.config.prefix_cache_tokens:
            prompt = answer.model.encode() + answer.prompt()
            answer.cached_tokens = self._prefixes.look_up(prompt, self.config.prefix_cache_tokens)
        priority = self.config.objectives.get(objective_of(exchange), 0)
        inference = Inference(exchange, answer, fault, priority, self.config.refusal_style)

        def ended(status: int, whole: bool) -> None:
            self.journal.request_ended(request_id, status, whole=whole, right=inference.right)
            self._metrics.observe(inference, status, whole)

        def start() -> None:
            start_inference(inference, self.pacing, exchange, ended)

        if fault is not None and fault.after:
            exchange.after(fault.after, start)
        else:
            start()

    def _answer(self, exchange: Exchange, answer_type: AnswerType) -> Answer:
        answer = answer_type(Call(exchange.request.body, self.config, int(time.time())))
        served = self.config.models
        known = served is None or answer.model in served
        if not known and not answer.model.startswith(MODEL_PREFIX):
            raise RequestError(model_not_found(answer.model))
        return answer

    def _authorise(self, exchange: Exchange) -> None:
        key = self.config.api_key
        if key is None:
            return
        scheme, _, given = exchange.request.header(b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not given:
            message = "You didn't provide an API key in an Authorization header with Bearer auth."
            raise RequestError(openai_error(401, message))
        if not hmac.compare_digest(given.strip().encode(), key.encode()):
            message = "Incorrect API key provided."
            raise RequestError(openai_error(401, message, code="invalid_api_key"))

    def _count_against_quota(self) -> None:
        if self._quota is not None and (seconds := self._quota.take(time.monotonic())):
            raise RequestError(beyond_quota(seconds, self._quota, self.config.refusal_style))

    # -- faults ----------------------------------------------------------------------------

    def _fault_from_header(self, exchange: Exchange) -> Fault | None:
        spec = exchange.request.header(b"x-simulate-fault")
        if not spec:
            return None
        try:
            fault = parse_fault(spec)
        except ValueError as error:
            raise RequestError(openai_error(400, f"X-Simulate-Fault: {error}")) from error
        return self._if_still_due(exchange, fault)

    def _fault_of(self, exchange: Exchange, answer: Answer, attempt: int) -> Fault | None:
        """The fault that the model name asks for, else the one that chance gives."""
        try:
            fault = fault_from_model(answer.model)
        except ValueError as error:
            raise RequestError(openai_error(400, str(error), param="model")) from error
        if fault is not None:
            return self._if_still_due(exchange, fault)
        request_id = exchange.request.header(b"x-request-id")
        key = request_id or f"#{self.journal.received}"
        fault = fault_from_rates(self.config.faults, self.config.seed, key, attempt)
        if fault is None or (fault.kind is FaultKind.STREAM and not answer.stream):
            return None
        return self._if_still_due(exchange, fault)

    def _if_still_due(self, exchange: Exchange, fault: Fault) -> Fault | None:
        """Nothing once a request has met a fault with `times` often enough."""
        if fault.times is None:
            return fault
        return fault if self._attempt(exchange) <= fault.times else None

    def _attempt(self, exchange: Exchange) -> int:
        request_id = exchange.request.header(b"x-request-id")
        if request_id:
            return self.journal.requests[request_id].received
        # Without an id, the same body is taken for the same request.
        digest = hashlib.blake2b(exchange.request.body, digest_size=16).digest()
        self._anonymous[digest] += 1
        return self._anonymous[digest]

    def _meets_without_answer(self, exchange: Exchange, fault: Fault | None) -> bool:
        """Carry out a fault that needs no answer; False when the request must be read on."""
        if fault is None:
            return False
        reply = reply_without_answer(fault)
        if reply is None and fault.name not in ANSWERLESS:
            return False

        def strike() -> None:
            if reply is not None:
                exchange.send(reply)
            else:
                send_with_fault(exchange, _EMPTY, fault)

        if fault.after:
            exchange.after(fault.after, strike)
        else:
            strike()
        return True


def _answer_headers(config: SimulatorConfig) -> HeaderPairs:
    return () if config.pod_name is None else (("x-inference-pod", config.pod_name),)


def _quota_of(config: SimulatorConfig) -> tuple[float | None, int]:
    return config.requests_per_minute, config.requests_burst


def _quota(config: SimulatorConfig) -> TokenBucket | None:
    per_minute, burst = _quota_of(config)
    return None if per_minute is None else TokenBucket(per_minute / 60, burst, time.monotonic())


def _require_stream(answer: Answer, fault: Fault | None) -> None:
    if fault is not None and fault.kind is FaultKind.STREAM and not answer.stream:
        message = f"The fault {fault.name!r} needs a request with stream: true."
        raise RequestError(openai_error(400, message))
