"""The other programs, each in an environment of its own, and what they are told not to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.environment import child_environment, contenders_python, peers_folder

__all__ = ["PEERS", "Peer"]

_PROGRAMS = Path(__file__).parent / "programs"


class Peer(NamedTuple):
    """`requirement` is what the registry has it under; without one it is this package."""

    name: str
    program: str
    requirement: str = ""

    def python(self) -> Path:
        """The Python that has it. Raises SystemExit with the installer's last lines."""
        if not self.requirement:
            return contenders_python()
        folder = peers_folder() / f"peer-{self.name}"
        marker = folder / "complete.txt"
        if not marker.is_file() or marker.read_text("utf-8") != self.requirement:
            print(f"installing {self.requirement} into {folder} …", file=sys.stderr)
            uv = [sys.executable, "-m", "uv", "--quiet"]
            _run([*uv, "venv", "--clear", "--python", sys.executable, str(folder)])
            python = str(folder / "bin" / "python")
            _run([*uv, "pip", "install", "--python", python, self.requirement])
            marker.write_text(self.requirement, "utf-8")
        return folder / "bin" / "python"

    def command(self, source: Path, gateway: str, folder: Path, concurrency: int) -> list[str]:
        program = str(_PROGRAMS / f"{self.program}.py")
        return [str(self.python()), program, str(source), gateway, str(folder), str(concurrency)]

    def environment(self) -> dict[str, str]:
        """Nothing that asks another host: no telemetry, prices and tokenizers from the package."""
        packages = self.python().parent.parent / "lib"
        tables = next(packages.glob("*/site-packages/litellm/litellm_core_utils/tokenizers"), None)
        return {
            **child_environment(),
            "TELEMETRY_ENABLED": "False",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "HF_HUB_OFFLINE": "1",
            "CURATOR_DISABLE_RICH_DISPLAY": "1",
            **({"TIKTOKEN_CACHE_DIR": os.fspath(tables)} if tables else {}),
        }


PEERS = [
    Peer("batch-gateway", "ours"),
    Peer("flexllm", "flexllm_chat_batch", "flexllm==0.17.10"),
    Peer("async-batch-llm", "async_batch_llm_prompts", "async-batch-llm[openai]==0.28.0"),
    Peer("ondine", "ondine_pipeline", "ondine==2.1.1"),
    Peer("curator", "curator_llm", "bespokelabs-curator==0.1.31"),
]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SystemExit("\n".join(["cannot install:", *lines[-5:]]))
