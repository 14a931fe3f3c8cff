"""The tables of the documentation that are made from tests: `python -m tests.servers.page`."""

from __future__ import annotations

from pathlib import Path

from tests.servers.engines import ENGINES
from tests.servers.faults import FAULTS
from tests.servers.form import Vendor
from tests.servers.hosted import HOSTED
from tests.servers.routers import ROUTERS

__all__ = ["ERRORS", "SERVERS", "VENDORS", "fault_matrix", "servers_page", "with_fault_matrix"]

_DOCS = Path(__file__).resolve().parents[2] / "docs"
SERVERS = _DOCS / "servers.md"
ERRORS = _DOCS / "errors.md"
VENDORS = (*ENGINES, *ROUTERS, *HOSTED)

_BEGIN, _END = "<!-- fault matrix, made from tests -->", "<!-- end of the fault matrix -->"
_INTRODUCTION = """# Servers and services

What is known of the servers and services that people put behind batch-gateway: the base URL to
give, and what becomes of the things that they say. Every line is a test: a server sends these bytes
over a socket, and the line says what came of it, asked for whole or streamed. llama.cpp and Envoy
are tried as the real thing besides. What is not here is not known to differ from OpenAI's own API.

An error has a category, the status that it stands for, and a verdict: **final** errors are sent
once, the others **retried** (see [errors and retries](errors.md)). Its message has the server's own
words, wherever in the body they stand, and so have the error lines of a run.

Base URLs are taken as SDKs have them, with `/v1` or without; see [configuration](configuration.md).
Llm-d and GAIE say more than a status, which has [its own table](errors.md#what-llm-d-says), and
their endpoint pickers can be asked [without a proxy](endpoint-picker.md).
"""


def servers_page() -> str:
    """All of `docs/servers.md`."""
    return "\n".join([_INTRODUCTION, *map(_section, VENDORS)])


def fault_matrix() -> str:
    """The table in `docs/errors.md`."""
    rows = ["| the gateway | error | class | line of a run |", "|---|---|---|---|"]
    for fault in FAULTS:
        kind = f"`{fault.kind}`" if fault.kind else ""
        rows.append(f"| {fault.form.says} | {fault.form.becomes} | {kind} | {fault.recorded} |")
    return "\n".join(rows) + "\n"


def with_fault_matrix(page: str) -> str:
    """A page with the table in its place. Raises ValueError when it has none."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the table: {_BEGIN} and {_END}")
    return f"{before}{begin}\n{fault_matrix()}{end}{after}"


def _section(vendor: Vendor) -> str:
    rows = [f"| {form.says} | {form.becomes} |" for form in vendor.forms]
    bases = " or ".join(f"`{base}`" for base in vendor.bases)
    head = f"## {vendor.name}\n\nBase URL: {bases}"
    table = ["| what it sends | what it is turned into |", "|---|---|", *rows]
    return head + "\n\n" + "\n".join(table) + "\n"


if __name__ == "__main__":
    SERVERS.write_text(servers_page(), "utf-8")
    ERRORS.write_text(with_fault_matrix(ERRORS.read_text("utf-8")), "utf-8")
