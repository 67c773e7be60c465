"""The grower: captures a module as tensor algebra and writes C++ for it, genome by genome."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadInput, BadProblem
from epitaxy.plugin import plugins
from epitaxy.proposer import View
from epitaxy.proposers._carry import Dialect
from epitaxy.proposers._unseen import EXHAUSTED, unseen
from epitaxy.proposers.grower.genome import DECISIONS
from epitaxy.record import digest_text
from epitaxy.verdict import Verdict

_VECTORS = dict.fromkeys(("width", "unroll", "stream", "threads", "prefetch"), "")
MEANINGS = {
    "product": {
        "mc": "rows", "nc": "columns", "kc": "depth",
        **dict.fromkeys(("tile_m", "tile_n", "form", "split_k", "pack_a", "pack_b", "threads"), ""),
    },
    "attention": _VECTORS,
    "rows": {"split": "split", **_VECTORS, "tile": "", "stash": "", "online": "", "sum": ""},
    "elements": {"grain": "elements", **_VECTORS},
}  # fmt: skip
"""What decisions mean to a kernel that is carried over; see `epitaxy.proposers._carry`."""

CROSSINGS = 24
"""Crossings tried in a row without a new source before the search calls itself finished."""


def plugin() -> Grower:
    """A fresh grower."""
    return Grower()


class Grower:
    """Genomes as candidates: a portfolio around a first guess, then local and crossing moves."""

    name = "grower"
    dialect = Dialect("C++", DECISIONS, MEANINGS)
    writes = "cpp"
    """The toolchain that is written for by this proposer itself."""

    def __init__(self) -> None:
        self._captured: dict[str, _Captured] = {}
        self._reason = ""

    def propose(self, view: View, count: int) -> Sequence[Candidate]:
        """Up to `count` candidates with sources not seen before. Raises BadProblem on a module
        of which nothing can be grown."""
        other = _other_language(view)
        if other:
            writer = plugins("proposers").get(other)
            written: Sequence[Candidate] = writer.propose(view, count)
            self._reason = writer.stop_reason()
            return written
        captured = self.captured(view)
        judged = [(c, v) for c, v in view.judged() if c.proposer == self.name]
        seen = [*(c for c, _ in judged), *view.pending()]
        moves = captured.moves(view, judged)
        found = unseen(moves, captured.candidate, _body, seen, count)
        if len(found) < count:
            self._reason = EXHAUSTED
        return found

    def around(
        self, view: View, text: str, vary: Mapping[str, Sequence[int]], count: int
    ) -> Sequence[Candidate]:
        """Up to `count` candidates of a sweep (`sweep.py`) around the genome `text`.

        Raises BadInput on decisions and values that do not exist, BadProblem as `propose` does.
        """
        from epitaxy.proposers.grower.sweep import sweep

        captured = self._written_here(view)
        moves = sweep(text, vary, captured.start, captured.spaces, view.seed)
        return unseen(moves, captured.candidate, _body, [], count)

    def decisions(self, view: View) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
        """The values tried of each decision, by region. Raises BadInput and BadProblem."""
        return self._written_here(view).spaces

    def _written_here(self, view: View) -> _Captured:
        other = _other_language(view)
        if other:
            raise BadInput(f"{other} takes no genome from outside", "ask for a start without one")
        return self.captured(view)

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """The ledger's view holds all that the grower learns from."""

    def stop_reason(self) -> str:
        """Why the last answer was short."""
        return self._reason

    def candidate(
        self, view: View, genome: Any, intent: str, parents: tuple[str, ...]
    ) -> Candidate | None:
        """The candidate of a genome of what is captured; None when it cannot be written."""
        return self.captured(view).candidate(genome, intent, parents)

    def captured(self, view: View) -> _Captured:
        """The view's problem captured for C++. Raises BadProblem where nothing can be grown."""
        digest = view.problem.digest
        if digest not in self._captured:
            self._captured[digest] = _Captured(view)
        return self._captured[digest]


def _other_language(view: View) -> str:
    """The proposer that writes what this machine's toolchains take, where they take no C++."""
    if Grower.writes in view.toolchains:
        return ""
    known = plugins("toolchains")
    taken = {getattr(known.get(name), "language", "") for name in view.toolchains}
    return next((name for name in plugins("proposers").names() if name in taken), "")


