"""Curator: an `LLM` of its own, whose working folder is what it goes on from."""

from __future__ import annotations

from typing import Any

from bespokelabs import curator
from task import MODEL, Task


class Ask(curator.LLM):
    def prompt(self, row: dict[str, Any]) -> str:
        return row["prompt"]

    def parse(self, row: dict[str, Any], response: str) -> list[dict[str, Any]]:
        return [{"id": row["id"], "text": response}]


task = Task.parse()
ask = Ask(
    model_name=MODEL,
    backend="openai",
    backend_params={
        "base_url": f"{task.gateway}/v1",
        "api_key": "none",
        "max_concurrent_requests": task.concurrency,
        # Beyond what can be reached: without them it keeps to guesses of its own.
        "max_requests_per_minute": 10_000_000,
        "max_tokens_per_minute": 10_000_000_000,
        "require_all_responses": False,
    },
)
asked = [{"id": name, "prompt": prompt} for name, prompt in task.prompts]
answers = ask(asked, working_dir=str(task.folder / "own"))
said = {row["id"]: row["text"] for row in getattr(answers, "dataset", answers)}
task.finish((name, said.get(name)) for name, _ in task.prompts)
