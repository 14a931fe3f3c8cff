"""`batch-gateway simulate`: the simulated gateway as a server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from batch_gateway.cli.connection_limit import allow_many_connections
from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.options import GroupedCommand, duration_option, option, pairs_option
from batch_gateway.cli.simulate_pool import PoolShape, pool_options, pool_shape, serve_pool
from batch_gateway.cli.standard_streams import write_stdout
from batch_gateway.errors import ConfigError
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.simulator.simulator_config import SimulatorConfig

__all__ = ["simulate"]

_EPILOG = """\
Examples:
  batch-gateway simulate --port 8000
  batch-gateway simulate --pods 4 --picker-port 9002
  batch-gateway simulate --seats 8 --queue-limit 16 --fault status-503=0.02 --model llama-3

--fault takes a fault and how often it happens, from 0 to 1: status-NNN, saturated, stall,
delay=SECONDS, half-body, truncated-json, reset-before-headers and many more; an unknown name
lists them all. A request may also ask for one itself, by a model name such as
fault-status-500.
"""
_FLAG_OF_FIELD = {"faults": "fault"}

SERVER, CAPACITY, ANSWERS, TROUBLE = "Server", "Capacity and latency", "Answers", "Trouble"

_FIRST = (
    *("--port", "--model", "--api-key-file", "--instant", "--seats", "--latency-scale"),
    *("--output-tokens", "--fault", "--requests-per-minute", "--pods"),
)


@click.command(
    cls=GroupedCommand,
    first=_FIRST,
    short_help="Serve a simulated gateway until Ctrl-C.",
    epilog=_EPILOG,
)
@option(SERVER, "--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@option(
    SERVER,
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@option(SERVER, "--api-key-file", type=click.Path(), help="Ask for the key in this file.")
@option(SERVER, "--api-key-env", metavar="NAME", help="Ask for the key in this variable.")
@option(SERVER, "--tls-certificate", type=click.Path(), help="PEM file; serves https.")
@option(SERVER, "--tls-key", type=click.Path(), help="PEM file of its key.")
@option(SERVER, "--tls-client-ca", type=click.Path(), help="Ask for client certificates from it.")
@option(CAPACITY, "--instant", is_flag=True, help="Answer at once, without a model of latency.")
@option(CAPACITY, "--seats", type=int, help="Requests that run at the same time.  [256]")
@option(CAPACITY, "--prefix-cache-tokens", type=int, help="Of earlier prompts, read once.")
@option(CAPACITY, "--queue-limit", type=int, help="Requests that may wait; more get a 429.")
@duration_option(CAPACITY, "--queue-ttl", help="The longest wait before a 429.")
@option(CAPACITY, "--tokens-per-second", type=float, help="Ceiling over all requests.")
@duration_option(CAPACITY, "--time-per-token", help="Of a request that runs alone.  [21.9ms]")
@option(CAPACITY, "--latency-scale", type=float, help="Factor on every time.")
@option(CAPACITY, "--jitter", type=float, help="Randomness of times.  [0.05]")
@option(CAPACITY, "--seed", type=int, help="Of jitter and faults.  [0]")
@option(ANSWERS, "--output-tokens", type=int, help="Mean length of an answer.  [32]")
@option(ANSWERS, "--model", "models", multiple=True, help="Serve this model only; repeatable.")
@option(
    TROUBLE,
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=RATE",
    help="A fault and its probability; repeatable.",
)
@option(TROUBLE, "--requests-per-minute", type=float, help="A quota; more get a 429.")
@option(TROUBLE, "--requests-burst", type=int, help="Of the quota, at once after a rest.  [1]")
@pairs_option(
    TROUBLE,
    "--objective",
    "objectives",
    metavar="NAME=PRIORITY",
    help="Priority of an inference objective, negative is sheddable; repeatable.",
)
@option(
    TROUBLE,
    "--refusal-style",
    type=click.Choice(["llm-d", "openai"]),
    help="How overload is refused.  [llm-d]",
)
@pool_options
def simulate(host: str, port: int, instant: bool, **flags: Any) -> int:
    """Serve a simulated OpenAI-compatible gateway until Ctrl-C.

    It models one GPU with continuous batching, needs neither GPU nor model, and answers
    chat completions, completions, embeddings and responses. With --pods it is several of them,
    behind an endpoint picker.
    """
    config, shape = _config(instant, flags)
    allow_many_connections()
    with Interrupts() as interrupts:
        run_async(_serve(config, shape, host, port, interrupts))
    click.echo("Stopped.", err=True)
    return ExitCode.SUCCEEDED


def _config(instant: bool, flags: dict[str, Any]) -> tuple[SimulatorConfig, PoolShape | None]:
    preset = SimulatorConfig.instant if instant else SimulatorConfig.small_gpu
    try:
        shape = pool_shape(flags, _faults)
        key = TransportConfig(
            api_key_file=flags.pop("api_key_file"), api_key_env=flags.pop("api_key_env")
        ).resolved_api_key()
        settings = {name: value for name, value in flags.items() if value not in (None, ())}
        settings["faults"] = _faults(flags["faults"])
        settings["objectives"] = _objectives(flags["objectives"] or {})
        return preset(api_key=key, **settings), shape
    except ConfigError as error:
        flag = _FLAG_OF_FIELD.get(error.field, error.field.replace("_", "-"))
        raise CommandFailure(f"--{flag}: {error.problem}") from error


def _faults(given: Sequence[str]) -> dict[str, float]:
    # Split at the last "=": a fault may have an argument of its own, as in delay=0.5=0.1.
    faults: dict[str, float] = {}
    for text in given:
        name, _, rate = text.rpartition("=")
        try:
            faults[name] = float(rate)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError("faults", f"{text!r} is not NAME=RATE, such as status-503=0.02")
    return faults


def _objectives(given: Mapping[str, str]) -> dict[str, int]:
    try:
        return {name: int(priority) for name, priority in given.items()}
    except ValueError as error:
        raise ConfigError("objective", "a priority must be a whole number") from error


async def _serve(
    config: SimulatorConfig,
    shape: PoolShape | None,
    host: str,
    port: int,
    interrupts: Interrupts,
) -> None:
    # Other commands load this one to know its options.
    from batch_gateway.simulator.simulated_gateway import serve  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    if shape is None:
        server = loop.create_task(serve(config, host, port, ready=_announce))
    else:
        server = loop.create_task(serve_pool(shape, config, host, port))
    interrupts.on_first(lambda: loop.call_soon_threadsafe(server.cancel) and None)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await server
    except ConfigError as error:
        raise CommandFailure(error.problem) from error
    except OSError as error:
        reason = error.strerror or str(error)
        # Of a pool, the reason names the address.
        where = f"cannot listen on {host}:{port}" if shape is None else "cannot listen"
        raise CommandFailure(f"{where}: {reason}") from error


def _announce(url: str) -> None:
    write_stdout(url)
    click.echo("The simulated gateway listens; Ctrl-C stops it.", err=True)
