"""Retries that a test need not wait for."""

from __future__ import annotations

from batch_gateway import RetryPolicy

__all__ = ["QUICK"]

QUICK = RetryPolicy(max_retries=2, initial_backoff=0.001, rate_limit_backoff=0.001)
