"""Which transport a configuration gets, and what it says when an extra is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.http.build import build_exchanger
from batch_gateway.errors import ConfigError

from .differences import DIFFERENCES


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "NativeExchanger"),
        ({"transport": "native"}, "NativeExchanger"),
        ({"transport": "aiohttp"}, "AiohttpExchanger"),
        ({"proxy": "http://127.0.0.1:3128"}, "NativeExchanger"),
    ],
)
def test_the_native_transport_is_used_unless_aiohttp_is_asked_for(
    settings: dict[str, str], name: str
) -> None:
    exchanger = build_exchanger(HTTPInferenceClientConfig(**settings))  # pyright: ignore
    assert type(exchanger).__name__ == name


@pytest.mark.parametrize(("settings", "field"), [({"transport": "aiohttp"}, "transport")])
def test_without_aiohttp_the_error_says_what_to_install(
    settings: dict[str, str], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if ".http.aiohttp_" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'batch-gateway[aiohttp]'")) as it:
        build_exchanger(HTTPInferenceClientConfig(**settings))  # pyright: ignore
    assert it.value.field == field


def test_the_default_transport_does_without_aiohttp() -> None:
    script = (
        "import sys\n"
        "from batch_gateway.client.config import HTTPInferenceClientConfig\n"
        "from batch_gateway.client.http.build import build_exchanger\n"
        "build_exchanger(HTTPInferenceClientConfig())\n"
        "assert 'aiohttp' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_every_difference_between_the_transports_is_held_by_a_test() -> None:
    tests = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    unused = [name for name in DIFFERENCES if not any(f'expected("{name}"' in t for t in tests)]
    assert unused == []
    for name, difference in DIFFERENCES.items():
        assert difference.native != difference.aiohttp, name
        assert difference.reason, name
