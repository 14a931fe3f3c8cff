"""`batch-gateway run`: a batch file through a gateway, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batch_gateway.cli.access_options import (
    ACCESS,
    api_key_options,
    certificate_options,
    pod_tls_options,
    skip_verify_option,
)
from batch_gateway.cli.exit_codes import EXIT_CODE_MEANINGS
from batch_gateway.cli.options import (
    GroupedCommand,
    concurrency_option,
    duration_option,
    failures_option,
    option,
    pairs_option,
    repeatable_option,
    size_option,
)
from batch_gateway.cli.run_batch_file import run_batch_file
from batch_gateway.client.layers.coalesce.policy import MOST_REQUESTS

__all__ = ["run"]

_CODES = "\n".join(f"  {int(code):>3}  {text}" for code, text in EXIT_CODE_MEANINGS.items())
_EPILOG = f"""\
Examples:
  batch-gateway run examples/requests.jsonl --gateway simulator
  batch-gateway run requests.jsonl --gateway http://llm-d:8000 -o results.jsonl
  batch-gateway run requests.jsonl --config gateway.yaml --deadline 2h --json > summary.json

The same command again goes on where it stopped: finished lines are never sent twice.
A flag wins over the environment (BATCH_GATEWAY_URL, BATCH_GATEWAY_API_KEY), the environment
over the config file. Durations are seconds or such as 90s, 5m, 1h30m.

