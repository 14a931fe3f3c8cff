"""What a proxy says when it opens no tunnel: read as the proxy's, in its words, with a cure."""

from __future__ import annotations

import gzip
import time

import pytest

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.errors import GatewayConnectionError, InferenceError, UnknownStatusError
from batch_gateway.wire.refusals import is_connect_failure

from .conftest import Connect, Post
from .loops import EVERY_LOOP
from .proxy_server import proxying
from .scripted_server import Peer, answer, serving

pytestmark = pytest.mark.anyio

REQUEST = InferenceRequest(params={"model": "m", "prompt": "Hi"})
PAGE = b"<html><head><title>%s</title></head><body><h1>%s</h1></body></html>"
SQUID = b"ERROR: The requested URL could not be retrieved"


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def refused(connect: Connect, refusal: bytes, **settings: str) -> InferenceError:
    """The error of a dial that a proxy answers so."""
    async with proxying() as proxy:
        proxy.refusal = refusal
        url = proxy.url.replace("http://", settings.get("credentials", "http://"))
        exchanger = connect("https://gateway.test", proxy=url)
        with pytest.raises(GatewayConnectionError) as caught:
            await exchanger.connect(deadline=time.monotonic() + 10)
        await exchanger.aclose()
    where = proxy.url.removeprefix("http://")
    assert f"the proxy for gateway.test:443 at {where} (proxy, --proxy) refused" in str(
        caught.value
    )
    assert "<" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
async def test_a_proxy_that_cannot_get_through_is_tried_again(
    connect: Connect, status: int
) -> None:
    page = PAGE % (b"%d Gateway &amp; all" % status, b"Time-out")
    error = await refused(connect, answer(page, status=b"%d What" % status))
    assert error.is_retryable
    assert error.status_code is None
    # A run waits for it as it waits for a gateway that is down.
    assert is_connect_failure(error)
    assert f"HTTP {status}: Gateway & all" in error.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 451])
async def test_a_proxy_that_does_not_want_to_is_not_asked_again(
    connect: Connect, status: int
) -> None:
    error = await refused(connect, answer(b"Not here", status=b"%d What" % status))
    assert not error.is_retryable
    assert error.status_code == status
    assert f"HTTP {status}: Not here" in error.message


async def test_a_proxy_that_sends_people_to_its_login_says_where_that_is(connect: Connect) -> None:
    header = b"Location: https://login.test/"
    error = await refused(connect, answer(b"<p>Moved</p>", header, status=b"302 Found"))
    assert not error.is_retryable
    assert "HTTP 302: it redirects to https://login.test/" in error.message


@pytest.mark.parametrize(
    ("offer", "credentials", "cure"),
    [
        (b'Basic realm="corp, Negotiate x"', "http://", "a user name and a password: http://user"),
        (b"", "http://", "it wants a user name and a password"),
        (b"Basic realm=x", "http://bob:hunter22@", "not accept the user name and password"),
        (b"Negotiate, NTLM", "http://", "asks for negotiate or ntlm authentication, and only"),
        (b"Negotiate, Basic realm=x", "http://", "it wants a user name and a password"),
        (b'Bearer scope="a", error="b"', "http://bob:hunter22@", "asks for bearer authent"),
    ],
)
async def test_a_proxy_that_wants_credentials_says_which(
    connect: Connect, offer: bytes, credentials: str, cure: str
) -> None:
    header = (b"Proxy-Authenticate: " + offer,) if offer else ()
    refusal = answer(b"", *header, status=b"407 Proxy Authentication Required")
    error = await refused(connect, refusal, credentials=credentials)
    assert cure in error.message
    assert "HTTP 407: Proxy Authentication Required" in error.message
    assert "hunter22" not in str(error)


async def test_squids_page_is_told_apart_by_its_header(connect: Connect) -> None:
    header = b"X-Squid-Error: ERR_ACCESS_DENIED 0"
    refusal = answer(PAGE % (SQUID, b"ERROR"), header, status=b"403 Forbidden")
    error = await refused(connect, refusal)
    assert f"{SQUID.decode()} [ERR_ACCESS_DENIED 0]; ask whoever runs it" in error.message


