"""`batch-gateway serve` as a process of its own, for the clients that speak to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.commands import COMMAND, batch_gateway
from tests.peers.processes import running_process

__all__ = ["BatchService", "running_service"]


@dataclass(frozen=True)
class BatchService:
    """A service that has started on a free port."""

    url: str
    folder: Path

    def key(self, tenant: str) -> str:
        """A new API key of this tenant."""
        made = batch_gateway("keys", "create", "--tenant", tenant, cwd=self.folder)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()


@contextmanager
def running_service(folder: Path, *flags: str) -> Iterator[BatchService]:
    log = folder / "service.log"

    def urls() -> list[str]:
        return re.findall(r"^(http://\S+)\n", log.read_text("utf-8"), re.MULTILINE)

    command = [*COMMAND, "serve", "--port", "0", "--observability-port", "0", *flags]
    with running_process(command, is_ready=lambda: bool(urls()), log=log, cwd=folder):
        yield BatchService(urls()[0], folder)
