"""The page at `/`: a tenant's batches as they go on, what they come to, and a way to end them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batch_gateway.server.api_errors import ApiError
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.batch_report import has_report, report_of
from batch_gateway.server.batch_routes import BatchRoutes, find_own_batch
from batch_gateway.server.body_reader import read_body
from batch_gateway.server.download import is_known
from batch_gateway.server.file_routes import FileRoutes
from batch_gateway.server.frame import ROUTE
from batch_gateway.server.list_query import parse_paging
from batch_gateway.server.page_events import Piece, Streams
from batch_gateway.server.page_failures import find_failures
from batch_gateway.server.page_sessions import key_of_form, sign_in, sign_out, signed_in
from batch_gateway.server.page_templates import CONTENT_SECURITY_POLICY, render, static_file
from batch_gateway.server.page_views import (
    BatchView,
    metadata_of,
    moments_of,
    problems_of,
    view_of,
)
from batch_gateway.server.web_sites import require_own_page
from batch_gateway.service.api_keys import tenant_of_key
from batch_gateway.service.batch_courses import find_course
from batch_gateway.service.batch_records import BatchRecord, read_batches
from batch_gateway.service.file_records import FileRecord, find_file

__all__ = ["WebPage"]

_MOST_LISTED = 100
_FORM_BYTES = 4096
_HEADERS: Final = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    # Stricter ones take away what says that the page itself asks.
    (b"referrer-policy", b"same-origin"),
]

_Handler = Callable[[Request], Awaitable[ASGIApp]]


class WebPage:
    """The routes of the page.

    Attributes:
        routes: for `create_app`.
    """

    def __init__(self, state: ApiState) -> None:
        self._state = state
        # The rest is for those who ask for something.
        self._streams = Streams(max(state.config.max_connections // 4, 1))
        table: Sequence[tuple[str, str, _Handler]] = (
            ("GET", "/", self._list),
            ("GET", "/events", self._list_events),
            ("GET", "/batches/{batch_id}", self._batch),
            ("GET", "/batches/{batch_id}/events", self._batch_events),
            ("GET", "/batches/{batch_id}/report", self._report),
            ("POST", "/batches/{batch_id}/cancel", self._cancel),
            ("GET", "/files/{file_id}", FileRoutes(state).content),
            ("GET", "/static/{name}", self._static),
            ("POST", "/sign-in", self._sign_in),
            ("POST", "/sign-out", self._sign_out),
        )
        self.routes = [
            Route(path, _PageEndpoint(path, handler, state), methods=[method])
            for method, path, handler in table
        ]

    def stop(self) -> None:
        """End the live changes, so that the server can stop at once."""
        self._streams.stop()

    async def _list(self, request: Request) -> Response:
        tenant = await self._state.tenant(request)
        views, has_more = await self._views(request, tenant)
        return _page(
            request, "list", self._state,
            tenant=tenant, batches=views, has_more=has_more, query=request.url.query,
        )  # fmt: skip

    async def _list_events(self, request: Request) -> ASGIApp:
        async def look() -> Sequence[Piece]:
            # Each time anew: a key may have been revoked.
            views, _ = await self._views(request, await self._state.tenant(request))
            ids = tuple(view.id for view in views)
            root = _root(request)
            return [
                Piece("batches", ids, _html("list_items", batches=views, root=root)),
                Piece("summary", _going(views), _html("list_summary", batches=views)),
                *(
                    Piece(view.id, view, _html("list_item", batch=view, root=root))
                    for view in views
                ),
            ]

        parse_paging(request.query_params, _MOST_LISTED)
        return self._streams.stream(await self._state.tenant(request), look)

    async def _views(self, request: Request, tenant: str) -> tuple[Sequence[BatchView], bool]:
        paging = parse_paging(request.query_params, _MOST_LISTED)
        page = await read_batches(self._state.database, tenant, paging)
        now = self._state.now()
        return [view_of(batch, now) for batch in page.items], page.has_more

    async def _batch(self, request: Request) -> Response:
        tenant = await self._state.tenant(request)
        batch = await find_own_batch(self._state, request)
        pieces = {piece.place: await piece.html() for piece in self._pieces(batch, _root(request))}
        return _page(
            request, "batch", self._state,
            tenant=tenant, batch=view_of(batch, self._state.now()), pieces=pieces,
        )  # fmt: skip

    async def _batch_events(self, request: Request) -> ASGIApp:
        async def look() -> Sequence[Piece]:
            return self._pieces(await find_own_batch(self._state, request), _root(request))

        await find_own_batch(self._state, request)
        return self._streams.stream(await self._state.tenant(request), look)

    def _pieces(self, batch: BatchRecord, root: str) -> Sequence[Piece]:
        view = view_of(batch, self._state.now())

        async def trouble() -> str:
            failures = await find_failures(self._state.database, self._state.storage, batch)
            problems = problems_of(batch)
            return render("batch_trouble", batch=view, problems=problems, failures=failures)

        async def files() -> str:
            kinds = (
                ("Results", view.output_file_id),
                ("Errors", view.error_file_id),
                ("Input", view.input_file_id),
            )
            found = [(kind, await self._file(batch, id_)) for kind, id_ in kinds if id_]
            has = has_report(batch)
            return render("batch_files", batch=view, files=found, has_report=has, root=root)

        # Looked at again each time that twice as many have failed: what they are called stays.
        troubles = (view.state, view.notice, view.failed.bit_length(), view.error_file_id)
        results = (view.state, view.output_file_id, view.error_file_id)
        about = partial(_html, batch=view, moments=moments_of(batch), metadata=metadata_of(batch))
        return [
            Piece("state", (view.state, view.notice), _html("batch_state", batch=view)),
            Piece("progress", view, _html("batch_progress", batch=view)),
            Piece("trouble", troubles, trouble),
            Piece("files", results, files),
            Piece("about", (view.state, view.model), about("batch_about")),
            Piece("actions", view.may_be_cancelled, _html("batch_actions", batch=view, root=root)),
        ]

    async def _file(self, batch: BatchRecord, file_id: str) -> FileRecord | None:
        look = partial(find_file, tenant=batch.tenant, file_id=file_id, now=self._state.now())
        return await self._state.database.read(look)

    async def _report(self, request: Request) -> Response:
        state, batch = self._state, await find_own_batch(self._state, request)
        if not has_report(batch):
            raise ApiError(404, "A batch has a report once it has ended, if it had requests.")
        course = await state.database.read(partial(find_course, batch_id=batch.id))
        names = [await self._name(batch, id_) for id_ in (batch.input_file_id, batch.error_file_id)]
        page = await asyncio.to_thread(report_of, batch, course, *names)
        policy = f"{page.policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        headers = {"content-security-policy": policy, "cache-control": "no-store"}
        return HTMLResponse(page.html.encode("utf-8", "replace"), headers=headers)

    async def _name(self, batch: BatchRecord, file_id: str | None) -> str:
        """What the file is called, or its id where that is all that is left of it."""
        file = None if file_id is None else await self._file(batch, file_id)
        return file_id or "" if file is None else file.filename or file.id

    async def _cancel(self, request: Request) -> Response:
        await BatchRoutes(self._state).cancel(request)
        return _see(f"../{request.path_params['batch_id']}")

    async def _static(self, request: Request) -> Response:
        file = static_file(request.path_params["name"])
        if file is None:
            raise ApiError(404, "there is no such file")
        headers = {"etag": file.etag, "cache-control": "no-cache"}
        if is_known(request.headers, file.etag):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    async def _sign_in(self, request: Request) -> Response:
        limit = float(self._state.config.stall_timeout)
        key = key_of_form(await read_body(request, _FORM_BYTES, seconds=limit))
        state = self._state
        if not state.config.api_keys or await tenant_of_key(state.database, key) is None:
            raise ApiError(401, "This is no API key of this service, or it was revoked.")
        return _see("./", {"set-cookie": await sign_in(state.database, key, request.scope)})

    async def _sign_out(self, request: Request) -> Response:
        return _see("./", {"set-cookie": await sign_out(self._state.database, request.scope)})


class _PageEndpoint:
    """A handler with what holds for all of the page: who asks, and errors for people to read."""

    def __init__(self, path: str, handler: _Handler, state: ApiState) -> None:
        self._path, self._handler, self._state = path, handler, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = self._path
        request = Request(signed_in(scope), receive, send)
        try:
            if request.method == "POST":
                require_own_page(scope)
            answer = await self._handler(request)
        except ApiError as error:
            answer = _refusal(request, error, self._state)

        async def send_framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                more = [header for header in _HEADERS if header[0] not in own]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await answer(scope, receive, send_framed)


def _refusal(request: Request, error: ApiError, state: ApiState) -> Response:
    if error.status != 401:
        return _page(request, "refusal", state, status=error.status, message=error.message)
    # Who comes for the first time has done nothing wrong.
    message = error.message if request.method == "POST" else ""
    return _page(request, "sign_in", state, status=401, message=message)


def _page(
    request: Request, template: str, state: ApiState, *, status: int = 200, **values: Any
) -> Response:
    whole = render(
        template,
        root=_root(request),
        may_sign_out=state.config.api_keys,
        **({"tenant": ""} | values),
    )
    headers = {"cache-control": "no-store"}
    return HTMLResponse(whole.encode("utf-8", "replace"), status, headers)


def _html(template: str, **values: Any) -> Callable[[], Awaitable[str]]:
    async def write() -> str:
        return render(template, **values)

    return write


def _root(request: Request) -> str:
    """From where the browser is to `/`, which may be below some path of a proxy."""
    path = request.scope["path"].removesuffix("/events")
    return "../" * (path.count("/") - 1) or "./"


def _going(views: Sequence[BatchView]) -> tuple[int, int]:
    return len(views), sum(not view.is_ended for view in views)


def _see(place: str, headers: dict[str, str] | None = None) -> Response:
    return Response(status_code=303, headers={"location": place, **(headers or {})})
