"""Config files: what is accepted, and how every mistake is shown with its line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import ConfigError
from batch_gateway.settings.config_file import load_config_file
from batch_gateway.settings.setting import ConfigFile

ORIGINAL = """\
inference_gateway_url: "http://llm-d-gateway:8000"
inference_request_timeout: 5m
inference_api_key: "sk-your-api-key"  # optional
num_workers: 1
max_job_concurrency: 10
poll_interval: 5s
task_wait_time: 1s
"""


def load(folder: Path, text: str) -> ConfigFile:
    path = folder / "gateway.yaml"
    path.write_text(text, "utf-8")
    return load_config_file(path)


def problems(folder: Path, text: str) -> list[str]:
    """The problems without the folder: "gateway.yaml:3: …"."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [detail.removeprefix(f"{folder}/") for detail in caught.value.problems]


def values(config: ConfigFile) -> dict[str, object]:
    return {name: given.value for name, given in config.values.items()}


def test_the_original_processor_configuration_is_accepted_to_the_letter(tmp_path: Path) -> None:
    assert values(load(tmp_path, ORIGINAL)) == {
        "gateway": "http://llm-d-gateway:8000",
        "timeout": 300.0,
        "api_key": "sk-your-api-key",
        "max_job_concurrency": 10,
    }


def test_the_newer_names_with_one_gateway_are_accepted(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """\
global_inference_gateway:
  url: http://router:8000
  request_timeout: 2m
  max_retries: 5
  initial_backoff: 1s
  max_backoff: 60s
  inference_objective: batch-sheddable
  api_key_file: key.txt
  tls_ca_cert_file: ca.pem
  tls_client_cert_file: /certs/client.pem
  tls_client_key_file: /certs/client.key
  tls_insecure_skip_verify: false
concurrency:
  global: 100
  per_endpoint: 50
  recovery: 5
  aimd: {enabled: true, min: 5, backoff_factor: 0.5, additive_increase: 1}
""",
    )
    assert values(config) == {
        "gateway": "http://router:8000",
        "timeout": 120.0,
        "max_retries": 5,
        "initial_backoff": 1.0,
        "max_backoff": 60.0,
        "inference_objective": "batch-sheddable",
        "api_key_file": tmp_path / "key.txt",
        "tls_ca_file": tmp_path / "ca.pem",
        "tls_client_cert_file": Path("/certs/client.pem"),
        "tls_client_key_file": Path("/certs/client.key"),
        "tls_insecure_skip_verify": False,
        "concurrency": 50,
        "max_job_concurrency": 100,
    }


def test_models_may_have_gateways_of_their_own(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """\
gateway: http://default:8000
model_gateways:
  llama-3: http://a:8000
  mistral:
    url: http://b:8000
    request_timeout: 2m
    headers: {X-Team: search}
""",
    )
    short, long = config.model_gateways["llama-3"], config.model_gateways["mistral"]
    assert (short.url.value, short.own) == ("http://a:8000", None)
    assert long.url.value == "http://b:8000"
    assert long.own is not None
    assert {name: own.value for name, own in long.own.items()} == {
        "timeout": 120.0,
        "headers": {"X-Team": "search"},
    }


def test_every_name_of_our_own_is_accepted(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """\
gateway: simulator
output: out/results.jsonl
errors: out/errors.jsonl
concurrency: 128
max_retries: 0
timeout: 90
connect_timeout: 3s
deadline: 2h
api_key_env: MY_KEY
headers: {X-Team: search}
tls_min_version: 1.3
unix_socket: gateway.sock
proxy: env
transport: native
ordered: true
order: file
json: true
quiet: false
""",
    )
    assert values(config) == {
        "gateway": "simulator",
        "output": tmp_path / "out/results.jsonl",
        "errors": tmp_path / "out/errors.jsonl",
        "concurrency": 128,
        "max_retries": 0,
        "timeout": 90.0,
        "connect_timeout": 3.0,
        "deadline": 7200.0,
        "api_key_env": "MY_KEY",
        "headers": {"X-Team": "search"},
        "tls_min_version": "1.3",
        "unix_socket": tmp_path / "gateway.sock",
        "proxy": "env",
        "transport": "native",
        "ordered": True,
        "order": "file",
        "json": True,
        "quiet": False,
    }


def test_a_value_is_its_text_as_it_stands_whatever_yaml_takes_it_for(tmp_path: Path) -> None:
    text = "api_key: 0123\nfairness_id: 2026-01-01\ncache_namespace: yes\nheaders: {X-N: 1.50}\n"
    assert values(load(tmp_path, text)) == {
        "api_key": "0123",
        "fairness_id": "2026-01-01",
        "cache_namespace": "yes",
        "headers": {"X-N": "1.50"},
    }
    text = 'concurrency: "64"\nrpm: 1_000\nmax_retries: 0x10\n'
    assert values(load(tmp_path, text)) == {"concurrency": 64, "rpm": 1000.0, "max_retries": 16}


