"""Write down what a real Envoy does: `python -m tests.peers.record_envoy`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from .envoy_pool import envoy_version
from .picker_scenarios import RECORDING, SCENARIOS, envoy_before_two_pods, play


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        envoy_before_two_pods(Path(folder), "override_host") as pool,
    ):
        cases = {name: play(pool, scenario) for name, scenario in SCENARIOS.items()}
    content = {"envoy": envoy_version(), "reaching pods by": "override_host", "cases": cases}
    RECORDING.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
