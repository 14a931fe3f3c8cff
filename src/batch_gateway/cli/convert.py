"""`batch-gateway convert`: files of batches in the forms of other services."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import cast

import click
import msgspec

from batch_gateway.cli.check_input import STANDARD_INPUT
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.options import GroupedCommand, option
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.conversion.convert_file import Conversion, convert_file
from batch_gateway.conversion.forms import FORMS, Form
from batch_gateway.engine.source import FileSource
from batch_gateway.remote.result_download import check_target

__all__ = ["convert"]

_FORMS = click.Choice(FORMS)
_FILES, _WORDS, _SHOW = "Files", "What is missing or too much", "Display"
_EPILOG = """\
Examples:
  batch-gateway convert messages.jsonl --to openai -o requests.jsonl
  batch-gateway convert requests.jsonl --to anthropic --max-tokens 1024 --drop body.seed -o a.jsonl
  batch-gateway convert results.jsonl --from anthropic --to openai -o openai.jsonl

Requests and results alike. What the other form has no words for is an error that names line and
field, and nothing is written; --drop FIELD leaves the field out, and says how often.
Exit codes: 0 all lines are written, 2 a line or the usage is wrong, 4 it could not be written.
"""


@click.command(
    cls=GroupedCommand,
    short_help="Batch files of OpenAI, vLLM, Mistral, Anthropic.",
    epilog=_EPILOG,
)
@click.argument("file", metavar="FILE")
@option(_FILES, "-o", "--output", type=click.Path(path_type=Path), required=True,
        help="What to write; a file that is there already is left alone.")  # fmt: skip
@option(_FILES, "--from", "source", type=_FORMS, help="The form of FILE.  [by its first line]")
@option(_FILES, "--to", "target", type=_FORMS, required=True, help="The form to write.")
@option(_WORDS, "--model", metavar="NAME", help="Of requests that name none.")
@option(_WORDS, "--endpoint", metavar="PATH",
        help="Of a job of Mistral's, whose lines name none.  [/v1/chat/completions]")  # fmt: skip
@option(_WORDS, "--max-tokens", metavar="N", type=click.IntRange(min=1),
        help="Of requests without a limit, which Anthropic wants.")  # fmt: skip
@option(_WORDS, "--drop", metavar="FIELD", multiple=True,
        help="Leave this out where it has no place, as messages name it; repeatable.")  # fmt: skip
@option(_SHOW, "--json", "as_json", is_flag=True, help="Say what it came to as one JSON object.")
def convert(
    *,
    file: str,
    output: Path,
    source: str | None,
    target: str,
    model: str | None,
    endpoint: str | None,
    max_tokens: int | None,
    drop: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write FILE, requests or results of a batch, in another form (- is standard input)."""
    place = check_target(output)
    given = FileSource.spool(sys.stdin.buffer) if file == STANDARD_INPUT else FileSource.open(file)
    with closing(given):
        done = convert_file(
            given,
            place,
            cast("Form", target),
            form=cast("Form | None", source),
            model=model,
            endpoint=endpoint,
            max_tokens=max_tokens,
            drop=drop,
        )
    if as_json:
        write_json({"output": str(output), **msgspec.to_builtins(done)})
    else:
        write_stdout(printable(f"{output}: {_in_words(done)}"))
    return ExitCode.SUCCEEDED


def _in_words(done: Conversion) -> str:
    words = [f"{counted(done.lines, 'line')} from {done.source} to {done.target}"]
    words += (f"{field} left out {count:,} times" for field, count in done.dropped.items())
    return ", ".join(words)
