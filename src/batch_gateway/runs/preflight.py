"""A look at each gateway before anything is sent to it."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import GatewayUnusableError, InferenceError

__all__ = ["Hint", "may_be_starting", "no_hint", "preflight"]

Hint = Callable[[InferenceError, HTTPInferenceClientConfig], str]
"""What else may be the cure of an error at a gateway, as a sentence; or nothing."""

_log = logging.getLogger("batch_gateway.gateway_metrics")


def no_hint(error: InferenceError, config: HTTPInferenceClientConfig) -> str:
    return ""


async def preflight(
    clients: Iterable[HTTPInferenceClient], stop: asyncio.Event, hint: Hint = no_hint
) -> None:
    """Connect to each gateway, and look at its metrics; warn in the log of those of no use.

    Returns early once `stop` is set. Raises GatewayUnusableError that names those that cannot be
    reached, but for those that may be starting and are waited for.
    """
    connecting = asyncio.ensure_future(_connect(clients, hint))
    asked = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({connecting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await connecting
    finally:
        connecting.cancel()
        asked.cancel()
        await asyncio.gather(connecting, asked, return_exceptions=True)


async def _connect(clients: Iterable[HTTPInferenceClient], hint: Hint) -> None:
    checked = list(clients)
    problems = await asyncio.gather(*(_problem(client, hint) for client in checked))
    found = [problem for problem in problems if problem]
    if not found:
        for useless in await asyncio.gather(*(client.metrics_problems() for client in checked)):
            for problem in useless:
                _log.warning("gateway metrics: %s", problem)
        return
    which = "the gateway" if len(checked) == 1 else f"{len(found)} of {len(checked)} gateways"
    raise GatewayUnusableError(f"{which} cannot be reached; nothing was sent", found)


async def _problem(client: HTTPInferenceClient, hint: Hint) -> str:
    try:
        await client.connect()
    except InferenceError as error:
        if may_be_starting(error) and _is_waited_for(client.config):
            return ""
        more = hint(error, client.config)
        return f"{client.config.base_url}: {error.message}" + (f". {more}" if more else "")
    return ""


def may_be_starting(error: InferenceError) -> bool:
    """Whether the host is there, and nobody listens; a wrong name or certificate stays wrong."""
    return isinstance(error.cause, OSError) and error.cause.errno == errno.ECONNREFUSED


def _is_waited_for(config: HTTPInferenceClientConfig) -> bool:
    """Whether a gateway that never answered is held to be down like any other."""
    breaker = config.circuit_breaker
    return breaker is not None and breaker.when_open == "wait" and not breaker.after_success
