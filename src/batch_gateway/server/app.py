"""The API as an ASGI application: its routes, in one list, inside of what holds for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.api_metrics import ApiMetrics
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.batch_routes import BatchRoutes
from batch_gateway.server.file_routes import FileRoutes
from batch_gateway.server.frame import ROUTE, Frame
from batch_gateway.server.web_sites import NoOtherSites

__all__ = ["api_routes", "create_app"]

_Handler = Callable[[Request], Awaitable[ASGIApp]]


def create_app(
    state: ApiState, registry: CollectorRegistry, *, more_routes: Sequence[Route] = ()
) -> ASGIApp:
    """The application; `more_routes` come before what is not found, such as those of a page.

    `registry` takes the figures, and must be a new one for each application.
    """
    own = api_routes(state)
    router = Router([*own, *more_routes], redirect_slashes=False, default=_not_found)
    return Frame(NoOtherSites(_Preflight(router), state.config), ApiMetrics(registry))


def api_routes(state: ApiState) -> Sequence[Route]:
    """The routes of the API, each of which is for one tenant."""
    files, batches = FileRoutes(state), BatchRoutes(state)
    table: Sequence[tuple[str, str, _Handler]] = (
        ("POST", "/v1/files", files.create),
        ("GET", "/v1/files", files.list),
        ("GET", "/v1/files/{file_id}", files.retrieve),
        ("DELETE", "/v1/files/{file_id}", files.delete),
        ("GET", "/v1/files/{file_id}/content", files.content),
        ("POST", "/v1/batches", batches.create),
        ("GET", "/v1/batches", batches.list),
        ("GET", "/v1/batches/{batch_id}", batches.retrieve),
        ("POST", "/v1/batches/{batch_id}/cancel", batches.cancel),
    )
    return [
        Route(path, _Endpoint(path, handler), methods=[method]) for method, path, handler in table
    ]


class _Endpoint:
    """A handler as the ASGI application that a route takes as it is."""

    def __init__(self, path: str, handler: _Handler) -> None:
        self._path, self._handler = path, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = self._path
        answer = await self._handler(Request(scope, receive, send))
        await answer(scope, receive, send)


class _Preflight:
    """Answers OPTIONS of anything with 204, and says 404 of a wrong method, as of a wrong path."""

    def __init__(self, router: ASGIApp) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await Response(status_code=204)(scope, receive, send)
            return
        # Without it the router would answer a wrong method by itself, in plain text.
        scope["app"] = self
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            if error.status_code != 405:
                raise ApiError(error.status_code, error.detail) from error
            await _not_found(scope, receive, send)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise ApiError(404, f"Unknown request URL: {scope['method']} {scope['path']}")
