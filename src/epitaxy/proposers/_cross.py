"""A grower for a language of chips that are not here: capture, genomes, candidates.

A language brings a `Hand`: what it can write, on which chip, and how. Each candidate holds the
kernels at the problem's own sizes and, where these are more than an interpreter can bear, the same
kernels at smaller ones under `small/`.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.errors import BadInput, BadProblem
from epitaxy.plugin import plugins
from epitaxy.problem import Problem, open_reference, smaller
from epitaxy.proposer import View
from epitaxy.proposers._carry import Dialect
from epitaxy.proposers._genomes import Choices, Genome, Space, changed, moves, parse, text
from epitaxy.proposers._unseen import EXHAUSTED, unseen
from epitaxy.record import digest_text
from epitaxy.verdict import Verdict

ELITE = 3
SHOWN = 4
"""Regions that could not be written, with the reason for each."""


class Hand(Protocol):
    """How one language is written."""

    language: str
    title: str
    """What people call it."""
    decisions: tuple[str, ...]
    dialect: Dialect

    def refusal(self, region: Any, chip: Chip) -> str:
        """Why a region cannot be written at all; "" when it can."""

    def guess(self, region: Any, chip: Chip) -> Choices:
        """The first choices for a region."""

    def space(self, region: Any, chip: Chip) -> Space:
        """What each decision may be."""

    def source(
        self, regions: Sequence[Any], genome: Genome, chip: Chip, large: Sequence[Any] | None
    ) -> str:
        """`kernels.py`; with `large`, the regions at larger sizes, whose structure is kept.

        Raises Unsupported.
        """


class Captured:
    """One problem captured for one chip, at its own sizes and at an interpreter's.

    `accept` says why a region cannot be written at all, "" when it can. Raises BadProblem when none
    can.
    """

    def __init__(self, view: View, language: str, title: str, accept: Callable[[Any], str]) -> None:
        self.problem, self.chip = view.problem, view.chip
        self.language, self.title = language, title
        self._writable, self.refused = accept, dict[str, str]()
        """Why regions were not accepted, by the operators that they replace."""
        self.growth = self._grown(view.problem)
        self.regions = self.growth.regions
        if not self.regions:
            left = ", ".join(self.growth.program.left) or "nothing"
            raise BadProblem(
                f"nothing in {view.problem.name} can be written in {title} yet{self.why()}",
                f"it stays with PyTorch: {left}",
            )
        small = smaller(view.problem)
        self.small = self._grown(small) if small is not None else None

    def _grown(self, problem: Problem) -> Any:
        from epitaxy.proposers.grower.growth import grow_program

        return grow_program(open_reference(problem), self._accept, self.title)

    def _accept(self, region: Any) -> bool:
        why = self._writable(region)
        if why:
            self.refused[", ".join(region.source)] = why
        return not why

    def why(self) -> str:
        """What is known of why regions were not accepted, in brackets."""
        if len(self.refused) == 1:
            return f" ({next(iter(self.refused.values()))})"
        reasons = [f"{source}: {why}" for source, why in self.refused.items()]
        return f" ({'; '.join(reasons[:SHOWN])})" if reasons else ""

    @property
    def fits_small(self) -> bool:
        """Whether the smaller form has the same regions."""
        return self.small is not None and len(self.small.regions) == len(self.regions)

    def read(self, printed: str) -> Any:
        """A printed genome. Raises BadInput for one of other decisions."""
        raise NotImplementedError

    def around(self, elite: Sequence[tuple[Any, str]], rng: random.Random) -> Iterator[Any]:
        """Genomes worth trying next, with intent and parents."""
        raise NotImplementedError

    def write(self, genome: Any) -> tuple[str, str, str] | None:
        """The genome as text, `kernels.py` at both sizes ("" where there is no smaller one); None
        when it cannot be written."""
        raise NotImplementedError

    def changed(self, genome: Any, region: str, decision: str, value: int) -> Any:
        """A copy with one decision of one region changed."""
        return changed(genome, region, decision, value)

    def fault(self, genome: Any) -> str:
        """Why a genome cannot be written, with the limit that it breaks; "" when it can."""
        raise NotImplementedError

    def moves(self, view: View, judged: list[tuple[Candidate, Verdict]]) -> Iterator[Any]:
        """Genomes worth trying next, with intent and parents."""
        ranked = sorted((p for p in judged if p[1].accepted), key=lambda p: -p[1].merit)
        elite = []
        for candidate, _ in ranked[:ELITE]:
            try:
                elite.append((self.read(candidate.genome), candidate.id))
            except BadInput:  # one of an older version, with other decisions, is left alone
                continue
        rng = random.Random(f"{view.seed} {len(judged)}")
        yield from self.around(elite, rng)

    def candidate(
        self, toolchain: str, genome: Any, intent: str, parents: tuple[str, ...]
    ) -> Candidate | None:
        """The candidate of a genome; None when it cannot be written."""
        written = self.write(genome)
        if written is None:
            return None
        printed, kernels, cut = written
        files = {"kernels.py": kernels, "forward.py": self.growth.forward}
        if cut and self.small is not None:
            files |= {"small/kernels.py": cut, "small/forward.py": self.small.forward}
        return Candidate(
            problem=self.problem.digest,
            toolchain=toolchain,
            files=files,  # type: ignore[arg-type]
            entry="forward.py",
            proposer=self.language,
            intent=intent,
            genome=printed,
            parents=parents,
            regions=tuple(f"{r.name}: {', '.join(r.source)}" for r in self.regions),
            left=self.growth.program.left,
        )


class CrossGrower:
    """The proposer of one language, called `language`; `capture` captures a view's problem."""

    def __init__(
        self, language: str, title: str, capture: Callable[[View], Captured], dialect: Dialect
    ) -> None:
        self.name, self._title, self._capture, self.dialect = language, title, capture, dialect
        self._captured: dict[tuple[str, str], Captured] = {}
        self._reason = ""

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """Up to `count` candidates with sources not seen before. Raises BadProblem on a module
        of which nothing can be written."""
        toolchain = self._toolchain(view)
        if not toolchain:
            self._reason = (
                f"no toolchain of this machine takes {self._title}: name a chip with --chip"
            )
            return []
        captured = self.captured(view)
        judged = [(c, v) for c, v in view.judged() if c.toolchain == toolchain]
        seen = [*(c for c, _ in judged), *view.pending()]
        make = functools.partial(captured.candidate, toolchain)
        found = unseen(captured.moves(view, judged), make, _body, seen, count)
        if len(found) < count:
            self._reason = EXHAUSTED
        return found

    def captured(self, view: View) -> Captured:
        """The view's problem captured for its chip. Raises BadProblem where nothing can be
        written."""
        key = (view.problem.digest, view.chip.id)
        if key not in self._captured:
            self._captured[key] = self._capture(view)
        return self._captured[key]

    def candidate(
        self, view: View, genome: Any, intent: str, parents: tuple[str, ...]
    ) -> Candidate | None:
        """The candidate of a genome of what is captured; None when it cannot be written."""
        return self.captured(view).candidate(self._toolchain(view), genome, intent, parents)

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """The ledger's view holds all that is learnt from."""

    def stop_reason(self) -> str:
        """Why the last answer was short."""
        return self._reason

    def _toolchain(self, view: View) -> str:
        known = plugins("toolchains")
        taken = {n: getattr(known.get(n), "language", "") for n in view.toolchains}
        return next((n for n, language in taken.items() if language == self.name), "")


