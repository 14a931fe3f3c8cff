"""`--gateway openai`: the gateway and the key that the variables of OpenAI's SDK name."""

from __future__ import annotations

from collections.abc import Mapping

from batch_gateway.errors import ConfigError
from batch_gateway.settings.setting import Given

__all__ = ["KEY_VARIABLE", "OPENAI", "as_openai_sdk", "use_of_openai"]

OPENAI = "openai"
"""The gateway that OpenAI's own SDK would use."""

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"
_OPENAI_URL = "https://api.openai.com/v1"


def as_openai_sdk(asked: Given, environment: Mapping[str, str]) -> dict[str, Given]:
    """The gateway, and the key if there is one, that OpenAI's SDK would take.

    The key is for that gateway alone. Raises ConfigError when there is neither.
    """
    url = environment.get(BASE_URL_VARIABLE, "").strip()
    key = environment.get(KEY_VARIABLE, "").strip()
    if not url and not key:
        raise ConfigError(
            asked.place,
            f"{OPENAI} takes {BASE_URL_VARIABLE} and {KEY_VARIABLE} from the environment, and"
            " neither is set",
        )
    gateway = Given(url, BASE_URL_VARIABLE) if url else Given(_OPENAI_URL, asked.place)
    return {"gateway": gateway} | (
        {"api_key_env": Given(KEY_VARIABLE, KEY_VARIABLE)} if key else {}
    )


def use_of_openai(environment: Mapping[str, str]) -> str:
    """What `--gateway openai` would do, and which of its variables are set."""
    variables = (BASE_URL_VARIABLE, KEY_VARIABLE)
    names = [name for name in variables if environment.get(name, "").strip()]
    if not names:
        return f"as OpenAI's SDK: {BASE_URL_VARIABLE} and {KEY_VARIABLE}"
    verb = "are" if len(names) > 1 else "is"
    return f"as OpenAI's SDK, by {' and '.join(names)}, which {verb} set"