@pytest.mark.parametrize(
    "page",
    [
        b"HTTP/1.0 403 Forbidden\r\nContent-Length: 500\r\n\r\nbecause of the rules",
        b"HTTP/1.0 403 Forbidden\r\n\r\nbecause of the rules",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n14\r\nbecause of the rules\r\n",
        b"HTTP/1.1 403 Forbidden\nTransfer-Encoding: chunked\n\n14\nbecause of the rules\n0\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"because of the rules", status=b"403 Forbidden"),
    ],
)
@pytest.mark.parametrize("leaves", [True, False])
async def test_the_words_are_read_as_far_as_they_come(
    connect: Connect, post: Post, page: bytes, leaves: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.send(page)
        if not leaves:
            await peer.until_client_left()

    async with serving(script) as proxy:
        exchanger = connect("https://gateway.test", proxy=proxy.base_url)
        with pytest.raises(GatewayConnectionError, match="HTTP 403: because of the rules") as it:
            await post(exchanger)
        await exchanger.aclose()
    assert not it.value.is_retryable


async def test_a_compressed_page_is_read(connect: Connect) -> None:
    packed = gzip.compress(b"because of the rules")
    error = await refused(connect, answer(packed, b"Content-Encoding: gzip", status=b"403 No"))
    assert "HTTP 403: because of the rules" in error.message
    error = await refused(connect, answer(packed, b"Content-Encoding: br", status=b"403 No"))
    assert "HTTP 403: Forbidden" in error.message


async def test_a_password_that_the_proxy_quotes_is_not_shown() -> None:
    async with proxying() as proxy:
        token = "Basic Ym9iOmh1bnRlcjIy"
        words = f"bob / hunter22 / {token} unknown".encode()
        proxy.refusal = answer(words, status=b"407 What")
        url = proxy.url.replace("http://", "http://bob:hunter%32%32@")
        for scheme in ("http", "https"):
            config = HTTPInferenceClientConfig(f"{scheme}://gateway.test", proxy=url, retry=None)
            async with HTTPInferenceClient(config) as client:
                with pytest.raises(InferenceError) as caught:
                    await client.generate(REQUEST)
                shown = f"{caught.value!r} {caught.value.body!r} {caught.value.cause!r}"
                assert "[redacted]" in shown
                for secret in ("hunter22", "hunter%32", "Ym9iOmh1bnRlcjIy"):
                    assert secret not in shown
    assert proxy.authorizations == [token, token]


# --- plain requests, which the proxy answers in the gateway's place ---


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("user_info", ["", "bob:hunter22@"])
async def test_a_plain_request_that_lacks_credentials_names_the_proxy(
    streamed: bool, user_info: str
) -> None:
    async with proxying() as proxy:
        proxy.refusal = answer(b"", status=b"407 Proxy Authentication Required")
        config = HTTPInferenceClientConfig(
            "http://gateway.test",
            proxy=proxy.url.replace("http://", f"http://{user_info}"),
            retry=None,
            stream_upstream=streamed,
        )
        async with HTTPInferenceClient(config) as client:
            with pytest.raises(UnknownStatusError) as caught:
                await client.generate(REQUEST)
    cure = "does not accept the user name" if user_info else "wants a user name and a password"
    assert not caught.value.is_retryable
    assert "HTTP 407: Proxy Authentication Required" in caught.value.message
    assert f"(proxy, --proxy): it {cure}" in caught.value.message
    assert "the proxy for gateway.test:80 at 127.0.0.1" in caught.value.message


@pytest.mark.parametrize("status", [403, 404, 502, 503, 504])
@pytest.mark.parametrize(
    ("body", "may_be"),
    [
        (PAGE % (b"Blocked", b"Blocked"), True),
        (b"Blocked", True),
        (b'{"error": {"message": "Blocked"}}', False),
    ],
)
async def test_what_is_no_json_in_the_place_of_a_plain_answer_may_be_the_proxys(
    status: int, body: bytes, may_be: bool
) -> None:
    async with proxying() as proxy:
        proxy.refusal = answer(body, status=b"%d What" % status)
        config = HTTPInferenceClientConfig("http://gateway.test", proxy=proxy.url, retry=None)
        async with HTTPInferenceClient(config) as client:
            with pytest.raises(InferenceError) as caught:
                await client.generate(REQUEST)
    assert f"HTTP {status}: Blocked" in caught.value.message
    asked = "asked through the proxy for gateway.test:80 at 127.0.0.1"
    assert (asked in caught.value.message) is may_be
