"""Whatever stands in a config file or in the environment, what is wrong is said in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_gateway.settings.processor_keys import PROCESSOR_KEYS
from batch_gateway.settings.table import SETTINGS
from tests.cli.commands import batch_gateway

ODD = [
    "", "~", "''", "' '", "yes", "maybe", "0", "-1", "1_0", "0x", "0x10", "9" * 400, "9" * 5000,
    "0x" + "f" * 5000, "1e999", ".nan", "-.inf", "1:30", "2026-01-01", "2026-99-99", "a/" * 3000,
    "~no-such-user/x", '"~no-such-user"', '"\\0"', '"\\ud800"', '"\\udc80"', '"\\u2028"', "x" * 300,
    "!!binary aGk=", "!!python/name:os.system x", "!!int x", "!!float x", "!!timestamp x",
    "!!null x", "!!bool x", "!x y", "[1, [2]]", "[]", "{}", "{a: b}", "{a: {url: x}}",
    "{? [a] : b}", "&x [*x]",
    "&x {url: *x, headers: *x}", "{<<: {a: b}}", "<<", "=", "|\n  a\n  b", "http://[",
    "http://h:99999", "grpc://", "grpc://h", "https://h", "openai", "simulator", "auto", "5%", "1s",
    "1GiB", "none", "{url: http://h, timeout: .inf, api_key_name: a/b}",
    "{m: {url: '', proxy: env}}",
]  # fmt: skip
NAMES = sorted(
    {name for one in SETTINGS.values() for name in (one.name, *one.aliases)}
    | {name.partition(".")[0] for name in PROCESSOR_KEYS}
    | {"global_inference_gateway", "url", "<<", "?", "&a x"}
)
lines = st.tuples(st.sampled_from(NAMES), st.sampled_from(ODD)).map(": ".join)
texts = st.one_of(
    st.lists(lines, max_size=4).map("\n".join),
    st.lists(lines, min_size=1, max_size=4).map(
        lambda some: f"gateway: http://h\n{chr(10).join(some)}"
    ),
    st.lists(lines, max_size=3).map(
        lambda some: "\n  ".join(["global_inference_gateway:", "url: http://h", *some])
    ),
    st.text(alphabet="abc:{}[]-&*!|>'\"\n #,?0\t\0\x85\ufeff", max_size=60),
)
values = st.one_of(
    st.sampled_from([text for text in ODD if "\0" not in text]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    st.binary(max_size=9).map(
        lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape")
    ),
)
VARIABLES = sorted({name for one in SETTINGS.values() for name in one.variables})
SHARED = HealthCheck.function_scoped_fixture
often = settings(max_examples=60, deadline=None, suppress_health_check=[SHARED])


def assert_told(folder: Path, *arguments: str, variables: dict[str, str] | None = None) -> None:
    done = batch_gateway("run", "missing.jsonl", *arguments, cwd=folder, variables=variables)
    # Its input is missing, whatever the settings are.
    assert done.returncode == 2, done.stderr
    assert not re.search(r"Traceback|fault of the program", done.stderr), done.stderr


@often
@given(text=texts)
def test_no_config_file_makes_the_command_fail_without_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text, "utf-8")
    assert_told(tmp_path, "--config", "c.yaml")


@often
@given(variables=st.dictionaries(st.sampled_from(VARIABLES), values, max_size=4))
def test_no_environment_makes_the_command_fail_without_words(
    variables: dict[str, str], tmp_path: Path
) -> None:
    assert_told(tmp_path, variables={"BATCH_GATEWAY_GATEWAY": "http://h", **variables})


@pytest.mark.parametrize("data", [b"\xff\xfe\0", b"a: \x80", b"\xef\xbb\xbf", b"[" * 10_000, b"\0"])
def test_no_bytes_in_a_config_file_do_either(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(data)
    assert_told(tmp_path, "--config", "c.yaml")


@pytest.mark.parametrize("place", ["", ".", "/dev/null", "~no-such-user/c.yaml", "x" * 300, "loop"])
def test_no_place_of_a_config_file_does_either(place: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert_told(tmp_path, "--config", place)
    assert_told(tmp_path, variables={"BATCH_GATEWAY_CONFIG": place})
