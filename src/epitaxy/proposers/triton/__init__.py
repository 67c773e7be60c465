"""The grower's hand for Triton: the same algebra and search, written for NVIDIA and AMD."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput, BadProblem
from epitaxy.plugin import plugins
from epitaxy.problem import Problem, open_reference, smaller
from epitaxy.proposer import View
from epitaxy.record import digest_text
from epitaxy.verdict import Verdict

LANGUAGE = "triton"
ELITE = 3


def plugin() -> TritonGrower:
    """A fresh proposer."""
    return TritonGrower()


class TritonGrower:
    """Genomes as candidates in Triton, with the same kernels at sizes for an interpreter."""

    name = "triton"

    def __init__(self) -> None:
        self._captured: dict[tuple[str, str], _Captured] = {}
        self._reason = ""

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """Up to `count` candidates with sources not seen before. Raises BadProblem on a module
        of which nothing can be written."""
        toolchain = _toolchain(view)
        if not toolchain:
            self._reason = "no toolchain of this machine takes Triton: name a chip with --chip"
            return []
        key = (view.problem.digest, view.chip.id)
        if key not in self._captured:
            self._captured[key] = _Captured(view)
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


class _Captured:
    """One problem captured for one chip, at its own sizes and at an interpreter's."""

    def __init__(self, view: View) -> None:
        from epitaxy.proposers.triton import space

        self.problem, self.chip = view.problem, view.chip
        self.growth = _grown(view.problem)
        self.regions = self.growth.regions
        if not self.regions:
            left = ", ".join(self.growth.program.left) or "nothing"
            raise BadProblem(
                f"nothing in {view.problem.name} can be written in Triton yet",
                f"it stays with PyTorch: {left}",
            )
        small = smaller(view.problem)
        self.small = _grown(small) if small is not None else None
        self.start = space.start(self.regions, view.chip)
        self.spaces = space.spaces(self.regions, self.start, view.chip)

    def moves(self, view: View, judged: list[tuple[Candidate, Verdict]]) -> Iterator[Any]:
        """Genomes worth trying next, with intent and parents."""
        from epitaxy.proposers.triton import space
        from epitaxy.proposers.triton.choices import parse

        ranked = sorted((p for p in judged if p[1].accepted), key=lambda p: -p[1].merit)
        elite = []
        for candidate, _ in ranked[:ELITE]:
            try:
                elite.append((parse(candidate.genome), candidate.id))
            except BadInput:
                continue
        rng = random.Random(f"{view.seed} {len(judged)}")
        yield from space.moves(self.start, self.spaces, elite, rng)

    def candidate(
        self, genome: Any, toolchain: str, intent: str, parents: tuple[str, ...]
    ) -> Candidate | None:
        """The candidate of a genome; None when it cannot be written or exceeds the chip."""
        from epitaxy.proposers.grower.emit_expr import Unsupported
        from epitaxy.proposers.triton import emit, space
        from epitaxy.proposers.triton.choices import of, text

        try:
            if not all(space.allowed(r, of(genome, r.name), self.chip) for r in self.regions):
                return None
            kernels, cut = emit.write_source(self.regions, genome, None)
        except Unsupported:
            return None
        with contextlib.suppress(Unsupported):  # without a smaller form it is built and not run
            if self.small is not None and len(self.small.regions) == len(self.regions):
                kernels, cut = emit.write_source(self.regions, genome, self.small.regions)
        files = {"kernels.py": kernels, "forward.py": self.growth.forward}
        if cut and self.small is not None:
            files |= {"small/kernels.py": cut, "small/forward.py": self.small.forward}
        return Candidate(
            problem=self.problem.digest,
            toolchain=toolchain,
            files=files,  # type: ignore[arg-type]
            entry="forward.py",
            proposer=TritonGrower.name,
            intent=intent,
            genome=text(genome),
            parents=parents,
            regions=tuple(f"{r.name}: {', '.join(r.source)}" for r in self.regions),
            left=self.growth.program.left,
        )


def _grown(problem: Problem) -> Any:
    """The problem's program with the regions that can be written in Triton."""
    from epitaxy.proposers.grower.growth import grow_program

    return grow_program(open_reference(problem), _writable, "Triton")


def _writable(region: Any) -> bool:
    from epitaxy.proposers.grower.emit_expr import Unsupported
    from epitaxy.proposers.triton import emit
    from epitaxy.proposers.triton.choices import Choices

    try:
        emit.write_region(region, Choices(block_m=16, block_n=1 << 20))
    except Unsupported:
        return False
    return True


def _toolchain(view: View) -> str:
    """The first of the view's toolchains that takes Triton; "" when none does."""
    known = plugins("toolchains")
    for name in view.toolchains:
        if getattr(known.get(name), "language", "") == LANGUAGE:
            return name
    return ""


def _body(candidate: Candidate) -> str:
    """What is compiled: equal bodies need not be judged twice."""
    text = candidate.files.get("kernels.py", "")
    return digest_text(text.split('"""', 2)[-1])
