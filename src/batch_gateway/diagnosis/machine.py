"""What of this machine bears on requests: variables, open files, installed extras. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from batch_gateway.diagnosis.finding import Finding, Status

__all__ = ["EXTRAS", "examine_machine"]

EXTRAS: Mapping[str, str] = {
    "tables": "pyarrow",
    "json-schema": "jsonschema",
    "zstd": "zstandard",
    "otel": "opentelemetry",
    "grpc": "google.protobuf",
    "server": "starlette",
    "postgres": "asyncpg",
    "object-store": "obstore",
}
"""For each extra a module that it brings."""

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_USED_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_FEW_FILES = 512


def examine_machine(
    environment: Mapping[str, str], *, open_files: int, installed: Mapping[str, bool], proxy: str
) -> list[Finding]:
    """`open_files` is the limit, `proxy` the setting, and `installed` says it of each extra."""
    return [
        _proxies(environment, proxy),
        _authorities(environment),
        _open_files(open_files),
        _extras(installed),
    ]


def _proxies(environment: Mapping[str, str], proxy: str) -> Finding:
    found = dict(_set(environment, _PROXIES))
    shown = {name: _without_secrets(value) for name, value in found.items()}
    exempt = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    facts = {"variables": shown, "no_proxy": exempt, "used": bool(proxy)}
    if proxy and proxy != "env":
        said = f"requests go through {_without_secrets(proxy)}"
        return Finding("proxies", Status.OK, said, facts=facts)
    if not found:
        said = "no variable names one"
        if proxy == "env":
            cure = "set HTTPS_PROXY or HTTP_PROXY, or leave --proxy env out"
            return Finding("proxies", Status.WARNING, said, cure, facts)
        return Finding("proxies", Status.OK, said, facts=facts)
    words = ", ".join(f"{name} is {value}" for name, value in shown.items())
    if proxy == "env":
        return Finding("proxies", Status.OK, f"{words}, and used", facts=facts)
    said = f"{words}, and not used"
    return Finding("proxies", Status.NOTE, said, "--proxy env, if the gateway is behind it", facts)


def _authorities(environment: Mapping[str, str]) -> Finding:
    found = dict(_set(environment, _AUTHORITIES))
    if not found:
        said = "those of the system or of --tls-ca-file are trusted"
        return Finding("authorities", Status.OK, said, facts={"variables": {}})
    words = ", ".join(
        f"{name} is {value}{'' if name in _USED_AUTHORITIES else ', and not used'}"
        for name, value in found.items()
    )
    used = {found.get(name) for name in _USED_AUTHORITIES}
    unused = [name for name in found if found[name] not in used]
    cure = f"--tls-ca-file {found[unused[0]]}, if the gateway's is among them" if unused else ""
    status = Status.NOTE if unused else Status.OK
    return Finding("authorities", status, words, cure, {"variables": found})


def _open_files(limit: int) -> Finding:
    said = f"{limit:,} may be open, and each request under way is one"
    facts = {"limit": limit}
    if limit < _FEW_FILES:
        return Finding("open files", Status.WARNING, said, "raise it: ulimit -n 4096", facts)
    return Finding("open files", Status.OK, said, facts=facts)


def _extras(installed: Mapping[str, bool]) -> Finding:
    there = [name for name, is_there in installed.items() if is_there]
    missing = [name for name, is_there in installed.items() if not is_there]
    said = f"installed: {', '.join(there) or 'none'}"
    if missing:
        said += f"; not installed: {', '.join(missing)}"
    return Finding("extras", Status.OK, said, facts={"installed": there, "missing": missing})


def _set(environment: Mapping[str, str], names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        for spelling in (name, name.lower()):
            value = environment.get(spelling, "").strip()
            if value:
                yield spelling, value


def _without_secrets(url: str) -> str:
    """Scheme, host and port alone: there may be a password in the rest."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
