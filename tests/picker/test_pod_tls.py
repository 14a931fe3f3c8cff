"""Pods that serve TLS: reached with certificates verified, streamed, and refused by name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trustme

from batch_gateway import (
    EndpointPickerConfig,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    TLSConfig,
    TLSError,
)
from batch_gateway.client.build import InsecureTLSWarning
from batch_gateway.testing import PickerConfig, PoolHandle, SimulatorConfig, simulated_pool
from tests.http.behaviour.self_signed import SelfSigned


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


def serving(tmp_path: Path, authority: trustme.CA, name: str, **more: Any) -> SimulatorConfig:
    """Pods with a certificate for `name`."""
    issued = authority.issue_cert(name)
    issued.private_key_pem.write_to_path(tmp_path / "pod.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "pod.pem")
    return SimulatorConfig.instant(
        tls_certificate=tmp_path / "pod.pem", tls_key=tmp_path / "pod.key", **more
    )


def chat() -> InferenceRequest:
    messages = [{"role": "user", "content": "Hello!"}]
    return InferenceRequest(params={"model": "m", "messages": messages})


def ask(pool: PoolHandle, pods: TLSConfig | None, **more: Any) -> InferenceResponse:
    config = HTTPInferenceClientConfig(
        pool.url, retry=None, endpoint_picker=EndpointPickerConfig(pod_tls=pods), **more
    )

    async def generate() -> InferenceResponse:
        async with HTTPInferenceClient(config) as client:
            return await client.generate(chat())

    return asyncio.run(generate())


def refused(pool: PoolHandle, pods: TLSConfig | None) -> InferenceError:
    with pytest.raises(InferenceError) as caught:
        ask(pool, pods)
    return caught.value


def test_pods_with_a_certificate_for_their_address_are_reached(
    tmp_path: Path, authority: trustme.CA
) -> None:
    config = serving(tmp_path, authority, "127.0.0.1")
    pods = TLSConfig(ca_file=tmp_path / "ca.pem")
    with simulated_pool(2, config, PickerConfig(fallbacks=1)) as pool:
        assert ask(pool, pods).status_code == 200
        assert ask(pool, pods, stream_upstream=True).status_code == 200
        # Where no connection can be made the next of the choice is tried, as over plain HTTP.
        pool.pods[0].stop()
        assert ask(pool, pods).headers["x-inference-pod"] == "pod-1"
        assert [handle.config.tls_key is not None for handle in pool.pods] == [True, True]


def test_a_name_stands_for_the_address_where_certificates_have_one(
    tmp_path: Path, authority: trustme.CA
) -> None:
    config = serving(tmp_path, authority, "pods.example")
    with simulated_pool(1, config) as pool:
        by_address = refused(pool, TLSConfig(ca_file=tmp_path / "ca.pem"))
        assert isinstance(by_address, TLSError)
        assert not by_address.is_retryable
        assert "(pod_tls.server_name, --pod-tls-server-name)" in by_address.message
        assert pool.pods[0].journal()["received"] == 0
        named = TLSConfig(ca_file=tmp_path / "ca.pem", server_name="pods.example")
        assert ask(pool, named).status_code == 200


def test_certificates_of_pods_are_not_taken_on_trust(tmp_path: Path) -> None:
    own = SelfSigned(tmp_path)
    config = SimulatorConfig.instant(tls_certificate=own.certificate_file, tls_key=own.key_file)
    with simulated_pool(1, config) as pool:
        error = refused(pool, TLSConfig())
        assert isinstance(error, TLSError)
        assert "(pod_tls.ca_file, --pod-tls-ca-file)" in error.message
        assert "pin it (pod_tls.pinned_certificate, --pod-tls-pin)" in error.message
        assert "chosen by the endpoint picker" in error.message
        assert pool.pods[0].journal()["received"] == 0
        assert ask(pool, TLSConfig(pinned_certificate=own.fingerprint)).status_code == 200
        with pytest.warns(
            InsecureTLSWarning, match=r"^pod_tls\.insecure_skip_verify is set.* pods"
        ):
            assert ask(pool, TLSConfig(insecure_skip_verify=True)).status_code == 200


def test_pods_may_ask_for_a_client_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    ca = tmp_path / "ca.pem"
    config = serving(tmp_path, authority, "127.0.0.1", tls_client_ca=ca)
    with simulated_pool(1, config) as pool:
        refused(pool, TLSConfig(ca_file=ca))
        shown = TLSConfig(
            ca_file=ca,
            client_cert_file=tmp_path / "pod.pem",
            client_key_file=tmp_path / "pod.key",
        )
        assert ask(pool, shown).status_code == 200


def test_pods_that_do_not_speak_what_is_set_are_told_apart(
    tmp_path: Path, authority: trustme.CA
) -> None:
    with simulated_pool(1) as pool:
        error = refused(pool, TLSConfig())
        assert "it seems to speak no TLS here" in error.message
    with simulated_pool(1, serving(tmp_path, authority, "127.0.0.1")) as pool:
        for streamed in (False, True):
            with pytest.raises(InferenceError, match=r"\(endpoint_picker\.pod_tls, --pod-tls\)"):
                ask(pool, None, stream_upstream=streamed)
