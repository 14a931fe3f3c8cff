"""The names that the endpoint picker protocol gives to methods, metadata and headers.

Source: the Gateway API Inference Extension, proposal 004 (endpoint picker protocol).
"""

from __future__ import annotations

__all__ = [
    "DESTINATION",
    "DESTINATION_SERVED",
    "DESTINATION_SUBSET",
    "HEALTH_METHOD",
    "LB_NAMESPACE",
    "PROCESS_METHOD",
    "SUBSET_NAMESPACE",
]

PROCESS_METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"

LB_NAMESPACE = "envoy.lb"
DESTINATION = "x-gateway-destination-endpoint"
DESTINATION_SERVED = "x-gateway-destination-endpoint-served"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"
DESTINATION_SUBSET = "x-gateway-destination-endpoint-subset"
