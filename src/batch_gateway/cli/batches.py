"""`batch-gateway batches`: batches of an OpenAI-compatible batch server, from a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from batch_gateway.cli.batch_server_call import Call
from batch_gateway.cli.batch_steps import Targets, endpoint_of, fetch, send, watch
from batch_gateway.cli.batch_text import HEADS, as_row, as_text, ending, exit_code
from batch_gateway.cli.check_input import STANDARD_INPUT, check_input
from batch_gateway.cli.choose_display import choose_display
from batch_gateway.cli.dry_run import show_requests
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.input_options import asked_of_input, dry_run_options, input_options
from batch_gateway.cli.options import (
    CommandGroup,
    GroupedCommand,
    option,
    pairs_option,
    setting_options,
)
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.standard_streams import write_json, write_stderr, write_stdout
from batch_gateway.cli.terminal_text import one_line
from batch_gateway.cli.text_table import text_table
from batch_gateway.inputs.recipe import OF_TEXT
from batch_gateway.remote.batch_server import BatchServer
from batch_gateway.settings.server_access import ACCESS, SERVER
from batch_gateway.settings.table import SETTINGS

__all__ = ["batches"]

_BATCH, _RESULTS, _DISPLAY = "Batch", "Results", "Display"
_PATH = click.Path(path_type=Path)
_FIRST = (
    *("--server", "--wait", "--output", "--model", "--template", "--limit", "--dry-run"),
    *("--endpoint", "--window", "--api-key-file"),
)
_EXIT_CODES = """
Exit codes: 0 every line succeeded, 1 some failed, 2 the input or a setting is wrong, 3 the server
cannot be used, or the batch expired or was cancelled, 4 results could not be written, 130 Ctrl-C.
"""
_access = setting_options({"Server": SERVER, "Access": ACCESS})
_patience = setting_options(
    {_BATCH: [SETTINGS["patience"]]}, {"patience": "Wait so long for a server that went away."}
)
_as_json = option(_DISPLAY, "--json", "as_json", is_flag=True, help="Print JSON instead.")


def _not_empty(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("is empty: batch-gateway batches list shows ids")
    return value


_id = click.argument("batch_id", metavar="ID", callback=_not_empty)


@click.group(cls=CommandGroup, short_help="Submit, watch and fetch batches of a batch server.")
def batches() -> None:
    """Submit, watch and fetch batches of any OpenAI-compatible batch server.

    \b
      batch-gateway batches submit requests.jsonl --wait
      batch-gateway batches list --server openai

    The server is http://127.0.0.1:8080, as batch-gateway serve has it; --server or
    BATCH_GATEWAY_SERVER names another.
    """


def _targets(written: str) -> Any:
    def add(command: Any) -> Any:
        errors = option(
            _RESULTS, "--errors", type=_PATH, help="Failed lines.  [-o + .errors.jsonl]"
        )
        output = option(_RESULTS, "-o", "--output", type=_PATH, help=f"Results.  [{written}]")
        return output(errors(command))

    return add


@batches.command(cls=GroupedCommand, first=_FIRST, epilog=_EXIT_CODES)
@click.argument("file", metavar="FILE")
@input_options
@dry_run_options
@option(_BATCH, "--window", metavar="DURATION", default="24h", show_default=True,
        help="By when it has to be done, or expires.")  # fmt: skip
@option(_BATCH, "--endpoint", metavar="PATH", help="What it asks for.  [that of the lines]")
@pairs_option(_BATCH, "--metadata", metavar="KEY=VALUE", help="Kept with it; repeatable.")
@option(_RESULTS, "--wait", is_flag=True, help="Watch it, and fetch its results.")
@_targets("FILE's name + .results.jsonl")
@_patience
@_access
def submit(
    *,
    file: str,
    window: str,
    endpoint: str | None,
    metadata: Mapping[str, str] | None,
    dry_run: bool,
    price: Mapping[str, str] | None,
    wait: bool,
    output: Path | None,
    errors: Path | None,
    **flags: Any,
) -> int:
    """Check FILE, upload the requests that it holds or that its rows become, and make a batch.

    FILE is what batch-gateway run takes; - is standard input. The batch's id is printed. Nothing
    is sent while a line of it is wrong.
    """
    if (output or errors) and not wait:
        raise CommandFailure("-o and --errors are for results, which --wait waits for")
    display = choose_display(sys.stderr, quiet=False)
    asked = asked_of_input(flags, endpoint if endpoint in OF_TEXT else None)
    if dry_run or price:
        return show_requests(file, asked, flags, price, dry_run=dry_run)
    call = Call(flags, display)
    targets = Targets.of(file, output, errors) if wait else None
    with check_input(file, display, asked) as plan:
        if plan.faulty:
            display.note(f"{counted(len(plan.faulty), 'line')} with problems: left out")
        wanted: dict[str, Any] = {
            "endpoint": endpoint_of(plan, endpoint),
            "completion_window": window,
            **({"metadata": metadata} if metadata else {}),
        }

        async def work(server: BatchServer) -> ExitCode:
            batch = await send(call, server, plan, wanted)
            write_stdout(batch.id)
            if targets is None:
                return ExitCode.SUCCEEDED
            batch, _ = await watch(call, server, batch.id)
            return await fetch(call, server, batch, targets)

        return call.run(work)


@batches.command("list", cls=GroupedCommand)
@option(_BATCH, "--limit", type=click.IntRange(min=1), default=20, show_default=True,
        help="No more than that.")  # fmt: skip
@_as_json
@_access
def list_batches(limit: int, as_json: bool, **flags: Any) -> int:
    """List the newest batches, newest first."""

    async def work(server: BatchServer) -> ExitCode:
        found = [one async for one in server.batches(limit)]
        if as_json:
            write_json([json.loads(told) for _, told in found])
        elif found:
            write_stdout(text_table(HEADS, [as_row(batch) for batch, _ in found]))
        else:
            write_stderr("There are no batches yet: batch-gateway batches submit FILE")
        return ExitCode.SUCCEEDED

    return Call(flags).run(work)


@batches.command(cls=GroupedCommand)
@_id
@_as_json
@_access
def show(batch_id: str, as_json: bool, **flags: Any) -> int:
    """Show all that the server says of the batch ID."""

    async def work(server: BatchServer) -> ExitCode:
        batch, told = await server.batch(batch_id)
        write_json(json.loads(told)) if as_json else write_stdout(as_text(batch))
        return ExitCode.SUCCEEDED

    return Call(flags).run(work)


@batches.command("watch", cls=GroupedCommand, epilog=_EXIT_CODES)
@_id
@_patience
@_as_json
@_access
def watch_batch(batch_id: str, as_json: bool, **flags: Any) -> int:
    """Show how far the batch ID is until it has ended. Ctrl-C leaves it as it is."""
    call = Call(flags, choose_display(sys.stderr, quiet=False))

    async def work(server: BatchServer) -> ExitCode:
        batch, told = await watch(call, server, batch_id)
        write_json(json.loads(told)) if as_json else write_stdout(ending(batch))
        return exit_code(batch)

    return call.run(work)


@batches.command(cls=GroupedCommand)
@_id
@_access
def cancel(batch_id: str, **flags: Any) -> int:
    """Cancel the batch ID. Lines that have a result keep it."""

    async def work(server: BatchServer) -> ExitCode:
        batch = await server.cancel(batch_id)
        write_stdout(one_line(f"{batch.id} is {batch.status}"))
        return ExitCode.SUCCEEDED

    return Call(flags).run(work)


@batches.command(cls=GroupedCommand, epilog=_EXIT_CODES)
@_id
@_targets("ID + .results.jsonl")
@_patience
@_access
def results(
    batch_id: str,
    output: Path | None,
    errors: Path | None,
    **flags: Any,
) -> int:
    """Fetch the results of the batch ID, which has ended.

    A download that broke off goes on where it was; a file is there when all of it is.
    """
    if output is None and (batch_id == STANDARD_INPUT or "/" in batch_id):
        raise CommandFailure("give -o FILE: no file can have the name of that id")
    targets = Targets.of(batch_id, output, errors)
    call = Call(flags, choose_display(sys.stderr, quiet=False))

    async def work(server: BatchServer) -> ExitCode:
        batch, _ = await server.batch(batch_id)
        if not batch.has_ended:
            raise CommandFailure(
                f"{batch.id} is {one_line(batch.status)}, and has results when it has ended:"
                f" batch-gateway batches watch {batch.id}"
            )
        return await fetch(call, server, batch, targets)

    return call.run(work)
