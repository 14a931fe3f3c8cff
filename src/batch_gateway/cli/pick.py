"""`batch-gateway pick`: one question to an endpoint picker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec

from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.foreign_variables import unused_variables
from batch_gateway.cli.options import GroupedCommand, option, setting_options
from batch_gateway.cli.picked import as_object, as_text
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.client.ask_picker import pick as ask_picker
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.errors import InferenceError, InvalidRequestError
from batch_gateway.settings.gateway_configs import naming_the_setting
from batch_gateway.settings.run_settings import read_config_file, resolve_settings
from batch_gateway.settings.setting import Setting
from batch_gateway.settings.table import SETTINGS
from batch_gateway.wire.lines import BatchLine, decode_batch_line

__all__ = ["pick"]

_PATH = click.Path(path_type=Path)
_ASK, _SHOW, _PICKER = "Request", "Display", "Endpoint picker"
_EPILOG = """\
Examples:
  batch-gateway pick --gateway grpc://picker:9002 --model llama-3
  batch-gateway pick --gateway grpc://picker:9002 --request-file requests.jsonl --line 17 --json

The picker is asked once, and nothing is sent to any pod.
Exit codes: 0 a pod was chosen, 1 the picker refused, 2 the request or a setting is wrong,
3 the picker cannot be used.
"""


def _rows(names: str) -> list[Setting]:
    return [SETTINGS[name] for name in names.split()]


_FIRST = (
    *("--gateway", "--model", "--prompt", "--request-file", "--line", "--header"),
    *("--api-key-file", "--tls-ca-file", "--timeout", "--json"),
)


@click.command(
    cls=GroupedCommand,
    first=_FIRST,
    short_help="Ask an endpoint picker where it would send a request.",
    epilog=_EPILOG,
)
@setting_options(
    {_PICKER: _rows("gateway config timeout connect_timeout endpoint_subset picker_authority")},
    {
        "gateway": "The picker: grpc://HOST:9002 or grpcs://.",
        "config": "YAML file with settings, as for run.",
        "timeout": "Longest wait for the answer.",
    },
)
@option(_ASK, "--model", metavar="NAME", help="Ask for this model.")
@option(_ASK, "--prompt", metavar="TEXT", help="With this prompt, as a chat message.")
@option(_ASK, "--request-file", type=_PATH, help="Take a request from this batch file.")
@option(_ASK, "--line", type=click.IntRange(min=1), metavar="N", help="Which of its lines.  [1]")
@setting_options(
    {
        _ASK: _rows("headers"),
        "Scheduling (llm-d and GAIE)": _rows("inference_objective fairness_id inference_ttl"),
        "Access": _rows(
            "api_key_file api_key_env api_key_header tls_ca_file tls_client_cert_file"
            " tls_client_key_file tls_pin tls_server_name tls_insecure_skip_verify"
        ),
    },
    {"headers": "Ask with this header; repeatable."},
)
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
    settings = resolve_settings(flags, os.environ, read_config_file(config, os.environ))
    for warning in settings.warnings:
        click.echo(printable(f"Warning: {warning}"), err=True)
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
