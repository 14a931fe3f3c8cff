"""The parts of docs/configuration.md that are made from the table of settings.

`python -m tests.documents.settings_page` writes them anew, and the schema of the Helm chart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from batch_gateway.settings.processor_keys import PROCESSOR_KEYS
from batch_gateway.settings.setting import Setting
from batch_gateway.settings.table import GATEWAY_SETTINGS, GROUPS
from tests.deploy.chart_schema import SCHEMA, with_settings
from tests.documents.blocks import ROOT

__all__ = ["PAGE", "with_parts"]

PAGE = ROOT / "docs" / "configuration.md"
_PART = re.compile(
    r"(<!-- made from the settings: ([a-z ]+) -->\n)(.*?)(<!-- made -->\n)", re.DOTALL
)


def with_parts(page: str) -> str:
    """The page with every part as the settings are."""
    parts = _parts()
    assert {found[2] for found in _PART.finditer(page)} == parts.keys()
    return _PART.sub(lambda found: f"{found[1]}{parts[found[2]]}{found[4]}", page)


def _parts() -> Mapping[str, str]:
    return {
        "keys": "\n".join(_keys()) + "\n",
        "of a gateway": ", ".join(f"`{name}`" for name in _of_a_gateway()) + "\n",
        "of a processor": "\n".join(_of_a_processor()) + "\n",
    }


def _keys() -> Iterator[str]:
    yield "| key | default | meaning |\n|---|---|---|"
    for group, settings in GROUPS.items():
        shown = [one for one in settings if not one.is_hidden and not one.only_flag]
        # Whoever only sends batches to a server has no file.
        if any(one.only != ("batches",) for one in shown):
            yield f"| **{group}** | | |"
        for one in shown:
            if one.name != "config" and one.only != ("batches",):
                yield f"| `{one.name}` | {_default(one)} | {_meaning(one)} |"


def _default(one: Setting) -> str:
    return (f"`{one.default}`" if one.default else one.otherwise) or (
        "none" if one.kind.metavar else "no"
    )


def _meaning(one: Setting) -> str:
    also = [one.see, *(f"also `{alias}`" for alias in one.aliases)]
    if one.flag_name is None:
        also.append("no flag")
    elif one.flag:
        also.append(f"the flag is `{one.flag}`")
    also += [f"also the variable `{one.variable}`"] if one.variable else []
    also += [f"needs `{one.needs}`"] if one.needs else []
    several = "a mapping" if one.kind.several == "pairs" else "one or a list"
    text = one.help.replace("repeatable", several)
    return " ".join([text, *([f"({'; '.join(filter(None, also))})"] if any(also) else [])])


def _of_a_gateway() -> Iterator[str]:
    yield "url"
    for name, one in GATEWAY_SETTINGS.items():
        if name != "gateway" and not one.is_hidden:
            yield name


def _of_a_processor() -> Iterator[str]:
    yield "| keys | why they do nothing in a run |\n|---|---|"
    by_reason: dict[str, list[str]] = {}
    for name, key in PROCESSOR_KEYS.items():
        by_reason.setdefault(key.why, []).append(f"`{name}`")
    yield from (f"| {', '.join(names)} | {why} |" for why, names in by_reason.items())


if __name__ == "__main__":
    PAGE.write_text(with_parts(PAGE.read_text("utf-8")), "utf-8")
    SCHEMA.write_text(with_settings(SCHEMA.read_text("utf-8")), "utf-8")
