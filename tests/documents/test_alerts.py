"""The page on alerts has every alert that there is, and no other."""

from __future__ import annotations

import re

import yaml

from tests.documents.blocks import ROOT


def test_every_alert_has_a_row_that_says_what_to_do() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8"))
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    page = (ROOT / "docs" / "alerts.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == alerts
