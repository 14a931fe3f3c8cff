"""What a picker decided and saw, request by request."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

__all__ = ["Decision", "Decisions", "SeenMessage"]

_MOST_MESSAGES = 256


class SeenMessage(msgspec.Struct, frozen=True, gc=False):
    """One message of a conversation.

    Attributes:
        sender: "data-plane" or "picker".
        kind: the field of the message that is set, e.g. "request_headers".
        size: bytes of body in it.
        end: whether it said end_of_stream.
    """

    sender: str
    kind: str
    size: int = 0
    end: bool = False


class Decision(msgspec.Struct, gc=False):
    """What became of one request that was put to the picker. Times in `time.time()` seconds.

    Attributes:
        request_id: x-request-id, one that the picker made when there was none.
        path: the `:path` of the request.
        model, target_model: as it was asked for, and as it was sent on.
        objective, fairness_id, priority: as its headers say, and what that means.
        endpoints: where it was sent: the first choice, then the fallbacks.
        served: the endpoint that the data plane says has served it.
        status: of the response, as the data plane reported it, or of the picker's refusal;
            0 for neither.
        dropped_reason: of a refusal or an eviction.
        prompt_tokens, completion_tokens, cached_tokens: by the `usage` of the response.
        streamed: whether the response was an event stream.
        outcome: "completed", "refused", "evicted", "unreported" (the data plane ended the
            stream in order, without the whole response), "failed" (the picker ended it with
            an error) or "abandoned" (the data plane broke it off); "" while it is under way.
        received_at, picked_at, response_at, ended_at: when the request was there whole, when
            it was answered, when the response headers came, and when the response was over.
        messages: the first 256 messages in their order.
    """

    request_id: str
    path: str = ""
    model: str = ""
    target_model: str = ""
    objective: str = ""
    fairness_id: str = ""
    priority: int = 0
    endpoints: list[str] = []
    served: str = ""
    status: int = 0
    dropped_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    streamed: bool = False
    outcome: str = ""
    received_at: float = 0.0
    picked_at: float = 0.0
    response_at: float = 0.0
    ended_at: float = 0.0
    messages: list[SeenMessage] = []

    def saw(self, message: SeenMessage) -> None:
        """Keep a message of the stream, unless there are many already."""
        if len(self.messages) < _MOST_MESSAGES:
            self.messages.append(message)


class Decisions:
    """The newest decisions, oldest first. Each is there from its first message on."""

    def __init__(self, limit: int) -> None:
        self._kept: deque[Decision] = deque(maxlen=limit)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, decision: Decision) -> None:
        self._kept.append(decision)

    def clear(self) -> None:
        self._kept.clear()

    def resize(self, limit: int) -> None:
        self._kept = deque(self._kept, maxlen=limit)

    def copies(self) -> list[Decision]:
        """As they are now; later changes do not show in them."""
        return [msgspec.structs.replace(d, messages=list(d.messages)) for d in self._kept]

    def snapshot(self) -> list[dict[str, Any]]:
        """As JSON has it."""
        return msgspec.to_builtins(list(self._kept))
