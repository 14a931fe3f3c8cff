"""`batch-gateway` in a hurry: SECONDS of lease, LINES a shard, and a clock that is wrong by OFFSET.

A drill that waits for a lease of half a minute, and a batch of many shards of 50,000 lines, would
take hours.
"""

from __future__ import annotations

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
    right = time.time
    time.time = lambda: right() + offset


if __name__ == "__main__":
    hurry(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    main(sys.argv[4:])
