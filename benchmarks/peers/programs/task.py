"""What each program is told, INPUT GATEWAY FOLDER CONCURRENCY, and where it leaves answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["MODEL", "Task"]

MODEL = "llama-3"


class Task(NamedTuple):
    """Prompts by their name, a gateway's base URL, a folder of one's own, requests in flight."""

    prompts: list[tuple[str, str]]
    gateway: str
    folder: Path
    concurrency: int

    @classmethod
    def parse(cls) -> Task:
        source, gateway, folder, concurrency = sys.argv[1:]
        lines = map(json.loads, Path(source).read_text("utf-8").splitlines())
        prompts = [(line["custom_id"], line["body"]["messages"][-1]["content"]) for line in lines]
        return cls(prompts, gateway, Path(folder), int(concurrency))

    def finish(self, answers: Iterable[tuple[str, str | None]]) -> None:
        """Write down the answer of each prompt, None where the program calls it failed."""
        with (self.folder / "answers.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(one)}\n" for one in answers)