# What the processor, the API server and the collector of llm-d's batch gateway may be told.
PROCESSOR = """\
addr: ":9090"
work_dir: /var/lib/batch-gateway/processor
shutdown_timeout: 30s
heartbeat_interval: 5m
num_workers: 20
concurrency: {global: 100, per_endpoint: 10, recovery: 5, aimd: {enabled: true}}
model_gateways:
  llama-3: {url: http://a:8000, request_timeout: 0, api_key_name: llama, inference_pool_name: p}
  mistral: {url: http://b:8000, tls_ca_cert_file: "", api_key_file: "", max_retries: 0}
default_output_expiration_seconds: 7776000
queue_time_bucket: {start: 0.1, factor: 2, count: 10}
db_client: {type: postgresql, postgresql: {enable_tracing: true}}
file_client: {type: s3, s3: {bucket: b, region: r}, retry: {max_retries: 3, max_backoff: 10s}}
otel: {redis_tracing: false, postgresql_tracing: true}
dispatch_mode: sync
async_dispatch: {result_poll_timeout: 5s, models: {m: {inference_pool_name: p}}}
progress_ttl_seconds: 86400
"""
API_SERVER = """\
host: 0.0.0.0
port: "8000"
ssl_cert_file: /tls/tls.crt
tls_min_version: "1.3"
input_headers: {tenant: X-MaaS-Username}
batch_api: {batch_event_ttl_seconds: 2592000, pass_through_headers: [Authorization]}
file_api: {max_size_bytes: 209715200, batch_input_order_policy: any}
"""
COLLECTOR = "interval: 1h\nmax_concurrency: 2\ndry_run: false\nreconciler: {interval: 30m}\n"


def test_what_a_run_does_without_in_a_processors_file_is_told_once_with_the_reason(
    tmp_path: Path,
) -> None:
    config = load(tmp_path, PROCESSOR)
    assert values(config) == {"concurrency": 10, "max_job_concurrency": 100}
    llama, mistral = (config.model_gateways[model].own for model in ("llama-3", "mistral"))
    assert llama is not None
    assert mistral is not None
    assert llama["timeout"].value == float("inf")
    assert llama["api_key_file"].value == Path("/etc/.secrets/llama")
    assert {name: own.value for name, own in mistral.items()} == {"max_retries": 0}
    told = [note.removeprefix(f"{tmp_path}/") for note in config.notes]
    assert len(told) == len({note.rpartition(" run, ")[2] for note in told})
    [straight] = [note for note in told if "dispatch_mode" in note]
    assert straight == (
        "gateway.yaml: model_gateways.llama-3.inference_pool_name, dispatch_mode, async_dispatch:"
        " nothing to do in run, requests go straight to the gateway, or where an endpoint picker"
        " says"
    )


@pytest.mark.parametrize("text", [API_SERVER, COLLECTOR])
def test_a_file_for_a_service_says_nothing_to_a_run(text: str, tmp_path: Path) -> None:
    config = load(tmp_path, text)
    assert set(values(config)) <= {"tls_min_version"}
    [note] = config.notes
    assert note.endswith("nothing to do in run, for a service alone")


@pytest.mark.parametrize("empty", ["model_gateways: {}", "model_gateways:", "headers: null"])
def test_an_empty_section_is_as_if_it_were_not_there(empty: str, tmp_path: Path) -> None:
    config = load(tmp_path, f"global_inference_gateway: {{url: http://g}}\n{empty}\n")
    assert values(config) | {"headers": {}} == {"gateway": "http://g", "headers": {}}
    assert load(tmp_path, "global_inference_gateway:\nmodel_gateways: {m: http://m}\n")


