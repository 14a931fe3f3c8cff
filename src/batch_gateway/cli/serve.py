"""`batch-gateway serve`: the OpenAI-compatible service, API and processor in one process."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_gateway.cli.connection_limit import allow_many_connections
from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.logs import logs_shown
from batch_gateway.cli.options import GroupedCommand, setting_options
from batch_gateway.cli.records_place import database_url
from batch_gateway.cli.standard_streams import write_stderr, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.durations import format_duration, seconds
from batch_gateway.errors import RecordsError, StorageError
from batch_gateway.runs.gateways import Routing
from batch_gateway.settings.run_settings import RunSettings, read_config_file, resolve_settings
from batch_gateway.settings.service_settings import (
    ServiceSettings,
    naming_the_service_setting,
    resolve_service,
)
from batch_gateway.settings.table import settings_of

if TYPE_CHECKING:
    from batch_gateway.server.server_config import ServerConfig
    from batch_gateway.server.serving import RunningApi
    from batch_gateway.service.processor_config import ProcessorConfig

__all__ = ["serve"]

_FIRST = (
    *("--gateway", "--config", "--host", "--port", "--data", "--store", "--database", "--role"),
    *("--api-keys", "--concurrency"),
)
_EPILOG = """\
Examples:
  batch-gateway serve --gateway simulator
  batch-gateway serve --gateway http://llm-d:8000 --data /var/lib/batch-gateway

Then, with the openai package:
  client = openai.OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="any")
  file = client.files.create(file=open("requests.jsonl", "rb"), purpose="batch")
  batch = client.batches.create(input_file_id=file.id, completion_window="24h",
                                endpoint="/v1/chat/completions")

What is served survives every end of the process: the same command again goes on.
"""


@click.command(
    cls=GroupedCommand,
    first=_FIRST,
    short_help="Serve /v1/files and /v1/batches until Ctrl-C.",
    epilog=_EPILOG,
)
@setting_options(settings_of("serve"))
def serve(config: Path | None, **flags: Any) -> int:
    """Serve the OpenAI Batch API until Ctrl-C.

    Files and batches are kept in a folder; requests go to --gateway as fast as it takes them.
    """
    # Only who serves pays for loading it.
    from batch_gateway.server.server_config import ServerConfig  # noqa: PLC0415
    from batch_gateway.service.processor_config import ProcessorConfig  # noqa: PLC0415

    file = read_config_file(config, os.environ, "serve")
    service = resolve_service(flags, os.environ, file)
    settings = resolve_settings(
        flags, os.environ, file, command="serve", needs_gateway=service.role != "api"
    )
    for said in (*settings.warnings, *settings.notes):
        write_stderr(printable(said))
    allow_many_connections()
    shown = logs_shown(settings.log_format, settings.log_level, None)
    with shown, Interrupts() as interrupts, naming_the_service_setting(service.given):
        server = ServerConfig(**service.server)
        processor = ProcessorConfig(
            max_bytes_in_flight=settings.max_bytes_in_flight, **service.processor
        )
        run_async(_serve(service, settings, server, processor, interrupts))
    click.echo("Stopped.", err=True)
    return ExitCode.SUCCEEDED


async def _serve(
    service: ServiceSettings,
    settings: RunSettings,
    server: ServerConfig,
    processor: ProcessorConfig,
    interrupts: Interrupts,
) -> None:
    from batch_gateway.server.process import serve_from_folder  # noqa: PLC0415
    from batch_gateway.server.server_config import Role  # noqa: PLC0415

    routing = Routing(
        default=settings.gateway,
        by_model=settings.model_gateways,
        is_simulated=settings.uses_simulator,
    )
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    interrupts.on_first(lambda: loop.call_soon_threadsafe(stop.set) and None)
    try:
        async with serve_from_folder(
            service.records.data,
            routing,
            server,
            processor,
            role=Role(service.role),
            store=service.store,
            database=database_url(service.records),
            concurrency=settings.concurrency,
        ) as running:
            write_stdout(running.url or running.observability_url)
            click.echo("\n".join(_told(service, settings, running)), err=True)
            await stop.wait()
            left = format_duration(seconds(processor.shutdown_timeout))
            click.echo(
                f"Stopping: whatever is in flight has {left} to end; Ctrl-C again ends it now.",
                err=True,
            )
    except (StorageError, RecordsError) as error:
        raise CommandFailure(str(error)) from error


def _told(
    service: ServiceSettings, settings: RunSettings, running: RunningApi
) -> Generator[str, None, None]:
    """What somebody who starts it for the first time wants to know."""
    from batch_gateway.service.postgres_url import shown_url  # noqa: PLC0415

    url, data, database = running.url, service.records.data, service.records.database
    if not url:
        yield f"Working on batches; health and figures are at {running.observability_url}/metrics."
    else:
        yield f"Serving {url}/v1/files and {url}/v1/batches, and a page at {url}/."
    records = data if database is None else shown_url(database)
    files = service.store or data
    kept = "Files and records are in" if files is records else f"Files are in {files}, records in"
    yield f"{kept} {records}."
    if service.role != "api":
        where = "a simulated gateway in this process, which is no model"
        if not settings.uses_simulator:
            gateway = settings.gateway
            where = gateway.base_url if gateway else "the gateways of their models"
        yield f"Requests go to {where}."
    yield "Ctrl-C stops it; the same command goes on."
    if service.server.get("api_keys") and url:
        place = f"--data {shlex.quote(str(data))}" if database is None else "--database URL"
        made = f"batch-gateway keys create --tenant NAME {place}"
        yield f"Who asks needs an API key, which this prints: {made}"
