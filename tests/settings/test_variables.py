"""Environment variables: every setting has one, and what others put there is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_gateway.errors import ConfigError
from batch_gateway.settings.run_settings import RunSettings, read_config_file, resolve_settings
from batch_gateway.settings.setting import ConfigFile
from batch_gateway.settings.table import SETTINGS
from batch_gateway.settings.variables import from_variables
from batch_gateway.testing import simulated_gateway
from tests.cli.commands import batch_gateway, write_batch

EXAMPLES = {
    "URL": "http://v", "MODEL=URL": "m=http://v", "PATH": "/v", "N|auto": "7", "N": "7",
    "[NAME=]PATH": "score",
    "N|P%": "7", "DURATION": "7s", "SIZE": "7KiB", "NAME": "X-Api-Key", "KEY": "sk-v",
    "NAME=VALUE": "X-A=v", "SHA256": "ab" * 32, "IP:PORT": "10.0.0.1:8000", "HOST": "v",
    "URL|env": "env", "STORE": "s3://data/v", "": "true", "ADDRESS": "127.0.0.2",
    "DSN": "postgresql://h/d", "CONDITION": "p95>30s",
}  # fmt: skip


def resolve(
    variables: dict[str, str], flags: dict[str, Any] | None = None, file: ConfigFile | None = None
) -> RunSettings:
    return resolve_settings(flags or {}, variables, file or ConfigFile())


def refusal(variables: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(variables)
    return str(caught.value)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_variable_or_says_why_not(name: str) -> None:
    setting = SETTINGS[name]
    kind = setting.kind
    example = kind.choices[0] if kind.choices else EXAMPLES[kind.metavar]
    if name.endswith("_env"):
        example = "GATEWAY_KEY"
    for variable in setting.variables:
        if setting.only_flag:
            with pytest.raises(ConfigError, match=f"^{variable}: is for the command line alone"):
                from_variables({variable: example}, "run")
        else:
            texts = [example] if kind.several else example
            found = from_variables({variable: example}, (setting.only or ("run",))[0])[name]
            parse = setting.parse_all if kind.several else setting.parse
            assert (found.place, found.value) == (variable, parse("", texts))  # type: ignore[arg-type]


def test_a_variable_wins_over_the_file_and_loses_to_a_flag(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "gateway: http://g\ntimeout: 3s\nmodel_gateways: {m: {url: http://m, timeout: 4s}}\n"
        "headers: {X-A: file, X-B: file, X-C: file}\n"
    )
    variables = {
        "BATCH_GATEWAY_CONFIG": str(path),
        "BATCH_GATEWAY_TIMEOUT": "2s",
        "BATCH_GATEWAY_HEADERS": "X-B=variable,X-C=variable",
    }
    file = read_config_file(None, variables)
    settings = resolve(variables, {}, file)
    assert settings.gateway is not None
    assert (settings.gateway.timeout, settings.model_gateways["m"].timeout) == (2.0, 2.0)
    flags = {"timeout": 1.0, "headers": {"x-c": "flag"}}
    by_flag = resolve(variables, flags, file).gateway
    assert by_flag is not None
    assert by_flag.timeout == 1.0
    assert dict(by_flag.header_pairs()) == {"X-A": "file", "X-B": "variable", "x-c": "flag"}


def test_a_list_is_divided_by_commas_or_else_by_line_breaks() -> None:
    by_commas = from_variables({"BATCH_GATEWAY_MODEL_GATEWAYS": " a=http://a , b=http://b,"}, "run")
    assert by_commas["model_gateways"].value == {"a": "http://a", "b": "http://b"}
    by_lines = from_variables({"BATCH_GATEWAY_HEADERS": "X-A=1, 2\n\n X-B=a=b\n"}, "run")
    assert by_lines["headers"].value == {"X-A": "1, 2", "X-B": "a=b"}


def test_both_names_of_the_gateways_variable_hold_unless_they_differ() -> None:
    for name in ("BATCH_GATEWAY_URL", "BATCH_GATEWAY_GATEWAY"):
        assert resolve({name: "simulator"}).uses_simulator
    both = {"BATCH_GATEWAY_URL": "http://a", "BATCH_GATEWAY_GATEWAY": "http://b"}
    assert refusal(both) == "BATCH_GATEWAY_GATEWAY: says something else than BATCH_GATEWAY_URL"


OF_KUBERNETES = {
    "BATCH_GATEWAY_SERVICE_HOST": "10.0.0.1",
    "BATCH_GATEWAY_SERVICE_PORT": "80",
    "BATCH_GATEWAY_SERVICE_PORT_HTTP": "80",
    "BATCH_GATEWAY_PORT": "tcp://10.0.0.1:80",
    "BATCH_GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80",
    "BATCH_GATEWAY_PORT_80_TCP_PROTO": "tcp",
    "BATCH_GATEWAY_PORT_80_TCP_PORT": "80",
    "BATCH_GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
    "BATCH_GATEWAY_METRICS_SERVICE_HOST": "10.0.0.1",
    "BATCH_GATEWAY_METRICS_SERVICE_PORT": "9090",
    "BATCH_GATEWAY_METRICS_PORT": "tcp://10.0.0.1:9090",
    "BATCH_GATEWAY_METRICS_PORT_9090_UDP_ADDR": "10.0.0.1",
}


def test_the_variables_of_kubernetes_services_are_no_settings() -> None:
    settings = resolve({**OF_KUBERNETES, "BATCH_GATEWAY_URL": "http://g"})
    assert settings == resolve({"BATCH_GATEWAY_URL": "http://g"})
    assert settings.metrics_port is None
    assert settings.warnings == ()
    meant = resolve(
        {**OF_KUBERNETES, "BATCH_GATEWAY_URL": "http://g", "BATCH_GATEWAY_METRICS_PORT": "9"}
    )
    assert meant.metrics_port == 9


def test_a_variable_that_is_none_of_ours_is_told_of_and_the_run_goes_on() -> None:
    unknown = {"BATCH_GATEWAY_TIMEUOT": "1s", "BATCH_GATEWAY_QQQ": "s3cret"}
    others = {"BATCH_GATEWAY_URL": "http://g", "BATCH_GATEWAY_EMPTY": " "}
    warnings = resolve({**unknown, **others}).warnings
    assert warnings == (
        "BATCH_GATEWAY_TIMEUOT is set, and is the variable of no setting;"
        " did you mean BATCH_GATEWAY_TIMEOUT?",
        "BATCH_GATEWAY_QQQ is set, and is the variable of no setting",
    )


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("TIMEOUT", "5 min", "'5 min' is not a duration: write seconds"),
        ("CONCURRENCY", "0", "0 is not a whole number of at least 1"),
        ("ORDERED", "maybe", "'maybe' is not true or false"),
        ("HEADERS", "s3cret", "must be NAME=VALUE"),
        ("MODEL_GATEWAYS", "a=http://a,a=http://b", "a is given twice"),
        ("API_KEY_ENV", "sk-s3cret-1", "must be the name of a variable, such as GATEWAY_KEY"),
        ("API_KEY", "s3cret s3cret", "the key has a space, a line break or a character"),
        ("PROXY", "proxy s3cret", "must be env or a URL such as"),
        ("OUTPUT", "~no-such-user/x", "there is no home directory '~no-such-user'"),
        ("CONFIG", "/no/such.yaml", "cannot read the config file /no/such.yaml: No such file"),
    ],
)
def test_a_wrong_variable_is_named_and_no_secret_is_shown(
    variable: str, value: str, problem: str
) -> None:
    variables = {"BATCH_GATEWAY_URL": "http://g", f"BATCH_GATEWAY_{variable}": value}
    with pytest.raises(ConfigError) as caught:
        resolve(variables, {}, read_config_file(None, variables))
    assert str(caught.value).startswith(f"BATCH_GATEWAY_{variable}: {problem}")
    assert "s3cret" not in str(caught.value)


def test_two_sources_of_a_key_among_the_variables_are_a_mistake() -> None:
    both = {"BATCH_GATEWAY_API_KEY": "sk-s3cret", "BATCH_GATEWAY_API_KEY_FILE": "/k"}
    message = "BATCH_GATEWAY_API_KEY_FILE: gives a key, as BATCH_GATEWAY_API_KEY does; keep one"
    assert refusal({"BATCH_GATEWAY_URL": "http://g", **both}) == message


@pytest.mark.parametrize("quiet", [True, False])
def test_the_command_tells_of_what_does_nothing_and_quietly_of_mistakes_alone(
    tmp_path: Path, quiet: bool
) -> None:
    write_batch(tmp_path / "in.jsonl", 1)
    (tmp_path / "c.yaml").write_text("num_workers: 2\npoll_interval: 9s\n")
    with simulated_gateway() as gateway:
        variables = {
            "BATCH_GATEWAY_URL": gateway.url,
            "BATCH_GATEWAY_CONFIG": "c.yaml",
            "BATCH_GATEWAY_QUIET": str(quiet),
            "BATCH_GATEWAY_TIMEUOT": "1s",
            **OF_KUBERNETES,
        }
        done = batch_gateway("run", "in.jsonl", cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert "BATCH_GATEWAY_TIMEUOT is set, and is the variable of no setting" in done.stderr
    assert ("c.yaml: num_workers, poll_interval: nothing to do in run" in done.stderr) is not quiet
    assert done.stderr.count("BATCH_GATEWAY_") == 2
