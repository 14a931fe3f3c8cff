"""`batch-gateway` in a hurry: SECONDS of lease, LINES a shard, and a clock that is wrong by OFFSET.

A drill that waits for a lease of half a minute, and a batch of many shards of 50,000 lines, would
take hours. SIGUSR1 puts the clock an hour forward, SIGUSR2 an hour back.
"""

from __future__ import annotations

import signal
import sys
import time

from batch_gateway.cli.main import main
from batch_gateway.engine.plan import Plan
from batch_gateway.service.processor_config import ProcessorConfig


def hurry(lease: float, lines: int, offset: float) -> None:
    for function, changes in (
        (ProcessorConfig.__init__, {"lease": lease}),
        (Plan.shards, {"max_lines": lines}),
    ):
        assert function.__kwdefaults__ is not None
        assert function.__kwdefaults__.keys() >= changes.keys()
        function.__kwdefaults__.update(changes)
    right, wrong_by = time.time, [offset]
    time.time = lambda: right() + sum(wrong_by)
    for kind, step in ((signal.SIGUSR1, 3600.0), (signal.SIGUSR2, -3600.0)):
        signal.signal(kind, lambda *_, step=step: wrong_by.append(step))


if __name__ == "__main__":
    hurry(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    main(sys.argv[4:])
