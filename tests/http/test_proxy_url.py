"""The URL of a proxy: what it says, and that nothing shows the password in it."""

from __future__ import annotations

import base64
import os
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import ConfigError
from batch_gateway.http.proxy_url import Proxy


@pytest.mark.parametrize(
    ("url", "address", "tls"),
    [
        ("http://proxy:3128", "proxy:3128", False),
        ("http://proxy", "proxy:80", False),
        ("https://Proxy.Example", "proxy.example:443", True),
        ("http://proxy:3128/", "proxy:3128", False),
        ("http://[::1]:8080", "[::1]:8080", False),
        ("https://user:secret@10.0.0.1:8443", "10.0.0.1:8443", True),
    ],
)
def test_a_url_says_where_a_proxy_is(url: str, address: str, tls: bool) -> None:
    proxy = Proxy.parse(url)
    assert (proxy.address, proxy.tls) == (address, tls)
    assert "secret" not in repr(proxy)


@given(st.text(min_size=1), st.text())
def test_credentials_are_sent_as_they_were_before_they_were_escaped(
    user: str, password: str
) -> None:
    try:
        url = f"http://{quote(user, safe='')}:{quote(password, safe='')}@proxy:3128"
    except UnicodeEncodeError:  # half a surrogate pair, which no URL can hold
        return
    scheme, _, token = Proxy.parse(url).authorization.partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(token).decode() == f"{user}:{password}"


def test_a_password_in_a_variable_may_be_any_bytes_but_half_a_character_is_none() -> None:
    proxy = Proxy.parse(os.fsdecode(b"http://user:caf\xe9@proxy:3128"))
    assert base64.b64decode(proxy.authorization.removeprefix("Basic ")) == b"user:caf\xe9"
    with pytest.raises(ConfigError, match="must be 'env' or a URL"):
        Proxy.parse("http://user:\ud83d@proxy:3128")


def test_a_user_without_a_password_has_an_empty_one() -> None:
    token = Proxy.parse("http://key@proxy:3128").authorization.partition(" ")[2]
    assert base64.b64decode(token) == b"key:"
    assert Proxy.parse("http://proxy:3128").authorization == ""


@pytest.mark.parametrize(
    "url",
    [
        "proxy:3128",
        "ftp://proxy:3128",
        "http://",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:99999",
        "http://proxy:port",
        "http://[::1:3128",
        "http://pro xy:3128",
        # Signs that end the host, where they are not escaped.
        "http://user:hun#ter2@proxy:3128",
        "http://user:hun/ter2@proxy:3128",
        # What is in front of them may even look like a port, or like a host alone.
        "http://user:12/ter2@proxy:3128",
        "http://user:12#ter2@proxy:3128",
        "http://user:12?ter2@proxy:3128",
        "http://key/ter2@proxy:3128",
        "",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_shown(url: str) -> None:
    for place in ("", "HTTPS_PROXY"):
        with pytest.raises(ConfigError, match="such as http://proxy:3128") as caught:
            Proxy.parse(url, place)
        assert caught.value.field == "proxy"
        assert place in str(caught.value)
        assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "socks"])
def test_a_socks_proxy_is_told_apart(scheme: str) -> None:
    with pytest.raises(ConfigError, match="SOCKS proxies are not spoken to") as caught:
        Proxy.parse(f"{scheme}://user:hunter2@proxy:1080", "ALL_PROXY")
    assert "hunter2" not in str(caught.value)
    assert "ALL_PROXY" in str(caught.value)
