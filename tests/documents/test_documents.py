"""Every command and snippet that the documents show does what they say."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path

import promql_parser
import pytest
import yaml

from batch_gateway import HTTPInferenceClientConfig
from batch_gateway.testing import (
    PickerConfig,
    SimulatorConfig,
    simulated_gateway,
    simulated_pool,
)
from tests.documents.blocks import DOCUMENTS, ROOT, Block, blocks
from tests.documents.settings_page import PAGE, with_parts
from tests.peers.client_environments import litellm_python, node_with_openai

BLOCKS = list(blocks())
# Of the example, for a reader who waits.
LINES = 30
# The documents write gateways as http://NAME:8000; the tests put the simulator in their place.
_GATEWAY = re.compile(r"http://[a-z][a-z0-9.-]*:8000")
# And endpoint pickers as grpc://NAME:9002, for which a simulated pool stands in.
_PICKER = re.compile(r"grpc://[a-z][a-z0-9.-]*:9002")
_EXIT = re.compile(r"exit (\d+)")


def _curl(_: Path) -> list[str]:
    if shutil.which("curl") is None or shutil.which("jq") is None:
        pytest.skip("curl and jq are not installed")
    return ["bash", "-euo", "pipefail"]


def _litellm(_: Path) -> list[str]:
    # Else it asks the web for prices when it is loaded.
    alone = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True"]
    return [*alone, str(litellm_python()), "-W", "ignore"]


# What runs a snippet of this language and note in a folder.
CLIENTS: dict[tuple[str, str], Callable[[Path], list[str]]] = {
    ("js", "node"): lambda desk: [str(node_with_openai(desk))],
    ("python", "litellm"): _litellm,
    ("sh", "curl"): _curl,
}


def of(language: str, note: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and block.note.startswith(note)]


@pytest.fixture(scope="module")
def gateway_url() -> Iterator[str]:
    with simulated_gateway(SimulatorConfig.instant()) as gateway:
        yield gateway.url


@pytest.fixture(scope="module")
def picker_url() -> Iterator[str]:
    with simulated_pool(pods=2, picker=PickerConfig(fallbacks=1)) as pool:
        yield pool.url


@pytest.fixture(scope="module")
def in_tests(gateway_url: str, picker_url: str) -> Callable[[str], str]:
    """Puts simulated gateways in the place of those that a document names."""
    return lambda code: _PICKER.sub(picker_url, _GATEWAY.sub(gateway_url, code))


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder such as a reader of the documents works in."""
    with (ROOT / "examples" / "requests.jsonl").open("rb") as lines:
        few = b"".join(islice(lines, LINES))
    (tmp_path / "examples").mkdir()
    for name in ("requests.jsonl", "examples/requests.jsonl"):
        (tmp_path / name).write_bytes(few)
    (tmp_path / "key.txt").write_text("sk-your-key\n")
    (tmp_path / "reviews.csv").write_text('id,review\n1,"Great, again!"\n2,Meh.\n')
    return tmp_path


