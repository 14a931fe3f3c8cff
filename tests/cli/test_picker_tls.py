"""TLS between a command and an endpoint picker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from batch_gateway.testing import PickerConfig, SimulatorConfig, simulated_pool
from tests.cli.commands import batch_gateway, in_a_process, write_batch
from tests.http.behaviour.self_signed import SelfSigned

INSTANT = SimulatorConfig.instant()


def test_a_pickers_default_certificate_can_be_pinned_as_its_refusal_says(tmp_path: Path) -> None:
    own = SelfSigned(tmp_path)
    picker = PickerConfig(tls_certificate=own.certificate_file, tls_key=own.key_file)
    batch = write_batch(tmp_path / "in.jsonl", 3)
    with simulated_pool(pods=1, config=INSTANT, picker=picker) as pool:
        refused = batch_gateway("run", batch, "--gateway", pool.url, cwd=tmp_path)
        assert refused.returncode == 3
        assert "--tls-insecure-skip-verify" in refused.stderr
        seen = re.search(r"fingerprint is ([0-9A-F:]{95})\), pin it .*--tls-pin", refused.stderr)
        assert seen, refused.stderr
        pin = ("--tls-pin", seen.group(1))
        done = batch_gateway("run", batch, "--gateway", pool.url, *pin, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        pick = ("pick", "--gateway", pool.url, "--model", "m")
        assert batch_gateway(*pick, *pin, cwd=tmp_path).returncode == 0
        unverified = in_a_process(*pick, "--tls-insecure-skip-verify", cwd=tmp_path)
        assert unverified.returncode == 0
        assert "Warning: tls.insecure_skip_verify is set" in unverified.stderr
        plain = pool.url.replace("grpcs://", "grpc://")
        wrong = batch_gateway("pick", "--gateway", plain, "--model", "m", cwd=tmp_path)
        assert wrong.returncode == 3
        assert "it expects TLS: grpcs://" in wrong.stderr


def test_a_picker_may_have_another_name_and_ask_for_a_client_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("picker.example", "client.example"):
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    picker = PickerConfig(
        tls_certificate=tmp_path / "picker.example.pem",
        tls_key=tmp_path / "picker.example.key",
        tls_client_ca=tmp_path / "ca.pem",
    )
    named = ("--tls-ca-file", "ca.pem", "--tls-server-name", "picker.example")
    own = ("--tls-client-cert-file", "client.example.pem")
    own += ("--tls-client-key-file", "client.example.key")
    with simulated_pool(pods=1, config=INSTANT, picker=picker) as pool:
        pick = ("pick", "--gateway", pool.url, "--model", "m")
        done = batch_gateway(*pick, *named, *own, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert batch_gateway(*pick, *named, cwd=tmp_path).returncode == 3
        nameless = batch_gateway(*pick, *named[:2], *own, cwd=tmp_path)
        assert nameless.returncode == 3
        assert "--tls-server-name" in nameless.stderr


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
def test_a_port_that_speaks_something_else_is_told_apart(tmp_path: Path, scheme: str) -> None:
    with simulated_pool(pods=1, config=INSTANT) as pool:
        port = pool.pods[0].port if scheme == "grpc" else pool.url.rpartition(":")[2]
        url = f"{scheme}://127.0.0.1:{port}"
        done = batch_gateway("pick", "--gateway", url, "--model", "m", cwd=tmp_path)
    assert done.returncode == 3
    said = "it answered as an HTTP/1 server" if scheme == "grpc" else "it seems to speak no TLS"
    assert said in done.stderr


def test_pods_that_serve_tls_are_reached_by_a_run(tmp_path: Path) -> None:
    own = SelfSigned(tmp_path)
    config = SimulatorConfig.instant(tls_certificate=own.certificate_file, tls_key=own.key_file)
    batch = write_batch(tmp_path / "in.jsonl", 3)
    with simulated_pool(pods=2, config=config) as pool:
        run = ("run", batch, "--gateway", pool.url, "--fresh")
        pinned = batch_gateway(*run, "--pod-tls", "--pod-tls-pin", own.fingerprint, cwd=tmp_path)
        assert pinned.returncode == 0, pinned.stderr
        settings = f"gateway: {pool.url}\npod_tls: true\npod_tls_insecure_skip_verify: true\n"
        (tmp_path / "run.yaml").write_text(settings, "utf-8")
        unverified = in_a_process("run", batch, "--fresh", "--config", "run.yaml", cwd=tmp_path)
        assert unverified.returncode == 0, unverified.stderr
        assert "Warning: pod_tls.insecure_skip_verify is set" in unverified.stderr
        distrusted = batch_gateway(*run, "--pod-tls", cwd=tmp_path)
        assert distrusted.returncode == 3
        assert "--pod-tls-ca-file" in distrusted.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--pod-tls-ca-file", "ca.pem"), "--pod-tls-ca-file: does nothing without --pod-tls"),
        (("--pod-tls", "--pod-tls-ca-file", "no.pem"), "--pod-tls-ca-file: "),
        (
            ("--pod-tls", "--pod-tls-ca-file", "in.jsonl"),
            "--pod-tls-ca-file: in.jsonl is not a PEM",
        ),
        (("--pod-tls", "--pod-tls-pin", "AB:CD"), "--pod-tls-pin: 'AB:CD' is not a SHA-256"),
        (("--pod-tls", "--pod-tls-client-cert-file", "in.jsonl"), "--pod-tls-client-key-file: "),
    ],
)
def test_a_wrong_setting_about_pods_is_named_by_its_flag(
    tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 1)
    done = batch_gateway("run", batch, "--gateway", "grpc://picker:9002", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr


def test_pods_are_a_matter_of_endpoint_pickers_alone(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "in.jsonl", 1)
    done = batch_gateway("run", batch, "--gateway", "http://x:1", "--pod-tls", cwd=tmp_path)
    assert done.returncode == 2
    assert "--pod-tls: does nothing without an endpoint picker" in done.stderr
