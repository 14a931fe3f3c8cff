"""Other programs beside this one, at one gateway: `python -m benchmarks.peers`.

Three tables. What a line costs where all is well; what becomes of lines that a gateway refuses or
answers oddly; and what a `kill -9` in the middle costs, when the same program is started again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import msgspec

from benchmarks.environment import REPOSITORY, contenders_python
from benchmarks.machine import CLIENT_CORE, describe, pin
from benchmarks.peers.roster import PEERS, Peer
from benchmarks.peers.trouble import TROUBLE, answer_to
from benchmarks.tables import print_table, write_json

_LIMIT_S = 600.0
_EACH_TROUBLE = 5
_QUEUE = "Ticket: since this morning our web shop answers with error 502 about every third time."


class Ended(msgspec.Struct):
    """A program that ended by itself, or did not within the limit (then `code` is None)."""

    code: int | None
    wall_s: float
    cpu_s: float
    peak_mib: float
    last_words: str


class Outcome(msgspec.Struct):
    """What a program says of the lines, and how often the gateway was asked each."""

    ended: Ended
    right: int
    wrong: int
    failed: int
    missing: int
    requests: int
    asked_again: int


def main() -> None:
    options = _parse_options()
    peers = [peer for peer in PEERS if options.only in peer.name]
    for peer in peers:
        peer.python()
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    print("versions:", ", ".join(peer.requirement or "batch-gateway" for peer in peers))
    figures: dict[str, object] = {"lines": options.lines, "concurrency": options.concurrency}
    for name, part in {"well": _well, "trouble": _trouble, "killed": _killed}.items():
        if name in (options.part or name):
            figures[name] = part(peers, options.lines, options.concurrency)
    write_json("peers", msgspec.to_builtins(figures), [])


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lines", type=int, default=2_000, help="of the file (default 2,000)")
    parser.add_argument("--concurrency", type=int, default=64, help="requests in flight")
    parser.add_argument("--only", default="", help="programs whose name contains this")
    parser.add_argument("--part", choices=("well", "trouble", "killed"), help="one of the tables")
    return parser.parse_args()


def _well(peers: list[Peer], lines: int, concurrency: int) -> dict[str, Outcome]:
    prompts = [f"{number}. {_QUEUE}" for number in range(lines)]
    found = _each(peers, prompts, concurrency, 0.0, _run)
    base = found.get("batch-gateway")
    columns = ["program", "seconds", "CPU ms a line", "of batch-gateway's", "peak MiB", "right"]
    rows = [
        [
            name,
            f"{one.ended.wall_s:.1f}",
            f"{one.ended.cpu_s / lines * 1e3:.2f}",
            f"{one.ended.cpu_s / base.ended.cpu_s:.1f}" if base else "",
            f"{one.ended.peak_mib:,.0f}",
            f"{one.right:,}",
        ]
        for name, one in found.items()
    ]
    print_table(f"{lines:,} lines, {concurrency} in flight, answers at once", columns, rows)
    return found


def _trouble(peers: list[Peer], _lines: int, concurrency: int) -> dict[str, dict[str, Outcome]]:
    found: dict[str, dict[str, Outcome]] = {}
    for trouble in TROUBLE:
        prompts = [f"{trouble}: {number}" for number in range(_EACH_TROUBLE)]
        prompts += [f"{number}. {_QUEUE}" for number in range(95)]
        for name, outcome in _each(peers, prompts, concurrency, 0.02, _run).items():
            found.setdefault(name, {})[trouble] = outcome
    rows = [[name, *map(_words, by_trouble.values())] for name, by_trouble in found.items()]
    title = f"{_EACH_TROUBLE} lines of 100 in trouble: answered / failed / not there; requests"
    print_table(title, ["program", *TROUBLE], rows)
    return found


def _words(outcome: Outcome) -> str:
    if outcome.ended.code != 0:
        return f"no result ({'no end' if outcome.ended.code is None else 'error'})"
    wrong = f" + {outcome.wrong} wrong" if outcome.wrong else ""
    answered = outcome.right - 95
    sent = outcome.requests - 95
    return f"{answered}{wrong} / {outcome.failed} / {outcome.missing}; {sent}"


def _killed(peers: list[Peer], lines: int, concurrency: int) -> dict[str, Outcome]:
    prompts = [f"{number}. {_QUEUE}" for number in range(lines)]
    found = _each(peers, prompts, concurrency, 0.2, _run_killed_before)
    columns = ["program", "requests", "sent twice", "right", "not there"]
    rows = [
        [name, f"{one.requests:,}", f"{one.asked_again:,}", f"{one.right:,}", f"{one.missing:,}"]
        for name, one in found.items()
    ]
    print_table(f"{lines:,} lines, killed at half of them, started again", columns, rows)
    return found


Run = Callable[[Peer, Path, str, Path, int], Ended]


def _each(
    peers: list[Peer], prompts: list[str], concurrency: int, delay: float, run: Run
) -> dict[str, Outcome]:
    """The same lines through each program, each at a gateway of its own."""
    found: dict[str, Outcome] = {}
    for peer in peers:
        with TemporaryDirectory(prefix="peers-") as work, _gateway(delay) as url:
            source, folder = Path(work, "requests.jsonl"), Path(work, "own")
            folder.mkdir()
            source.write_text("".join(map(_line, range(len(prompts)), prompts)), "utf-8")
            ended = run(peer, source, url, folder, concurrency)
            found[peer.name] = _outcome(ended, prompts, folder, _counts(url))
            print(f"  {peer.name}: {_told(found[peer.name])}", file=sys.stderr, flush=True)
    return found


def _told(outcome: Outcome) -> str:
    said = f"{outcome.ended.wall_s:.1f} s, {outcome.right} right, {outcome.requests} requests"
    return said if outcome.ended.code == 0 else f"{said}; {outcome.ended.last_words}"


def _line(number: int, prompt: str) -> str:
    body = {"model": "llama-3", "messages": [{"role": "user", "content": prompt}]}
    line = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions"}
    return json.dumps({**line, "body": body}) + "\n"


def _outcome(ended: Ended, prompts: list[str], folder: Path, counts: Counter[str]) -> Outcome:
    answers = folder / "answers.jsonl"
    lines = answers.read_text("utf-8").splitlines() if answers.exists() else []
    said = dict(map(json.loads, lines))
    expected = {f"c{number}": answer_to(prompt) for number, prompt in enumerate(prompts)}
    verdicts = Counter(_verdict(said, name, text) for name, text in expected.items())
    return Outcome(
        ended=ended,
        right=verdicts["right"],
        wrong=verdicts["wrong"],
        failed=verdicts["failed"],
        missing=verdicts["missing"],
        requests=sum(counts[prompt] for prompt in prompts),
        asked_again=sum(max(0, counts[prompt] - 1) for prompt in prompts),
    )


def _verdict(said: dict[str, str | None], name: str, expected: str) -> str:
    if name not in said:
        return "missing"
    if said[name] is None:
        return "failed"
    return "right" if said[name] == expected else "wrong"


@contextmanager
def _gateway(delay: float) -> Iterator[str]:
    command = [str(contenders_python()), "-m", "benchmarks.peers.counting_gateway", str(delay)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _counts(url: str) -> Counter[str]:
    with urllib.request.urlopen(f"{url}/counts", timeout=30) as answer:
        return Counter(json.load(answer))


def _started(
    peer: Peer, source: Path, url: str, folder: Path, concurrency: int, output: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        peer.command(source, url, folder, concurrency),
        cwd=folder,
        env=peer.environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: pin(CLIENT_CORE),  # noqa: PLW1509 - no threads here
    )


def _run(peer: Peer, source: Path, url: str, folder: Path, concurrency: int) -> Ended:
    with TemporaryFile() as output:
        began = time.perf_counter()
        process = _started(peer, source, url, folder, concurrency, output.fileno())
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, _LIMIT_S)
        _, status, usage = os.wait4(process.pid, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode("utf-8", "replace").strip()
    return Ended(
        code=None if code == -signal.SIGKILL else code,
        wall_s=time.perf_counter() - began,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
        last_words=said[-300:],
    )


def _run_killed_before(peer: Peer, source: Path, url: str, folder: Path, concurrency: int) -> Ended:
    """Killed without a word when the gateway was asked for half of the lines, and run again."""
    half = len(source.read_text("utf-8").splitlines()) // 2
    with TemporaryFile() as output:
        process = _started(peer, source, url, folder, concurrency, output.fileno())
        while process.poll() is None and sum(_counts(url).values()) < half:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _run(peer, source, url, folder, concurrency)


if __name__ == "__main__":
    main()
