"""Everything a network and a broken gateway can do: its category, its words, its attempts."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from batch_gateway import (
    BadResponseError,
    ErrorCategory,
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    RequestTimeoutError,
    RetryPolicy,
    TLSConfig,
    TLSError,
)
from batch_gateway.testing import GatewayHandle, simulated_gateway

pytestmark = pytest.mark.anyio

RETRIES = 2
QUICK = RetryPolicy(max_retries=RETRIES, initial_backoff=0.001, rate_limit_backoff=0.001)
REQUEST = InferenceRequest(params={"model": "m", "prompt": "Hello!"})


def faulty(fault: str) -> InferenceRequest:
    return InferenceRequest(
        params={"model": "m", "prompt": "Hello!"}, headers={"X-Simulate-Fault": fault}
    )


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway() as running:
        yield running


@pytest.fixture
async def client(gateway: GatewayHandle) -> AsyncIterator[HTTPInferenceClient]:
    config = HTTPInferenceClientConfig(
        gateway.url, retry=QUICK, timeout=0.2, max_response_bytes=1_000_000
    )
    async with HTTPInferenceClient(config) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("reset-before-headers", GatewayConnectionError, None),
        ("reset-during-headers", GatewayConnectionError, None),
        ("reset-after-headers", GatewayConnectionError, None),
        ("close-without-answer", GatewayConnectionError, None),
        ("half-body", BadResponseError, None),
        ("short-length", BadResponseError, None),
        ("malformed-head", BadResponseError, None),
        ("huge-head", BadResponseError, None),
        ("truncated-json", BadResponseError, "HTTP 200 whose body is not JSON"),
        ("empty-body", BadResponseError, "HTTP 200 with an empty body"),
        ("slow-headers=5", RequestTimeoutError, None),
        ("stall", RequestTimeoutError, None),
        ("stall-body", RequestTimeoutError, None),
    ],
)
async def test_a_broken_answer_is_a_retryable_server_error(
    client: HTTPInferenceClient, fault: str, kind: type[InferenceError], says: str | None
) -> None:
    with pytest.raises(kind, match=says) as caught:
        await client.generate(faulty(fault))
    error = caught.value
    assert error.category is ErrorCategory.SERVER_ERROR
    assert error.is_retryable
    assert error.attempts == RETRIES + 1
    assert 5 < len(error.message) < 300


async def test_an_answer_without_end_is_given_up_at_the_limit_and_not_asked_for_again(
    client: HTTPInferenceClient,
) -> None:
    with pytest.raises(BadResponseError, match=r"max_response_bytes \(1000000 bytes\)") as caught:
        await client.generate(faulty("endless-body"))
    assert caught.value.code == "response_too_large"
    assert not caught.value.is_retryable
    assert caught.value.attempts == 1


@pytest.mark.parametrize(
    "fault", ["close-idle", "close-on-next-request", "until-close", "chunked=7", "informational"]
)
async def test_an_odd_but_whole_answer_is_a_success_again_and_again(
    client: HTTPInferenceClient, fault: str
) -> None:
    for _ in range(5):
        response = await client.generate(faulty(fault))
        assert response.json()["object"] == "text_completion"
        assert response.attempts == 1


async def test_bytes_after_an_answer_never_become_part_of_the_next(
    client: HTTPInferenceClient,
) -> None:
    for _ in range(3):
        first = await client.generate(faulty("long-length"))
        assert first.json()["object"] == "text_completion"
        assert (await client.generate(REQUEST)).json()["object"] == "text_completion"


async def test_a_refused_connection_is_a_connection_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        config = HTTPInferenceClientConfig(url, retry=QUICK)
        async with HTTPInferenceClient(config) as client:
            with pytest.raises(GatewayConnectionError, match="refused") as caught:
                await client.generate(REQUEST)
            with pytest.raises(ConnectionError):
                await client.connect()
    assert caught.value.attempts == RETRIES + 1
    assert isinstance(caught.value.cause, OSError)


async def test_an_unknown_host_is_a_connection_error_that_names_it() -> None:
    config = HTTPInferenceClientConfig("http://no-such-gateway.invalid:8000", retry=QUICK)
    async with HTTPInferenceClient(config) as client:
        with pytest.raises(GatewayConnectionError, match="no-such-gateway.invalid") as caught:
            await client.generate(REQUEST)
    assert caught.value.category is ErrorCategory.SERVER_ERROR
    assert caught.value.attempts == RETRIES + 1


class Certificates:
    """An authority and certificates of every kind, on disk."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self.other_ca_file = folder / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(self.other_ca_file))
        client = self.authority.issue_cert("client@example.org")
        self.client_cert, self.client_key = folder / "client.pem", folder / "client.key"
        client.cert_chain_pems[0].write_to_path(str(self.client_cert))
        client.private_key_pem.write_to_path(str(self.client_key))

    def server(
        self, host: str = "127.0.0.1", *, expired: bool = False, mutual: bool = False
    ) -> ssl.SSLContext:
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        issued = self.authority.issue_cert(host, not_after=past if expired else None)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        if mutual:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def generate_over_tls(url: str, tls: TLSConfig) -> int:
    config = HTTPInferenceClientConfig(url, tls=tls, retry=QUICK)
    async with HTTPInferenceClient(config) as client:
        return (await client.generate(REQUEST)).status_code


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"host": "elsewhere.example"}, "(?i)match|valid for"),
        ({"expired": True}, "expired"),
    ],
)
async def test_a_wrong_certificate_is_a_tls_error_and_not_tried_again(
    certificates: Certificates, server: dict[str, Any], says: str
) -> None:
    tls = TLSConfig(ca_file=certificates.ca_file)
    with (
        simulated_gateway(tls=certificates.server(**server)) as gateway,
        pytest.raises(TLSError, match=says) as caught,
    ):
        await generate_over_tls(gateway.url, tls)
    assert caught.value.category is ErrorCategory.SERVER_ERROR
    assert caught.value.attempts == 1


