"""What `batches` does with a server, one step at a time: send, watch, fetch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from batch_gateway.cli.batch_server_call import Call
from batch_gateway.cli.batch_text import ending, exit_code, progress_line, share_done
from batch_gateway.cli.check_input import STANDARD_INPUT, display_name
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.rates import Mark, with_mark
from batch_gateway.cli.result_paths import error_path, output_path
from batch_gateway.cli.steps import Steps
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.result_names import unpacked_name
from batch_gateway.engine.source import FileSource, RangeSource, Source
from batch_gateway.engine.time_left import TimeLeft
from batch_gateway.errors import InferenceError, InputError
from batch_gateway.remote.batch_server import BatchServer
from batch_gateway.remote.outage import Outage
from batch_gateway.remote.remote_batch import RemoteBatch
from batch_gateway.remote.result_download import check_target, download

__all__ = ["Targets", "endpoint_of", "fetch", "send", "watch"]

_MOST_PROBLEMS = 20
_MOST_MODELS = 3


class Targets(msgspec.Struct, frozen=True):
    """Where the results of a batch go, and its failed lines."""

    output: Path
    errors: Path

    @classmethod
    def of(cls, name: str, output: Path | None, errors: Path | None) -> Targets:
        """By default they are called as those of a run of `name` would be.

        Raises CommandFailure, and JournalError for a file that is there already.
        """
        results = output_path(name, output)
        targets = cls(results, error_path(results, errors))
        if targets.output == targets.errors:
            raise CommandFailure(f"-o and --errors are both {results}; name two files")
        check_target(targets.output)
        check_target(targets.errors)
        return targets


def endpoint_of(plan: Plan, asked: str | None) -> str:
    """What all lines ask for. Raises InputError for those that ask for something else."""
    wanted = asked or plan.request(next(plan.order("file")))[1].url
    others = list(islice(_elsewhere(plan, wanted), _MOST_PROBLEMS))
    if others:
        raise InputError(
            f"{plan.name}: all lines of a batch ask for one endpoint, here {wanted}; make a file"
            " for each",
            others,
        )
    return wanted


def _elsewhere(plan: Plan, endpoint: str) -> Iterator[str]:
    for index in plan.order("file"):
        url = plan.request(index)[1].url
        if url != endpoint:
            yield f"line {plan.line_number(index)}: url is {url}"


async def send(
    call: Call, server: BatchServer, plan: Plan, wanted: Mapping[str, Any]
) -> RemoteBatch:
    """The new batch. Raises InferenceError and InputError."""
    name, source = _upload(plan)
    show = Steps(call.display).bytes(f"Uploading {name}")
    with closing(source):
        call.uploaded = (await server.upload(source, name, show)).id
    batch = await server.create({"input_file_id": call.uploaded, **wanted})
    call.begun = batch.id
    call.display.close()
    return batch


def _upload(plan: Plan) -> tuple[str, Source]:
    """The name of a file of the plan's requests, and what is in it.

    A batch file is sent as it is. What was made of rows has blank lines where those have several,
    at which others may stumble.
    """
    if plan.faulty or plan.origin is not None:
        lines = (plan.read(index) + b"\n" for index in plan.order("file"))
        return f"{unpacked_name(plan.name).stem}.jsonl", FileSource.keep(lines, plan.name)
    is_named = plan.name != display_name(STANDARD_INPUT)
    name = Path(plan.name).name if is_named else "requests.jsonl"
    return name, RangeSource(plan.source, 0, plan.size_bytes)


async def watch(call: Call, server: BatchServer, batch_id: str) -> tuple[RemoteBatch, bytes]:
    """Show a batch until it has ended; how it ended, and the JSON that says it.

    A server that answered once may be away for a while. Raises InferenceError.
    """
    clock, steps = SYSTEM_CLOCK, Steps(call.display)
    outage = Outage(call.patience, clock, call.display.note)
    batch, told = await server.batch(batch_id)
    started = _mark(batch)
    window: tuple[Mark, ...] = (started,)
    status, time_left = "", TimeLeft()
    while not batch.has_ended:
        call.begun = batch.id
        if batch.status == "in_progress":
            time_left.look(window[-1].done, window[-1].at)
        words = progress_line(batch, window, time_left)
        steps.show(words, share_done(batch), at_once=batch.status != status)
        status = batch.status
        await clock.sleep(_wait(clock.monotonic() - started.at))
        try:
            batch, told = await server.batch(batch_id)
        except InferenceError as error:
            await outage.wait_out(error)
        else:
            outage.answered()
            window = with_mark(window, _mark(batch))
    call.begun = ""
    call.display.close()
    return batch, told


def _mark(batch: RemoteBatch) -> Mark:
    counts = batch.requests
    return Mark(SYSTEM_CLOCK.monotonic(), counts.completed + counts.failed, batch.tokens)


def _wait(watched: float) -> float:
    """Seconds to the next look: what ends soon is seen to end, and what lasts is not pestered."""
    return min(5.0, max(0.25, watched / 10))


async def fetch(call: Call, server: BatchServer, batch: RemoteBatch, targets: Targets) -> ExitCode:
    """Bring the files of a batch that has ended to disk, and say how it ended.

    There is a file of results, be it empty, and one of failed lines if there are any. Raises
    InferenceError and JournalError.
    """
    note = call.display.note
    outage = Outage(call.patience, SYSTEM_CLOCK, note)
    said = [ending(batch)]
    for file_id, target, what in (
        (batch.output_file_id, targets.output, "Results"),
        (batch.error_file_id, targets.errors, "Failed lines"),
    ):
        if file_id:
            show = Steps(call.display).bytes(f"Downloading {os.fspath(target)}")
            await download(server, file_id, target, outage, show)
            said.append(f"{what}: {target}")
        elif target is targets.output and batch.status != "failed":
            target.touch()
    call.display.close()
    note("\n".join(said))
    return exit_code(batch)
