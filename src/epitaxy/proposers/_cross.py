"""A grower for a language of chips that are not here: capture, genomes, candidates.

A language brings a `Hand`: what it can write, on which chip, and how. Each candidate holds the
kernels at the problem's own sizes and, where these are more than an interpreter can bear, the same
kernels at smaller ones under `small/`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.errors import BadInput, BadProblem
from epitaxy.plugin import plugins
from epitaxy.problem import Problem, open_reference, smaller
from epitaxy.proposer import View
from epitaxy.proposers._genomes import Choices, Genome, Space, moves, of, parse, text
from epitaxy.record import digest_text
from epitaxy.verdict import Verdict

ELITE = 3


class Hand(Protocol):
    """How one language is written."""

    language: str
    title: str
    """What people call it."""
    decisions: tuple[str, ...]

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


class CrossGrower:
    """The proposer of one language."""

    def __init__(self, hand: Hand) -> None:
        self.name = hand.language
        self._hand = hand
        self._captured: dict[tuple[str, str], _Captured] = {}
        self._reason = ""

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """Up to `count` candidates with sources not seen before. Raises BadProblem on a module
        of which nothing can be written."""
        toolchain = self._toolchain(view)
        if not toolchain:
            title = self._hand.title
            self._reason = f"no toolchain of this machine takes {title}: name a chip with --chip"
            return []
        key = (view.problem.digest, view.chip.id)
        if key not in self._captured:
            self._captured[key] = _Captured(view, self._hand)
        captured = self._captured[key]
        judged = [(c, v) for c, v in view.judged() if c.toolchain == toolchain]
        known = {_body(c) for c, _ in judged} | {_body(c) for c in view.pending()}
        found: list[Candidate] = []
        for genome, intent, parents in captured.moves(view, judged):
            made = captured.candidate(genome, toolchain, intent, parents)
            if made is None or _body(made) in known:
                continue
            known.add(_body(made))
            found.append(made)
            if len(found) == count:
                return found
        self._reason = "no move is left: every neighbour of the best has been judged"
        return found

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """The ledger's view holds all that is learnt from."""

    def stop_reason(self) -> str:
        """Why the last answer was short."""
        return self._reason

    def _toolchain(self, view: View) -> str:
        known = plugins("toolchains")
        taken = {n: getattr(known.get(n), "language", "") for n in view.toolchains}
        return next((n for n, language in taken.items() if language == self.name), "")


class _Captured:
    """One problem captured for one chip, at its own sizes and at an interpreter's."""

    def __init__(self, view: View, hand: Hand) -> None:
        self.problem, self.chip, self.hand = view.problem, view.chip, hand
        self.refused: dict[str, None] = {}
        self.growth = self._grown(view.problem)
        self.regions = self.growth.regions
        if not self.regions:
            left = ", ".join(self.growth.program.left) or "nothing"
            why = f" ({'; '.join(self.refused)})" if self.refused else ""
            raise BadProblem(
                f"nothing in {view.problem.name} can be written in {hand.title} yet{why}",
                f"it stays with PyTorch: {left}",
            )
        small = smaller(view.problem)
        self.small = self._grown(small) if small is not None else None
        self.start = tuple((r.name, hand.guess(r, view.chip)) for r in self.regions)
        self.spaces = {r.name: hand.space(r, view.chip) for r in self.regions}

    def _grown(self, problem: Problem) -> Any:
        from epitaxy.proposers.grower.growth import grow_program

        def accept(region: Any) -> bool:
            why = self.hand.refusal(region, self.chip)
            if why:
                self.refused[why] = None
            return not why

        return grow_program(open_reference(problem), accept, self.hand.title)

    def moves(self, view: View, judged: list[tuple[Candidate, Verdict]]) -> Iterator[Any]:
        """Genomes worth trying next, with intent and parents."""
        ranked = sorted((p for p in judged if p[1].accepted), key=lambda p: -p[1].merit)
        elite = []
        for candidate, _ in ranked[:ELITE]:
            try:
                genome = parse(candidate.genome, self.hand.decisions)
            except BadInput:
                continue
            # One of an older version, with other decisions, is left alone.
            if [(n, set(c)) for n, c in genome] == [(n, set(c)) for n, c in self.start]:
                elite.append((genome, candidate.id))
        rng = random.Random(f"{view.seed} {len(judged)}")
        yield from moves(self.start, self.spaces, elite, rng)

    def candidate(
        self, genome: Genome, toolchain: str, intent: str, parents: tuple[str, ...]
    ) -> Candidate | None:
        """The candidate of a genome; None when it cannot be written."""
        from epitaxy.proposers.grower.emit_expr import Unsupported

        try:
            kernels = self.hand.source(self.regions, genome, self.chip, None)
        except Unsupported:
            return None
        files = {"kernels.py": kernels, "forward.py": self.growth.forward}
        if self.small is not None and len(self.small.regions) == len(self.regions):
            cut = self.hand.source(self.small.regions, genome, self.chip, self.regions)
            files |= {"small/kernels.py": cut, "small/forward.py": self.small.forward}
        return Candidate(
            problem=self.problem.digest,
            toolchain=toolchain,
            files=files,  # type: ignore[arg-type]
            entry="forward.py",
            proposer=self.hand.language,
            intent=intent,
            genome=text(genome),
            parents=parents,
            regions=tuple(f"{r.name}: {', '.join(r.source)}" for r in self.regions),
            left=self.growth.program.left,
        )


def _body(candidate: Candidate) -> str:
    """What is compiled: equal bodies need not be judged twice."""
    return digest_text(candidate.files.get("kernels.py", "").split('"""', 2)[-1])


__all__ = ["Choices", "CrossGrower", "Genome", "Hand", "Space", "of"]
