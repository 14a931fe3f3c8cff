"""`batch-gateway doctor`: what it says of gateways that are well, and of those that are not."""

from __future__ import annotations

import json
import socket
import ssl
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from batch_gateway.testing import simulated_gateway
from tests.cli.commands import batch_gateway
from tests.diagnosis.worlds import ANSWER, MODELS, Reply, events, served, well

KEY = "sk-very-secret-key"
HTML = (("Content-Type", "text/html"),)


def looked_at(tmp_path: Path, url: str, *flags: str, **variables: str) -> dict[str, Any]:
    """What `--json` says; `checks` are those of the one gateway, by their names."""
    done = batch_gateway(
        "doctor", "--gateway", url, "--json", *flags, cwd=tmp_path, variables=variables
    )
    assert done.stderr == "", done.stderr
    assert KEY not in done.stdout
    said = json.loads(done.stdout)
    assert said["exit_code"] == done.returncode
    (gateway,) = said["gateways"]
    said["checks"] = {one["check"]: one for one in gateway["checks"]}
    said["machine"] = {one["check"]: one for one in said["machine"]}
    return said


def statuses(said: dict[str, Any]) -> dict[str, str]:
    return {name: one["status"] for name, one in said["checks"].items()}


def test_a_gateway_that_is_well_passes_every_check(tmp_path: Path) -> None:
    with simulated_gateway() as gateway:
        said = looked_at(tmp_path, gateway.url)
    assert statuses(said) == dict.fromkeys(
        ["connection", "models", "answer", "key", "streaming", "usage", "metrics"], "ok"
    )
    assert (said["status"], said["exit_code"]) == ("ok", 0)


