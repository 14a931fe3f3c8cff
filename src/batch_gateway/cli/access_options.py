"""Options about keys and certificates that every command for a gateway has alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from batch_gateway.cli.options import option

__all__ = [
    "ACCESS",
    "api_key_options",
    "certificate_options",
    "pod_tls_options",
    "skip_verify_option",
]

ACCESS = "Access"
_PATH = click.Path(path_type=Path)

F = TypeVar("F", bound=Callable[..., Any])


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator for several options, which help lists in this order."""

    def add(command: F) -> F:
        for one in reversed(options):
            command = one(command)
        return command

    return add


def api_key_options(command: F) -> F:
    """Where the API key is."""
    return _together(
        option(ACCESS, "--api-key-file", type=_PATH, help="File whose first line is the API key."),
        option(
            ACCESS,
            "--api-key-env",
            metavar="NAME",
            help="Variable with it.  [BATCH_GATEWAY_API_KEY]",
        ),
        option(
            ACCESS,
            "--api-key-header",
            metavar="NAME",
            help="Header to send it in, as api-key for Azure.  [Authorization: Bearer]",
        ),
    )(command)


def certificate_options(command: F) -> F:
    """Whom to trust, and what to show."""
    return _together(
        option(ACCESS, "--tls-ca-file", type=_PATH, help="Authorities to trust, PEM."),
        option(ACCESS, "--tls-client-cert-file", type=_PATH, help="Client certificate, PEM."),
        option(ACCESS, "--tls-client-key-file", type=_PATH, help="Its key, PEM."),
    )(command)


def pod_tls_options(group: str) -> Callable[[F], F]:
    """The same for the pods that an endpoint picker chooses."""
    return _together(
        option(group, "--pod-tls", is_flag=True, default=None, help="The pods serve TLS."),
        option(group, "--pod-tls-ca-file", type=_PATH, help="Authorities to trust there, PEM."),
        option(group, "--pod-tls-client-cert-file", type=_PATH, help="Certificate to show, PEM."),
        option(group, "--pod-tls-client-key-file", type=_PATH, help="Its key, PEM."),
        option(group, "--pod-tls-pin", metavar="SHA256", help="The one to accept, of every pod."),
        option(
            group,
            "--pod-tls-server-name",
            metavar="NAME",
            help="What their certificates must name.  [each pod's IP address]",
        ),
        option(
            group,
            "--pod-tls-insecure-skip-verify",
            is_flag=True,
            default=None,
            help="Accept any of theirs. Dangerous.",
        ),
    )


def skip_verify_option(command: F) -> F:
    """The way around all of it."""
    return option(
        ACCESS,
        "--tls-insecure-skip-verify",
        is_flag=True,
        default=None,
        help="Accept any certificate. Dangerous.",
    )(command)
