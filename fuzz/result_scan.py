"""Coverage-guided fuzzing of result files: what is taken for ours, what counts, what is changed.

    pip install atheris
    python -m fuzz.result_scan --seconds 300

An input is a file that a run finds at the place of its results; its first byte says which of the
two it is. The batch has eight requests and always the same fingerprint, so that seeds hold it. A
finding is written to `crash-…` in the working directory: make it a seed in
`fuzz/seeds/result_scan`, under a name that says what it is, and the tests will check it from then
on.
"""

from __future__ import annotations

import atexit
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.reconcile import reconcile
from batch_gateway.engine.result_file import ResultFile, open_result_file
from batch_gateway.engine.result_line import Role
from batch_gateway.engine.result_reader import ResultReader
from batch_gateway.engine.result_scan import Scan, check_results, mend_tail, scan_results
from batch_gateway.errors import JournalError
from batch_gateway.wire.lines import line_id
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "result_scan"
LINES = 8
PAGE = 4096
ROLES = (Role.SUCCESS, Role.FAILURE)


@cache
def folder() -> Path:
    # Removed with the last reference to it, when the process ends.
    return Path(_TEMPORARY.name)


_TEMPORARY = tempfile.TemporaryDirectory(prefix="result-scan-")
atexit.register(_TEMPORARY.cleanup)


@cache
def batch() -> Plan:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    request = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    path = folder() / "requests.jsonl"
    path.write_text(
        "".join(json.dumps({"custom_id": f"id-{n}", **request}) + "\n" for n in range(LINES))
    )
    with make_plan(path) as plan:
        return plan


def start_of_ours() -> bytes:
    return f'{{"id":"{line_id(batch().fingerprint, 0)[:-9]}'.encode()


def index_of(line: bytes, role: Role) -> int | None:
    """The request of a line that anybody would call a whole result, read in the plainest way."""
    try:
        found: Any = json.loads(line.decode())
        index = int(found["id"].removeprefix(line_id(batch().fingerprint, 0)[:-9]))
        status, error = found["response"]["status_code"], found["error"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    is_success = type(status) is int and 200 <= status <= 299 and error is None
    is_ours = found["id"] == line_id(batch().fingerprint, index) and "custom_id" in found
    return index if is_ours and is_success == (role is Role.SUCCESS) else None


def check(data: bytes) -> None:
    """Fail when an input breaks a promise of the scanner.

    A file is refused with a JournalError and stays as it is; or it is ours, every whole line of it
    counts, and after it was mended it holds those lines and no others.
    """
    role, content = ROLES[(data[:1] or b"\0")[0] % 2], data[1:]
    path = folder() / "results.jsonl"
    path.write_bytes(content)
    file = open_result_file(path)
    try:
        _check_fresh(file, content)
        reader = ResultReader(file.name, batch(), role)
        try:
            scan = scan_results(file, reader, range(LINES))
        except JournalError as error:
            assert 0 < len(str(error)) < 600, error
            assert path.read_bytes() == content
            return
        assert path.read_bytes() == content
        _check_counted(scan, content, role)
        mend_tail(file, scan)
        if scan.damaged or scan.repeated:
            reconcile(file, reader, scan.seen, "first")
        left = path.read_bytes()
        assert left == content or _is_ours(content), content
        again = scan_results(file, reader, range(LINES))
        assert not again.damaged
        assert [n in again.seen for n in range(LINES)] == [n in scan.seen for n in range(LINES)]
        assert again.lines == left.count(b"\n")
        assert not left or left.endswith(b"\n")
    finally:
        file.close()


def _check_counted(scan: Scan, content: bytes, role: Role) -> None:
    for line in content.split(b"\n"):
        index = index_of(line, role)
        assert index is None or index in scan.seen, line


def _check_fresh(file: ResultFile, content: bytes) -> None:
    try:
        check_results(file)
    except JournalError:
        return
    assert not content or content.find(b"batch_req_") >= 0 or _is_cut_short(content), content


def _is_ours(content: bytes) -> bool:
    """Whether anything in the file is a sign that it is ours."""
    lines = content.split(b"\n")
    by_id = line_id(batch().fingerprint, 0)[:-9].encode()
    return any(line.startswith(start_of_ours()) or by_id in line for line in lines) or (
        _is_cut_short(content)
    )


def _is_cut_short(content: bytes) -> bool:
    written = content.rstrip(b"\0")
    return start_of_ours().startswith(written) and (bool(written) or len(content) < PAGE)


def words() -> tuple[str, ...]:
    start = start_of_ours().decode()
    return (
        *(start, f"{start}000000000", f"{start}000000007", '","custom_id":"id-0","response":'),
        *('{"status_code":200,"request_id":"r","body":', '},"error":null}', '"response":null'),
        *('"error":{"code":"c","message":"m"}}', "\n", "\r\n", "\0" * 512, "\0", "{", "}"),
        *("batch_req_", "\\ud83d", "NaN", "[" * 50),
    )


if __name__ == "__main__":
    run(check, "result files", SEEDS, words())
