"""The part of the chart's schema that is made from the table of settings: what `config` may hold.

`python -m tests.documents.settings_page` writes it anew, with the page of the settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batch_gateway.settings.table import SETTINGS, settings_of
from tests.deploy.image_steps import ROOT

__all__ = ["CHART", "SCHEMA", "with_settings"]

CHART = ROOT / "deploy" / "helm" / "batch-gateway"
SCHEMA = CHART / "values.schema.json"
# What the chart sets itself, or takes from a Secret, which a ConfigMap is not.
_OF_THE_CHART = {
    *("config", "role", "data", "store", "port", "observability_port", "shutdown_timeout"),
    *("tls_certificate", "tls_key", "database", "api_key"),
}
_NO_KEY = dict.fromkeys(("api_key", *SETTINGS["api_key"].aliases), False)
_OF_A_MODEL: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            {"type": "string"},
            {"type": "object", "required": ["url"], "properties": _NO_KEY},
        ]
    },
}


def with_settings(schema: str) -> str:
    """The schema with the settings in it as they are."""
    found = json.loads(schema)
    settings = [one for group in settings_of("serve").values() for one in group]
    names = [one.name for one in settings if not one.is_hidden]
    found["properties"]["config"]["properties"] = {
        name: _OF_A_MODEL if name == "model_gateways" else True
        for name in names
        if name not in _OF_THE_CHART
    }
    return json.dumps(found, indent=2) + "\n"
