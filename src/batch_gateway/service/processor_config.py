"""How a processor works: how much at a time, and how long it waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from batch_gateway.durations import Duration, parse_duration
from batch_gateway.errors import ConfigError

__all__ = ["ProcessorConfig"]


@dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """What can be set of a processor.

    Attributes:
        workers: parts of batches (up to 50,000 lines of one) in memory at a time.
        max_bytes_in_flight: how many bytes of requests and answers may be in memory at a time.
        poll_interval: how often the database is asked for work of other processes; batches made
            in this process begin at once.
        shutdown_timeout: how long requests under way may go on when the processor is stopped. With
            what comes after, the default is within the 30 s that Kubernetes gives a process.
        output_lifetime: how long result files are kept where the batch does not say.
        lease: after so long without a sign of life the work of a process is another's.

    Raises ConfigError.
    """

    workers: int = 16
    max_bytes_in_flight: int = 256 * 1024 * 1024
    poll_interval: Duration = 1.0
    shutdown_timeout: Duration = 25.0
    output_lifetime: Duration = "2160h"
    lease: Duration = 30.0

    def __post_init__(self) -> None:
        for name in ("workers", "max_bytes_in_flight"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(name, f"{value!r} is not at least 1")
        for name in ("poll_interval", "shutdown_timeout", "output_lifetime", "lease"):
            object.__setattr__(self, name, parse_duration(getattr(self, name), name))
