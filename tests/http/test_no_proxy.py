"""Which hosts a NO_PROXY names: forms of curl, Go, Python and Kubernetes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.http.no_proxy import is_exempt


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("*", "anything.test"),
        ("llm", "llm"),
        ("example.com", "example.com"),
        ("example.com", "llm.example.com"),
        (".example.com", "llm.example.com"),
        (".example.com", "example.com"),
        ("*.example.com", "llm.team.example.com"),
        ("EXAMPLE.com.", "llm.example.COM"),
        (".svc", "llm.default.svc"),
        (".cluster.local", "llm.default.svc.cluster.local"),
        ("llm-*.example.com", "llm-7.example.com"),
        ("localhost", "localhost"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.0.0.0/8", "10.255.0.1"),
        ("10.1.2.3/8", "10.9.9.9"),
        ("192.168.0.0/255.255.0.0", "192.168.7.7"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("0.0.0.0/0", "8.8.8.8"),
        ("10.*", "10.1.2.3"),
        ("192.168.*.*", "192.168.1.2"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("[::1]", "::1"),
        ("fd00::/8", "fd12:3456::1"),
        ("[fd00::]/8", "fd12:3456::1"),
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("fe80::/10", "fe80::1%eth0"),
        ("llm:8000", "llm"),
        ("10.1.2.3:8000", "10.1.2.3"),
        ("[::1]:8000", "::1"),
        (".example.com:8000", "llm.example.com"),
        ("*.example.com:8000", "llm.example.com"),
    ],
)
def test_a_host_that_is_named_is_reached_directly(entry: str, host: str) -> None:
    assert is_exempt(entry, host, 8000)
    assert is_exempt(f"other.test, {entry}", host, 8000)
    assert is_exempt(f"{entry} other.test", host, 8000)


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("", "llm"),
        (",, ", "llm"),
        (".", "llm"),
        ("..", "10.1.2.3"),
        (":8000", "llm"),
        (":8000", "10.1.2.3"),
        ("example.com", "badexample.com"),
        (".example.com", "example.com.evil.test"),
        ("example.com", "example.co"),
        ("llm:8001", "llm"),
        ("10.1.2.3:80", "10.1.2.3"),
        ("[::1]:80", "::1"),
        ("10.0.0.0/8", "11.0.0.1"),
        ("10.0.0.0/8", "ten.test"),
        ("10.0.0.0/99", "10.0.0.1"),
        ("fd00::/8", "10.0.0.1"),
        ("0.1", "10.0.0.1"),
        ("1.2.3", "10.1.2.3"),
        ("::1", "::2"),
        ("http://llm", "llm"),
    ],
)
def test_one_that_is_not_goes_through_the_proxy(entry: str, host: str) -> None:
    assert not is_exempt(entry, host, 8000)


@given(st.text(max_size=60), st.text(max_size=30), st.integers(1, 65535))
def test_whatever_the_variable_holds_is_no_error(listed: str, host: str, port: int) -> None:
    is_exempt(listed, host, port)
