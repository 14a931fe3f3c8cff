"""What the words of a refusal say that its status does not: no money, no such model, a page.

Each entry names the server that says so.
"""

from __future__ import annotations

import re

from batch_gateway.errors import InferenceError
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["is_page", "is_refused_key", "is_unknown_model", "is_used_up", "names_unknown_model"]

# Where a quota is used up, the same key is refused until somebody pays, or until another day.
_USED_UP_STATUSES = frozenset({400, 402, 403, 429})
_USED_UP_CODES = frozenset(
    {
        "insufficient_quota",  # OpenAI, Azure
        "billing_hard_limit_reached",  # OpenAI
        "billing_not_active",  # OpenAI
        "access_terminated",  # OpenAI
        "insufficient_balance",  # DeepSeek, Moonshot
        "exceeded_current_quota_error",  # Moonshot
        "budget_exceeded",  # LiteLLM
        "arrearage",  # Alibaba Model Studio
        "insufficient_user_quota",  # One API, New API
    }
)
# What says so under any status; a 400 may quote its request, so these are no everyday words.
_NO_MONEY = rare_pattern(
    r"insufficient[_ ](quota|balance|funds|credits?)"
    r"|credit balance is too low"  # Anthropic, with a 400
    r"|billing (hard )?limit (has been )?reached"
    r"|budget has been exceeded"  # LiteLLM
    r"|(out of|no|not enough|used all available) credits"  # xAI, Together
    r"|exceeded your monthly included credits",  # Hugging Face
    re.IGNORECASE,
)
_NO_QUOTA_TODAY = rare_pattern(
    r"per[-_ ]?day\b|\bdaily (limit|quota)|billing cycle", re.IGNORECASE
)  # Groq, OpenRouter, Cerebras
# OpenAI says it of money; Google of a minute too, and then how long to wait.
_CURRENT_QUOTA = rare_pattern(r"exceeded your current quota", re.IGNORECASE)
# Google names each quota; one a minute says "exceeded your current quota" as well.
_QUOTA_ID = rare_pattern(rb'"quotaId"\s*:\s*"([^"]{1,200})"')
_LONGEST_WAIT_OF_A_MINUTE = 120.0
_READ_LIMIT = 64 * 1024

# A key that is no longer one; whoever may not do a single thing is told so in other words.
_REFUSED_KEY_STATUSES = frozenset({400, 403})
_REFUSED_KEY_CODES = frozenset({"invalid_api_key", "api_key_invalid"})
_REFUSED_KEY = rare_pattern(
    r"\bapi key (is )?(not valid|invalid|expired)"  # Gemini, with a 400
    r"|\b(incorrect|invalid|expired) api key\b",  # xAI, with a 400
    re.IGNORECASE,
)

_MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "model_not_supported"})
_MODEL_STATUSES = frozenset({400, 403, 404, 422})
_NO_SUCH_MODEL = rare_pattern(
    r"\b(invalid|unknown|no such) model\b(?! (response|output|config))"
    r"|\bnot a valid model\b"
    r"|\bmodels?\b[^.]{0,200}?\b(not found|(does not|doesn't) exist|not exist)\b",
    re.IGNORECASE,
)


def is_page(error: InferenceError) -> bool:
    """Whether somebody else answered: a 404 or a success that is a page or a plain sentence.

    An ingress says so while what is behind it is put up anew: nginx "default backend - 404",
    Traefik "404 page not found", Envoy a 404 without a body. What an API does not have it
    refuses in JSON.
    """
    status = error.status_code
    if status == 404:
        return error.body.lstrip()[:1] not in (b"{", b"[", b'"')
    return status is not None and 200 <= status < 300 and error.body.lstrip()[:1] == b"<"


def is_refused_key(error: InferenceError) -> bool:
    """Whether the key is refused, whatever it is used for: a 401, or words that say so."""
    if error.status_code not in _REFUSED_KEY_STATUSES:
        return error.status_code == 401
    known = error.code.lower() in _REFUSED_KEY_CODES
    return known or _REFUSED_KEY.search(error.message) is not None


def is_used_up(error: InferenceError) -> bool:
    """Whether a quota, a budget or money is used up, so that waiting a minute does not help."""
    status = error.status_code
    if status == 402:
        return True
    if status not in _USED_UP_STATUSES:
        return False
    if error.code.lower() in _USED_UP_CODES:
        return True
    quotas = _QUOTA_ID.findall(error.body[:_READ_LIMIT])
    if quotas:
        return any(b"perday" in quota.lower() for quota in quotas)
    if _NO_MONEY.search(error.message):
        return True
    return status == 429 and _is_quota_of_a_day(error)


def _is_quota_of_a_day(error: InferenceError) -> bool:
    if _NO_QUOTA_TODAY.search(error.message):
        return True
    soon = error.retry_after is not None and error.retry_after <= _LONGEST_WAIT_OF_A_MINUTE
    return not soon and _CURRENT_QUOTA.search(error.message) is not None


def is_unknown_model(error: InferenceError) -> bool:
    """Whether the gateway says that it has no model of that name."""
    return names_unknown_model(error.status_code, error.code, error.message, error.body)


def names_unknown_model(status: int | None, code: str | None, message: str, body: bytes) -> bool:
    """The same before there is an error."""
    if status not in _MODEL_STATUSES:
        return False
    if code is not None and code.lower() in _MODEL_CODES:
        return True
    # A page about models is no answer of an API.
    if body.lstrip()[:1] not in (b"{", b"["):
        return False
    if status == 404:
        return "model" in message.lower()
    return _NO_SUCH_MODEL.search(message) is not None
