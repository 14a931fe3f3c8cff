"""The pages besides inference: models, health, metrics, and the journal."""

from __future__ import annotations

from collections.abc import Callable

from batch_gateway.simulator.answers.replies import PLAIN, Reply, json_reply, openai_error
from batch_gateway.simulator.request_journal import Journal
from batch_gateway.simulator.server_exchange import ReceivedRequest
from batch_gateway.simulator.simulator_config import SimulatorConfig

__all__ = ["DEFAULT_MODEL", "Pages"]

DEFAULT_MODEL = "simulated-model"
_OWNER = "batch-gateway"


class Pages:
    """Answers every GET and DELETE."""

    def __init__(self, started: int, journal: Journal, metrics: Callable[[], str]) -> None:
        self._started = started
        self._journal = journal
        self._metrics = metrics
        self._by_route: dict[tuple[bytes, str], Callable[[SimulatorConfig], Reply]] = {
            (b"GET", "/v1/models"): self._models,
            (b"GET", "/health"): lambda _: Reply(200, b"", PLAIN),
            (b"GET", "/metrics"): self._metrics_page,
            (b"GET", "/simulator/journal"): lambda _: json_reply(journal.snapshot()),
            (b"DELETE", "/simulator/journal"): self._clear_journal,
        }

    def add(self, path: str, content: Callable[[], object]) -> None:
        """A page of JSON for GETs of `path`."""
        self._by_route[(b"GET", path)] = lambda _: json_reply(content())

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(path for _, path in self._by_route)

    def reply(self, request: ReceivedRequest, config: SimulatorConfig) -> Reply | None:
        """The page, or None when there is none under that method and path."""
        page = self._by_route.get((request.method, request.path))
        if page is not None:
            return page(config)
        if request.method == b"GET" and request.path.startswith("/v1/models/"):
            return self._model(request.path.removeprefix("/v1/models/"), config)
        return None

    def _models(self, config: SimulatorConfig) -> Reply:
        names = config.models or (DEFAULT_MODEL,)
        return json_reply({"object": "list", "data": [self._card(name) for name in names]})

    def _model(self, name: str, config: SimulatorConfig) -> Reply:
        if config.models is not None and name not in config.models:
            return model_not_found(name)
        return json_reply(self._card(name))

    def _card(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": _OWNER}

    def _metrics_page(self, config: SimulatorConfig) -> Reply:
        return Reply(200, self._metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _clear_journal(self, config: SimulatorConfig) -> Reply:
        self._journal.clear()
        return json_reply({"object": "journal", "deleted": True})


def model_not_found(name: str) -> Reply:
    """As OpenAI says it."""
    message = f"The model `{name}` does not exist or you do not have access to it."
    return openai_error(404, message, code="model_not_found")
