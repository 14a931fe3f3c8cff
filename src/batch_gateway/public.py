"""The public names of the library: what `from batch_gateway import …` gives.

`batch_gateway` passes them on when the first of them is asked for, so that the command loads
only what it uses. Those of batches are in `runs/public.py`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from batch_gateway.client.blocking import BlockingInferenceClient
from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.instrumentation import (
    BreakerChanged,
    CacheLookedUp,
    Coalesced,
    GatewayEvents,
    LimitChanged,
    Observer,
    RateLimitWaited,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)
from batch_gateway.client.interfaces.request import (
    InferenceClient,
    InferenceRequest,
    InferenceResponse,
)
from batch_gateway.client.layers.cache.cache_config import CacheConfig
from batch_gateway.client.layers.circuit_breaker import CircuitBreakerPolicy
from batch_gateway.client.layers.coalesce.coalesce_policy import CoalescePolicy
from batch_gateway.client.layers.concurrency.gateway_metrics import GatewayMetrics
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency, FixedConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.client.routing import RoutedInferenceClient
from batch_gateway.client.streaming.stream import InferenceStream
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.telling import ConcurrencyStatistics, HeldReason
from batch_gateway.errors import (
    AuthenticationError,
    BadResponseError,
    BatchGatewayError,
    CircuitOpenError,
    ConfigError,
    DeadlineExceededError,
    ErrorCategory,
    GatewayConnectionError,
    GatewayUnusableError,
    InferenceError,
    InputError,
    InvalidRequestError,
    JournalError,
    PlanError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StaleConnectionError,
    TLSError,
    UnknownStatusError,
    map_status_code_to_category,
)
from batch_gateway.http.tls import TLSConfig
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig
from batch_gateway.wire.chunks import ChatChunk, Chunk, CompletionChunk, ResponseEvent
from batch_gateway.wire.endpoint import determine_endpoint
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.json_schema import JSONSchema
from batch_gateway.wire.usage import Usage

if TYPE_CHECKING:
    from batch_gateway.runs.public import (
        BatchResult,
        BatchRun,
        Cause,
        Figures,
        RunOutcome,
        RunProgress,
        RunSummary,
        read_requests,
        run_batch,
        run_batch_blocking,
    )
    from batch_gateway.tables.open_table import ResultRows, read_results, write_table
    from batch_gateway.tables.table import TableCounts

__all__ = [
    "AdaptiveConcurrency",
    "AuthenticationError",
    "BadResponseError",
    "BatchGatewayError",
    "BatchResult",
    "BatchRun",
    "BlockingInferenceClient",
    "BreakerChanged",
    "CacheConfig",
    "CacheLookedUp",
    "Cause",
    "ChatChunk",
    "Chunk",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "CoalescePolicy",
    "Coalesced",
    "CompletionChunk",
    "ConcurrencyStatistics",
    "ConfigError",
    "DeadlineExceededError",
    "EndpointPickerConfig",
    "ErrorCategory",
    "Figures",
    "FixedConcurrency",
    "GatewayConnectionError",
    "GatewayEvents",
    "GatewayMetrics",
    "GatewayUnusableError",
    "HTTPInferenceClient",
    "HTTPInferenceClientConfig",
    "Headers",
    "HeldReason",
    "InferenceClient",
    "InferenceError",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceStream",
    "InputError",
    "InvalidRequestError",
    "JSONSchema",
    "JournalError",
    "LimitChanged",
    "Observer",
    "PlanError",
    "RateLimit",
    "RateLimitError",
    "RateLimitWaited",
    "Reason",
    "RequestFinished",
    "RequestStarted",
    "RequestTimeoutError",
    "ResponseEvent",
    "ResultRows",
    "RetryPolicy",
    "RetryScheduled",
    "RoutedInferenceClient",
    "RunOutcome",
    "RunProgress",
    "RunSummary",
    "SchedulingHints",
    "ServerError",
    "StaleConnectionError",
    "TLSConfig",
    "TLSError",
    "TableCounts",
    "UnknownStatusError",
    "Usage",
    "Why",
    "determine_endpoint",
    "map_status_code_to_category",
    "read_requests",
    "read_results",
    "run_batch",
    "run_batch_blocking",
    "write_table",
]

_OF_TABLES = {
    "ResultRows": "open_table",
    "TableCounts": "table",
    "read_results": "open_table",
    "write_table": "open_table",
}


def __getattr__(name: str) -> Any:
    """Load the engine when somebody asks for the first of the names of batches, or of tables."""
    of_tables = _OF_TABLES.get(name)
    module = "runs.public" if of_tables is None else f"tables.{of_tables}"
    return getattr(importlib.import_module(f"batch_gateway.{module}"), name)
