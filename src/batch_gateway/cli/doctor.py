"""`batch-gateway doctor`: whether a gateway can be used, what is in the way, and what helps."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from batch_gateway.cli.event_loop import run_async
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.options import GroupedCommand, option, setting_options
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.client.client import gateway_name
from batch_gateway.client.model_routes import is_pattern
from batch_gateway.diagnosis.finding import Finding, Status, worst
from batch_gateway.diagnosis.gateway_examination import examine_gateway
from batch_gateway.diagnosis.machine import EXTRAS, examine_machine
from batch_gateway.runs.gateways import Routing
from batch_gateway.runs.open_files import open_files_limit
from batch_gateway.settings.gateway_configs import naming_the_setting
from batch_gateway.settings.run_settings import RunSettings, read_config_file, resolve_settings
from batch_gateway.settings.setting import Setting
from batch_gateway.settings.table import settings_of
from batch_gateway.version import __version__

__all__ = ["doctor"]

_HEADINGS = (
    "Gateway",
    "Access",
    "Scheduling (llm-d and GAIE)",
    "Endpoint picker (grpc:// gateways)",
    "Network",
)
_FIRST = (
    *("--gateway", "--model", "--config", "--api-key-file", "--api-key-env", "--header"),
    *("--tls-ca-file", "--proxy", "--timeout", "--json"),
)
_LIMITS = ("timeout", "connect_timeout")
_MACHINE = "this machine"
_CHECK_WIDTH = 12
_STATUS_WIDTH = 8
_EXIT_CODES = {
    Status.OK: ExitCode.SUCCEEDED,
    Status.NOTE: ExitCode.SUCCEEDED,
    Status.WARNING: ExitCode.SOME_FAILED,
    Status.FAILED: ExitCode.GATEWAY_UNUSABLE,
}
_LAST_WORDS = {
    Status.OK: "All is well.",
    Status.NOTE: "All is well.",
    Status.WARNING: "Requests can be sent; see the warnings.",
    Status.FAILED: "Requests cannot be sent: see what failed.",
}
_EPILOG = """\
Examples:
  batch-gateway doctor --gateway http://llm-d:8000
  batch-gateway doctor --gateway https://llm.example.com --api-key-file key.txt --model llama-3

It sends up to five small requests, one of them as a stream, and nothing twice.
Exit codes: 0 all is well, 1 there are warnings, 2 a setting is wrong, 3 no request is answered.
"""


def _options() -> dict[str, list[Setting]]:
    of_run = settings_of("run")
    found = {heading: of_run[heading] for heading in _HEADINGS}
    found["Gateway"] = [one for one in found["Gateway"] if one.name != "isolate_models"]
    limits = [one for one in of_run["Pace and limits"] if one.name in _LIMITS]
    return found | {"Network": [*found["Network"], *limits]}


@click.command(
    cls=GroupedCommand,
    first=_FIRST,
    short_help="Look at a gateway, and say what is wrong.",
    epilog=_EPILOG,
)
@setting_options(_options(), {"timeout": "Longest wait for an answer, at most 1m."})
@option("Display", "--model", metavar="NAME", help="Ask this model.  [the first that is listed]")
@option("Display", "--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def doctor(*, config: Path | None, model: str | None, as_json: bool, **flags: Any) -> int:
    """Look at the gateway as a run would use it, say what is found and what helps."""
    settings = resolve_settings(flags, os.environ, read_config_file(config, os.environ))
    page = _Page(as_json)
    with naming_the_setting({}):
        run_async(_examine(settings, model, page))
    return page.end()


async def _examine(settings: RunSettings, model: str | None, page: _Page) -> None:
    routing = Routing(
        default=settings.gateway,
        by_model=settings.model_gateways,
        is_simulated=settings.uses_simulator,
    )
    page.begin(_MACHINE)
    proxies = [one.proxy for one in settings.configs]
    for finding in _machine(next(filter(None, proxies), "")):
        page.show(finding)
    for warning in settings.warnings:
        page.show(Finding("settings", Status.WARNING, warning.rstrip(".")))
    async with routing.opened() as clients:
        # Clients of the same settings are one; each has the address of a simulator by now.
        for one in clients.all:
            page.begin(gateway_name(one.config))
            of_model = [
                name
                for name, own in settings.model_gateways.items()
                if own == one.config and not is_pattern(name)
            ]
            async for finding in examine_gateway(one.config, model or next(iter(of_model), None)):
                page.show(finding)


def _machine(proxy: str) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    facts = {"batch_gateway": __version__, "python": python}
    yield Finding(
        "version", Status.OK, f"batch-gateway {__version__}, Python {python}", facts=facts
    )
    installed = {extra: _is_there(module) for extra, module in EXTRAS.items()}
    yield from examine_machine(
        os.environ, open_files=open_files_limit(), installed=installed, proxy=proxy
    )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it would be in
        return False


class _Page:
    """The page of plain words, shown line by line, or the JSON of all of it at the end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._found: dict[str, list[Finding]] = {}

    def begin(self, what: str) -> None:
        if not self._as_json:
            write_stdout(printable(("\n" if self._found else "") + what))
        self._found[what] = []

    def show(self, finding: Finding) -> None:
        self._found[next(reversed(self._found))].append(finding)
        if not self._as_json:
            write_stdout(printable("\n".join(_lines(finding))))

    def end(self) -> ExitCode:
        all_found = [finding for some in self._found.values() for finding in some]
        status = worst(all_found)
        code = _EXIT_CODES[status]
        if self._as_json:
            write_json({"status": status.value, "exit_code": int(code), **_as_object(self._found)})
        else:
            warnings = sum(one.status is Status.WARNING for one in all_found)
            more = f" {counted(warnings, 'warning')}." if status is Status.WARNING else ""
            write_stdout(f"\n{_LAST_WORDS[status]}{more}")
        return code


def _lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.status.value:{_STATUS_WIDTH}}{finding.check:{_CHECK_WIDTH}} {finding.said}"
    if finding.cure:
        yield f"{'':{2 + _STATUS_WIDTH + _CHECK_WIDTH}} → {finding.cure}"


def _as_object(found: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    checks = {what: msgspec.to_builtins(list(some)) for what, some in found.items()}
    machine = checks.pop(_MACHINE, [])
    gateways = [{"gateway": what, "checks": some} for what, some in checks.items()]
    return {"machine": machine, "gateways": gateways}
