"""`batch-gateway simulate --pods N`: several pods, and the endpoint picker before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

import click

from batch_gateway.cli.options import duration_option, option, pairs_option
from batch_gateway.cli.standard_streams import write_stdout
from batch_gateway.errors import ConfigError
from batch_gateway.simulator.picker.picker_config import Choice, EvictionReason, PickerConfig
from batch_gateway.simulator.simulator_config import SimulatorConfig

if TYPE_CHECKING:
    from batch_gateway.simulator.picker.simulated_pool import SimulatedPool

__all__ = ["PoolShape", "pool_options", "pool_shape", "serve_pool"]

F = TypeVar("F", bound=Callable[..., Any])

PICKER = "Several pods"
DEFAULT_PICKER_PORT = 9002

_OPTIONS = (
    option(
        PICKER,
        "--pods",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Pods behind an endpoint picker; their ports follow --port.",
    ),
    option(
        PICKER,
        "--picker-port",
        type=click.IntRange(0, 65535),
        help=f"Port of the picker (gRPC); 0 takes a free one.  [{DEFAULT_PICKER_PORT}]",
    ),
    option(
        PICKER,
        "--picker-health-port",
        type=click.IntRange(0, 65535),
        help="Port of its health service; 0 takes a free one.  [none]",
    ),
    option(PICKER, "--health-on-picker-port", is_flag=True, help="Answer health checks there too."),
    option(PICKER, "--picker-cert", type=click.Path(), help="PEM file; serves grpcs."),
    option(PICKER, "--picker-key", type=click.Path(), help="PEM file of its key."),
    option(PICKER, "--picker-client-ca", type=click.Path(), help="As --tls-client-ca."),
    option(
        PICKER,
        "--choice",
        type=click.Choice(get_args(Choice)),
        help="How the picker chooses.  [least-loaded]",
    ),
    option(PICKER, "--fallbacks", type=int, help="Further endpoints that it names.  [0]"),
    pairs_option(
        PICKER,
        "--rewrite",
        "rewrites",
        metavar="MODEL=MODEL",
        help="Ask for another model instead; repeatable.",
    ),
    option(PICKER, "--session-affinity", is_flag=True, help="Keep sessions on their pod."),
    option(
        PICKER,
        "--flow-control",
        is_flag=True,
        help="Queue in the picker while the pods are full, by --objective.",
    ),
    option(PICKER, "--flow-queue-limit", type=int, help="Requests that may wait there."),
    duration_option(PICKER, "--flow-queue-ttl", help="The longest wait there.  [1m]"),
    option(
        PICKER,
        "--queue-depth-threshold",
        type=int,
        help="Waiting requests at which a pod is full.  [5]",
    ),
    option(
        PICKER,
        "--max-concurrent-streams",
        type=int,
        help="Of one connection to the picker; more are refused.",
    ),
    option(PICKER, "--max-connection-streams", type=int, help="Then a connection gets GOAWAY."),
    duration_option(PICKER, "--max-connection-age", help="Then it does, too."),
    option(
        PICKER,
        "--picker-fault",
        "picker_faults",
        multiple=True,
        metavar="NAME=RATE",
        help="A fault of the picker and its probability; repeatable.",
    ),
    option(
        PICKER,
        "--eviction",
        type=click.Choice(get_args(EvictionReason)),
        help="Break off sheddable work for what is more urgent, for this reason.",
    ),
)
_FIELDS = {
    "choice": "choice",
    "fallbacks": "fallbacks",
    "rewrites": "rewrites",
    "session_affinity": "session_affinity",
    "flow_control": "flow_control",
    "flow_queue_limit": "queue_limit",
    "flow_queue_ttl": "queue_ttl",
    "queue_depth_threshold": "queue_depth_threshold",
    "eviction": "eviction",
    "max_concurrent_streams": "max_concurrent_streams",
    "max_connection_streams": "max_connection_streams",
    "max_connection_age": "max_connection_age",
    "picker_faults": "faults",
    "health_on_picker_port": "health_on_picker_port",
    "picker_cert": "tls_certificate",
    "picker_key": "tls_key",
    "picker_client_ca": "tls_client_ca",
}
_FLAGS = {field: flag for flag, field in _FIELDS.items()} | {
    "rewrites": "rewrite",
    "faults": "picker-fault",
}


class PoolShape(NamedTuple):
    """How many pods, and the picker before them."""

    pods: int
    picker_port: int
    health_port: int | None
    picker: PickerConfig


def pool_options(command: F) -> F:
    """The options of a pool, under a heading of their own."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def pool_shape(
    flags: dict[str, Any], rates: Callable[[Sequence[str]], dict[str, float]]
) -> PoolShape | None:
    """Take the options of a pool out of `flags`; None when one gateway will do.

    Args:
        flags: by the name of the option.
        rates: reads NAME=RATE options.

    Raises ConfigError.
    """
    pods, port = flags.pop("pods"), flags.pop("picker_port")
    health_port = flags.pop("picker_health_port")
    flags["picker_faults"] = rates(flags["picker_faults"]) or None
    settings = {field: flags.pop(flag) for flag, field in _FIELDS.items()}
    if pods == 1 and port is None:
        return None
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        picker = PickerConfig(**given)
    except ConfigError as error:
        flag = _FLAGS[error.field].replace("_", "-")
        raise ConfigError(flag, error.problem) from error
    port = DEFAULT_PICKER_PORT if port is None else port
    return PoolShape(pods, port, health_port, picker)


async def serve_pool(shape: PoolShape, config: SimulatorConfig, host: str, port: int) -> None:
    """Run the pool until the task is cancelled. Raises OSError and ConfigError."""
    # Other commands load this one to know its options.
    from batch_gateway.simulator.picker.simulated_pool import SimulatedPool  # noqa: PLC0415

    pool = SimulatedPool(
        shape.pods,
        config,
        shape.picker,
        host=host,
        port=port,
        picker_port=shape.picker_port,
        health_port=shape.health_port,
    )
    async with pool:
        _announce(pool)
        await asyncio.get_running_loop().create_future()


def _announce(pool: SimulatedPool) -> None:
    write_stdout(pool.url)
    pods: Mapping[str, str] = {pod.name: pod.gateway.url for pod in pool.pods}
    for name, url in pods.items():
        click.echo(f"{name} listens on {url}", err=True)
    if pool.picker.health_port is not None:
        click.echo(f"its health is served on port {pool.picker.health_port}", err=True)
    click.echo("The endpoint picker listens; Ctrl-C stops it and its pods.", err=True)
