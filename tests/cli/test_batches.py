"""`batches`: the commands against a real service, and against a server that differs from it."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_gateway.testing import GatewayHandle
from tests.cli.commands import (
    Finished,
    batch_gateway,
    chat_line,
    in_a_process,
    read_lines,
    started,
    wait_until,
    write_batch,
)
from tests.cli.fake_openai import ERRORS, RESULTS, FakeOpenAI, fake_openai
from tests.cli.test_display import BAR, on_a_terminal


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `serve`, whose answers come from a simulator."""
    ports = ("--port", "0", "--observability-port", "0")
    folder = tmp_path_factory.mktemp("service")
    with started("serve", "--gateway", "simulator", *ports, cwd=folder) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with fake_openai() as server:
        yield server


def batches(
    *arguments: str | Path, server: str, cwd: Path, variables: dict[str, str] | None = None
) -> Finished:
    command, *more = arguments
    return batch_gateway(
        "batches", command, "--server", server, *more, cwd=cwd, variables=variables
    )


# --- the service ---


def test_a_file_goes_in_and_its_results_come_out(tmp_path: Path, service: str) -> None:
    write_batch(tmp_path / "in.jsonl", 30)
    done = batches("submit", "in.jsonl", "--wait", server=service, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [batch_id] = done.stdout.split()
    assert f"{batch_id} is completed: 30 of 30 lines succeeded" in done.stderr
    results = read_lines(tmp_path / "in.results.jsonl")
    assert {line["custom_id"] for line in results} == {f"req-{n}" for n in range(1, 31)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "in.results.jsonl"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "in.results.jsonl").stat().st_mode) == 0o666 & ~mask


def test_a_batch_with_failed_lines_ends_as_a_run_with_failed_lines_does(
    tmp_path: Path, service: str
) -> None:
    write_batch(tmp_path / "in.jsonl", ["tiny", "fault-status-400", "tiny"])
    batch_id = batches("submit", "in.jsonl", server=service, cwd=tmp_path).stdout.strip()
    watched = batches("watch", batch_id, server=service, cwd=tmp_path)
    assert watched.returncode == 1, watched.stderr
    assert watched.stdout == f"{batch_id} is completed: 2 of 3 lines succeeded, 1 failed\n"
    files = ("-o", "good", "--errors", "bad")
    assert batches("results", batch_id, *files, server=service, cwd=tmp_path).returncode == 1
    assert len(read_lines(tmp_path / "good")) == 2
    assert [line["custom_id"] for line in read_lines(tmp_path / "bad")] == ["req-2"]


