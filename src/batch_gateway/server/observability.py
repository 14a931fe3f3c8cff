"""`/health`, `/ready` and `/metrics`, on a port that users of the API do not reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from batch_gateway.server.readiness import Ready

__all__ = ["observability_app"]


def observability_app(
    registry: CollectorRegistry,
    readiness: Callable[[], Awaitable[Ready]],
    before_metrics: Callable[[], Awaitable[None]],
) -> ASGIApp:
    """`readiness` says whether the service can work just now; `before_metrics` brings figures up to
    date that are kept elsewhere."""

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def ready(request: Request) -> Response:
        found = await readiness()
        return PlainTextResponse(found.words, 200 if found.is_ready else 503)

    async def metrics(request: Request) -> Response:
        await before_metrics()
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except (ValueError, TypeError, IndexError):
            # What is asked for makes no sense.
            encode, content_type = choose_encoder("")
        return Response(encode(registry), headers={"content-type": content_type})

    routes = (("/health", health), ("/ready", ready), ("/metrics", metrics))
    return Router([Route(path, handler) for path, handler in routes], redirect_slashes=False)
