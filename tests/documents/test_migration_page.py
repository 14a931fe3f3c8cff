"""Whoever comes from llm-d's batch gateway finds every key, value and metric of it on the page.

The files in tests/documents/llm_d have all keys that its three programs read, and all values of its
chart, with values as its examples have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_gateway.settings.config_file import load_config_file
from tests.documents.blocks import ROOT

PAGE = (ROOT / "docs" / "migration-llm-d.md").read_text("utf-8")
FILES = Path(__file__).parent / "llm_d"
CONFIGURATIONS = ["apiserver", "processor", "gc"]


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FILES / f"{name}.yaml").read_text("utf-8"))


def rows(heading: str) -> list[tuple[list[str], str]]:
    """What is in code in the first column of the table below a heading, and the second column."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \| (.*) \|$", section, re.MULTILINE)
    return [(re.findall(r"`([^`]+)`", first), second) for first, second in cells]


def named(heading: str) -> list[str]:
    return [name for names, _ in rows(heading) for name in names]


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in tree.items():
        path = f"{above}{name}"
        yield from leaves(value, f"{path}.") if isinstance(value, dict) and value else [path]


@pytest.mark.parametrize("command", ["serve", "run"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_key_of_the_three_files_is_taken_or_named(name: str, command: str) -> None:
    path = FILES / f"{name}.yaml"
    config = load_config_file(path, command=command)  # An unknown key would be refused.
    told = ", ".join(
        re.findall(rf"{re.escape(str(path))}: (.*?): nothing to do", "\n".join(config.notes))
    )
    unused = {one for key in told.split(", ") for one in (key, key.partition(".")[0])}
    places = [given.place for given in config.values.values()]
    places += [gateway.url.place for gateway in config.model_gateways.values() if gateway.url]
    used = {place.rpartition(": ")[2].partition(".")[0] for place in places}
    empty = {key for key, value in read(name).items() if value in ("", None)}
    assert set(read(name)) - unused - used - empty == set()


def test_every_key_of_the_three_files_is_on_the_page() -> None:
    keys = {key for name in CONFIGURATIONS for key in read(name)} | {"global_inference_gateway"}
    assert keys == set(named("The three files"))


def test_what_the_page_calls_taken_or_named_is_so() -> None:
    for name in CONFIGURATIONS:
        notes = "\n".join(load_config_file(FILES / f"{name}.yaml", command="serve").notes)
        for keys, fate in rows("The three files"):
            for key in set(keys) & set(read(name)):
                is_named = re.search(rf"[ .]{key}[,:.]", notes) is not None
                assert is_named == ("named" in fate), (key, fate)


def test_a_file_that_names_one_gateway_for_all_is_taken(tmp_path: Path) -> None:
    tree = read("processor")
    tree["global_inference_gateway"] = tree.pop("model_gateways")["llama-3"]
    path = tmp_path / "processor.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load_config_file(path, command="serve")
    assert config.values["gateway"].value == "http://gateway-a:8000"


def test_go_and_kubernetes_write_versions_of_tls_in_their_own_way(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for written, read_as in [("VersionTLS12", "1.2"), ("VersionTLS13", "1.3"), ("1.3", "1.3")]:
        path.write_text(f"tls_min_version: {written}\n")
        assert load_config_file(path).values["tls_min_version"].value == read_as


def test_every_value_of_the_chart_is_on_the_page() -> None:
    there = named("The chart's values")
    values = list(leaves(read("values")))
    covered = [one for one in values if any(f"{one}.".startswith(f"{path}.") for path in there)]
    assert covered == values
    assert [
        path for path in there if not any(f"{one}.".startswith(f"{path}.") for one in values)
    ] == []


def test_every_value_that_takes_its_place_is_one_of_this_chart() -> None:
    chart = ROOT / "deploy" / "helm" / "batch-gateway" / "values.yaml"
    ours = yaml.safe_load(chart.read_text("utf-8"))
    for _, fate in rows("The chart's values"):
        for path in re.findall(r"`([a-z][A-Za-z]+(?:\.\w+)*)`", fate):
            node: Any = ours
            for part in path.split("."):
                if path.startswith("config.") or part in ("hostnames", "host"):
                    break
                assert part in node, path
                node = node[part]


def test_a_metric_that_is_the_same_is_on_the_page_of_metrics() -> None:
    metrics = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    kept = {one: f"| `{one}` |" in metrics for one in named("Metrics")}
    same = {one: "the same" in fate for names, fate in rows("Metrics") for one in names}
    assert kept == same
    assert sum(same.values()) == 18
