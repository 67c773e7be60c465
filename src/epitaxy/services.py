"""What a study offers a proposer besides judging: the desk's tools that read, as plain `Tool`s."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from epitaxy import cards, guides
from epitaxy.candidate import Candidate
from epitaxy.desk import Desk
from epitaxy.errors import BadInput
from epitaxy.proposer import Tool
from epitaxy.record import Record

MOST = 20
"""Of anything that is listed."""
Id = Annotated[str, "A candidate's id."]
_SCHEMA: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def services(study: Any) -> tuple[Tool, ...]:
    """The tools for a study's proposer, over its own problem, machine and ledger."""
    return tuple(map(tool, _Services(study).all()))


def tool(function: Callable[..., Any]) -> Tool:
    """A Tool of a function whose parameters are annotated plain types, its docstring the text."""
    hints = typing.get_type_hints(function, include_extras=True)
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        said = hint.__metadata__[0] if typing.get_origin(hint) is Annotated else ""
        kind = hint.__origin__ if said else hint
        properties[name] = {"type": _SCHEMA[kind], **({"description": said} if said else {})}
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
    schema = {"type": "object", "properties": properties, "required": required}
    about = " ".join((function.__doc__ or "").split())
    return Tool(name=function.__name__, about=about, schema=schema, call=function)


class _Services:
    def __init__(self, study: Any) -> None:
        self._study = study
        self._desk = Desk(study.problem, study.machine, study.ledger, say=study.say)

    def all(self) -> list[Callable[..., Record]]:
        """In the order in which they are offered."""
        return [
            self.problem_card, self.chip_card, self.compare, self.search, self.lessons,
            self.read_guide, self.disassemble, self.profile,
        ]  # fmt: skip

    def problem_card(self) -> cards.ProblemCard:
        """What is to be computed, the floor on this chip and what sets it, the baselines to beat,
        the best candidate so far and why it is fast."""
        return self._desk.problem_card()

    def chip_card(
        self, chip: Annotated[str, "A chip's id or alias; empty: this one."] = ""
    ) -> cards.ChipCard:
        """Peaks, memory levels with bandwidths, ridge points and facts of a chip."""
        return self._desk.chip_card(chip)

    def compare(
        self, one: Id, other: Annotated[str, "The other one; empty: its parent, with it."] = ""
    ) -> cards.CompareCard:
        """Two candidates: the difference of their sources beside that of every figure."""
        return self._desk.compare(one, other)

    def search(
        self,
        words: Annotated[str, "Words that must all occur in intent, genome or reason."] = "",
        everywhere: Annotated[bool, "All problems and machines, those like this first."] = False,
        most: Annotated[int, f"How many of each kind, 1 to {MOST}."] = 8,
    ) -> cards.SearchCard:
        """What was tried: what worked best, dead ends with their reasons, similar problems."""
        return self._desk.search(words, everywhere=everywhere, most=_few(most))

    def lessons(self, most: Annotated[int, f"How many, 1 to {MOST}."] = 8) -> cards.LessonsCard:
        """Moves that helped or did not on problems like this one, here and on other chips."""
        return self._desk.lessons(_few(most))

    def read_guide(
        self, name: Annotated[str, "A guide, chip or toolchain; empty: this chip's."] = ""
    ) -> guides.Guide:
        """How to write fast code for a chip: memory, vector or matrix units, what the compiler
        does and does not do, moves that pay, traps; with this machine's own numbers."""
        return guides.read(name, None if name else self._study.machine.chip())

    def disassemble(
        self, candidate: Id, function: Annotated[str, "Look in this function only."] = ""
    ) -> Record:
        """The hot loop of a candidate, instruction by instruction, with marks."""
        return self._desk.disassemble(self._own(candidate).digest, function)

    def profile(self, candidate: Id) -> Record:
        """What limits a candidate here, measured (it takes half a minute): variants without
        stores, loads or threads, its hot loop, samples; bottlenecks ranked, with moves to try."""
        return self._desk.profile(self._own(candidate).digest).diagnosis

    def _own(self, id: str) -> Candidate:
        it: Candidate = self._study.ledger.candidate(id)
        if it.problem != self._study.problem.digest:
            raise BadInput(f"{it.id} is for another problem", "take one for this problem")
        return it


def _few(count: int) -> int:
    if not 1 <= count <= MOST:
        raise BadInput(f"most={count}", f"ask for 1 to {MOST}")
    return count