def test_the_page_is_in_plain_words(tmp_path: Path) -> None:
    with served() as url:
        done = batch_gateway("doctor", "--gateway", url, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == "this machine"
    assert url in lines
    assert "  ok      models       m-1, m-2" in lines
    assert lines[-1] == "All is well."
    assert done.returncode == 0


def test_a_gateway_that_is_not_there_is_named_with_its_cure(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        said = looked_at(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert said["exit_code"] == 3
    assert said["checks"]["connection"]["said"].endswith("connection refused")
    assert "nothing listens there" in said["checks"]["connection"]["cure"]


def test_a_name_that_is_none_is_told(tmp_path: Path) -> None:
    said = looked_at(tmp_path, "http://no-such-host.invalid:8000")
    assert said["exit_code"] == 3
    assert "DNS" in said["checks"]["connection"]["cure"]


REFUSED = Reply(401, b'{"error": {"message": "Incorrect API key provided: sk-very-secret-key"}}')
LOGIN = Reply(200, b"<!doctype html><title>Sign in</title><form>", HTML)


def of_models(reply: Reply) -> Any:
    return lambda path, body: reply if path == "/v1/models" else well(path, body)


def of_all(reply: Reply) -> Any:
    return lambda path, body: reply


def of_streams(reply: Reply) -> Any:
    return lambda path, body: reply if body.get("stream") else well(path, body)


def of_answers(reply: Reply) -> Any:
    return lambda path, body: MODELS if path == "/v1/models" else reply


@pytest.mark.parametrize(
    ("answer", "code", "check", "status", "said", "cure"),
    [
        (of_all(REFUSED), 3, "key", "failed", "the gateway refuses the key (HTTP 401", "--api-key"),
        (of_answers(REFUSED), 3, "answer", "failed", "HTTP 401", "give the right key"),
        (of_all(LOGIN), 3, "models", "failed", "answers with a page for people", "login page"),
        (
            of_all(Reply(302, b"", (("Location", "https://sso.example.com/login?token=abc"),))),
            3,
            "models",
            "failed",
            "redirects to https://sso.example.com/login, and",
            "--gateway https://sso.example.com",
        ),
        (
            of_models(Reply(404, b"404 page not found")),
            1,
            "models",
            "warning",
            "no list of models (HTTP 404",
            "--model",
        ),
        (
            of_models(Reply(200, b'{"object":"list","data":[]}')),
            1,
            "models",
            "warning",
            "is empty",
            "start a model server",
        ),
        (
            of_models(Reply(200, b"hello")),
            1,
            "models",
            "warning",
            "is no list of models",
            "is an API",
        ),
        (
            of_models(Reply(503, b"no healthy upstream")),
            1,
            "models",
            "warning",
            "no healthy upstream",
            "",
        ),
        (
            of_streams(ANSWER),
            1,
            "streaming",
            "warning",
            "answers in one piece",
            "--stream-upstream",
        ),
        (
            of_streams(Reply(400, b'{"error":{"message":"streams are off"}}')),
            1,
            "streaming",
            "warning",
            "streams are off",
            "--stream-upstream",
        ),
        (
            of_streams(events(usage=False)),
            1,
            "usage",
            "warning",
            "do not say how many tokens",
            "--tpm",
        ),
        (
            of_answers(Reply(503, b"no healthy upstream")),
            3,
            "answer",
            "failed",
            "no healthy upstream",
            "look at its log",
        ),
        (
            of_answers(Reply(429, b'{"error":{"message":"slow"}}')),
            3,
            "answer",
            "failed",
            "slow",
            "for load or quota",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_named_with_what_helps(
    tmp_path: Path, answer: Any, code: int, check: str, status: str, said: str, cure: str
) -> None:
    with served(answer) as url:
        found = looked_at(tmp_path, url, BATCH_GATEWAY_API_KEY=KEY)
    one = found["checks"][check]
    assert (found["exit_code"], one["status"]) == (code, status), found
    assert said in one["said"]
    assert cure in one["cure"]


def test_without_a_list_of_models_one_can_be_named(tmp_path: Path) -> None:
    with served(of_models(Reply(404))) as url:
        assert statuses(looked_at(tmp_path, url))["answer"] == "warning"
        assert statuses(looked_at(tmp_path, url, "--model", "m"))["answer"] == "ok"


@pytest.mark.parametrize(("off", "words"), [(3600, "1h00m behind"), (-3600, "1h00m ahead of")])
def test_a_clock_that_is_off_is_noticed(tmp_path: Path, off: int, words: str) -> None:
    with served(clock=off) as url:
        clock = looked_at(tmp_path, url)["checks"]["clock"]
    assert clock["status"] == "warning"
    assert f"this machine's clock is {words} the gateway's" in clock["said"]


def test_limits_that_a_gateway_names_are_shown(tmp_path: Path) -> None:
    limits = (*ANSWER.headers, ("x-ratelimit-limit-requests", "600"))
    with served(of_answers(ANSWER._replace(headers=limits))) as url:
        found = looked_at(tmp_path, url)["checks"]["limits"]
    assert found["said"] == "limit-requests 600"
    assert found["facts"] == {"x-ratelimit-limit-requests": "600"}


def test_a_gateway_that_does_not_answer_in_time_is_told_apart(tmp_path: Path) -> None:
    with simulated_gateway() as gateway:
        found = looked_at(tmp_path, gateway.url, "--model", "fault-stall", "--timeout", "0.3s")
    assert found["checks"]["answer"]["status"] == "failed"
    assert "loading" in found["checks"]["answer"]["cure"]


class Authority:
    """Certificates for servers on loopback, of a test's own authority."""

    def __init__(self, tmp_path: Path) -> None:
        self._authority = trustme.CA()
        self.pem = tmp_path / "ca.pem"
        self._authority.cert_pem.write_to_path(self.pem)

    def context(self, *names: str, ends_in: timedelta = timedelta(days=90)) -> ssl.SSLContext:
        now = datetime.now(UTC)
        certificate = self._authority.issue_cert(
            *names, not_before=now - timedelta(days=100), not_after=now + ends_in
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


@pytest.mark.parametrize(
    ("names", "ends_in", "trusts", "code", "status", "said", "cure"),
    [
        (("127.0.0.1",), timedelta(days=90), True, 0, "ok", "for 127.0.0.1, vouched for by", ""),
        (("127.0.0.1",), timedelta(days=5), True, 1, "warning", "in 4 days", "renewed"),
        (("127.0.0.1",), timedelta(days=-5), True, 3, "failed", "expired 5 days ago", "renewed"),
        (
            ("other.example",),
            timedelta(days=90),
            True,
            3,
            "failed",
            "for other.example",
            "--tls-server-name other.example",
        ),
        (
            ("127.0.0.1",),
            timedelta(days=90),
            False,
            3,
            "failed",
            "for 127.0.0.1",
            "--tls-ca-file FILE",
        ),
    ],
)
def test_a_certificate_is_described_be_it_refused_or_not(
    tmp_path: Path,
    names: tuple[str, ...],
    ends_in: timedelta,
    trusts: bool,
    code: int,
    status: str,
    said: str,
    cure: str,
) -> None:
    authority = Authority(tmp_path)
    flags = ["--tls-ca-file", str(authority.pem)] if trusts else []
    with served(context=authority.context(*names, ends_in=ends_in)) as url:
        found = looked_at(tmp_path, url, *flags)
    certificate = found["checks"]["certificate"]
    assert (found["exit_code"], certificate["status"]) == (code, status), found
    assert said in certificate["said"]
    assert cure in certificate["cure"]
    assert certificate["facts"]["names"] == list(names)


def test_tls_where_none_is_spoken_is_told(tmp_path: Path) -> None:
    with served() as url:
        found = looked_at(tmp_path, url.replace("http:", "https:"))
    assert found["exit_code"] == 3
    assert found["checks"]["connection"]["cure"]


def test_proxies_of_the_environment_are_named_without_their_passwords(tmp_path: Path) -> None:
    with served() as url:
        found = looked_at(tmp_path, url, HTTPS_PROXY=f"http://me:{KEY}@proxy.example:3128")
    proxies = found["machine"]["proxies"]
    assert proxies["status"] == "note"
    assert proxies["said"] == "HTTPS_PROXY is http://proxy.example:3128, and not used"
    assert "--proxy env" in proxies["cure"]


def test_a_mistake_in_a_setting_is_one_of_usage(tmp_path: Path) -> None:
    for flags, words in (
        ([], "no gateway is given"),
        (["--gateway", "ftp://h"], "--gateway"),
        (["--gateway", "http://h", "--api-key-file", "none.txt"], "none.txt"),
    ):
        done = batch_gateway("doctor", *flags, cwd=tmp_path)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_every_extra_that_brings_something_is_named(tmp_path: Path) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    with simulated_gateway() as gateway:
        facts = looked_at(tmp_path, gateway.url)["machine"]["extras"]["facts"]
    assert {*facts["installed"], *facts["missing"]} == {name for name in extras if extras[name]}
