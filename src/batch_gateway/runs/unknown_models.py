"""What a person may have meant by a model that a gateway does not have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.runs.gateways import Clients

__all__ = ["models_there_are", "which_models"]

_MOST_NAMES = 8
_LEAST_LIKENESS = 0.6


async def models_there_are(clients: Clients, unknown: Iterable[str]) -> str:
    """A sentence for the unknown models, or "" where their gateways list none."""
    found: dict[str, None] = {}
    for model in unknown:
        gateway = clients.client_for(model)
        listed = await gateway.models() if isinstance(gateway, HTTPInferenceClient) else []
        found[which_models(model, listed)] = None
    return " ".join(filter(None, found))


def which_models(model: str, listed: Sequence[str]) -> str:
    """The names that a gateway lists, and the ones that are nearly `model`."""
    if not listed:
        return ""
    more = len(listed) - _MOST_NAMES
    names = ", ".join(listed[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
    near = _nearest(model, listed)
    question = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"The gateway has {names}{question}"


def _nearest(model: str, listed: Sequence[str]) -> list[str]:
    """By their letters; a name without its owner, or its owner's without a name, is near, too."""
    by_plain = {name.lower(): name for name in reversed(listed)}
    wanted = model.lower()
    same = [
        name
        for name in listed
        if wanted in (name.lower(), name.lower().rpartition("/")[2])
        or name.lower() == wanted.rpartition("/")[2]
    ]
    import difflib  # noqa: PLC0415 - for this one mistake

    like = difflib.get_close_matches(wanted, by_plain, n=2, cutoff=_LEAST_LIKENESS)
    return same[:1] or [by_plain[name] for name in like]
