"""One conversation with a batch server: from flags to what is done, and what it means if not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.foreign_variables import unused_variables
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.progress_display import Display
from batch_gateway.cli.standard_streams import write_stderr
from batch_gateway.cli.terminal_text import printable
from batch_gateway.errors import BadResponseError, InferenceError
from batch_gateway.remote.batch_server import BatchServer
from batch_gateway.settings.server_access import server_access
from batch_gateway.settings.variables import unknown_variables

__all__ = ["Call"]

T = TypeVar("T")


class Call:
    """What one command asks of one server.

    Attributes:
        config: how the server is reached.
        patience: seconds that it may be away once it has answered.
        uploaded: the id of a file that was sent, for what is told of a failure.
        begun: the id of a batch that goes on without us.
    """

    def __init__(self, flags: Mapping[str, Any], display: Display | None = None) -> None:
        """Raises ConfigError."""
        access = server_access(flags, os.environ)
        self.config, self.patience = access.config, access.patience
        self.display = display or Display()
        self.uploaded = self.begun = ""
        for warning in unknown_variables(os.environ):
            write_stderr(printable(f"Warning: {warning}"))

    def run(self, work: Callable[[BatchServer], Coroutine[Any, Any, ExitCode]]) -> ExitCode:
        """The exit code of `work`, or that of a first Ctrl-C. Raises CommandFailure."""
        try:
            with Interrupts(self.display.leave) as interrupts:
                return run_async(self._run(work, interrupts))
        except InferenceError as error:
            raise self._failure(error) from error
        finally:
            self.display.close()

    async def _run(
        self, work: Callable[[BatchServer], Awaitable[ExitCode]], interrupts: Interrupts
    ) -> ExitCode:
        loop = asyncio.get_running_loop()
        async with BatchServer(self.config) as server:
            working = asyncio.ensure_future(work(server))
            interrupts.on_first(lambda: loop.call_soon_threadsafe(working.cancel) and None)
            with contextlib.suppress(asyncio.CancelledError):
                return await working
        self.display.close()
        write_stderr(printable(f"Interrupted; {self._left() or 'no batch was made by it.'}"))
        return ExitCode.INTERRUPTED

    def _failure(self, error: InferenceError) -> CommandFailure:
        unused = unused_variables(error, self.config, os.environ)
        details = [unused, *self._cures(error), self._left()]
        return CommandFailure(
            error.message,
            details=list(filter(None, details)),
            code=ExitCode.BAD_INPUT if _is_ours(error) else ExitCode.GATEWAY_UNUSABLE,
        )

    def _left(self) -> str:
        """What is at the server because of this command, and goes on without it."""
        if self.begun:
            return f"{self.begun} goes on: batch-gateway batches watch {self.begun}"
        if self.uploaded:
            # Whether a batch was made of it may be on its way to us.
            return (
                f"the file is there as {self.uploaded}; if a batch was made of it,"
                " batch-gateway batches list shows it."
            )
        return ""

    def _cures(self, error: InferenceError) -> list[str]:
        url, status = self.config.base_url, error.status_code
        if status is None:
            return [
                f"The batch server is {url}; --server URL, or BATCH_GATEWAY_SERVER, names another.",
                "To start one here: batch-gateway serve --gateway URL",
            ]
        if status in (401, 403):
            given = "the key was sent" if self.config.api_key else "no key was sent"
            return [f"{given}; --api-key-file FILE or --api-key-env NAME says which to send"]
        if _names_a_thing(error):
            return ["It is of another server or tenant, if at all: --server URL, --tenant NAME"]
        if status in (404, 405) or isinstance(error, BadResponseError) or 300 <= status <= 399:
            return [
                f"{url} does not look like a batch server, with /v1/files and /v1/batches: is its"
                " URL right, as in --server http://127.0.0.1:8080?",
                "A gateway for inference is none: batch-gateway serve --gateway URL is one for it",
            ]
        if status == 413:
            return [f"{url}, or a proxy before it, takes no file that large: split it"]
        # What answers may be a proxy, which has not the name of what is behind it.
        return [f"The batch server is {url}"] if status == 429 or status >= 500 else []


def _is_ours(error: InferenceError) -> bool:
    """Whether the request is wrong, and no server would take it."""
    return error.status_code in (400, 409, 413, 422) or _names_a_thing(error)


def _names_a_thing(error: InferenceError) -> bool:
    """Whether a 404 is about a batch or a file, and not about the path."""
    if error.status_code != 404:
        return False
    try:
        told = json.loads(error.body)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return isinstance(told, str) and "url" not in told.lower()