def test_a_command_is_told_which_settings_are_anothers(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("gateway: http://g\noutput: results.jsonl\nquiet: true\n")
    config = load_config_file(path, command="serve")
    assert set(config.values) == {"gateway"}
    assert config.notes == (f"{path}: output, quiet: nothing to do in serve, for run alone",)


def test_empty_files_and_empty_values_leave_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing yet\n") == ConfigFile()
    assert load(tmp_path, "timeout:\napi_key: null\ncache: ''\nrpm: \"\"\n") == ConfigFile()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gatway: http://x\n", "gateway.yaml:1: unknown key gatway; did you mean gateway?"),
        (
            "\n\ninference_request_timeot: 5m\n",
            "gateway.yaml:3: unknown key inference_request_timeot; "
            "did you mean inference_request_timeout?",
        ),
        (
            "concurrency: {globl: 5}\n",
            "gateway.yaml:1: unknown key globl; did you mean global?",
        ),
        (
            "global_inference_gateway:\n  url: http://x\n  api_keyfile: k\n",
            "gateway.yaml:3: unknown key api_keyfile; did you mean api_key_file?",
        ),
        (
            "timeout: 5 minutes\n",
            "gateway.yaml:1: timeout: '5 minutes' is not a duration: write seconds as a number, "
            "or a Go-style string such as '90s', '5m', '1h30m'",
        ),
        (
            "gateway: http://x\nconcurrency: many\n",
            "gateway.yaml:2: concurrency: 'many' is not a whole number of at least 1",
        ),
        ("num_workers: 0\n", "gateway.yaml:1: num_workers: 0 is not a whole number of at least 1"),
        ("ordered: maybe\n", "gateway.yaml:1: ordered: 'maybe' is not true or false"),
        ('rpm: "many"\n', "gateway.yaml:1: rpm: 'many' is not a number above 0"),
        ("order: random\n", "gateway.yaml:1: order: random is not one of prefix, file"),
        ("timeout: [1, 2]\n", "gateway.yaml:1: timeout must be a single value"),
        (
            "model_gateways: http://x\n",
            "gateway.yaml:1: model_gateways must be a mapping of keys to values",
        ),
        (
            "output: ~no-such-user/x\n",
            "gateway.yaml:1: output: there is no home directory '~no-such-user'; "
            "write the path in full",
        ),
        (
            "global_inference_gateway: {url: http://x, api_key_name: a/b}\n",
            "gateway.yaml:1: global_inference_gateway.api_key_name: 'a/b' is not the name of a "
            "file in /etc/.secrets",
        ),
        ("- gateway\n", "gateway.yaml:1: the file must be a mapping of keys to values"),
        ("timeout: 1s\ntimeout: 2s\n", "gateway.yaml:2: timeout is already set on line 1"),
        ("model_gateways:\n  m: {timeout: 5s}\n", "gateway.yaml:2: model_gateways.m needs a url"),
        (
            "concurrency:\n  aimd: {backoff_factor: 2}\n",
            "gateway.yaml:2: concurrency.aimd.backoff_factor: 2 is not a number between 0 and 1",
        ),
        (
            "fresh: true\n",
            "gateway.yaml:1: fresh is for the command line alone: "
            "in a file it would throw results away at every resume",
        ),
        (
            "poll_interval: 1s\ntask_wait_time: 2s\n",
            "gateway.yaml:2: task_wait_time: 2s must be shorter than poll_interval, 1s",
        ),
        (
            "poll_interval: 500ms\n",
            "gateway.yaml:1: task_wait_time: 1s must be shorter than poll_interval, 0.5s",
        ),
        ("headers: {'bad name': x}\n", "gateway.yaml:1: headers['bad name']: is not a header name"),
        ("proxy: proxy\n", "gateway.yaml:1: proxy: must be env or a URL such as http://proxy:3128"),
        ("? [a]\n: b\n", "gateway.yaml:1: a key of the file is not plain text"),
        (
            "output: !!python/name:os.system x\n",
            "gateway.yaml:1: output has a value that cannot be read; put it in quotes",
        ),
    ],
)
def test_a_mistake_is_shown_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


def test_one_setting_under_two_names_is_a_mistake(tmp_path: Path) -> None:
    text = "gateway: http://a\ninference_gateway_url: http://b\n"
    assert problems(tmp_path, text) == [
        "gateway.yaml:2: inference_gateway_url is set already, "
        f"by {tmp_path}/gateway.yaml:1: gateway"
    ]
    text = "gateway: http://a\nglobal_inference_gateway:\n  url: http://b\n"
    assert problems(tmp_path, text) == [
        "gateway.yaml:3: global_inference_gateway sets gateway, which is set already, "
        f"by {tmp_path}/gateway.yaml:1: gateway"
    ]


def test_one_gateway_for_all_and_gateways_by_model_exclude_each_other(tmp_path: Path) -> None:
    text = "global_inference_gateway: {url: http://a}\nmodel_gateways: {m: http://b}\n"
    [problem] = problems(tmp_path, text)
    assert problem.startswith("gateway.yaml:2: model_gateways and global_inference_gateway exclude")


def test_all_mistakes_are_shown_together_in_the_order_of_lines(tmp_path: Path) -> None:
    shown = problems(tmp_path, "model_gateways: {m: [1]}\ntimeuot: 5m\nretries: -1\nquiet: 3\n")
    assert [problem.split(":")[1] for problem in shown] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("text", ["gateway: [http://x\n", "a: b: c\n", "gateway: @x\n", "a: *b\n"])
def test_invalid_yaml_is_shown_with_its_place(tmp_path: Path, text: str) -> None:
    [problem] = problems(tmp_path, text)
    assert problem.startswith("gateway.yaml:")


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.yaml: No such file"):
        load_config_file(tmp_path / "nowhere.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config_file(tmp_path / "binary")


def test_a_key_is_never_quoted(tmp_path: Path) -> None:
    config = load(tmp_path, 'api_key: "sk-secret"\n')
    assert "sk-secret" not in repr(config)
    assert "1234567890" not in " ".join(problems(tmp_path, "api_key: [1234567890]\n"))
    assert "s3cret" not in " ".join(problems(tmp_path, 'headers: {X-Key: "s3cret\\n"}\n'))


@given(text=st.text(alphabet="abc:{}[]-&*!|>'\"\n #,?0\t", max_size=60))
def test_no_text_gives_more_than_a_clear_failure(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, "utf-8")
    with contextlib.suppress(ConfigError):
        load_config_file(path)
