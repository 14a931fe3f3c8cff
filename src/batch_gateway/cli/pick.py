"""`batch-gateway pick`: one question to an endpoint picker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec

from batch_gateway.cli.access_options import (
    ACCESS,
    api_key_options,
    certificate_options,
    skip_verify_option,
)
from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.foreign_variables import unused_variables
from batch_gateway.cli.gateways import naming_the_setting
from batch_gateway.cli.given import ConfigFile
from batch_gateway.cli.options import (
    GroupedCommand,
    duration_option,
    option,
    pairs_option,
    repeatable_option,
)
from batch_gateway.cli.picked import as_object, as_text
from batch_gateway.cli.settings import resolve_settings
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.client.pick import pick as ask_picker
from batch_gateway.errors import InferenceError, InvalidRequestError
from batch_gateway.wire.lines import BatchLine, decode_batch_line

__all__ = ["pick"]

_PATH = click.Path(path_type=Path)
_ASK, _SHOW, _PICKER = "Request", "Display", "Endpoint picker"
_SCHEDULING = "Scheduling (llm-d and GAIE)"
_EPILOG = """\
Examples:
  batch-gateway pick --gateway grpc://picker:9002 --model llama-3
  batch-gateway pick --gateway grpc://picker:9002 --request-file requests.jsonl --line 17 --json

The picker is asked once, and nothing is sent to any pod.
Exit codes: 0 a pod was chosen, 1 the picker refused, 2 the request or a setting is wrong,
3 the picker cannot be used.
"""


@click.command(
    cls=GroupedCommand,
    short_help="Ask an endpoint picker where it would send a request.",
    epilog=_EPILOG,
)
@option(_PICKER, "--gateway", metavar="URL", help="The picker: grpc://HOST:9002 or grpcs://.")
@option(_PICKER, "--config", type=_PATH, help="YAML file with settings, as for run.")
@duration_option(_PICKER, "--timeout", help="Longest wait for the answer.  [5m]")
@duration_option(_PICKER, "--connect-timeout", help="Name, TCP and TLS together.  [10s]")
@repeatable_option(
    _PICKER, "--endpoint-subset", metavar="IP:PORT", help="Choose among these only; repeatable."
)
@option(_PICKER, "--picker-authority", metavar="HOST", help="The host that the request is for.")
@option(_ASK, "--model", metavar="NAME", help="Ask for this model.")
@option(_ASK, "--prompt", metavar="TEXT", help="With this prompt, as a chat message.")
@option(_ASK, "--request-file", type=_PATH, help="Take a request from this batch file.")
@option(_ASK, "--line", type=click.IntRange(min=1), metavar="N", help="Which of its lines.  [1]")
@pairs_option(
    _ASK, "--header", "headers", metavar="NAME=VALUE", help="Ask with this header; repeatable."
)
@option(_SCHEDULING, "--inference-objective", metavar="NAME", help="llm-d's InferenceObjective.")
@option(_SCHEDULING, "--fairness-id", metavar="NAME", help="Whom it shares fairly among.")
@duration_option(
    _SCHEDULING,
    "--inference-ttl",
    help="Longest wait in its queue; routers of 2026-08 do not heed it.",
)
@api_key_options
@certificate_options
@option(ACCESS, "--tls-pin", metavar="SHA256", help="Accept the certificate of this fingerprint.")
@option(ACCESS, "--tls-server-name", metavar="NAME", help="What the certificate must name.")
@skip_verify_option
@option(_SHOW, "--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def pick(
    *,
    config: Path | None,
    model: str | None,
    prompt: str | None,
    request_file: Path | None,
    line: int | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Ask an endpoint picker where it would send a request, and show what it says."""
    gateway = _gateway(config, flags)
    request = _request(model, prompt, request_file, line)
    try:
        with naming_the_setting({}):
            picked = run_async(ask_picker(gateway, request))
    except InferenceError as error:
        raise _failure(gateway, error) from error
    if as_json:
        write_json(as_object(gateway, picked))
    else:
        write_stdout(printable(as_text(gateway, picked)))
    return ExitCode.SUCCEEDED if picked.refusal is None else ExitCode.SOME_FAILED


def _gateway(config: Path | None, flags: Mapping[str, Any]) -> HTTPInferenceClientConfig:
    settings = resolve_settings(flags, os.environ, _written(config))
    gateway = settings.gateway
    if gateway is None:
        raise CommandFailure("pick asks one picker: give it as --gateway grpc://HOST:9002")
    if settings.uses_simulator or not gateway.uses_endpoint_picker:
        given = "simulator" if settings.uses_simulator else gateway.base_url
        raise CommandFailure(
            f"{given} is no endpoint picker: pick asks one, whose URL begins with grpc://",
            details=[
                "A proxy in front of a pool asks its picker itself, and shows nothing of it.",
                "The picker listens on port 9002 as a rule: --gateway grpc://HOST:9002",
                "To try it out: batch-gateway simulate --pods 4 --picker-port 9002",
            ],
        )
    return gateway


def _written(config: Path | None) -> ConfigFile:
    if config is None:
        return ConfigFile()
    # Importing YAML takes a sixth of the time that the command takes to start.
    from batch_gateway.cli.config_file import load_config_file  # noqa: PLC0415

    return load_config_file(config)


def _request(
    model: str | None, prompt: str | None, file: Path | None, number: int | None
) -> InferenceRequest:
    if file is not None:
        if model is not None or prompt is not None:
            raise CommandFailure("--request-file has a model and a prompt already; give either")
        line = _line(file, number or 1)
        return InferenceRequest(params=bytes(line.body), endpoint=line.url)
    if number is not None:
        raise CommandFailure("--line does nothing without --request-file")
    if model is None:
        raise CommandFailure(
            "what is to be asked for? Give --model NAME, with a --prompt if it matters,"
            " or --request-file FILE"
        )
    message = {"role": "user", "content": "Hello!" if prompt is None else prompt}
    return InferenceRequest(params={"model": model, "messages": [message]})


def _line(file: Path, number: int) -> BatchLine:
    try:
        with file.open("rb") as lines:
            text = next(islice(lines, number - 1, None), None)
    except OSError as error:
        raise CommandFailure(f"{file} cannot be read: {error.strerror}") from error
    if text is None:
        raise CommandFailure(f"{file} has no line {number}")
    try:
        return decode_batch_line(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandFailure(f"{file}:{number} is not a line of a batch: {error}") from error


def _failure(gateway: HTTPInferenceClientConfig, error: InferenceError) -> CommandFailure:
    if isinstance(error, InvalidRequestError) and error.status_code is None:
        return CommandFailure(f"the request is wrong: {error.message}")
    hint = unused_variables(error, gateway, os.environ)
    return CommandFailure(
        "the endpoint picker cannot be used; nothing was sent to any pod",
        details=[f"{gateway.base_url}: {error.message}", *filter(None, [hint])],
        code=ExitCode.GATEWAY_UNUSABLE,
    )
