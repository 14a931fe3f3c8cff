"""Coverage-guided fuzzing of URLs of proxies, and lists of whom they are not for.

    pip install atheris
    python -m fuzz.proxy_url --seconds 300

The first line of an input is the URL, the rest is NO_PROXY. A finding is
written to `crash-…` in the working directory: make it a seed in
`fuzz/seeds/proxy_url`, under a name that says what it is, and the tests will check it
from then on.
"""

from __future__ import annotations

from pathlib import Path

from batch_gateway.errors import ConfigError
from batch_gateway.http.no_proxy import is_exempt
from batch_gateway.http.proxy_url import Proxy
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "proxy_url"
PASSWORD = "hunter2"
WORDS = (
    *("http://", "https://", "socks5://", "user:hunter2@", ":3128", "[::1]", "[", "]", "%40", "%"),
    *("10.0.0.0/8", "fe80::/10", "*", ".internal", "localhost:80", ",", " ", "@", "/", "?", "#"),
)


def check(data: bytes) -> None:
    """Fail when a URL is not a proxy that can be dialled, nor refused without its password."""
    url, _, no_proxy = data.decode(errors="surrogateescape").partition("\n")
    for host in ("gateway.internal", "10.1.2.3", "::1", "fe80::1"):
        assert is_exempt(no_proxy, host, 80) in (True, False)
    try:
        proxy = Proxy.parse(url)
    except ConfigError as error:
        assert PASSWORD not in str(error)
        return
    assert proxy.host
    assert 0 < proxy.port < 2**16
    assert all("!" <= sign <= "~" for sign in proxy.host + proxy.authorization.replace(" ", ""))
    assert proxy.authorization.startswith("Basic ") or not proxy.authorization
    if PASSWORD not in proxy.host:
        assert PASSWORD not in repr(proxy) + proxy.address + proxy.credentials_cure()


if __name__ == "__main__":
    run(check, "proxy URLs", SEEDS, WORDS)
