"""What tokens cost at the prices that a person gives, in that person's currency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from batch_gateway.wire.usage import Usage

__all__ = ["MILLION", "amount_text", "cost_of"]

MILLION: Final = 1_000_000
"""Tokens that a price is of."""


def cost_of(usage: Usage, prices: Mapping[str, float]) -> float | None:
    """What tokens cost at prices of a million by "input" and "output"; None without any price."""
    if not prices:
        return None
    tokens = {"input": usage.input_tokens, "output": usage.output_tokens}
    return sum(tokens[kind] * price for kind, price in prices.items()) / MILLION


def amount_text(cost: float) -> str:
    """Such as "1,234.50" or "0.0012"."""
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.2g}"