def grower(hand: Hand) -> CrossGrower:
    """The proposer of a language that brings a `Hand`."""
    capture = functools.partial(_ByHand, hand=hand)
    return CrossGrower(hand.language, hand.title, capture, hand.dialect)


class _ByHand(Captured):
    """A problem captured for a hand."""

    def __init__(self, view: View, hand: Hand) -> None:
        self.hand = hand
        super().__init__(
            view, hand.language, hand.title, lambda region: hand.refusal(region, view.chip)
        )
        self.start = tuple((r.name, hand.guess(r, view.chip)) for r in self.regions)
        self.spaces = {r.name: hand.space(r, view.chip) for r in self.regions}

    def read(self, printed: str) -> Genome:
        """A printed genome of this version's decisions and regions."""
        genome = parse(printed, self.hand.decisions)
        if [(n, set(c)) for n, c in genome] != [(n, set(c)) for n, c in self.start]:
            raise BadInput("the genome has other decisions", "replay it with its own version")
        return genome

    def around(self, elite: Sequence[tuple[Any, str]], rng: random.Random) -> Iterator[Any]:
        """The guess, and the neighbours of the best."""
        return moves(self.start, self.spaces, elite, rng)

    def fault(self, genome: Any) -> str:
        """Why the hand cannot write it."""
        from epitaxy.proposers.grower.emit_expr import Unsupported

        try:
            self.hand.source(self.regions, genome, self.chip, None)
        except Unsupported as why:
            return str(why)
        return ""

    def write(self, genome: Any) -> tuple[str, str, str] | None:
        """The texts of a genome; None when the hand cannot write it."""
        from epitaxy.proposers.grower.emit_expr import Unsupported

        try:
            kernels = self.hand.source(self.regions, genome, self.chip, None)
        except Unsupported:
            return None
        cut = ""
        if self.fits_small and self.small is not None:
            with contextlib.suppress(Unsupported):  # without one it is built and not run
                cut = self.hand.source(self.small.regions, genome, self.chip, self.regions)
        return text(genome), kernels, cut


def _body(candidate: Candidate) -> str:
    """What is compiled: equal bodies need not be judged twice."""
    return digest_text(candidate.files.get("kernels.py", "").split('"""', 2)[-1])