async def test_an_unknown_authority_is_a_tls_error(certificates: Certificates) -> None:
    with simulated_gateway(tls=certificates.server()) as gateway:
        for tls in (TLSConfig(), TLSConfig(ca_file=certificates.other_ca_file)):
            with pytest.raises(TLSError, match="certificate") as caught:
                await generate_over_tls(gateway.url, tls)
            assert caught.value.attempts == 1


@contextmanager
def strict_tls_server(context: ssl.SSLContext) -> Iterator[str]:
    """A server that tells its clients why their handshake failed.

    asyncio's own closes without an alert, so the simulator cannot play this part.
    """

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            wrapped = context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
            with wrapped:
                wrapped.settimeout(5)
                with suppress(OSError):
                    wrapped.do_handshake()
                # Closing with the client's request unread would reset the connection, and the
                # reset would overtake the alert.
                with suppress(OSError):
                    socket.socket.shutdown(wrapped, socket.SHUT_WR)
                with suppress(OSError):
                    while socket.socket.recv(wrapped, 65536):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


async def test_a_missing_client_certificate_is_a_tls_error(certificates: Certificates) -> None:
    tls = TLSConfig(ca_file=certificates.ca_file)
    with (
        strict_tls_server(certificates.server(mutual=True)) as url,
        pytest.raises(TLSError, match="certificate") as caught,
    ):
        await generate_over_tls(url, tls)
    assert caught.value.attempts == 1


async def test_a_client_certificate_opens_the_door(certificates: Certificates) -> None:
    tls = TLSConfig(
        ca_file=certificates.ca_file,
        client_cert_file=certificates.client_cert,
        client_key_file=certificates.client_key,
    )
    with simulated_gateway(tls=certificates.server(mutual=True)) as gateway:
        assert await generate_over_tls(gateway.url, tls) == 200


async def test_a_known_authority_is_trusted(certificates: Certificates) -> None:
    with simulated_gateway(tls=certificates.server()) as gateway:
        assert await generate_over_tls(gateway.url, TLSConfig(ca_file=certificates.ca_file)) == 200
