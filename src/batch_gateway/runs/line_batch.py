"""Lines from a program through gateways, and results back as they come: `run_batch`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypedDict, TypeGuard

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.durations import Duration
from batch_gateway.engine.byte_budget import DEFAULT_BUDGET
from batch_gateway.engine.gate import TRIAL_SECONDS
from batch_gateway.engine.line_stream import BatchResult, LineStream
from batch_gateway.engine.progress import RunStats
from batch_gateway.engine.run import RunOptions
from batch_gateway.engine.waits import Waits
from batch_gateway.errors import ConfigError, GatewayUnusableError, InputError
from batch_gateway.runs.gateways import Clients, Concurrency, GatewayLike, Routing, gateways_of
from batch_gateway.runs.outages import OutageNotes
from batch_gateway.runs.preflight import preflight
from batch_gateway.runs.unknown_models import models_there_are
from batch_gateway.runs.user_lines import Line, LineReader

__all__ = ["BatchOptions", "Lines", "is_iterated", "run_batch"]

_log = logging.getLogger("batch_gateway.run")

Lines = Iterable[Line] | AsyncIterable[Line] | os.PathLike[str]
"""Lines, however they come, or the path of a batch file."""


class BatchOptions(TypedDict, total=False):
    """What `run_batch` takes beside its lines."""

    gateway: GatewayLike | None
    model: str | None
    model_gateways: Mapping[str, str | HTTPInferenceClientConfig] | None
    api_key: str | None
    max_retries: int | None
    timeout: Duration | None
    concurrency: Concurrency
    patience: Duration | None
    max_bytes_in_flight: int


def run_batch(
    lines: Lines,
    *,
    gateway: GatewayLike | None = None,
    model: str | None = None,
    model_gateways: Mapping[str, str | HTTPInferenceClientConfig] | None = None,
    api_key: str | None = None,
    max_retries: int | None = None,
    timeout: Duration | None = None,
    concurrency: Concurrency = "auto",
    patience: Duration | None = None,
    max_bytes_in_flight: int = DEFAULT_BUDGET,
) -> AsyncGenerator[BatchResult]:
    """Send `lines`, and give back the result of each as it comes.

    A line is a prompt (for which there must be a `model`), the parameters of a request, a line of
    a batch file (a mapping with `body`, or bytes), or an `InferenceRequest`. They may be as many as
    one likes: only as many are taken as can be sent soon, and no more are sent while results are
    not taken. An iterable that blocks, blocks the event loop.

    Each line has exactly one result and is not sent again once it has one; a line that cannot be
    sent has an error for a result. Leaving the loop cancels what is under way and closes the
    clients, at once within `contextlib.aclosing`. What `lines` raises is raised behind the results
    of the lines before. Other arguments see `BatchRun`.

    Raises ConfigError for settings that cannot be; while results are taken, GatewayUnusableError
    when a gateway cannot be reached, or once everything was given up and each line has a result.
    """
    routing = gateways_of(
        gateway,
        model_gateways,
        api_key=api_key,
        concurrency=concurrency,
        max_retries=max_retries,
        timeout=timeout,
        patience=patience,
    )
    options = RunOptions(
        concurrency=None if concurrency == "auto" else concurrency,
        max_bytes_in_flight=max_bytes_in_flight,
    )
    if model is not None and (not isinstance(model, str) or not model):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError("model", f"{model!r:.80} is not the name of a model")
    return _results(_each(lines), LineReader(model), routing, options)


def _each(lines: Lines) -> AsyncIterator[Line]:
    if isinstance(lines, os.PathLike):
        return _in_turn(_of_file(Path(lines)))
    if isinstance(lines, AsyncIterable):
        return aiter(lines)
    if is_iterated(lines):
        return _in_turn(lines)
    raise ConfigError(
        "lines",
        f"must be an iterable of lines, or the path of a file as a Path, not {lines!r:.80}",
    )


def is_iterated(lines: Lines) -> TypeGuard[Iterable[Line]]:
    """Whether it is a plain iterable. Text and mappings could be, and are a mistake."""
    is_other = isinstance(lines, str | bytes | Mapping | os.PathLike | AsyncIterable)
    return isinstance(lines, Iterable) and not is_other


async def _in_turn(lines: Iterable[Line]) -> AsyncGenerator[Line]:
    for line in lines:
        yield line


def _of_file(path: Path) -> Iterable[bytes]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file):
                text = line if number else line.removeprefix(b"\xef\xbb\xbf")
                if not text.isspace():
                    yield text
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


async def _results(
    lines: AsyncIterator[Line], reader: LineReader, routing: Routing, options: RunOptions
) -> AsyncGenerator[BatchResult]:
    stats = RunStats()
    outages = OutageNotes(_log.warning)
    waits = Waits(stats.figures, outages.tell)
    async with routing.opened(observers=[waits]) as clients:
        outages.clients = clients.all
        await preflight(clients.all, asyncio.Event())
        stream = LineStream(
            clients.client_for,
            options=options,
            gateways=max(1, len(clients.all)),
            stats=stats,
            clock=SYSTEM_CLOCK,
        )
        feeding = asyncio.ensure_future(_feed(stream, lines, reader, clients))
        try:
            async with aclosing(stream.results()) as results:
                async for result in results:
                    yield result
            await feeding
        finally:
            # Before anything is waited for: who cancels may not let this wait.
            stream.cancel()
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await stream.aclose()
            waits.close()


async def _feed(
    stream: LineStream, lines: AsyncIterator[Line], reader: LineReader, clients: Clients
) -> None:
    """Put every line, until they end or nothing is left that works; then tell how it ended."""
    reading = asyncio.ensure_future(_put_all(stream, lines, reader))
    settling = asyncio.ensure_future(_settle_when_dry(stream))
    hopeless = asyncio.ensure_future(stream.hopeless.wait())
    tasks: list[asyncio.Future[Any]] = [reading, settling, hopeless]
    try:
        await asyncio.wait({reading, hopeless}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        problem_of_lines = await _closed(lines)
    await stream.finish()
    if not reading.cancelled():
        reading.result()
    if problem_of_lines is not None:
        raise problem_of_lines
    if stream.hopeless.is_set():
        there_are = await models_there_are(clients, stream.unknown_models())
        problem = f"{stream.problem().rstrip('.')}. {there_are}".rstrip()
        raise GatewayUnusableError(f"stopped, the gateway cannot be used: {problem}")


async def _closed(lines: AsyncIterator[Line]) -> Exception | None:
    """Let a generator of lines end; what it raises then."""
    try:
        if isinstance(lines, AsyncGenerator):
            await lines.aclose()
    except Exception as error:  # noqa: BLE001 - it is raised behind the results
        return error
    return None


async def _put_all(stream: LineStream, lines: AsyncIterator[Line], reader: LineReader) -> None:
    index = 0
    async for line in lines:
        custom_id, request = reader.read(index, line)
        if isinstance(request, InferenceRequest):
            await stream.put(index, custom_id, request)
        else:
            await stream.refuse(index, custom_id, request)
        if stream.hopeless.is_set():
            return
        index += 1


async def _settle_when_dry(stream: LineStream) -> None:
    """Whoever waits for a result before giving the next line must not wait for ever."""
    before = -1
    while True:
        await SYSTEM_CLOCK.sleep(TRIAL_SECONDS)
        if stream.put_count == before:
            await stream.settle()
        before = stream.put_count
