"""Headers by which llm-d and GAIE schedule a request, and in which they say why they refused it.

Names since llm-d-router 0.9 and, where there are two, before; GAIE up to 1.5 knows only the older
ones.
"""

from __future__ import annotations

__all__ = [
    "DROPPED_REASON",
    "FAIRNESS_ID",
    "MODEL_REWRITE",
    "NO_ENDPOINTS",
    "OBJECTIVE",
    "QUEUE_TTL",
    "TIME_PER_TOKEN",
    "TIME_TO_FIRST_TOKEN",
    "TTL_EXPIRED",
]

OBJECTIVE = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
FAIRNESS_ID = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
MODEL_REWRITE = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")

# Milliseconds, as a whole number.
TIME_TO_FIRST_TOKEN = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
TIME_PER_TOKEN = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")

# A duration with its unit, such as "500ms".
QUEUE_TTL = "x-llm-d-inference-ttl"

DROPPED_REASON = "x-llm-d-request-dropped-reason"
NO_ENDPOINTS = "rejected-no-endpoints"
TTL_EXPIRED = "rejected-ttl-expired"
