"""An OpenAI-compatible gateway with a model of continuous batching and faults on demand."""

from __future__ import annotations

from batch_gateway.simulator.config import SimulatorConfig
from batch_gateway.simulator.gateway import SimulatedGateway

__all__ = ["SimulatedGateway", "SimulatorConfig"]
