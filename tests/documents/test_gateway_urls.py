"""The table of gateway URLs in the documents says where requests go."""

from __future__ import annotations

import re

from batch_gateway import HTTPInferenceClientConfig
from batch_gateway.http.target import Target
from tests.documents.blocks import ROOT

_ROW = re.compile(r"^\| `([^`]+)` \| `(https?://[^`]+)` \|$", re.MULTILINE)


def test_every_url_of_the_table_leads_where_it_says() -> None:
    rows = _ROW.findall((ROOT / "docs" / "configuration.md").read_text("utf-8"))
    assert len(rows) > 10
    for base, url in rows:
        config = HTTPInferenceClientConfig(base)
        assert Target.of(config).url("/v1/chat/completions") == url