class _Captured:
    """One problem captured: its program, the regions that can be written, their spaces."""

    def __init__(self, view: View) -> None:
        from epitaxy.problem import open_reference
        from epitaxy.proposers.grower import space, space_samples
        from epitaxy.proposers.grower.chains import rows_of_samples, strips_of
        from epitaxy.proposers.grower.growth import cheaper, grow_program
        from epitaxy.proposers.grower.program import calls, leavable
        from epitaxy.proposers.grower.shares import shares

        self.problem = view.problem
        self.reference: Any = open_reference(view.problem)
        self.program = grow_program(self.reference)
        self.regions = self.program.regions
        if not self.regions:
            left = ", ".join(self.program.program.left) or "nothing"
            raise BadProblem(
                f"nothing in {view.problem.name} can be grown yet", f"it stays with PyTorch: {left}"
            )
        self.forms = cheaper(self.regions, finite=view.problem.policy.special == "none")
        forms = {name: found.region for name, found in self.forms.items()}
        samples = rows_of_samples(self.program.program)
        strips = strips_of(self.program.program)
        self.start = space.start(self.regions, view.chip, forms, samples, strips)
        self.written = space.start(self.regions, view.chip, samples=samples, strips=strips)
        several = len(self.regions) > 1
        self.spaces = space.spaces(
            self.regions, view.chip, forms,
            shares(self.reference, self.program.program) if several else None,
            leavable(self.program.program) if several else (),
            space_samples.options(samples, strips),
            calls(self.program.program),
        )  # fmt: skip

    def moves(self, view: View, judged: list[tuple[Candidate, Verdict]]) -> Any:
        """Genomes worth trying next, with the intent and parents of each."""
        from epitaxy.proposers.grower.learn import fit
        from epitaxy.proposers.grower.moves import moves

        accepted = sorted(
            ((-(v.speedup or 0.0), c) for c, v in judged if v.accepted), key=lambda pair: pair[0]
        )
        elite = self._readable([c for _, c in accepted])[:4]
        rng = random.Random(f"{view.seed} {len(judged)}")
        starts = [self.start, *([self.written] if self.forms else [])]
        model = fit(self.problem, view.history()) if len(judged) >= len(starts) else None
        return moves(starts, self.spaces, elite, rng, model)

    def _readable(self, candidates: list[Candidate]) -> list[tuple[Any, str]]:
        """Genomes of this version's decisions and regions; older ones are left alone."""
        from epitaxy.proposers.grower.genome import parse

        found = []
        for candidate in candidates:
            try:
                genome = parse(candidate.genome)
            except BadInput:
                continue
            if [name for name, _ in genome.regions] == [r.name for r in self.regions]:
                found.append((genome, candidate.id))
        return found

    def changed(self, genome: Any, region: str, decision: str, value: int) -> Any:
        """A copy with one decision of one region changed."""
        return genome.with_choice(region, **{decision: value})

    def fault(self, genome: Any) -> str:
        """Why a genome's kernels cannot be written; "" when they can."""
        if self.candidate(genome, "", ()) is None:
            return "C++ cannot be written with these decisions"
        return ""

    def candidate(self, genome: Any, intent: str, parents: tuple[str, ...]) -> Candidate | None:
        """The candidate of a genome; None when its kernel cannot be written."""
        from epitaxy.proposers.grower.emit import Unsupported, emit_files
        from epitaxy.proposers.grower.growth import own_work
        from epitaxy.proposers.grower.program import calls

        left = frozenset(r.name for r in self.regions if genome.of(r.name).leave)
        grown = [r for r in self.regions if r.name not in left]
        if not grown:
            return None
        used = [f for n, f in self.forms.items() if genome.of(n).algebra and n not in left]
        chosen = {f.region.name: f.region for f in used}
        written = [chosen.get(r.name, r) for r in grown]
        apart = {r.name: genome.of(r.name).pieces for r in grown if genome.of(r.name).samples}
        forward, chains = self.program.chained(left, chosen, apart)
        try:
            sources = emit_files(written, genome, chains)
        except Unsupported:
            return None
        called = calls(self.program.program)
        work, rules = own_work(self.problem.work, grown, written, genome, called)
        if used:
            intent = f"{intent}; rewritten: {'; '.join(str(f) for f in used)}"
        return Candidate(
            problem=self.problem.digest,
            toolchain=Grower.writes,
            files={**sources, "forward.py": forward},  # type: ignore[arg-type]
            entry="forward.py",
            proposer=Grower.name,
            intent=intent,
            genome=str(genome),
            parents=parents,
            regions=tuple(f"{r.name}: {', '.join(r.source)}" for r in grown),
            left=(
                *self.program.program.left,
                *(x for r in self.regions if r.name in left for x in r.source),
            ),
            work=work,
            algebra=rules,
        )


def _body(candidate: Candidate) -> str:
    """What the compiler would see: equal bodies need not be judged twice."""
    lines = [x for n, t in candidate.files.items() if n != candidate.entry for x in t.splitlines()]
    return digest_text("\n".join(x for x in lines if not x.lstrip().startswith("//")))
