"""What the counting gateway answers, and what befalls prompts that begin with a trouble."""

from __future__ import annotations

__all__ = ["TROUBLE", "answer_to"]

# What it answers, and how often before all is well.
TROUBLE: dict[str, tuple[int, str, int]] = {
    "429 once": (429, '{"error": {"message": "slow down", "type": "rate_limit_error"}}', 1),
    "500 once": (500, '{"error": {"message": "something broke"}}', 1),
    "500 always": (500, '{"error": {"message": "something broke"}}', 1_000_000),
    "400 always": (400, '{"error": {"message": "too long", "code": "context_length"}}', 1_000_000),
    "200 with an error": (200, '{"error": {"message": "no worker", "code": 503}}', 1_000_000),
    "200 without JSON": (200, "upstream connect error", 1_000_000),
}


def answer_to(prompt: str) -> str:
    return f"You asked: {prompt}"
