"""Desk: what somebody who writes kernels can ask and do for one problem, as plain functions.

The command line (`--json`), the MCP server and the agent loop offer these tools; each answers with
a frozen record of `epitaxy.cards`. Nothing here sets a policy, a tolerance or trust: those belong
to whoever opened the desk.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy import cards, insight, roofline, unvouched
from epitaxy.candidate import Candidate
from epitaxy.checked import judge_for
from epitaxy.chip import Chip
from epitaxy.errors import BadInput, Cancelled
from epitaxy.exporting import export_recorded
from epitaxy.facing import candidate_card, chip_card, contrast, verdict_card
from epitaxy.growing import grow, grow_card
from epitaxy.handmade import HAND, written
from epitaxy.ledger import Judged, Ledger
from epitaxy.metric import Profiled
from epitaxy.problem import Problem
from epitaxy.profiling import view
from epitaxy.profiling.view import LoopView
from epitaxy.progress import milliseconds
from epitaxy.record import FrozenDict
from epitaxy.searching import search
from epitaxy.timing import unix_s
from epitaxy.verdict import Verdict

PLANS = ("screen", "full")
CANCELLED = "cancelled"
"""The kind of event that says of a candidate that its judgement or profile was ended early."""
MOST_GROWN = 32
"""Candidates that the grower is asked for at once."""
Say = Callable[[str], None]


class Desk:
    """The tools for `problem` on `machine`, over one ledger.

    `judge` is an open judge to use (a study's own); without one, the desk makes its own at first
    use and keeps it warm, with its baselines, until `close`. `say` hears one line for each step.
    Calls may come from several threads; only one of them measures at a time.
    """

    def __init__(
        self,
        problem: Problem,
        machine: Any,
        ledger: Ledger,
        *,
        judge: Any = None,
        author: str = HAND,
        say: Say = lambda _: None,
    ) -> None:
        self.problem, self.machine, self.ledger = problem, machine, ledger
        self.author, self.say = author, say
        self._judge, self._own = judge, judge is None
        self.charge: Callable[[str], None] = lambda tool: None
        """Hears of each judgement before it begins, and may refuse it (BadInput)."""
        self._busy = threading.Lock()
        self._machine_digest = ""

    def close(self) -> None:
        """End the processes that the desk has started itself."""
        if self._own and self._judge is not None:
            self._judge.close()
            self._judge = None

    # -- reading --------------------------------------------------------------------------------

    def problem_card(self) -> cards.ProblemCard:
        """What is to be computed, what it costs at least here, and what is known of it."""
        problem, chip = self.problem, self.machine.chip()
        judged = self.judged()
        best = self.best()
        counts: dict[str, int] = {}
        for _, verdict in judged:
            counts[verdict.status] = counts.get(verdict.status, 0) + 1
        work = problem.work
        return cards.ProblemCard(
            problem=problem.id,
            sha256=problem.digest,
            name=problem.name,
            source=problem.source,
            entry=problem.entry,
            inputs=tuple("not a tensor" if s is None else str(s) for s in problem.inputs),
            outputs=tuple(map(str, problem.outputs)),
            parameters=tuple(map(str, problem.parameters)),
            policy=FrozenDict({k: str(v) for k, v in problem.policy.to_dict().items()}),
            flops=work.flops,
            bytes=work.bytes,
            working_set_bytes=problem.working_set_bytes,
            chip=chip.name,
            intensity=work.flops / work.bytes if work.bytes else None,
            baselines=_baselines(judged),
            judged=FrozenDict(counts),
            **self._best(best),
            **self._floor(chip, best),
        )

    def _floor(self, chip: Chip, best: Judged | None) -> dict[str, Any]:
        """The floor, and what is not known."""
        unknown = []
        found: dict[str, Any] = {}
        try:
            limit = roofline.floor(self.problem.work, chip, self.problem.working_set_bytes)
            found = {"floor_s": limit.time_s, "limit": limit.limit}
            found["ridge"] = roofline.ridge(chip, self.problem.work.dtype)
        except BadInput as missing:
            unknown.append(str(missing))
        if best is None:
            unknown.append("baselines and a best time: nothing is accepted here yet")
        return found | {"unknown": tuple(unknown)}

    def chip_card(self, name: str = "") -> cards.ChipCard:
        """This desk's chip, or a shipped one by id, alias or prefix. Raises UnknownName."""
        from epitaxy.chip_facts import find

        return chip_card(find(name) if name else self.machine.chip())

    def judged(self) -> list[Judged]:
        """Every candidate for this problem judged on this machine, oldest first."""
        return self.ledger.judged(self.problem.digest, self.machine_digest)

    def best(self) -> Judged | None:
        """The accepted candidate with the greatest merit, those fully judged first."""
        found = [pair for pair in self.judged() if pair[1].accepted]
        ranked = sorted(found, key=lambda p: (p[1].plan != "full", -p[1].merit))
        return ranked[0] if ranked else None

    @property
    def machine_digest(self) -> str:
        """The digest of this machine's fingerprint, by which verdicts are kept."""
        if not self._machine_digest:
            self._machine_digest = self.ledger.add_machine(self.machine.fingerprint())
        return self._machine_digest

    def show(self, id: str) -> cards.CandidateCard:
        """A recorded candidate with its sources and verdict. Raises UnknownName, BadInput."""
        candidate = self.ledger.candidate(id)
        profiled = self.profiled(candidate.digest)
        shown = insight.profile_card(profiled) if profiled else None
        return candidate_card(candidate, self._verdict(candidate)).replace(profile=shown)

    def profiled(self, digest: str) -> Profiled | None:
        """The latest profile of a candidate: here, else on any machine; None: never profiled."""
        found = self.ledger.profiles(digest, self.machine_digest) or self.ledger.profiles(digest)
        return found[0] if found else None

    def compare(self, one: str, other: str = "") -> cards.CompareCard:
        """The difference from `one` to `other` in source, decisions, figures and profiles.

        Without `other`, `one` is compared with its parent. Raises BadInput, UnknownName.
        """
        first = self.ledger.candidate(one)
        if not other:
            if not first.parents:
                raise BadInput(f"{first.id} has no parent", "name the other candidate too")
            first, second = self.ledger.candidate(first.parents[0]), first
        else:
            second = self.ledger.candidate(other)
        pairs = [(c, self._verdict(c)) for c in (first, second)]
        profiles = [self.ledger.profiles(c.digest) for c in (first, second)]
        return contrast(pairs[0], pairs[1], profiles)

    def _told(
        self, candidate: Candidate, verdict: Verdict, known: bool = False
    ) -> cards.VerdictCard:
        card = verdict_card(candidate, verdict, known)
        said = insight.of_verdict(candidate, verdict)
        return card.replace(diagnosis=said, remarks=(*card.remarks, *self._unvouched()))

    def _unvouched(self) -> tuple[str, ...]:
        """What is to be said of a problem that an agent named; nothing of others."""
        said = unvouched.note(self.ledger, self.problem.digest)
        return (said,) if said else ()

    def _best(self, best: Judged | None) -> dict[str, Any]:
        found = _best(best)
        return found | {"notes": (*found.get("notes", ()), *self._unvouched())}

    def _verdict(self, candidate: Candidate) -> Verdict | None:
        found = {c.digest: v for c, v in self.ledger.judged(candidate.problem)}
        return found.get(candidate.digest)

    def search(
        self, words: str = "", *, everywhere: bool = False, most: int = 10
    ) -> cards.SearchCard:
        """What worked and what did not, here or (`everywhere`) on all problems and machines.

        `words` must all occur in a candidate's intent, genome, reason, operators or problem.
        """
        own = None if everywhere else self.problem
        return search(self.ledger, self.problem, words, own, most)

    def lessons(self, most: int = 12) -> cards.LessonsCard:
        """What earlier problems taught that may help with this one here, the likest first."""
        return insight.lessons(self.problem, self.ledger, self.machine, most)

    def disassemble(self, id: str, function: str = "") -> LoopView:
        """A candidate's hot loop with marks and source lines; in `function` where one is named.

        Raises BadCandidate where it does not build, UnknownName.
        """
        getattr(self.machine, "require", lambda: None)()  # what compiles it must be confined
        cache = Path(getattr(self.machine, "home", self.ledger.path.parent)) / "build"
        return view.disassemble(self.ledger.candidate(id), self.problem, cache, function)

    # -- doing ----------------------------------------------------------------------------------

    def candidate(
        self, files: Mapping[str, str], *, parent: str = "", intent: str = "", toolchain: str = ""
    ) -> Candidate:
        """The candidate of these texts; those of `parent` (an id) stand where none is given.

        Raises BadCandidate, UnknownName, and BadInput for a parent of another problem.
        """
        of = self.ledger.candidate(parent) if parent else None
        if of is not None and of.problem != self.problem.digest:
            raise BadInput(f"{of.id} is for another problem", f"take one for {self.problem.name}")
        return written(
            files, self.problem, toolchain=toolchain, proposer=self.author, intent=intent, parent=of
        )

    def judge(
        self, candidate: Candidate | str, plan: str = "screen", say: Say | None = None
    ) -> cards.VerdictCard:
        """Judge a candidate, or the recorded one of that id, and record the verdict.

        "screen" is quick and compares with the strongest baseline; "full" proves: fresh processes,
        every baseline. What was judged here under this plan is not run again. Raises BadInput,
        MachineFault and NoSandbox, never on the candidate's account.
        """
        if plan not in PLANS:
            raise BadInput(f"unknown plan {plan!r}", f"use {' or '.join(PLANS)}")
        it = self.ledger.candidate(candidate) if isinstance(candidate, str) else candidate
        if it.problem != self.problem.digest:
            raise BadInput(f"{it.id} is for another problem", f"take one for {self.problem.name}")
        with self._busy, self._heard(say):
            for other, known in self.judged():
                if _same(other, it) and plan in (known.plan, "screen"):
                    return self._told(other, known, known=True)
            self.charge("judge")
            with self._ending("judge", it):
                verdict: Verdict = self.open_judge().judge(it, plan)
                self.say("recording")  # what was cancelled meanwhile ends here: it says nothing
            self._record(it, verdict)
        return self._told(it, verdict)

    def profile(
        self, id: str, ablations: Sequence[str] = (), say: Say | None = None
    ) -> cards.ProfileCard:
        """What limits a recorded candidate here: variants of it timed beside it, its hot loop.

        It is kept in the ledger; a machine that runs nothing tells what was kept. Raises
        BadCandidate where it does not build or run, UnknownName for an ablation, and BadInput.
        """
        it = self.ledger.candidate(id)
        if getattr(self.machine, "recorded", False):
            found = self.profiled(it.digest)
            if found is None:
                raise BadInput(f"{it.id} was never profiled", "profile it where it can run")
            return insight.profile_card(found)
        with self._busy, self._heard(say):
            if self._verdict(it) is None:  # its kernels are timed all the same
                self.charge("profile")
            with self._ending("profile", it):
                found = insight.profile(it, self.problem, self.machine, ablations, self.say)
                self.say("recording")
            self.ledger.add_machine(self.machine.fingerprint())
            self.ledger.add_profile(found)
        return insight.profile_card(found)

    @contextlib.contextmanager
    def _ending(self, what: str, candidate: Candidate) -> Iterator[None]:
        """Keep in the ledger that somebody ended the work, and no verdict."""
        try:
            yield
        except Cancelled:
            self.ledger.add_problem(self.problem)
            self.ledger.add_candidate(candidate)
            told = {"tool": what, "candidate": candidate.digest, "machine": self.machine_digest}
            self.ledger.add_event(self.problem.digest, CANCELLED, unix_s(), **told)
            raise

    def _record(self, candidate: Candidate, verdict: Verdict) -> None:
        self.ledger.add_problem(self.problem)
        self.ledger.add_machine(self.machine.fingerprint())
        self.ledger.add_candidate(candidate)
        self.ledger.add_verdict(verdict)

    def open_judge(self) -> Any:
        """The judge, its baselines measured; made at first use."""
        if self._judge is None:
            self.say("bringing the problem to life")
            self._judge = judge_for(self.machine)(
                self.problem, self.machine, report=lambda text: self.say(text)
            )
        self.say("preparing baselines")
        try:
            self._judge.baselines()
        except BaseException:
            self.close()  # half of them are there: the next one begins afresh
            raise
        self.say("judging")
        return self._judge

    def grow(
        self, genome: str = "", vary: Mapping[str, Sequence[int]] | None = None, *,
        count: int = 4, plan: str = "screen", say: Say | None = None,
    ) -> cards.GrowCard:  # fmt: skip
        """Candidates of the grower: its next ones, or a sweep around `genome` over `vary`.

        `plan` "" only writes them; else each is judged. Raises BadInput where a decision does not
        exist, and BadProblem where nothing can be grown.
        """
        if plan not in ("", *PLANS):
            raise BadInput(f"unknown plan {plan!r}", f'use {", ".join(PLANS)}, or "" for none')
        if not 1 <= count <= MOST_GROWN:
            raise BadInput(f"{count} candidates at once", f"ask for 1 to {MOST_GROWN}")
        tell = say or self.say
        tell("capturing the problem")
        grown, reason, spaces = grow(self, genome, vary or {}, count)
        for candidate in grown:
            self.ledger.add_candidate(candidate)
        verdicts = {}
        for number, candidate in enumerate(grown if plan else []):
            prefix = f"candidate {number + 1} of {len(grown)}: "
            verdicts[candidate.id] = self.judge(candidate, plan, _behind(prefix, tell))
        return grow_card(grown, verdicts, spaces, reason)

    def export(self, id: str, folder: Path) -> cards.ExportCard:
        """Write a candidate that is proven (plan "full") into `folder`. Raises BadInput."""
        return export_recorded(self.ledger, id, folder, proven=True)

    def _heard(self, say: Say | None) -> _Heard:
        return _Heard(self, say)


class _Heard:
    """While it holds, the desk's steps are told to somebody else."""

    def __init__(self, desk: Desk, say: Say | None) -> None:
        self.desk, self.say, self.before = desk, say or desk.say, desk.say

    def __enter__(self) -> None:
        self.desk.say = self.say

    def __exit__(self, *_: object) -> None:
        self.desk.say = self.before


def _same(one: Candidate, other: Candidate) -> bool:
    """Whether nothing but its story tells a candidate from another."""
    story = {"intent": "", "proposer": "", "parents": (), "genome": ""}
    return one.replace(**story) == other.replace(**story)


def _behind(prefix: str, say: Say) -> Say:
    return lambda text: say(prefix + text)


def _baselines(judged: list[Judged]) -> tuple[cards.Baseline, ...]:
    """Each baseline with its time from the latest verdict that has it, the fastest first."""
    times = {c.baseline: c.time_s for _, verdict in judged for c in verdict.comparisons}
    ranked = sorted(times.items(), key=lambda pair: pair[1])
    return tuple(cards.Baseline(name=name, time_s=time_s) for name, time_s in ranked)


def _best(best: Judged | None) -> dict[str, Any]:
    if best is None:
        return {}
    candidate, verdict = best
    gains = [
        f"{candidate.proposer}: {candidate.intent}" if candidate.intent else candidate.proposer
    ]
    if verdict.algebra > 1:
        gains.append(f"{verdict.algebra:.3g}x less work by algebra")
    if candidate.left:
        gains.append(f"left with the framework: {', '.join(candidate.left)}")
    gains += [f.message for f in verdict.findings if f.severity == "warning"]
    gains.append(f"{milliseconds(verdict.time_s)}, {verdict.plan} plan, {verdict.basis}")
    return {
        "best": candidate.id,
        "best_time_s": verdict.time_s,
        "best_speedup": verdict.speedup,
        "best_of_limit": verdict.of_limit,
        "why": "; ".join(gains),
        "notes": tuple(f.message for f in verdict.findings if f.severity != "refusal"),
    }