Exit codes:
{_CODES}
"""

_PATH = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)
_FROM_ZERO = click.IntRange(min=0)
_PORT = click.IntRange(0, 65_535)
_RATE = click.FloatRange(min=0, min_open=True)
_GATEWAY, _FILES, _PACE = "Gateway", "Files", "Pace and limits"
_REUSE = "Fewer requests"
_NETWORK, _SHOW = "Network", "Display"
_WATCH = "Metrics and logs"
_SCHEDULING = "Scheduling (llm-d and GAIE)"
_PICKER = "Endpoint picker (grpc:// gateways)"


@click.command(
    cls=GroupedCommand,
    short_help="Send every request of a batch file and keep what comes.",
    epilog=_EPILOG,
)
@click.argument("file", metavar="FILE")
@option(
    _GATEWAY,
    "--gateway",
    metavar="URL",
    help="Where requests go: a URL, grpc:// for an endpoint picker; or openai for what OpenAI's "
    "variables say; or simulator for one in this process.",
)
@pairs_option(
    _GATEWAY,
    "--model-gateway",
    "model_gateways",
    metavar="MODEL=URL",
    help="Another gateway for one model; repeatable.",
)
@option(
    _GATEWAY,
    "--isolate-models",
    is_flag=True,
    default=None,
    help="Pace each model by itself: for gateways with a pool of servers for each.",
)
@option(_GATEWAY, "--config", type=_PATH, help="YAML file with any of these settings.")
@option(_FILES, "-o", "--output", type=_PATH, help="Results.  [FILE's name + .results.jsonl]")
@option(_FILES, "--errors", type=_PATH, help="Failed lines.  [output's name + .errors.jsonl]")
@option(_FILES, "--fresh", is_flag=True, help="Discard earlier results and start again.")
@option(_FILES, "--retry-failed", is_flag=True, help="Send the failed lines again.")
@option(_FILES, "--ordered", is_flag=True, default=None, help="Results in the order of the input.")
@concurrency_option(
    _PACE,
    "--concurrency",
    help="In flight to each gateway; auto finds it by measuring.  [auto]",
)
@repeatable_option(
    _PACE,
    "--gateway-metrics",
    metavar="URL",
    help="Let auto heed what the gateway's own metrics say; repeatable.",
)
@duration_option(_PACE, "--gateway-metrics-interval", help="Look there so often.  [1s]")
@option(
    _PACE,
    "--gateway-metrics-token-file",
    type=_PATH,
    help="File with the bearer token that they need.",
)
@option(_PACE, "--max-retries", type=_FROM_ZERO, metavar="N", help="Per request.  [3]")
@duration_option(_PACE, "--timeout", help="Of one attempt.  [5m]")
@option(
    _PACE,
    "--stream-upstream",
    is_flag=True,
    default=None,
    help="Let answers be streamed and put them together: no time limit but the idle one.",
)
@duration_option(_PACE, "--idle-timeout", help="Of a streamed answer that stands still.  [60s]")
@size_option(_PACE, "--max-event-bytes", help="Of one event of a streamed answer.  [1MiB]")
@duration_option(_PACE, "--connect-timeout", help="Name, TCP and TLS together.  [10s]")
@size_option(_PACE, "--max-response-bytes", help="Of one answer; a larger one fails.  [64MiB]")
@option(_PACE, "--rpm", type=_RATE, metavar="N", help="Requests a minute to each gateway.")
@option(_PACE, "--tpm", type=_RATE, metavar="N", help="Tokens a minute, likewise.")
@option(
    _PACE,
    "--learn-rate-limits",
    is_flag=True,
    default=None,
    help="Obey the limits in x-ratelimit-* headers too.",
)
@size_option(
    _PACE,
    "--max-bytes-in-flight",
    minimum=1,
    help="Of requests and answers in memory at a time.  [256MiB]",
)
@duration_option(_PACE, "--patience", help="Wait so long for a gateway that went down.  [30m]")
@duration_option(_PACE, "--deadline", help="Of the whole run; the rest is left to be sent.")
@failures_option(
    _PACE,
    "--max-failures",
    help="Stop when more lines failed. 100% records whatever may be a line's own fault.",
)
@option(
    _PACE,
    "--order",
    type=click.Choice(["prefix", "file"]),
    help="Send by model and shared prompt beginning, or as in the file.  [prefix]",
)
@option(_REUSE, "--cache", type=_PATH, help="Keep answers here; identical requests get them.")
@size_option(_REUSE, "--cache-max-size", help="Drops what was used longest ago.  [1GiB]")
@duration_option(_REUSE, "--cache-max-age", help="Ask again after so long.  [720h]")
@option(
    _REUSE,
    "--cache-namespace",
    metavar="NAME",
    help="Gateways of one name share answers.  [the gateway's URL]",
)
@option(
    _REUSE,
    "--coalesce",
    type=click.IntRange(2, MOST_REQUESTS),
    metavar="N",
    help="Send up to N single prompts or inputs as one request.",
)
@duration_option(_REUSE, "--coalesce-wait", help="The first waits so long for others.  [5ms]")
@api_key_options
@pairs_option(
    ACCESS,
    "--header",
    "headers",
    metavar="NAME=VALUE",
    help="Send with every request; repeatable.",
)
@certificate_options
@option(ACCESS, "--tls-min-version", type=click.Choice(["1.2", "1.3"]), help="Oldest TLS.  [1.2]")
@option(
    ACCESS,
    "--tls-pin",
    metavar="SHA256",
    help="Accept the one certificate with this fingerprint, whoever issued it.",
)
@option(
    ACCESS,
    "--tls-server-name",
    metavar="NAME",
    help="What to ask for, and what the certificate must name.  [the URL's host]",
)
@skip_verify_option
@option(
    _SCHEDULING,
    "--inference-objective",
    metavar="NAME",
    help="llm-d's InferenceObjective; batch work usually has one of negative priority.",
)
@option(_SCHEDULING, "--fairness-id", metavar="NAME", help="Whom the gateway shares fairly among.")
@duration_option(
    _SCHEDULING,
    "--inference-ttl",
    help="Longest wait in the gateway's queue; routers of 2026-08 do not heed it.",
)
@duration_option(_PICKER, "--pick-timeout", help="Of the choice, queueing included.  [--timeout]")
@repeatable_option(
    _PICKER, "--endpoint-subset", metavar="IP:PORT", help="Choose among these only; repeatable."
)
@option(_PICKER, "--picker-health", metavar="URL", help="Its health service, if elsewhere.")
@option(_PICKER, "--picker-authority", metavar="HOST", help="The host that requests are for.")
@pod_tls_options(_PICKER)
@option(_NETWORK, "--unix-socket", type=_PATH, help="Connect to this socket instead.")
@option(_NETWORK, "--proxy", metavar="URL|env", help="HTTP proxy, or env for HTTPS_PROXY etc.")
@option(_NETWORK, "--transport", hidden=True)
@option(_SHOW, "--json", is_flag=True, default=None, help="Summary as one JSON object on stdout.")
@option(_SHOW, "--quiet", is_flag=True, default=None, help="Say nothing unless something is wrong.")
@option(_SHOW, "--report", type=_PATH, help="Write a page about the run there, HTML.")
@option(
    _WATCH,
    "--metrics-port",
    type=_PORT,
    metavar="N",
    help="Serve Prometheus metrics there; 0 takes a free one.",
)
@option(_WATCH, "--metrics-host", metavar="ADDRESS", help="On this address.  [127.0.0.1]")
@option(
    _WATCH,
    "--otel",
    is_flag=True,
    default=None,
    help="OpenTelemetry; start the command with opentelemetry-instrument.",
)
@option(
    _WATCH,
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Log every request to stderr; progress too, if json.",
)
@option(
    _WATCH,
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="How much.  [info]",
)
@click.pass_obj
def run(arguments: list[str], file: str, config: Path | None, **flags: Any) -> int:
    """Send every request of the batch FILE (JSON lines; - is standard input).

    Results and failures are written as they come; progress goes to stderr.
    """
    return run_batch_file(arguments, file, config, flags)
