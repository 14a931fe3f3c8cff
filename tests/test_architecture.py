"""The house rules, read off the source: who imports whom, no cycles, nothing too large."""

from __future__ import annotations

import ast
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import batch_gateway

ROOT = Path(batch_gateway.__file__).parent
GENERATED = "*_pb2.py"
MODULES = sorted(path for path in ROOT.rglob("*.py") if not path.match(GENERATED))

PAGE = Path(__file__).parent.parent / "ARCHITECTURE.md"

# What everybody may import.
GROUND = {"version", "errors", "durations", "clock", "byte_size", "config_checks", "histogram"}
GROUND |= {"extras"}
CLIENT = {"client", "client.interfaces", "client.layers"}
LAYER_FOLDERS = {
    "client.layers.admission",
    "client.layers.cache",
    "client.layers.coalesce",
    "client.layers.concurrency",
}

# Each part, which is a folder or a module beside the folders, and the parts that it may import.
# Those stand above it, so that no two folders can import each other; a part may import itself.
LAYERS: dict[str, set[str]] = {
    "version": set(),
    "loading": set(),
    "extras": set(),
    "clock": set(),
    "histogram": set(),
    "errors": set(),
    "durations": {"errors"},
    "byte_size": {"errors"},
    "config_checks": {"errors", "durations"},
    "concurrency": set(),
    "wire.ext_proc": set(),
    "wire.http2": {"errors", "durations"},
    "wire": {"wire.http2", "errors", "durations", "extras"},
    "http": {"wire", "wire.ext_proc"} | GROUND,
    "grpc": {"http", "wire", "wire.http2"} | GROUND,
    "picker": {"grpc", "http", "wire", "wire.http2", "wire.ext_proc"} | GROUND,
    "client.interfaces": {"http", "concurrency", "wire"} | GROUND,
    "client.layers": {"client.interfaces", "http", "wire"} | GROUND,
    "client.layers.cache": {"client.interfaces", "wire"} | GROUND,
    "client.layers.coalesce": {"client.interfaces", "wire"} | GROUND,
    "client.layers.concurrency": {"client.interfaces", "http", "concurrency", "wire"} | GROUND,
    "client.layers.admission": {"client.interfaces", "client.layers", "client.layers.concurrency"}
    | {"concurrency", "wire"}
    | GROUND,
    "client.streaming": {"client.interfaces", "http", "wire"} | GROUND,
    "client": {"client.streaming", "client.interfaces", "client.layers"}
    | {"picker", "http", "concurrency", "wire"}
    | LAYER_FOLDERS
    | GROUND,
    "engine": {"client.interfaces", "concurrency", "wire"} | GROUND,
    "storage": set(GROUND),
    "inputs": {"storage", "engine", "wire"} | GROUND,
    "tables": {"inputs", "engine", "wire"} | GROUND,
    "conversion": {"tables", "engine", "wire"} | GROUND,
    "simulator.answers": {"wire"} | GROUND,
    "simulator": {"simulator.answers", "wire"} | GROUND,
    "simulator.picker.rpc": {"simulator", "wire.http2"} | GROUND,
    "simulator.picker": {"simulator", "simulator.answers", "simulator.picker.rpc"}
    | {"wire", "wire.http2", "wire.ext_proc"}
    | GROUND,
    "metrics": {"engine", "client.interfaces", "concurrency", "wire"} | GROUND,
    "report": {"engine", "client.interfaces", "concurrency", "wire"} | GROUND,
    "service.migrations.versions": set(),
    "service.migrations": set(),
    "service": {"storage", "report", "engine", "client.interfaces", "wire"} | GROUND,
    "settings": {"storage", "report", "engine", "picker", "http", "wire"}
    | CLIENT
    | LAYER_FOLDERS
    | GROUND,
    "remote": {"engine", "http", "wire"} | GROUND,
    "testing": {"simulator", "simulator.picker", "config_checks"},
    "runs": {"inputs", "report", "engine", "simulator", "http", "wire"}
    | CLIENT
    | LAYER_FOLDERS
    | GROUND,
    "diagnosis": {"http", "wire"} | CLIENT | LAYER_FOLDERS | GROUND,
    "server": {"runs", "service", "storage", "metrics", "report", "engine"}
    | {"client.interfaces", "client.layers.concurrency"}
    | {"http", "wire"}
    | GROUND,
    "cli": {
        "conversion",
        "diagnosis",
        "tables",
        "inputs",
        "runs",
        "settings",
        "metrics",
        "report",
        "engine",
        "picker",
        "http",
        "concurrency",
    }
    | {"remote", "server", "service", "storage", "wire", "loading"}
    | {"simulator", "simulator.picker"}
    | CLIENT
    | LAYER_FOLDERS
    | GROUND,
    "public": {
        "tables",
        "runs",
        "engine",
        "client.streaming",
        "picker",
        "http",
        "concurrency",
        "wire",
        "errors",
    }
    | CLIENT
    | LAYER_FOLDERS,
    "__init__": {"public", "loading", "version"},
    "__main__": {"cli"},
}
# What the picture of the arrows leaves out.
LEFT_OUT = GROUND | {"loading", "__init__", "__main__"}
# Names of files that stand more than once, and why.
REPEATED_NAMES = {
    "table": "the command is called so, the part that makes one, and the table of settings",
    "__init__": "what Python calls it",
    "migrate": "the command is called so, and the part of the service that it calls",
    "public": "what `batch_gateway` and `batch_gateway.engine` give when they are asked for it",
    "run": "the command is called so, and the engine's part that it starts",
    "validate": "the command is called so, and the engine's part that it calls",
}
BANNED_NAMES = {"utils", "util", "common", "shared", "helpers", "helper", "manager", "misc"}
LONGEST_FUNCTION = 60
LONGEST_FILE = 400
TYPICAL_FUNCTION = 25


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The folder of a module, or itself where it is beside the folders."""
    _, _, within = module.partition(".")
    is_folder = (ROOT / within.replace(".", "/")).is_dir()
    return within.rpartition(".")[0] if "." in within and not is_folder else within or "__init__"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(parsed(path)))


KNOWN = {module_name(module) for module in MODULES}


def imported_modules(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in KNOWN)
        elif isinstance(node, ast.ImportFrom) and node.module in KNOWN:
            assert node.level == 0, f"{path}: write absolute imports"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & KNOWN
            yield from submodules or {node.module}


def test_a_part_may_only_import_parts_above_it() -> None:
    above: set[str] = set()
    for part, targets in LAYERS.items():
        assert targets <= above, f"{part} may import {targets - above}, which are not above it"
        above.add(part)
    assert above == {part_of(module_name(path)) for path in MODULES}


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module_name(path)} imports {target}"
        for path in MODULES
        for target in imported_modules(path)
        if part_of(target) != part_of(module_name(path))
        and part_of(target) not in LAYERS[part_of(module_name(path))]
    ]
    assert wrong == []


def _of_the_page(mark: str) -> str:
    """What stands behind a mark in ARCHITECTURE.md, up to the next heading."""
    return PAGE.read_text("utf-8").partition(f"<!-- {mark} -->\n")[2].partition("\n## ")[0]


def arrows() -> list[str]:
    """Which top folder imports which, without what follows from other arrows."""
    imports: dict[str, set[str]] = {}
    for part, targets in LAYERS.items():
        top = part.partition(".")[0]
        found = {target.partition(".")[0] for target in targets} - LEFT_OUT - {top}
        if top not in LEFT_OUT:
            imports.setdefault(top, set()).update(found)

    def reached(top: str) -> set[str]:
        return imports[top].union(*(reached(target) for target in imports[top]))

    return [
        f"    {top} --> {target}"
        for top in reversed(imports)
        for target in sorted(imports[top])
        if not any(target in reached(other) for other in imports[top])
    ]


def test_the_picture_has_the_arrows_that_the_code_is_held_to() -> None:
    picture = _of_the_page("arrows").partition("```mermaid\n")[2].partition("```")[0]
    expected = "\n".join(["graph TD", *arrows(), ""])
    assert picture == expected, f"the picture in ARCHITECTURE.md should be:\n{expected}"


def test_every_part_is_explained() -> None:
    named = re.findall(r"`([^`\n]+?)(?:/|\.py)`", _of_the_page("parts"))
    assert set(named) == {part.replace(".", "/") for part in LAYERS.keys() - LEFT_OUT}


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module_name(path): set(imported_modules(path)) for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [
        path for path in MODULES if BANNED_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)
    ] == []


def test_the_name_of_a_file_stands_once() -> None:
    names = Counter(path.stem for path in MODULES)
    assert {name for name, times in names.items() if times > 1} == REPEATED_NAMES.keys()


def function_lengths(path: Path) -> Iterator[tuple[str, int]]:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1


def test_functions_and_files_stay_small() -> None:
    lengths = dict(item for path in MODULES for item in function_lengths(path))
    assert {name: size for name, size in lengths.items() if size > LONGEST_FUNCTION} == {}
    typical = statistics.quantiles(lengths.values(), n=10)[8]
    assert typical <= TYPICAL_FUNCTION, f"one function in ten is longer than {typical} lines"
    files = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES
    }
    assert {name: size for name, size in files.items() if size > LONGEST_FILE} == {}


def test_every_module_says_what_it_is_for_and_what_it_offers() -> None:
    for path in MODULES:
        tree = parsed(path)
        if not tree.body:
            continue
        assert ast.get_docstring(tree), f"{path} has no docstring"