def test_rows_go_in_as_requests_and_bad_ones_are_left_out(tmp_path: Path, service: str) -> None:
    (tmp_path / "in.csv").write_text('review,nr\n"two\nlines",a\nonly one\ngood,b\n')
    told = ("--model", "tiny", "--template", "Rate: {review}", "--id-column", "nr")
    refused = batches("submit", "in.csv", *told, server=service, cwd=tmp_path)
    assert refused.returncode == 2
    assert "line 4: has 1 field" in refused.stderr
    shown = batches("submit", "in.csv", *told, "--dry-run", "--limit", "1", server=service,
                    cwd=tmp_path)  # fmt: skip
    assert "Rate: two" in shown.stdout
    done = batches("submit", "in.csv", *told, "--skip-bad-lines", "--wait", server=service,
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 line with problems: left out" in done.stderr
    assert {line["custom_id"] for line in read_lines(tmp_path / "in.results.jsonl")} == {"a", "b"}


def test_a_batch_of_nothing_but_failures_has_an_empty_file_of_results(
    tmp_path: Path, service: str
) -> None:
    write_batch(tmp_path / "in.jsonl", ["fault-status-400"])
    done = batches("submit", "in.jsonl", "--wait", server=service, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "in.results.jsonl").read_bytes() == b""
    assert len(read_lines(tmp_path / "in.results.errors.jsonl")) == 1


def test_batches_are_listed_shown_and_cancelled(tmp_path: Path, service: str) -> None:
    write_batch(tmp_path / "in.jsonl", ["fault-delay-30"])
    more = ("--metadata", "team=blue", "--window", "2h")
    made = batches("submit", "-", *more, server=service, cwd=tmp_path)
    assert made.returncode == 2  # nothing is on standard input
    batch_id = batches("submit", "in.jsonl", *more, server=service, cwd=tmp_path).stdout.strip()
    listed = batches("list", server=service, cwd=tmp_path).stdout.splitlines()
    assert listed[1].split()[0] == batch_id
    shown = batches("show", batch_id, server=service, cwd=tmp_path).stdout
    assert "team=blue" in shown
    assert "2h" in shown
    objects = json.loads(batches("list", "--json", server=service, cwd=tmp_path).stdout)
    assert objects[0]["metadata"] == {"team": "blue"}
    early = batches("results", batch_id, server=service, cwd=tmp_path)
    assert early.returncode == 2
    assert f"batch-gateway batches watch {batch_id}" in early.stderr
    cancelled = batches("cancel", batch_id, server=service, cwd=tmp_path)
    assert cancelled.stdout.startswith(f"{batch_id} is cancel")
    watched = batches("watch", batch_id, "--json", server=service, cwd=tmp_path)
    assert watched.returncode == 3
    assert json.loads(watched.stdout)["status"] == "cancelled"


def test_a_tenants_batches_are_not_anothers(tmp_path: Path, service: str) -> None:
    write_batch(tmp_path / "in.jsonl", 1)
    blue = ("--tenant", "blue")
    batch_id = batches("submit", "in.jsonl", *blue, server=service, cwd=tmp_path).stdout.strip()
    assert batches("show", batch_id, *blue, server=service, cwd=tmp_path).returncode == 0
    as_red = batches("show", batch_id, "--tenant", "red", server=service, cwd=tmp_path)
    assert as_red.returncode == 2
    assert f"Batch with ID {batch_id} not found" in as_red.stderr
    assert "--tenant NAME" in as_red.stderr


# --- before anything is sent ---


def test_a_wrong_file_is_refused_in_the_words_of_run_and_not_sent(
    tmp_path: Path, fake: FakeOpenAI
) -> None:
    (tmp_path / "in.jsonl").write_text('{"custom_id": "1"}\n{]\n')
    submitted = batches("submit", "in.jsonl", server=fake.url, cwd=tmp_path)
    run = batch_gateway("run", "in.jsonl", "--gateway", fake.url, cwd=tmp_path)
    assert (submitted.returncode, submitted.stderr) == (2, run.stderr)
    assert fake.asked == []


def test_lines_for_several_endpoints_are_named(tmp_path: Path, fake: FakeOpenAI) -> None:
    lines = [chat_line("a"), chat_line("b") | {"url": "/v1/embeddings"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = batches("submit", "in.jsonl", server=fake.url, cwd=tmp_path)
    assert done.returncode == 2
    assert "line 2: url is /v1/embeddings" in done.stderr
    assert fake.asked == []


@pytest.mark.parametrize("taken", ["in.results.jsonl", "in.results.errors.jsonl"])
def test_a_file_that_is_there_is_left_alone(taken: str, tmp_path: Path, fake: FakeOpenAI) -> None:
    write_batch(tmp_path / "in.jsonl", 1)
    (tmp_path / taken).write_text("mine")
    done = batches("submit", "in.jsonl", "--wait", server=fake.url, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{taken} is there already" in done.stderr
    assert (tmp_path / taken).read_text() == "mine"
    assert fake.asked == []


def test_what_is_no_file_is_left_alone(tmp_path: Path, fake: FakeOpenAI) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        done = batches("results", "batch_1", "-o", name, server=fake.url, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{name} is not a regular file" in done.stderr
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("is_there", [False, True])
def test_results_go_where_a_link_leads(is_there: bool, tmp_path: Path, fake: FakeOpenAI) -> None:
    (tmp_path / "elsewhere").mkdir()
    if is_there:
        (tmp_path / "elsewhere" / "out").touch()
    (tmp_path / "out").symlink_to("elsewhere/out")
    done = batches("results", "batch_1", "-o", "out", server=fake.url, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "elsewhere" / "out").read_bytes() == RESULTS


# --- a server that differs ---


def test_what_rows_become_is_sent_without_blank_lines_under_a_name_of_json(
    tmp_path: Path, fake: FakeOpenAI
) -> None:
    (tmp_path / "in.csv").write_text('prompt\n"two\nlines"\nHi\n')
    done = batches("submit", "in.csv", "--model", "m", server=fake.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [form] = fake.uploads
    assert b'filename="in.jsonl"' in form
    assert b"}}\n{" in form
    assert b"\n\n{" not in form.replace(b"\r\n", b"")


def test_a_batch_is_sent_as_openai_wants_it(tmp_path: Path, fake: FakeOpenAI) -> None:
    content = write_batch(tmp_path / 'a "b".jsonl', 3000).read_bytes()
    done = batches("submit", 'a "b".jsonl', "--metadata", "k=v", server=fake.url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "batch_1\n")
    [form] = fake.uploads
    assert content in form
    assert b'name="purpose"\r\n\r\nbatch\r\n' in form
    assert b'filename="a %22b%22.jsonl"' in form
    assert fake.made == [
        {
            "input_file_id": "file-in",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"k": "v"},
        }
    ]


def test_an_outage_is_waited_out_and_told_of(tmp_path: Path, fake: FakeOpenAI) -> None:
    fake.statuses = ["validating", "in_progress", "completed"]
    with started("batches", "watch", "batch_1", "--server", fake.url, cwd=tmp_path) as process:
        wait_until(lambda: bool(fake.asked), "the first question")
        fake.down = 2
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert "HTTP 503: overloaded; asking again until it answers" in err
    assert "The server answers again." in err
    assert out == "batch_1 is completed: 500 of 501 lines succeeded, 1 failed\n"


@pytest.mark.parametrize("ranges", [False, True])
def test_a_download_that_breaks_off_goes_on(ranges: bool, tmp_path: Path, fake: FakeOpenAI) -> None:
    fake.ranges, fake.cut = ranges, 1
    done = batches("results", "batch_1", "-o", "out", server=fake.url, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "out").read_bytes() == RESULTS
    assert (tmp_path / "out.errors.jsonl").read_bytes() == ERRORS
    wanted = [headers.get("Range") for _, path, headers in fake.asked if "file-out" in path]
    assert wanted == [None, f"bytes={len(RESULTS) // 3}-"]


@pytest.mark.parametrize("ranges", [False, True])
def test_a_download_that_was_given_up_is_gone_on_with_by_the_next_command(
    ranges: bool, tmp_path: Path, fake: FakeOpenAI
) -> None:
    fake.ranges, fake.cut = ranges, 1
    given_up = ("results", "batch_1", "-o", "out", "--patience", "0")
    done = batches(*given_up, server=fake.url, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert not (tmp_path / "out").exists()
    assert batches(*given_up, server=fake.url, cwd=tmp_path).returncode == 1
    assert (tmp_path / "out").read_bytes() == RESULTS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.errors.jsonl"]


def test_a_list_is_asked_for_page_by_page(tmp_path: Path, fake: FakeOpenAI) -> None:
    fake.pages = [["batch_9", "batch_1"], ["batch_8", "batch_2"], ["batch_7"]]
    done = batches("list", server=fake.url, cwd=tmp_path)
    ids = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert ids == ["batch_9", "batch_1", "batch_8", "batch_2", "batch_7"]
    few = batches("list", "--limit", "3", "--json", server=fake.url, cwd=tmp_path)
    assert [one["id"] for one in json.loads(few.stdout)] == ids[:3]
    assert json.loads(few.stdout)[0]["reasoning"] == {"nobody": ["knows", "this"]}


def test_a_batch_that_was_refused_says_which_lines_are_to_blame(
    tmp_path: Path, fake: FakeOpenAI
) -> None:
    fake.statuses = ["failed"]
    fake.errors = [
        {"code": "invalid_json_line", "line": 7, "message": "This line is not \x1b[31mJSON."},
        {"code": "empty_file", "line": None, "message": None},
    ]
    done = batches("watch", "batch_1", server=fake.url, cwd=tmp_path)
    assert done.returncode == 2
    assert "line 7: This line is not \\x1b[31mJSON." in done.stdout
    assert "empty_file" in done.stdout


def test_a_terminal_shows_a_bar(tmp_path: Path, fake: FakeOpenAI) -> None:
    fake.statuses = ["validating", "in_progress", "in_progress", "completed"]
    code, sent = on_a_terminal("batches", "watch", "batch_1", "--server", fake.url, cwd=tmp_path)
    assert code == 1
    assert BAR.decode() in sent
    assert "0 of 501 done" in sent
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")  # the cursor is back


def test_ctrl_c_leaves_a_batch_going_and_says_how_to_go_on(
    tmp_path: Path, fake: FakeOpenAI
) -> None:
    fake.statuses = ["in_progress"]
    with started("batches", "watch", "batch_1", "--server", fake.url, cwd=tmp_path) as process:
        wait_until(lambda: len(fake.asked) > 1, "two looks")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("batch_1 goes on: batch-gateway batches watch batch_1\n")


def test_ctrl_c_while_a_batch_is_made_says_what_is_there(tmp_path: Path, fake: FakeOpenAI) -> None:
    write_batch(tmp_path / "in.jsonl", 1)
    fake.slow_to_make = threading.Event()
    with started("batches", "submit", "in.jsonl", "--server", fake.url, cwd=tmp_path) as process:
        wait_until(lambda: bool(fake.made), "the batch that is asked for")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        fake.slow_to_make.set()
    assert process.returncode == 130
    assert "the file is there as file-in; if a batch was made of it" in err


# --- what goes wrong ---


@pytest.mark.parametrize(
    "odd", ["b\x1b[31m", "b\nError: forged", "b\r", "\u202eb", "a b", "", "\n"]
)
def test_ids_that_are_none_are_refused_and_steer_no_terminal(
    odd: str, tmp_path: Path, fake: FakeOpenAI
) -> None:
    fake.pages = [[odd]]
    done = batches("list", server=fake.url, cwd=tmp_path)
    assert done.returncode == 3
    assert "answered HTTP 200 with what is not a list of batches" in done.stderr
    assert "forged" not in done.stdout + done.stderr


def test_a_status_that_nobody_knows_is_under_way_and_steers_no_terminal(
    tmp_path: Path, fake: FakeOpenAI
) -> None:
    fake.statuses = ["odd\x1b[31m\nError: forged"]
    done = batches("results", "batch_1", server=fake.url, cwd=tmp_path)
    assert done.returncode == 2
    assert r"batch_1 is odd\x1b[31m\nError: forged, and has results when" in done.stderr


@pytest.mark.parametrize("command", ["show", "watch", "cancel", "results"])
def test_an_id_that_is_empty_is_not_asked_for(
    command: str, tmp_path: Path, fake: FakeOpenAI
) -> None:
    done = batches(command, "", server=fake.url, cwd=tmp_path)
    assert done.returncode == 2
    assert "is empty: batch-gateway batches list shows ids" in done.stderr
    assert fake.asked == []


def test_a_refusal_of_what_may_be_a_proxy_names_the_server(
    tmp_path: Path, fake: FakeOpenAI
) -> None:
    fake.down = 1
    done = batches("list", server=fake.url, cwd=tmp_path)
    assert done.returncode == 3
    assert f"The batch server is {fake.url}" in done.stderr


def test_a_server_that_is_not_there_is_named_with_a_cure(tmp_path: Path) -> None:
    done = batches("list", server="http://127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 3
    assert "cannot connect to 127.0.0.1:1" in done.stderr
    assert "--server URL, or BATCH_GATEWAY_SERVER" in done.stderr
    assert "batch-gateway serve --gateway URL" in done.stderr


def test_a_gateway_for_inference_is_told_apart_from_a_batch_server(
    tmp_path: Path, gateway: GatewayHandle
) -> None:
    done = batches("list", server=gateway.url, cwd=tmp_path)
    assert done.returncode == 3
    assert f"{gateway.url} does not look like a batch server" in done.stderr


def test_a_server_with_keys_wants_one_and_takes_it_from_a_file_or_a_variable(
    tmp_path: Path,
) -> None:
    key = batch_gateway("keys", "create", "--tenant", "blue", cwd=tmp_path).stdout.strip()
    (tmp_path / "key").write_text(key)
    ports = ("--port", "0", "--observability-port", "0", "--api-keys")
    with started("serve", "--gateway", "simulator", *ports, cwd=tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        without = batches("list", server=url, cwd=tmp_path)
        assert without.returncode == 3
        assert "no key was sent; --api-key-file FILE" in without.stderr
        by_file = batches("list", "--api-key-file", "key", server=url, cwd=tmp_path)
        assert by_file.returncode == 0, by_file.stderr
        variables = {"BATCH_GATEWAY_SERVER_API_KEY": key}
        by_variable = batches("list", server=url, cwd=tmp_path, variables=variables)
        assert by_variable.returncode == 0
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    make_one = "keys create --tenant NAME --data batch-gateway-data"
    assert f"needs an API key, which this prints: batch-gateway {make_one}\n" in told


def test_the_key_of_a_gateway_is_never_sent_to_a_batch_server(
    tmp_path: Path, fake: FakeOpenAI
) -> None:
    variables = {"BATCH_GATEWAY_API_KEY": "sk-gateway", "BATCH_GATEWAY_HEADERS": "X-Key=sk-other"}
    batches("list", server=fake.url, cwd=tmp_path, variables=variables)
    assert "sk-" not in json.dumps(fake.asked)


def test_openai_is_reached_by_its_own_variables(tmp_path: Path, fake: FakeOpenAI) -> None:
    variables = {"OPENAI_BASE_URL": f"{fake.url}/v1", "OPENAI_API_KEY": "sk-openai"}
    done = in_a_process("batches", "list", "--server", "openai", cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert fake.asked[0][2]["Authorization"] == "Bearer sk-openai"
