"""An OpenAI-compatible gateway with a model of continuous batching and faults on demand."""
