"""The readme of the package can be read where nothing else of the repository is."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.documents.blocks import ROOT
from tests.peers.installing import peer_environment


class _Interface:
    """Stands for hatchling's, which is only there while a package is built."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    interface = ModuleType("hatchling.metadata.plugin.interface")
    interface.__dict__["MetadataHookInterface"] = _Interface
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(hook: Any, root: Path) -> str:
    metadata: dict[str, Any] = {}
    hook.CustomMetadataHook(root).update(metadata)
    assert metadata["readme"]["content-type"] == "text/markdown"
    return metadata["readme"]["text"]


def test_no_link_of_the_package_page_leads_into_the_repository(hook: Any) -> None:
    text = page(hook, ROOT)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "<!--" not in text


def test_the_package_page_says_where_the_documentation_is(hook: Any) -> None:
    more = page(hook, ROOT).partition("## More\n")[2]
    assert "`docs/index.md`" in more
    assert "·" not in more
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "/docs" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


@pytest.mark.peer("readme-renderer")
def test_the_package_page_is_drawn_without_a_dead_link(hook: Any) -> None:
    python = peer_environment("readme-renderer", ["readme-renderer[md]==45.0"])
    draw = (
        "import sys; from readme_renderer.markdown import render; print(render(sys.stdin.read()))"
    )
    drawn = subprocess.run(
        [python, "-c", draw], input=page(hook, ROOT), capture_output=True, text=True, check=True
    ).stdout
    assert drawn.count("<h2") == (ROOT / "README.md").read_text("utf-8").count("\n## ")
    assert "<pre" in drawn
    targets = re.findall(r'(?:href|src)="([^"]*)"', drawn)
    assert targets
    anchors = {f"#{one}" for one in re.findall(r'id="([^"]*)"', drawn)}
    assert [one for one in targets if not one.startswith("https://") and one not in anchors] == []


def test_what_links_say_and_all_code_stay_on_the_package_page(hook: Any) -> None:
    readme, text = (ROOT / "README.md").read_text("utf-8"), page(hook, ROOT)
    assert "Running a batch" in text
    code = re.compile(r"^```\w*\n.*?^```", re.MULTILINE | re.DOTALL)
    assert code.findall(text) == code.findall(readme)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("See [the page](docs/a.md#b).", "See the page."),
        ("See [it](https://example.com/a).", "See [it](https://example.com/a)."),
        ("Up to [the top](#top).", "Up to [the top](#top)."),
        ("![a picture](docs/a.png)", ""),
        ("![a badge](https://example.com/a.svg)", "![a badge](https://example.com/a.svg)"),
        ("<!-- run -->\n```sh\nls\n```\n", "```sh\nls\n```\n"),
    ],
)
def test_links_pictures_and_comments_are_kept_where_they_lead_somewhere(
    hook: Any, tmp_path: Path, written: str, read: str
) -> None:
    (tmp_path / "README.md").write_text(written, "utf-8")
    assert page(hook, tmp_path) == read
