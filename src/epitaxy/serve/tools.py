"""The tools of the server as typed methods: what each takes, what it answers. No word of MCP.

A method's docstring is what an agent reads. Methods in LONG run as jobs and hear where to say
their steps; those in MEASURES wait for one another.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from epitaxy import cards
from epitaxy.candidate import Candidate
from epitaxy.desk import Desk
from epitaxy.errors import BadInput
from epitaxy.guides import Guide
from epitaxy.ledger import Ledger
from epitaxy.probe.explored import Exploration
from epitaxy.problem import Problem
from epitaxy.profiling.view import LoopView
from epitaxy.serve.allowance import Allowance
from epitaxy.serve.offered import Offers, OffersCard
from epitaxy.serve.place import Place

AUTHOR = "mcp"
Say = Any
"""What hears one line for each step."""
ProblemName = Annotated[str, "A problem's name or id, as list_problems says."]
CandidateId = Annotated[str, "A candidate's id, or enough of it to be unambiguous."]
Plan = Annotated[
    Literal["screen", "full"],
    "screen: quick, against the strongest baseline. full: fresh processes, every baseline; needed "
    "before export.",
]


class Tools:
    """What an agent may do; one per server. `close` ends what it has started."""

    def __init__(
        self, files: list[str], root: Path, machine: Any, ledger: Path | None = None,
        free: bool = False, allowance: Allowance | None = None,
    ) -> None:  # fmt: skip
        self.place = Place(root)
        self.machine = machine
        self._ledger = ledger
        self.offers = Offers(files, self.place, self.open_ledger, free)
        self._allowance = allowance or Allowance()
        self._warm: Desk | None = None
        self._warming = threading.Lock()

    def open_ledger(self) -> Ledger:
        """A connection of one's own: threads do not share one."""
        return Ledger(self._ledger)

    @contextlib.contextmanager
    def _reading(self, problem: Problem) -> Iterator[Desk]:
        with self.open_ledger() as ledger:
            yield Desk(problem, self.machine, ledger, author=AUTHOR)

    @contextlib.contextmanager
    def _of(self, id: str) -> Iterator[tuple[Desk, Candidate]]:
        """A desk for the problem of a recorded candidate."""
        with self.open_ledger() as ledger:
            it = ledger.candidate(id)
            yield Desk(ledger.problem(it.problem), self.machine, ledger, author=AUTHOR), it

    def _measuring(self, problem: Problem) -> Desk:
        """The desk whose baselines are kept warm: that of the last problem judged."""
        with self._warming:
            if self._warm is None or self._warm.problem.digest != problem.digest:
                self._leave()
                self._warm = Desk(problem, self.machine, self.open_ledger(), author=AUTHOR)
                self._warm.charge = self._allowance.charge
            self._warm.ledger.add_problem(problem)
            return self._warm

    def _measure(self, say: Say) -> None:
        """Measure this machine where that was never done: floors rest on it."""
        if not getattr(self.machine, "probed", False):
            return
        from epitaxy.probe import measured_chip

        def tell(share: float, text: str) -> None:
            say(f"first use of this machine: {text} ({share:.0%})")

        measured_chip(tell, quick=False)

    def _leave(self) -> None:
        if self._warm is not None:
            self._warm.close()
            self._warm.ledger.close()
            self._warm = None

    def close(self) -> None:
        """End the processes of the baselines."""
        with self._warming:
            self._leave()

    # -- reading --------------------------------------------------------------------------------

    def list_problems(self) -> OffersCard:
        """The problems that may be worked on, with their ids. Start here."""
        return self.offers.cards()

    def problem_card(self, say: Say, problem: ProblemName) -> cards.ProblemCard:
        """What to compute (source, shapes, precision policy), the least work, the physical floor
        on this chip and what sets it, the baselines to beat, the best candidate so far and why."""
        say("bringing the problem to life")
        known = self.offers.problem(problem)
        self._measure(say)
        with self._reading(known) as desk:
            return desk.problem_card()

    def chip_card(
        self,
        say: Say,
        chip: Annotated[str, "A chip's id or alias, e.g. h100; empty: this machine."] = "",
    ) -> cards.ChipCard:
        """Peaks, memory levels with bandwidths, ridge points and facts of a chip. This machine's
        are measured (the first time takes about 12 s)."""
        from epitaxy.chip_facts import find
        from epitaxy.facing import chip_card

        if not chip:
            self._measure(say)
        return chip_card(find(chip) if chip else self.machine.chip())

    def show(self, candidate: CandidateId) -> cards.CandidateCard:
        """A recorded candidate: its sources, genome, parents and verdict."""
        with self._of(candidate) as (desk, it):
            return desk.show(it.digest)

    def compare(
        self,
        one: CandidateId,
        other: Annotated[str, "The other candidate; empty: one's parent, with one."] = "",
    ) -> cards.CompareCard:
        """Two candidates: the source difference beside the difference of every figure."""
        with self._of(one) as (desk, it):
            return desk.compare(it.digest, other)

    def search(
        self,
        say: Say,
        problem: ProblemName,
        words: Annotated[str, "Words that must all occur in intent, genome or reason."] = "",
        everywhere: Annotated[
            bool, "All problems and machines, those like this one first."
        ] = False,
        most: Annotated[int, "How many of each kind, 1 to 50."] = 10,
    ) -> cards.SearchCard:
        """What the ledger holds: what worked best, dead ends with their reasons, similar problems.
        Ask before trying something that may have been tried."""
        if not 1 <= most <= 50:
            raise BadInput(f"most={most}", "ask for 1 to 50")
        say("bringing the problem to life")
        known = self.offers.problem(problem)
        with self._reading(known) as desk:
            return desk.search(words, everywhere=everywhere, most=most)

    def read_guide(
        self,
        say: Say,
        name: Annotated[str, "A guide, chip or toolchain; empty: this machine's chip."] = "",
    ) -> Guide:
        """How to write fast code for a chip: memory hierarchy, vector or matrix units, what the
        compiler does and does not do, moves that pay, traps, with this machine's own numbers."""
        from epitaxy import guides

        if not name:
            self._measure(say)
        return guides.read(name, None if name else self.machine.chip())

    def lessons(
        self,
        say: Say,
        problem: ProblemName,
        most: Annotated[int, "How many, 1 to 50."] = 12,
    ) -> cards.LessonsCard:
        """What earlier problems taught: moves that won or were dead ends on problems and chips
        like this one, with intervals and how often it was seen."""
        if not 1 <= most <= 50:
            raise BadInput(f"most={most}", "ask for 1 to 50")
        say("bringing the problem to life")
        known = self.offers.problem(problem)
        self._measure(say)
        with self._reading(known) as desk:
            return desk.lessons(most)

    def diagnose_report(
        self,
        say: Say,
        report: Annotated[str, "A profiler's report below the working folder."],
        kernel: Annotated[str, "Only kernels whose name contains this."] = "",
        chip: Annotated[str, "The chip, where the report does not say."] = "",
    ) -> cards.DiagnosisCard:
        """What limits the kernels of a profiler's report, of any vendor: evidence, estimated gain
        with its formula and source, and the move to try."""
        from epitaxy import insight
        from epitaxy.chip_facts import find

        path = self.place.present(report)
        say("reading the report")
        return insight.report(path, kernel, find(chip) if chip else None)

    def explore(
        self,
        say: Say,
        name: Annotated[str, "An experiment of the catalogue; empty: list them."] = "",
        recipe: Annotated[str, "Instead: an experiment of your own as TOML, its kernels C++."] = "",
    ) -> Exploration:
        """Put a hypothesis about this machine's processor to the test: two kernels that differ in
        one thing are built, checked by disassembly, compared and timed in pairs: confirmed,
        refuted or inconclusive. Without arguments: the catalogue, and what was found here. One of
        your own counts as a candidate judged."""
        from epitaxy import experiments

        if name and recipe:
            raise BadInput("a name and a recipe at once", "give either")
        if not name and not recipe:
            return experiments.overview()
        say("reading the experiment")
        chosen = (
            experiments.parse(recipe, "the recipe") if recipe else experiments.find_listed(name)
        )
        self._allowance.ask(0)
        if recipe:
            self._allowance.charge("explore")
        result = experiments.explore(chosen, lambda _, text: say(text), keep=not recipe)
        return Exploration(results=(result,))

    # -- doing ----------------------------------------------------------------------------------

    def judge(
        self,
        say: Say,
        problem: ProblemName,
        files: Annotated[
            dict[str, str],
            "File name to text. A C++ candidate has kernel.cpp (a large network part0.cpp and so "
            "on beside it) and forward.py (get them from grow or show); a PyTorch one has "
            "model_new.py with class ModelNew.",
        ] = {},  # noqa: B006 (the protocol's schema needs a plain default)
        folder: Annotated[str, "Instead of files: a folder below the working folder."] = "",
        candidate: Annotated[str, "Instead of files: the id of a recorded candidate."] = "",
        parent: Annotated[str, "The candidate that files change: others are taken over."] = "",
        intent: Annotated[str, "What you changed and why, in one line; kept for later."] = "",
        plan: Plan = "screen",
    ) -> cards.VerdictCard:
        """Build, check and time a candidate, and record the verdict. A failed build returns the
        compiler's errors; a refusal names the check and the mend."""
        given = [
            n for n, v in (("files", files), ("folder", folder), ("candidate", candidate)) if v
        ]
        if len(given) != 1:
            raise BadInput(
                f"{' and '.join(given) or 'nothing'} to judge", "give files, folder or candidate"
            )
        say("bringing the problem to life")
        known = self.offers.problem(problem)
        self._measure(say)
        desk = self._measuring(known)
        it: Candidate | str = candidate
        if folder:
            read = self.place.candidate(folder, known)
            it = read.replace(proposer=AUTHOR, intent=intent[:300] or read.intent)
        elif files:
            it = desk.candidate(files, parent=parent, intent=intent[:300])
        return desk.judge(it, plan, say)

    def grow(
        self,
        say: Say,
        problem: ProblemName,
        genome: Annotated[
            str, 'Decisions to hold, e.g. "region0(width=8 unroll=4)"; empty: the grower\'s own.'
        ] = "",
        vary: Annotated[
            dict[str, list[int]],
            'Decisions to sweep, e.g. {"region0.unroll": [2, 4]}; an empty list: every value.',
        ] = {},  # noqa: B006
        count: Annotated[int, "Most candidates, 1 to 32."] = 4,
        plan: Annotated[
            Literal["", "screen", "full"], "How to judge each; empty: only write them."
        ] = "screen",
    ) -> cards.GrowCard:
        """Ask the grower for its next candidates, or for a sweep around a genome that you write.
        The answer lists the decisions that exist, the values tried and what each means."""
        say("bringing the problem to life")
        known = self.offers.problem(problem)
        self._measure(say)
        self._allowance.ask(count if plan else 0)
        return self._measuring(known).grow(genome, vary, count=count, plan=plan, say=say)

    def profile(
        self,
        say: Say,
        candidate: CandidateId,
        ablations: Annotated[
            list[str], 'Variants to time, e.g. ["no_stores"]; "all"; empty: the usual ones.'
        ] = [],  # noqa: B006
    ) -> cards.ProfileCard:
        """What limits a candidate on this machine: variants of it (without stores, without loads,
        one thread ...) timed beside it, its hot loop, bottlenecks with gain, source and move. One
        that was never judged counts as one judged."""
        self._allowance.ask(0)
        self._measure(say)
        with self._of(candidate) as (desk, it):
            desk.charge = self._allowance.charge
            return desk.profile(it.digest, ablations, say)

    def disassemble(
        self,
        say: Say,
        candidate: CandidateId,
        function: Annotated[str, "A function, or part of its name; empty: the hot loop's."] = "",
    ) -> LoopView:
        """A candidate's hot loop, instruction by instruction, with marks (width, stride, spill,
        FMA ...) and the source lines they came from."""
        say("building with source lines")
        with self._of(candidate) as (desk, it):
            return desk.disassemble(it.digest, function)

    def export(
        self,
        say: Say,
        candidate: CandidateId,
        folder: Annotated[str, "A new folder below the working folder."],
    ) -> cards.ExportCard:
        """Write a proven candidate (accepted under plan full) as a folder with a self-contained
        model_new.py, its sources, library and evidence."""
        out = self.place.fresh(folder)
        say("exporting")
        with self._of(candidate) as (desk, it):
            return desk.export(it.digest, out)


READ = ("list_problems", "show", "compare")
LONG = (
    "problem_card", "chip_card", "search", "lessons", "read_guide", "diagnose_report",
    "explore",
    "judge", "grow", "profile", "disassemble", "export",
)  # fmt: skip
MEASURES = ("judge", "grow", "profile", "disassemble", "export", "explore")
