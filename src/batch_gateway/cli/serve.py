"""`batch-gateway serve`: the OpenAI-compatible service, API and processor in one process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_gateway.cli.connection_limit import allow_many_connections
from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.logs import logs_shown
from batch_gateway.cli.options import GroupedCommand, option, setting_options
from batch_gateway.cli.standard_streams import write_stdout
from batch_gateway.errors import RecordsError, StorageError
from batch_gateway.runs.gateways import Routing
from batch_gateway.settings.run_settings import RunSettings, read_config_file, resolve_settings
from batch_gateway.settings.table import GROUPS

if TYPE_CHECKING:
    from batch_gateway.server.server_config import ServerConfig
    from batch_gateway.service.processor_config import ProcessorConfig

__all__ = ["serve"]

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
SERVER = "Server"
_OWN = ("host", "port", "observability_port", "tenant_header")
# What a service has of the settings of a run.
_NOT_OF_A_SERVICE = {
    "Files": None, "Display": None, "Batch server": None,
    "Pace and limits": {"deadline", "max_failures", "order", "fresh", "retry_failed", "ordered"},
    "Gateway": {"isolate_models"},
    "Metrics and logs": {"metrics_port", "metrics_host", "otel"},
}  # fmt: skip
_GROUPS = {
    group: [one for one in rows if one.name not in (_NOT_OF_A_SERVICE.get(group, set()) or ())]
    for group, rows in GROUPS.items()
    if _NOT_OF_A_SERVICE.get(group, set()) is not None
}


@click.command(
    cls=GroupedCommand, short_help="Serve /v1/files and /v1/batches until Ctrl-C.", epilog=_EPILOG
)
@option(SERVER, "--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@option(
    SERVER,
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port of the API; 0 takes a free one.",
)
@option(
    SERVER,
    "--observability-port",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    help="Port of /health, /ready and /metrics.",
)
@option(
    SERVER,
    "--data",
    type=click.Path(path_type=Path),
    default="batch-gateway-data",
    show_default=True,
    help="Folder for files and records.",
)
@option(
    SERVER,
    "--tenant-header",
    default="X-MaaS-Username",
    show_default=True,
    help="Header that names the tenant.",
)
@setting_options(_GROUPS)
def serve(data: Path, config: Path | None, **flags: Any) -> int:
    """Serve the OpenAI Batch API until Ctrl-C.

    Files and batches are kept in a folder; requests go to --gateway as fast as it takes them.
    """
    # Only who serves pays for loading it.
    from batch_gateway.server.server_config import ServerConfig  # noqa: PLC0415
    from batch_gateway.service.processor_config import ProcessorConfig  # noqa: PLC0415

    own = {name: flags.pop(name) for name in _OWN}
    settings = resolve_settings(flags, os.environ, read_config_file(config, os.environ))
    server = ServerConfig(**own)
    processor = ProcessorConfig(max_bytes_in_flight=settings.max_bytes_in_flight)
    allow_many_connections()
    with logs_shown(settings.log_format, settings.log_level, None), Interrupts() as interrupts:
        run_async(_serve(data, settings, server, processor, interrupts))
    click.echo("Stopped.", err=True)
    return ExitCode.SUCCEEDED


async def _serve(
    data: Path,
    settings: RunSettings,
    server: ServerConfig,
    processor: ProcessorConfig,
    interrupts: Interrupts,
) -> None:
    from batch_gateway.server.process import serve_from_folder  # noqa: PLC0415

    routing = Routing(
        default=settings.gateway,
        by_model=settings.model_gateways,
        is_simulated=settings.uses_simulator,
    )
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    interrupts.on_first(lambda: loop.call_soon_threadsafe(stop.set) and None)
    try:
        async with serve_from_folder(
            data, routing, server, processor, concurrency=settings.concurrency
        ) as running:
            write_stdout(running.url)
            click.echo(_told(settings, data, running.url), err=True)
            await stop.wait()
            click.echo("Stopping: requests in flight have 30 s to end.", err=True)
    except (StorageError, RecordsError) as error:
        raise CommandFailure(str(error)) from error


def _told(settings: RunSettings, data: Path, url: str) -> str:
    """What somebody who starts it for the first time wants to know."""
    where = "a simulated gateway in this process, which is no model"
    if not settings.uses_simulator:
        where = settings.gateway.base_url if settings.gateway else "the gateways of their models"
    return (
        f"Serving {url}/v1/files and {url}/v1/batches; files and records are in {data}.\n"
        f"Requests go to {where}. Ctrl-C stops it; the same command goes on."
    )