def run(
    command: list[str], desk: Path, gateway_url: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("BATCH_GATEWAY_")}
    return subprocess.run(
        command,
        cwd=desk,
        env={**inherited, **(variables or {}), "PATH": path, "PYTHONWARNINGS": "error"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def expected_exit(block: Block) -> int:
    found = _EXIT.search(block.note)
    return int(found.group(1)) if found else 0


def in_python(code: str) -> list[str]:
    # Some snippets rely on the default gateway, which no test may assume to be there.
    code = code.replace(
        "HTTPInferenceClient()", "HTTPInferenceClient(HTTPInferenceClientConfig())"
    ).replace("HTTPInferenceClientConfig()", 'HTTPInferenceClientConfig("http://localhost:8000")')
    if "import HTTPInferenceClientConfig" not in code:
        code = "from batch_gateway import HTTPInferenceClientConfig\n" + code
    return [sys.executable, "-c", code]


def in_a_notebook(code: str) -> list[str]:
    """As a cell: in an event loop that runs, with `await` where a program could not have it."""
    cell = f"compile({code!r}, 'cell', 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)"
    running = f"async def run():\n    made = eval({cell}, {{}})\n    if made: await made\n"
    return [sys.executable, "-c", f"import ast, asyncio\n{running}asyncio.run(run())"]


# How the blocks are run that need nothing but a gateway.
RUNNERS: dict[tuple[str, str], Callable[[str], list[str]]] = {
    ("python", "run"): in_python,
    ("python", "notebook"): in_a_notebook,
    ("sh", "run"): lambda code: ["bash", "-euo", "pipefail", "-c", code],
}


def steps(block: Block) -> list[Block]:
    """A block, behind the last one above it that stands alone if it comes `after` that."""
    if "after" not in block.note:
        return [block]
    above = [one for one in BLOCKS if one.path == block.path and one.line < block.line]
    return [[one for one in above if "after" not in one.note][-1], block]


@pytest.mark.parametrize("block", [block for kind in RUNNERS for block in of(*kind)], ids=str)
def test_a_snippet_runs_as_printed(
    block: Block, desk: Path, gateway_url: str, in_tests: Callable[[str], str]
) -> None:
    for step in steps(block):
        command = RUNNERS[step.language, re.split(r"\W", step.note)[0]]
        done = run([in_tests(part) for part in command(step.code)], desk, gateway_url)
        assert done.returncode == expected_exit(step), done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", of("text", "output of:"), ids=str)
def test_what_a_command_prints_is_as_shown(block: Block, desk: Path, gateway_url: str) -> None:
    command = shlex.split(block.note.removeprefix("output of:"))
    done = run(command, desk, gateway_url)
    assert done.returncode == 0, done.stderr
    shown, said = _shapes(block.code), _shapes(done.stdout + done.stderr)
    assert shown <= said
    assert len(shown) > 2


def _shapes(text: str) -> set[str]:
    """The lines of a text without their numbers, and without what depends on how a run went."""
    lines = (re.sub(r"\d[\d.,]*(?:[hms]|ms)?", "#", line) for line in text.splitlines())
    return {line for line in lines if not line.startswith(("  cut off", "  why"))}


@pytest.mark.parametrize("block", of("sh", "serve"), ids=str)
def test_a_service_starts_and_stops_as_printed(
    block: Block, desk: Path, in_tests: Callable[[str], str]
) -> None:
    serve_until_ready(desk, shlex.split(in_tests(block.code).replace("/srv/", "srv/")))


@pytest.mark.parametrize("block", of("yaml", "serve config"), ids=str)
def test_a_service_is_configured_as_printed(
    block: Block, desk: Path, in_tests: Callable[[str], str]
) -> None:
    (desk / "config.yaml").write_text(in_tests(block.code).replace("/srv/", "srv/"))
    (desk / "header-keys.txt").write_text(base64.urlsafe_b64encode(os.urandom(32)).decode())
    serve_until_ready(desk, ["batch-gateway", "serve", "--config", "config.yaml"])


def serve_until_ready(desk: Path, command: list[str]) -> None:
    """Start a service on free ports, read its address, and stop it, all without a complaint."""
    program = Path(sys.executable).parent / command[0]
    with subprocess.Popen(
        [program, *command[1:], "--port", "0", "--observability-port", "0"],
        cwd=desk,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert url.startswith("http://127.0.0.1:"), said
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service on a free port, which stands for the one that the documents speak to."""
    program = Path(sys.executable).parent / "batch-gateway"
    ports = ["--port", "0", "--observability-port", "0"]
    with subprocess.Popen(
        [program, "serve", "--gateway", "simulator", *ports],
        cwd=tmp_path_factory.mktemp("service"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.mark.parametrize("block", [*of("python", "service"), *of("sh", "service")], ids=str)
def test_what_is_asked_of_a_service_runs_as_printed(
    block: Block, desk: Path, gateway_url: str, service_url: str
) -> None:
    code = block.code.replace("http://127.0.0.1:8080", service_url)
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", code]
    if block.language == "sh":
        script = f"export BATCH_GATEWAY_SERVER={service_url}\n{code}"
        command = ["bash", "-euo", "pipefail", "-c", script]
    # A page may leave it to these where its program sends batches.
    openai = {"OPENAI_BASE_URL": f"{service_url}/v1", "OPENAI_API_KEY": "any"}
    done = run(command, desk, gateway_url, openai)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.peer("batch clients")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", [block for kind in CLIENTS for block in of(*kind)], ids=str)
def test_a_client_of_the_service_runs_as_printed(
    block: Block, desk: Path, gateway_url: str, service_url: str
) -> None:
    script = desk / "snippet.mjs"  # a suffix that Node alone looks at
    script.write_text(block.code.replace("http://127.0.0.1:8080", service_url))
    client = CLIENTS[block.language, block.note](desk)
    done = run([*client, script.name], desk, gateway_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((desk / "results.jsonl").read_text().splitlines()) == LINES


@pytest.mark.parametrize("block", of("yaml", "config"), ids=str)
def test_a_configuration_is_accepted_as_printed(
    block: Block, desk: Path, gateway_url: str, in_tests: Callable[[str], str]
) -> None:
    (desk / "config.yaml").write_text(in_tests(block.code))
    command = [
        "batch-gateway",
        "run",
        "requests.jsonl",
        "--config",
        "config.yaml",
        "-o",
        "out.jsonl",
    ]
    done = run(command, desk, gateway_url)
    assert done.returncode == expected_exit(block), done.stdout + done.stderr


@pytest.mark.parametrize("block", of("yaml", "triggers"), ids=str)
def test_what_triggers_ask_of_prometheus_is_a_query_of_metrics_on_the_page(block: Block) -> None:
    asked = [trigger["metadata"]["query"] for trigger in yaml.safe_load(block.code)["triggers"]]
    metrics = {name for query in asked for name in re.findall(r"batch_\w+", query)}
    assert metrics
    assert all(f"| `{name}` |" in block.path.read_text("utf-8") for name in metrics)
    for query in asked:
        promql_parser.parse(query)


@pytest.mark.parametrize("block", of("json", "batch line"), ids=str)
def test_a_batch_line_is_valid_as_printed(block: Block, desk: Path, gateway_url: str) -> None:
    (desk / "line.jsonl").write_text(block.code)
    done = run(["batch-gateway", "validate", "line.jsonl"], desk, gateway_url)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", of("sh", "benchmark"), ids=str)
def test_a_benchmark_is_there_as_printed(block: Block) -> None:
    # They take minutes; that each exists and knows its options is what can be checked here.
    for line in block.code.strip().splitlines():
        command = line.partition("#")[0].split()
        said = help_of(command[command.index("-m") + 1])
        assert all(word in said for word in command if word.startswith("--"))


@cache
def help_of(module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_block_is_left_unchecked() -> None:
    checked = {
        id(block)
        for language, note in [
            *RUNNERS,
            ("sh", "serve"),
            ("yaml", "serve config"),
            ("python", "service"),
            ("sh", "service"),
            ("sh", "setup:"),
            ("sh", "benchmark"),
            ("yaml", "config"),
            ("json", "batch line"),
            ("yaml", "triggers"),
            # tests/deploy/test_kubernetes_page.py
            ("yaml", "values"),
            ("yaml", "adapter"),
            # tests/documents/test_slurm.py
            ("sh", "sbatch"),
            *CLIENTS,
        ]
        for block in of(language, note)
    }
    # `text` blocks show output, and commands that test_commands_shown.py looks at.
    left = [str(b) for b in BLOCKS if id(b) not in checked and b.language != "text"]
    assert left == []


def test_every_setting_of_a_client_is_described() -> None:
    text = (ROOT / "docs" / "library.md").read_text("utf-8")
    fields = {field.name for field in dataclasses.fields(HTTPInferenceClientConfig)}
    assert {name for name in fields if f"`{name}`" not in text} == set()


def test_the_page_of_settings_says_what_the_table_says() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_parts(page), "python -m tests.documents.settings_page"


def test_every_page_is_in_the_navigation_and_on_the_first_page() -> None:
    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    first = (docs / "index.md").read_text("utf-8")
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == sorted(pages)
    # Those of the reference are found by the first of them.
    linked = {name for name in pages if f"({name}" in first}
    assert {name for name in pages - linked if "/" not in name} == {"index.md"}


def test_every_extra_is_on_the_first_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    first = (ROOT / "docs" / "index.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \|", first, re.MULTILINE)
    extras = project["optional-dependencies"]
    assert sorted(rows) == sorted(name for name in extras if extras[name])


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    setup = of("sh", "setup:")
    assert [block.note for block in setup] == ["setup: demo", "setup: test"]
    assert all(len(block.code.strip().splitlines()) == 1 for block in setup)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []
