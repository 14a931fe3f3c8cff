"""`run --dry-run`: the requests that an input becomes, their size, and what they would cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from batch_gateway.cli.check_input import check_input, display_name
from batch_gateway.cli.choose_display import choose_display
from batch_gateway.cli.cost import MILLION, amount_text
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.input_options import hosts_of
from batch_gateway.cli.interrupts import Interrupts
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.engine.plan import Plan
from batch_gateway.errors import ConfigError
from batch_gateway.http.base_url import checked_base_url
from batch_gateway.inputs.prompt_size import RequestSize, size_of_request
from batch_gateway.inputs.read_input import InputOptions

__all__ = ["prices_of", "show_requests"]

_SHOWN: Final = 3
_KINDS: Final = ("input", "output")


def show_requests(
    file: str,
    asked: InputOptions,
    flags: Mapping[str, Any],
    price: Mapping[str, str] | None,
    *,
    dry_run: bool,
) -> int:
    """Do what --dry-run does; nothing is sent or written.

    Raises InputError and ConfigError, and CommandFailure where `dry_run` was not asked for.
    """
    if not dry_run:
        raise CommandFailure("--price is for --dry-run, which shows what it would cost")
    prices = prices_of(price or {})
    gateway = flags.get("gateway")
    if gateway is not None and ":" in gateway:
        asked = msgspec.structs.replace(asked, hosts=hosts_of([checked_base_url(gateway)]))
    display = choose_display(sys.stderr, quiet=bool(flags.get("quiet")))
    with Interrupts(display.leave), check_input(file, display, asked) as plan:
        found = _found(plan, prices)
        shown = [json.loads(plan.read(index)) for index in islice(plan.order("file"), _SHOWN)]
    if flags.get("json"):
        write_json({"file": display_name(file), **found, "first": shown})
    else:
        write_stdout(_text(file, found, shown))
    return ExitCode.SUCCEEDED


def prices_of(given: Mapping[str, str]) -> dict[str, float]:
    """For a million tokens of each kind, which may stand in one option with commas between.

    Raises ConfigError.
    """
    pairs = ",".join(f"{name}={value}" for name, value in given.items()).split(",")
    found: dict[str, float] = {}
    for pair in filter(None, pairs):
        kind, _, text = (part.strip() for part in pair.partition("="))
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if kind not in _KINDS or not 0 <= number < float("inf"):
            raise ConfigError(
                "--price",
                f"{pair!r:.80} is not like input=0.15 or output=0.60, for a million tokens",
            )
        found[kind] = number
    return found


def _found(plan: Plan, prices: Mapping[str, float]) -> dict[str, Any]:
    total = RequestSize()
    for index in plan.order("file"):
        total += size_of_request(plan.request(index)[1].body)
    answers = None if total.unbounded else total.answer_tokens
    found: dict[str, Any] = {
        "requests": plan.total - len(plan.faulty),
        "left_out": len(plan.faulty),
        "models": plan.models,
        "prompt_tokens_estimated": round(total.prompt_tokens),
        "answer_tokens_at_most": answers,
    }
    if "input" in prices:
        found["cost_of_prompts"] = total.prompt_tokens * prices["input"] / MILLION
    if "output" in prices:
        cost = None if answers is None else answers * prices["output"] / MILLION
        found["cost_of_answers_at_most"] = cost
    return found


def _text(file: str, found: Mapping[str, Any], shown: list[Any]) -> str:
    lines = [json.dumps(one, ensure_ascii=False) for one in shown]
    requests = counted(found["requests"], "request")
    models = ", ".join(f"{model}: {count:,}" for model, count in found["models"].items())
    lines += ["", f"{requests} of {display_name(file)} ({models}); nothing was sent"]
    if found["left_out"]:
        lines.append(f"{counted(found['left_out'], 'line')} with problems, left out")
    lines.append(f"About {found['prompt_tokens_estimated']:,} tokens of prompts, by their length")
    answers = found["answer_tokens_at_most"]
    lines.append(
        "Answers may be as long as the model likes: --param max_tokens=N bounds them"
        if answers is None
        else f"At most {answers:,} tokens of answers, by their limits"
    )
    if "cost_of_prompts" in found:
        lines.append(f"The prompts would cost about {amount_text(found['cost_of_prompts'])}")
    if found.get("cost_of_answers_at_most") is not None:
        lines.append(
            f"The answers would cost at most {amount_text(found['cost_of_answers_at_most'])}"
        )
    return printable("\n".join(lines))
