"""Proposer: where candidates come from. It sees the ledger's view, never the judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.problem import Problem
from epitaxy.record import Record, record
from epitaxy.verdict import Finding, Verdict


@dataclass(frozen=True)
class Tool:
    """A service of the study's that a proposer may use, or offer to a model: a card, a search.

    `schema` is the JSON schema of the arguments that `call` takes by name. What it answers is a
    record or a text; a mistake raises EpitaxyError. No tool judges: that is what `propose` is for.
    """

    name: str
    about: str
    schema: Mapping[str, Any]
    call: Callable[..., Any]


@record
class Left(Record):
    """What remains of a study's budget: seconds, candidates, US dollars, tokens; None is no limit.

    While the study is `preparing` its clock has not started, and seconds are 0: do not wait then.
    """

    seconds: float | None = None
    candidates: int | None = None
    usd: float | None = None
    tokens: int | None = None
    preparing: bool = False

    @property
    def paid(self) -> str:
        """What a language model has used up: "money" or "tokens"; "" while both are left."""
        short = {"money": self.usd, "tokens": self.tokens}
        return next((name for name, n in short.items() if n is not None and n <= 0), "")

    @property
    def over(self) -> bool:
        """Whether nothing more is to be judged or measured."""
        late = self.seconds is not None and self.seconds <= 0 and not self.preparing
        return late or self.candidates == 0


@record
class Spending(Record):
    """What a proposer has asked of a paid service: requests and tokens; `usd` covers all but the
    `unpriced` requests. Cached tokens are part of the input tokens."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        """All tokens, read and written."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Spending) -> Spending:
        mine, theirs = self.to_dict(), other.to_dict()
        return Spending(**{name: mine[name] + theirs[name] for name in mine})

    def __str__(self) -> str:
        cached = self.cached_tokens / self.input_tokens if self.input_tokens else 0.0
        told = f"{self.requests} answers, {self.input_tokens} tokens in ({cached:.0%} cached), "
        price = f"{self.usd:.2f} USD" if self.usd or not self.unpriced else "at no known price"
        return f"{told}{self.output_tokens} out, {price}"


class View(Protocol):
    """What every proposer may see of a study."""

    problem: Problem
    chip: Chip
    seed: int
    toolchains: Sequence[str]

    def judged(self) -> Sequence[tuple[Candidate, Verdict]]:
        """Every candidate of this problem with its latest verdict, oldest first."""

    def pending(self) -> Sequence[Candidate]:
        """Candidates asked for and not yet judged."""

    def history(self) -> Sequence[tuple[Problem, str, float]]:
        """(problem, genome, speed-up) of accepted candidates with a genome, of every problem that
        was studied on this machine."""

    def best(self, count: int = 1) -> Sequence[tuple[Candidate, Verdict]]:
        """The fastest accepted ones, fastest first."""

    def tools(self) -> Sequence[Tool]:
        """What may be asked besides: cards of problem and chip, comparisons, the ledger."""

    def left(self) -> Left:
        """What remains of the budget."""

    def note(self, kind: str, **body: Any) -> None:
        """Keep something of one's own in the ledger: plain data, for this problem and machine."""

    def notes(self, kind: str) -> Sequence[Mapping[str, Any]]:
        """What was kept under `kind`, oldest first, by earlier runs too."""

    def say(self, phase: str) -> None:
        """Tell the user what is going on, in a few words."""


class Proposer(Protocol):
    """What a source of candidates must offer; `testing.ProposerConformance` checks it."""

    name: str

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """Up to `count` new candidates; an empty answer says that no move is left."""

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """Take note of what became of them."""

    def stop_reason(self) -> str:
        """Why the last answer was empty, in one line."""


@runtime_checkable
class Asking(Protocol):
    """What a proposer offers beside that asks a language model."""

    notes: Sequence[Finding]
    """What the user should know: a price that is not."""

    def asking(self, model: str, islands: int = 1) -> Proposer:
        """A proposer that asks `model` ("provider/name") in so many conversations.

        Raises BadInput, UnknownName, and BadEnvironment where a key or a package is missing.
        """

    def spent(self) -> Spending:
        """What this run has spent."""

    def bill(self) -> str:
        """That in one line, with the model's name."""

    def transcript(self, notes: Sequence[Mapping[str, Any]]) -> str:
        """What was said, as Markdown, from its notes in the ledger (kept under its own name)."""

    def close(self) -> None:
        """Drop every request under way."""
