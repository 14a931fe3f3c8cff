"""Whatever is wrong with the settings, the message names flags and variables that exist."""

from __future__ import annotations

import itertools
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import trustme

from batch_gateway.cli.input_options import asked_of_input
from batch_gateway.cli.pick import pick
from batch_gateway.cli.run import run
from batch_gateway.errors import ConfigError, InputError
from batch_gateway.settings.config_file import load_config_file
from batch_gateway.settings.gateway_configs import naming_the_setting
from batch_gateway.settings.run_settings import resolve_settings
from batch_gateway.settings.setting import ConfigFile
from batch_gateway.settings.table import GATEWAY_SETTINGS, SETTINGS

COMMANDS = {"run": run, "pick": pick}
NASTY = [
    "", " ", "\n", "ü", "a\r\nb: c", "-1", "0", "1", "nan", "1e400", "9" * 30, "x=\n", "x y",
    "/no/such/place", "simulater", "grpc://h:9002", "https://u:p@h", "1s", "1GiB", "auto",
]  # fmt: skip
GRPC_ADDRESS = "grpc://127.0.0.1:1"
ADDRESSES = ("https://127.0.0.1:1", GRPC_ADDRESS)
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# The client's own names for what has another name here.
_FOREIGN = {
    setting.field for name, setting in GATEWAY_SETTINGS.items() if setting.field not in (name, "")
}


@pytest.fixture(autouse=True)
def no_authorities_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """To load them takes most of the time, and no message depends on them."""
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda _: None)


def options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


def complaint(command: click.Command, arguments: list[str]) -> str:
    """What the command says to these arguments before it does anything; empty if nothing."""
    given = ["file.jsonl", *arguments] if command is run else arguments
    try:
        flags = dict(command.make_context(command.name, given).params)
        if command is run:
            asked_of_input(flags, flags["endpoint"])
        of_settings = {name: value for name, value in flags.items() if name in SETTINGS}
        resolve_settings({**of_settings, "config": None}, {}, ConfigFile())
    except click.ClickException as error:
        return error.format_message()
    except (ConfigError, InputError) as error:
        return str(error)
    return ""


def assert_named(message: str, command: click.Command) -> None:
    known = {name for one in options(command) for name in one.opts}
    # Which commands there are is said where something is to be done instead.
    known |= {"--gateway", "--picker-port", "--pods"}
    assert set(_FLAG.findall(message)) <= known, message
    for field in _FOREIGN:
        assert not re.search(rf"\b{re.escape(field)}\b", message), message


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_bad_value_of_any_flag_is_told_by_names_that_exist(name: str, address: str) -> None:
    command = COMMANDS[name]
    told = 0
    for option in options(command):
        for value in [] if option.is_flag else NASTY:
            message = complaint(command, [f"{option.opts[0]}={value}", "--gateway", address])
            assert_named(message, command)
            told += bool(message)
    assert told > 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(place / "ca.pem")
    certificate = authority.issue_cert("h")
    certificate.private_key_pem.write_to_path(place / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(place / "cert.pem")
    (place / "key.txt").write_text("sk-good-1\n")
    return place


def good(option: click.Option, folder: Path) -> Iterator[str]:
    """The option with a value that is right by itself."""
    flag = option.opts[0]
    if option.is_flag:
        yield flag
        return
    kinds = {
        "DURATION": "2s", "SIZE": "1GiB", "N": "3", "N|auto": "4", "URL": "http://127.0.0.1:1",
        "URL|env": "env", "SHA256": "ab" * 32, "IP:PORT": "10.0.0.1:80", "NAME=VALUE": "X-A=b",
        "MODEL=URL": "m=http://127.0.0.1:1", "NAME": "X-Key", "HOST": "h", "ADDRESS": "127.0.0.1",
        "DSN": "postgresql://h/d", "[NAME=]PATH": "score",
    }  # fmt: skip
    files = {
        "--tls-ca-file": "ca.pem", "--tls-client-cert-file": "cert.pem", "--cache": "cache",
        "--tls-client-key-file": "key.pem", "--api-key-file": "key.txt",
        "--gateway-metrics-token-file": "key.txt",
    }  # fmt: skip
    choices = SETTINGS[option.name or ""].kind.choices
    if choices:
        for choice in choices:
            yield f"{flag}={choice}"
    elif flag.replace("--pod-", "--") in files:
        yield f"{flag}={folder / files[flag.replace('--pod-', '--')]}"
    elif option.metavar in kinds:
        yield f"{flag}={kinds[option.metavar]}"


def test_two_flags_that_contradict_each_other_are_told_by_names_that_exist(folder: Path) -> None:
    beside = {"Files", "Display", "Metrics and logs"}
    single = [
        argument
        for option in options(run)
        if option.name in SETTINGS
        if getattr(option, "group", "") not in beside and option.opts[0] != "--gateway"
        for argument in good(option, folder)
    ]
    told = set[str]()
    for pair in itertools.combinations(single, 2):
        message = complaint(run, [*pair, "--gateway", GRPC_ADDRESS])
        assert_named(message, run)
        told.add(message)
    assert len(told) > 20


def test_a_bad_value_in_a_config_file_is_told_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for setting in SETTINGS.values():
        for value in ("''", "' '", "-1", "nan", '"a\\nb"', "/no/such", "[1]", "{}", "~"):
            path.write_text(f"gateway: http://127.0.0.1:1\n{setting.name}: {value}\n", "utf-8")
            try:
                resolve_settings({}, {}, load_config_file(path))
            except ConfigError as error:
                message = str(error)
                # But for what is missing beside it, which has no line.
                assert f"{path}:" in message or "go together; give both" in message
                assert_named(message, run)


def test_a_variable_is_named_as_itself() -> None:
    with (
        pytest.raises(ConfigError, match="^SSL_CERT_FILE: is missing"),
        naming_the_setting({}),
    ):
        raise ConfigError("SSL_CERT_FILE", "is missing")


@pytest.mark.parametrize(
    ("flag", "value"), [("--inference-objective", "a\nb"), ("--fairness-id", "ü\u2028")]
)
def test_what_cannot_be_a_header_names_its_own_flag(flag: str, value: str) -> None:
    message = complaint(run, [f"{flag}={value}", "--gateway", "http://h"])
    assert message == f"{flag}: its value has a control character or one outside Latin-1"
