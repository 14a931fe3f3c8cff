"""The picture of a run under way is drawn from a run, and asks for nothing from anywhere."""

from __future__ import annotations

import re
from itertools import islice
from xml.etree import ElementTree

import pytest

from tests.documents.blocks import ROOT
from tests.documents.progress_picture import PICTURE, picture, screens


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    requests = tmp_path_factory.mktemp("drawn") / "requests.jsonl"
    with (ROOT / "examples" / "requests.jsonl").open("rb") as lines:
        requests.write_bytes(b"".join(islice(lines, 40)))
    return picture(screens(requests))


def words(svg: str) -> str:
    return " ".join("".join(ElementTree.fromstring(svg).itertext()).split())


def test_it_shows_a_run_under_way(drawn: str) -> None:
    for said in (words(drawn), words(PICTURE.read_text("utf-8"))):
        assert "batch-gateway run requests.jsonl" in said
        assert re.search(r"\d+ of [\d,]+ .*\d+% .*\d+ failed · \d+ in flight", said)


def test_it_names_no_other_host(drawn: str) -> None:
    for svg in (drawn, PICTURE.read_text("utf-8")):
        assert set(re.findall(r"https?://[^\"' )]+", svg)) == {"http://www.w3.org/2000/svg"}
