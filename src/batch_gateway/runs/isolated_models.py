"""Models that are kept apart in a run: a pace, a breaker and limits for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.model_routes import ModelRoutes
from batch_gateway.errors import ConfigError

__all__ = ["keep_apart"]

# Each has connections, a controller and labels in the metrics of its own.
_MOST = 64

Route = HTTPInferenceClientConfig


def keep_apart(
    models: Sequence[str], gateway: Route | None, routes: Mapping[str, Route]
) -> dict[str, Route]:
    """The gateway of each model of the file that has one, with its share of the connections.

    Raises ConfigError for too many models.
    """
    if len(models) > _MOST:
        raise ConfigError(
            "isolate_models",
            f"the file has {len(models):,} models, and at most {_MOST} can be kept apart; leave it"
            " out, or split the file",
        )
    own = ModelRoutes(routes)
    found = {model: own.of(model) or gateway for model in models}
    apart = {m: _share(one, len(models)) for m, one in found.items() if one is not None}
    return apart or dict(routes)


def _share(config: Route, among: int) -> Route:
    policy = config.concurrency
    if not isinstance(policy, AdaptiveConcurrency):
        return config
    most = max(1, policy.maximum // among)
    return replace(
        config, concurrency=replace(policy, maximum=most, initial=min(most, policy.initial))
    )
