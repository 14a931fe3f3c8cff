"""Which pods of a pool are passed over because they cannot be used, and until when. Pure.

An endpoint picker goes on naming a pod that has died until it is told so, which takes seconds to
minutes. What requests to the pod met is remembered here, so that the next ones go elsewhere.
"""

from __future__ import annotations

from batch_gateway.errors import InferenceError

__all__ = ["ShunnedPods"]

_FIRST_PROBE = 0.5
_LONGEST_PROBE = 5.0
# One request may be too much for a pod by itself, or meet it just when it restarts.
_BREAKS_IN_A_ROW = 3
# Addresses come and go with pods; those that failed longest ago are forgotten.
_MOST = 1024
_MOST_STRIKES = 10
_UNDER_WAY = float("inf")


class _Trouble:
    __slots__ = ("breaks", "probe_at", "problem", "strikes")

    def __init__(self) -> None:
        self.breaks = 0
        self.strikes = 0
        self.probe_at = 0.0
        self.problem: InferenceError | None = None


class ShunnedPods:
    """By endpoint, pods in trouble. Times are monotonic seconds.

    A pod is shunned from a failure to connect, or from several connections in a row that it broke
    before it answered, until a probe connects to it. Probes are connections and no requests;
    they become rarer while they fail. A pod that answers is out of trouble.

    Attributes:
        troubles: by endpoint; empty while no pod has any.
    """

    def __init__(self) -> None:
        self.troubles: dict[str, _Trouble] = {}

    def unreachable(self, endpoint: str, problem: InferenceError, now: float) -> None:
        """No connection could be made."""
        self._shun(endpoint, self._trouble(endpoint), problem, now)

    def broke(self, endpoint: str, problem: InferenceError, now: float) -> None:
        """It ended a connection on which a request was sent, and had answered nothing."""
        trouble = self._trouble(endpoint)
        trouble.breaks += 1
        if trouble.strikes or trouble.breaks >= _BREAKS_IN_A_ROW:
            self._shun(endpoint, trouble, problem, now)

    def connected(self, endpoint: str) -> None:
        """A probe reached it. Should it fail again before it answers, that counts at once."""
        trouble = self.troubles.get(endpoint)
        if trouble is not None:
            trouble.problem = None

    def answered(self, endpoint: str) -> None:
        self.troubles.pop(endpoint, None)

    def problem(self, endpoint: str) -> InferenceError | None:
        """Why it is shunned; None when it is not."""
        trouble = self.troubles.get(endpoint)
        return None if trouble is None else trouble.problem

    def begin_probe(self, endpoint: str, now: float) -> bool:
        """Whether to try a connection now, which ends in `connected` or `unreachable`."""
        trouble = self.troubles.get(endpoint)
        if trouble is None or trouble.problem is None or now < trouble.probe_at:
            return False
        trouble.probe_at = _UNDER_WAY
        return True

    def _trouble(self, endpoint: str) -> _Trouble:
        trouble = self.troubles.get(endpoint)
        if trouble is None:
            if len(self.troubles) >= _MOST:
                del self.troubles[next(iter(self.troubles))]
            trouble = self.troubles[endpoint] = _Trouble()
        return trouble

    def _shun(self, endpoint: str, trouble: _Trouble, problem: InferenceError, now: float) -> None:
        # What was under way when it died fails at one instant, and is one failure.
        if trouble.problem is None or trouble.probe_at == _UNDER_WAY:
            trouble.probe_at = now + min(_LONGEST_PROBE, _FIRST_PROBE * 2**trouble.strikes)
            trouble.strikes = min(trouble.strikes + 1, _MOST_STRIKES)
        # Without its frames, which hold on to requests.
        trouble.problem = problem.with_traceback(None)
        self.troubles[endpoint] = self.troubles.pop(endpoint)
