"""What is wrong with a line of a batch, in words for people and with a code for programs."""

from __future__ import annotations

from typing import NamedTuple, Self

__all__ = ["Fault", "LineProblem"]

_INVALID_JSON = "invalid_json_line"


class Fault(NamedTuple):
    """One thing that is wrong.

    Attributes:
        text: what follows "line 7: ".
        code: that of the OpenAI Batch API, where it has one.
        param: the field concerned, such as `body.model`.
    """

    text: str
    code: str = _INVALID_JSON
    param: str | None = None

    @classmethod
    def of_field(cls, text: str) -> Self:
        """A fault whose words begin with its field."""
        param = text.partition(" ")[0]
        code = "missing_required_parameter" if " is missing" in text else f"invalid_{param}"
        return cls(text, code.replace(".", "_"), param)


class LineProblem(str):
    """A sentence that begins with the number of its line, and what it says in parts."""

    line: int
    fault: Fault

    @classmethod
    def on(cls, line: int, fault: Fault) -> Self:
        problem = cls(f"line {line}: {fault.text}")
        problem.line, problem.fault = line, fault
        return problem
