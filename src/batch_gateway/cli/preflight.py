"""Reaching every gateway once, before anything is sent."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable

import click

from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.foreign_variables import unused_variables
from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.errors import InferenceError

__all__ = ["preflight"]

_log = logging.getLogger("batch_gateway.gateway_metrics")


async def preflight(clients: Iterable[HTTPInferenceClient], stop: asyncio.Event) -> None:
    """Connect to each gateway, and look at its metrics; warn in the log of those of no use.

    Raises CommandFailure that names those that cannot be reached, and click.Abort as soon as
    `stop` is set.
    """
    connecting = asyncio.ensure_future(_connect(clients))
    asked = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({connecting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            raise click.Abort
        await connecting
    finally:
        connecting.cancel()
        asked.cancel()
        await asyncio.gather(connecting, asked, return_exceptions=True)


async def _connect(clients: Iterable[HTTPInferenceClient]) -> None:
    checked = list(clients)
    problems = await asyncio.gather(*(_problem(client) for client in checked))
    found = [problem for problem in problems if problem]
    if not found:
        for useless in await asyncio.gather(*(client.metrics_problems() for client in checked)):
            for problem in useless:
                _log.warning("gateway metrics: %s", problem)
        return
    which = "the gateway" if len(checked) == 1 else f"{len(found)} of {len(checked)} gateways"
    raise CommandFailure(
        f"{which} cannot be reached; nothing was sent",
        details=found,
        code=ExitCode.GATEWAY_UNUSABLE,
    )


async def _problem(client: HTTPInferenceClient) -> str:
    try:
        await client.connect()
    except InferenceError as error:
        hint = unused_variables(error, client.config, os.environ)
        return f"{client.config.base_url}: {error.message}" + (f". {hint}" if hint else "")
    return ""
