"""Variables of other programs: used when asked for, and named where they would have helped."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
import trustme

from batch_gateway.testing import simulated_gateway
from tests.cli.commands import Finished, batch_gateway, write_batch

KEY = "sk-of-openai-1"
UNREACHABLE = "http://no-such-gateway.invalid:8000"


def run(folder: Path, *arguments: str, **variables: str) -> Finished:
    write_batch(folder / "requests.jsonl", 3)
    return batch_gateway("run", "requests.jsonl", *arguments, cwd=folder, variables=variables)


def test_openai_takes_the_url_and_the_key_of_openais_sdk(tmp_path: Path) -> None:
    with simulated_gateway(api_key=KEY) as gateway:
        variables = {"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": KEY}
        assert run(tmp_path, "--gateway", "openai", **variables).returncode == 0


@pytest.mark.parametrize("written", ["gateway: openai\n", "inference_gateway_url: openai\n"])
def test_openai_may_stand_in_a_config_file_and_in_our_own_variable(
    tmp_path: Path, written: str
) -> None:
    (tmp_path / "c.yaml").write_text(written)
    with simulated_gateway(api_key=KEY) as gateway:
        openai = {"OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": KEY}
        assert run(tmp_path, "--config", "c.yaml", **openai).returncode == 0
        (tmp_path / "requests.results.jsonl").unlink()
        assert run(tmp_path, BATCH_GATEWAY_URL="openai", **openai).returncode == 0


def test_a_key_for_another_gateway_is_not_sent_to_openais(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("api_key: sk-of-the-file-1\n")
    with simulated_gateway(api_key="sk-of-the-file-1") as gateway:
        variables = {"OPENAI_BASE_URL": gateway.url, "BATCH_GATEWAY_API_KEY": "sk-of-the-file-1"}
        done = run(tmp_path, "--gateway", "openai", "--config", "c.yaml", **variables)
    assert done.returncode == 3
    assert "HTTP 401" in done.stdout


def test_a_key_that_is_given_beside_it_wins(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-given-1\n")
    with simulated_gateway(api_key="sk-given-1") as gateway:
        variables = {"OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": KEY}
        done = run(tmp_path, "--gateway", "openai", "--api-key-file", "key", **variables)
    assert done.returncode == 0


def test_openais_key_goes_to_openais_gateway_alone(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny", "other"])
    with simulated_gateway(api_key=KEY) as openai, simulated_gateway(api_key=KEY) as other:
        done = batch_gateway(
            "run", "requests.jsonl", "--gateway", "openai",
            "--model-gateway", f"other={other.url}", "--json", cwd=tmp_path,
            variables={"OPENAI_BASE_URL": openai.url, "OPENAI_API_KEY": KEY},
        )  # fmt: skip
    summary = json.loads(done.stdout)
    assert (summary["succeeded"], summary["left"]) == (1, 1)
    assert "401" in summary["reason"]


def test_openai_without_its_variables_says_which(tmp_path: Path) -> None:
    done = run(tmp_path, "--gateway", "openai")
    assert done.returncode == 2
    assert "--gateway: openai takes OPENAI_BASE_URL and OPENAI_API_KEY" in done.stderr


def test_without_a_gateway_openais_variables_are_named_when_they_are_set(tmp_path: Path) -> None:
    done = run(tmp_path, OPENAI_BASE_URL="http://h/v1")
    assert done.returncode == 2
    assert "--gateway openai " in done.stderr
    assert "by OPENAI_BASE_URL, which is set" in done.stderr


@pytest.mark.parametrize("variable", ["BATCH_GATEWAY_API_KEY", "UNRELATED"])
def test_a_refused_key_names_the_one_that_was_not_sent(tmp_path: Path, variable: str) -> None:
    with simulated_gateway(api_key=KEY) as gateway:
        variables = {"OPENAI_API_KEY": KEY, variable: "sk-another-1"}
        done = run(tmp_path, "--gateway", gateway.url, **variables)
        told = "OPENAI_API_KEY is set, and not sent unless asked for: --api-key-env OPENAI_API_KEY"
        assert told in done.stdout
        assert KEY not in done.stdout + done.stderr
        asked = ("--gateway", gateway.url, "--api-key-env", "OPENAI_API_KEY")
        assert run(tmp_path, *asked, **variables).returncode == 0


def test_a_refused_key_that_is_the_same_is_not_called_unused(tmp_path: Path) -> None:
    with simulated_gateway(api_key="sk-right-1") as gateway:
        variables = {"OPENAI_API_KEY": KEY, "BATCH_GATEWAY_API_KEY": KEY}
        done = run(tmp_path, "--gateway", gateway.url, "--json", **variables)
    assert not any("OPENAI" in hint for hint in json.loads(done.stdout)["hints"])


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_is_not_used_is_named_when_the_connection_fails(
    tmp_path: Path, variable: str
) -> None:
    done = run(tmp_path, "--gateway", UNREACHABLE, **{variable: "http://user:hidden@proxy:3128"})
    assert done.returncode == 3
    assert f"{variable} is set, and proxies are not used unless asked for: --proxy env" in (
        done.stderr
    )
    assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    ("gateway", "variables"),
    [
        (UNREACHABLE, {"HTTPS_PROXY": "http://proxy"}),
        (UNREACHABLE, {"HTTP_PROXY": "http://proxy", "NO_PROXY": ".invalid"}),
        ("http://127.0.0.1:1", {"HTTP_PROXY": "http://proxy"}),
        (UNREACHABLE, {"HTTP_PROXY": ""}),
    ],
)
def test_a_proxy_that_would_not_have_been_used_is_not_named(
    tmp_path: Path, gateway: str, variables: dict[str, str]
) -> None:
    assert "_PROXY is set" not in run(tmp_path, "--gateway", gateway, **variables).stderr


def test_all_proxy_serves_where_the_scheme_has_none_of_its_own(tmp_path: Path) -> None:
    asked = ("--gateway", UNREACHABLE, "--proxy", "env")
    done = run(tmp_path, *asked, ALL_PROXY="http://127.0.0.1:1")
    assert "the proxy for no-such-gateway.invalid:8000" in done.stderr
    done = run(tmp_path, *asked, ALL_PROXY="socks5://127.0.0.1:1")
    assert "ALL_PROXY is not the URL of an HTTP proxy" in done.stderr


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_for_other_programs_are_named_when_a_certificate_is_refused(
    tmp_path: Path, variable: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with simulated_gateway(tls=context) as gateway:
        bundle = str(tmp_path / "ca.pem")
        done = run(tmp_path, "--gateway", gateway.url, **{variable: bundle})
        cure = f"--tls-ca-file {bundle}"
        assert done.returncode == 3
        assert f"{variable} is set, and not used unless asked for: {cure}" in done.stderr
        assert run(tmp_path, "--gateway", gateway.url, *cure.split()).returncode == 0


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("SSL_CERT_FILE", "/no/such/file.pem", "No such file or directory"),
        ("SSL_CERT_FILE", __file__, "not a PEM file"),
        ("SSL_CERT_DIR", "/no/such/folder:/nor/this", "No such directory"),
    ],
)
def test_trusted_authorities_that_are_not_there_are_an_error(
    tmp_path: Path, variable: str, value: str, reason: str
) -> None:
    asked = ("--gateway", "https://127.0.0.1:1")
    done = run(tmp_path, *asked, **{variable: value})
    assert done.returncode == 2
    cure = "Unset the variable, or give the authorities as --tls-ca-file"
    assert f"Error: {variable}: {value}: {reason}. {cure}" in done.stderr
    # Nobody is asked to be trusted by them.
    assert run(tmp_path, "--gateway", "http://127.0.0.1:1", **{variable: value}).returncode == 3


def test_a_key_may_travel_in_a_header_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-azure-1\n")
    with simulated_gateway(api_key="sk-azure-1") as gateway:
        asked = ("--gateway", gateway.url, "--api-key-file", "key")
        done = run(tmp_path, *asked, "--api-key-header", "api-key")
        # The simulator knows bearers alone.
        assert "HTTP 401" in done.stdout
        assert run(tmp_path, *asked).returncode == 0
    done = run(tmp_path, *asked, "--api-key-header", "X-Colour")
    assert done.returncode == 2
    assert "--api-key-header: 'X-Colour' does not say that it holds a key" in done.stderr
