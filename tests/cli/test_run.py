"""`batch-gateway run` as a user meets it: files in, files out, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.cli.commands import batch_gateway, chat_line, in_a_process, read_lines, write_batch

MIXED = ["tiny"] * 8 + ["fault-status-400", "fault-status-422"]


def ids(path: Path) -> list[str]:
    return [line["custom_id"] for line in read_lines(path)]


def test_a_batch_that_succeeds_leaves_one_result_a_line_and_exits_0(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 20)
    run = in_a_process("run", "requests.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout.startswith("Done in ")
    assert "all 20 requests succeeded" in run.stdout
    results = read_lines(tmp_path / "requests.results.jsonl")
    assert sorted(line["custom_id"] for line in results) == sorted(f"req-{n}" for n in range(1, 21))
    assert all(line["response"]["status_code"] == 200 for line in results)
    assert {path.name for path in tmp_path.iterdir()} == {
        "requests.jsonl",
        "requests.results.jsonl",
    }


def test_failed_lines_go_to_the_error_file_and_exit_1(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", MIXED)
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "-o", "out.jsonl", cwd=tmp_path
    )
    assert run.returncode == 1
    assert sorted(ids(tmp_path / "out.jsonl")) == [f"req-{n}" for n in range(1, 9)]
    errors = {line["custom_id"]: line for line in read_lines(tmp_path / "out.errors.jsonl")}
    assert errors["req-9"]["response"]["status_code"] == 400
    assert errors["req-10"]["response"]["status_code"] == 422
    assert "8 of 10 requests succeeded, 2 failed" in run.stdout
    assert "1 refused as wrong" in run.stdout
    assert "line 9 " in run.stdout
    assert "req-9: HTTP 400: " in run.stdout
    # The same requests would fail in the same way.
    assert "--retry-failed" not in run.stdout


def test_failures_that_another_run_may_mend_are_offered_one(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny", "fault-status-503", "fault-status-400"])
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "-o", "out.jsonl", "--max-retries", "0",
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 1
    assert "-o out.jsonl --max-retries 0 --retry-failed" in run.stdout


@pytest.mark.parametrize("fault", ["close-idle", "close-on-next-request", "until-close"])
def test_a_gateway_that_closes_its_connections_is_neither_down_nor_tried_again(
    tmp_path: Path, gateway: GatewayHandle, fault: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", [f"fault-{fault}"] * 300)
    run = batch_gateway("run", "requests.jsonl", "--gateway", gateway.url, cwd=tmp_path)
    assert run.returncode == 0
    assert "all 300 requests succeeded" in run.stdout
    assert "0 retries" in run.stdout
    assert "down" not in run.stdout + run.stderr


def test_an_answer_that_is_too_large_fails_alone_and_once_and_names_the_setting(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    models = ["fault-endless-body", *["tiny"] * 5]
    write_batch(tmp_path / "requests.jsonl", models)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--json")
    run = batch_gateway(*command, "--max-response-bytes", "20kB", cwd=tmp_path)
    assert run.returncode == 1
    told = json.loads(run.stdout)
    assert (told["succeeded"], told["failed"], told["retries"]) == (5, 1, 0)
    (line,) = read_lines(tmp_path / "requests.results.errors.jsonl")
    assert line["error"]["code"] == "response_too_large"
    assert "(20000 bytes)" in line["error"]["message"]
    assert "--max-response-bytes" in line["error"]["message"]


def test_how_large_an_answer_may_be_is_said_in_a_config_file_too(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    (tmp_path / "run.yaml").write_text(f"gateway: {gateway.url}\nmax_response_bytes: 10B\n")
    run = batch_gateway("run", "requests.jsonl", "--config", "run.yaml", cwd=tmp_path)
    assert run.returncode == 1
    (line,) = read_lines(tmp_path / "requests.results.errors.jsonl")
    assert "(10 bytes)" in line["error"]["message"]


@pytest.mark.parametrize("size", ["0", "much"])
def test_an_impossible_size_is_named_as_it_was_given(tmp_path: Path, size: str) -> None:
    write_batch(tmp_path / "requests.jsonl", 1)
    command = ("run", "requests.jsonl", "--gateway", "http://g")
    run = batch_gateway(*command, "--max-response-bytes", size, cwd=tmp_path)
    assert run.returncode == 2
    assert "--max-response-bytes" in run.stderr


def test_retry_failed_sends_only_the_lines_of_the_error_file(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 12)
    gateway.set_faults({"status-400": 0.4})
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    assert batch_gateway(*command, cwd=tmp_path).returncode == 1
    failed = ids(tmp_path / "requests.results.errors.jsonl")
    gateway.set_faults({})
    gateway.clear_journal()
    again = batch_gateway(*command, "--retry-failed", cwd=tmp_path)
    assert again.returncode == 0, again.stdout
    assert gateway.journal()["received"] == len(failed)
    assert len(ids(tmp_path / "requests.results.jsonl")) == 12
    assert not (tmp_path / "requests.results.errors.jsonl").exists()
    assert "all 12 requests succeeded" in again.stdout


def test_the_same_command_again_has_nothing_to_send_and_says_so(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", MIXED)
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    assert batch_gateway(*command, cwd=tmp_path).returncode == 1
    before = (tmp_path / "requests.results.jsonl").read_bytes()
    gateway.stop()  # nothing to send needs no gateway
    again = batch_gateway(*command, cwd=tmp_path)
    assert again.returncode == 1
    assert again.stdout.startswith("Nothing to send: 8 of 10 requests succeeded, 2 failed")
    assert (tmp_path / "requests.results.jsonl").read_bytes() == before
    gateway.start()


def test_fresh_starts_over(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    batch_gateway(*command, cwd=tmp_path)
    gateway.clear_journal()
    assert batch_gateway(*command, "--fresh", cwd=tmp_path).returncode == 0
    assert gateway.journal()["received"] == 5
    assert len(ids(tmp_path / "requests.results.jsonl")) == 5


def test_fresh_keeps_earlier_results_when_the_gateway_cannot_be_reached(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 5)
    command = ("run", "requests.jsonl", "--gateway", gateway.url)
    batch_gateway(*command, cwd=tmp_path)
    before = (tmp_path / "requests.results.jsonl").read_bytes()
    gateway.stop()
    assert batch_gateway(*command, "--fresh", cwd=tmp_path).returncode == 3
    assert (tmp_path / "requests.results.jsonl").read_bytes() == before
    gateway.start()


def test_ordered_puts_results_in_the_order_of_the_input(tmp_path: Path) -> None:
    # Half of the answers come late, so that they finish in another order than they were sent.
    models = ["tiny", "fault-delay-0.05"] * 10
    with simulated_gateway() as slow:
        write_batch(tmp_path / "requests.jsonl", models)
        run = batch_gateway(
            "run", "requests.jsonl", "--gateway", slow.url, "--ordered", cwd=tmp_path
        )
    assert run.returncode == 0
    assert ids(tmp_path / "requests.results.jsonl") == [f"req-{n}" for n in range(1, 21)]


@pytest.mark.parametrize(("order", "expected"), [("file", "abab"), ("prefix", "aabb")])
def test_order_decides_how_lines_are_sent(
    tmp_path: Path, gateway: GatewayHandle, order: str, expected: str
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["a", "b", "a", "b"])
    run = batch_gateway(
        "run", "requests.jsonl", "--gateway", gateway.url, "--order", order, "--concurrency", "1",
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0
    bodies = [json.loads(request.body) for request in gateway.recent_requests()]
    assert "".join(body["model"] for body in bodies) == expected


def test_standard_input_is_a_batch_too(tmp_path: Path, gateway: GatewayHandle) -> None:
    batch = "".join(json.dumps(chat_line(f"req-{n}")) + "\n" for n in range(3))
    command = ("run", "-", "--gateway", gateway.url, "-o", "out.jsonl")
    first = in_a_process(*command, cwd=tmp_path, input=batch.encode())
    assert first.returncode == 0
    assert len(ids(tmp_path / "out.jsonl")) == 3
    again = batch_gateway(*command, cwd=tmp_path, input=batch)
    assert again.stdout.startswith("Nothing to send")


def test_standard_input_needs_a_name_for_the_results(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    run = batch_gateway("run", "-", "--gateway", gateway.url, cwd=tmp_path, input="{}")
    assert run.returncode == 2
    assert "give -o FILE" in run.stderr


def test_the_simulator_is_used_when_asked_and_says_that_it_is_one(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    run = batch_gateway("run", "requests.jsonl", "--gateway", "simulator", cwd=tmp_path)
    assert run.returncode == 0
    assert "simulated gateway in this process, not from a model" in run.stderr
    assert len(ids(tmp_path / "requests.results.jsonl")) == 3


def test_without_a_gateway_the_choices_are_explained_and_nothing_runs(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", 3)
    run = batch_gateway("run", "requests.jsonl", cwd=tmp_path)
    assert run.returncode == 2
    assert "--gateway simulator" in run.stderr
    assert "BATCH_GATEWAY_URL" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


def test_the_gateway_may_come_from_the_environment_or_a_config_file(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", 2)
    variables = {"BATCH_GATEWAY_URL": gateway.url}
    run = batch_gateway("run", "requests.jsonl", cwd=tmp_path, variables=variables)
    assert run.returncode == 0
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(
        f"inference_gateway_url: {gateway.url}\noutput: from-config.jsonl\n"
    )
    run = batch_gateway("run", "requests.jsonl", "--config", "config/gateway.yaml", cwd=tmp_path)
    assert run.returncode == 0
    assert len(ids(folder / "from-config.jsonl")) == 2


def test_models_can_have_gateways_of_their_own(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["a", "b", "b", "c"])
    with simulated_gateway() as other:
        run = batch_gateway(
            "run", "requests.jsonl", "--model-gateway", f"a={gateway.url}",
            "--model-gateway", f"b={other.url}", cwd=tmp_path,
        )  # fmt: skip
        assert other.journal()["received"] == 2
    assert gateway.journal()["received"] == 1
    assert run.returncode == 1
    [error] = read_lines(tmp_path / "requests.results.errors.jsonl")
    assert (error["custom_id"], error["error"]["code"]) == ("req-4", "model_not_found")


def test_a_deadline_ends_the_run_with_lines_left(tmp_path: Path) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny"] * 3 + ["fault-stall"] * 2)
    with simulated_gateway() as gateway:
        command = ("run", "requests.jsonl", "--gateway", gateway.url)
        run = batch_gateway(*command, "--deadline", "700ms", cwd=tmp_path)
    assert run.returncode == 3
    assert run.stdout.startswith("The deadline passed: 3 of 5 requests succeeded, 2 left")
    assert "To go on, the same command:" in run.stdout
    assert len(ids(tmp_path / "requests.results.jsonl")) == 3


def test_failures_go_where_errors_says(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["tiny", "fault-status-400"])
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "-o", "out", "--errors", "bad")
    assert batch_gateway(*command, cwd=tmp_path).returncode == 1
    assert (ids(tmp_path / "out"), ids(tmp_path / "bad")) == (["req-1"], ["req-2"])


def test_concurrency_bounds_what_is_in_flight(tmp_path: Path, gateway: GatewayHandle) -> None:
    write_batch(tmp_path / "requests.jsonl", ["fault-delay-0.05"] * 30)
    command = ("run", "requests.jsonl", "--gateway", gateway.url, "--concurrency", "5")
    assert batch_gateway(*command, cwd=tmp_path).returncode == 0
    assert gateway.journal()["peak_in_flight"] == 5


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize(
    ("models", "more"),
    [
        # A 503 may be an outage, unless others are answered between its sendings.
        (["fault-status-503;retry-after-ms=200", *["tiny"] * 8], []),
        # A 500 is held to be the line's own, though it is the last one.
        (["tiny", "fault-status-500"], []),
        (["tiny", "fault-status-503"], ["--patience", "0"]),
    ],
)
def test_max_retries_says_how_often_a_line_is_sent_again(
    tmp_path: Path, gateway: GatewayHandle, retries: int, models: list[str], more: list[str]
) -> None:
    write_batch(tmp_path / "requests.jsonl", models)
    (tmp_path / "c.yaml").write_text(f"gateway: {gateway.url}\ninitial_backoff: 1ms\n")
    command = ["run", "requests.jsonl", "--config", "c.yaml", "--max-retries", str(retries)]
    command += ["--concurrency", "1", "--order", "file", *more]
    run = batch_gateway(*command, "--json", cwd=tmp_path)
    assert run.returncode == 1
    assert gateway.journal()["received"] == len(models) + retries
    assert json.loads(run.stdout)["retries"] == retries


def test_the_newer_processor_configuration_runs_a_batch(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    write_batch(tmp_path / "requests.jsonl", ["fault-delay-0.05"] * 12)
    (tmp_path / "processor.yaml").write_text(
        f"""\
global_inference_gateway:
  url: {gateway.url}
  request_timeout: 1m
  inference_objective: batch-sheddable
concurrency: {{global: 100, per_endpoint: 3, aimd: {{enabled: true}}}}
num_workers: 4
"""
    )
    run = batch_gateway("run", "requests.jsonl", "--config", "processor.yaml", cwd=tmp_path)
    assert run.returncode == 0
    assert gateway.journal()["peak_in_flight"] == 3
    headers = gateway.recent_requests()[0].headers
    assert headers[b"x-llm-d-inference-objective"] == b"batch-sheddable"
    assert headers[b"x-gateway-inference-objective"] == b"batch-sheddable"
