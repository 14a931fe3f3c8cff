"""ondine: a pipeline from CSV, a row a request, with what it goes on from."""

from __future__ import annotations

import csv

from ondine import PipelineBuilder
from ondine.adapters import LocalFileCheckpointStorage
from task import MODEL, Task

task = Task.parse()
source = task.folder / "own.csv"
with source.open("w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("id", "prompt"), *task.prompts])
pipeline = (
    PipelineBuilder.create()
    .from_csv(str(source), input_columns=["prompt"], output_columns=["text"])
    .with_prompt("{prompt}")
    .with_llm(
        provider="openai_compatible",
        model=MODEL,
        base_url=f"{task.gateway}/v1",
        api_key="none",
        input_cost_per_1k_tokens=0,
        output_cost_per_1k_tokens=0,
    )
    .with_batch_size(1)
    .with_concurrency(task.concurrency)
    .with_disk_cache(str(task.folder / "cache"))
    .with_checkpoint_dir(str(task.folder / "points"))
    .with_error_policy("skip")
    .with_progress_mode("none")
    .build()
)
earlier = LocalFileCheckpointStorage(task.folder / "points").list_checkpoints()
latest = max(earlier, key=lambda one: one.timestamp).session_id if earlier else None
rows = pipeline.execute(resume_from=latest).data
names = {prompt: name for name, prompt in task.prompts}
texts = zip(rows["prompt"], rows["text"], strict=True)
# What is missing is not a number, in a data frame.
task.finish((names[prompt], text if isinstance(text, str) else None) for prompt, text in texts)
