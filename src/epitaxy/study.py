"""Study: ask / tell / optimize / best, within a budget, with everything in the ledger."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from epitaxy import problem as problems
from epitaxy.ahead import yield_to_timing
from epitaxy.budget import Budget as Budget  # taken from here by many
from epitaxy.candidate import Candidate
from epitaxy.checked import judge_for
from epitaxy.errors import BadInput, MachineFault
from epitaxy.ledger import Judged, Ledger
from epitaxy.machine import open_machine
from epitaxy.plugin import plugins
from epitaxy.problem import Problem
from epitaxy.proposer import Asking, Left, Tool
from epitaxy.race import contenders, ranked
from epitaxy.record import Record, record
from epitaxy.timing import now_s, unix_s
from epitaxy.verdict import Finding, Verdict
from epitaxy.view import View

BATCH = 4
"""Candidates built at once, ahead of their judgement."""
FINALISTS = 2
PATIENCE = 40
"""Candidates judged without one that improves by MARGIN before the search gives up."""
MARGIN = 1.01
NEAR_LIMIT = 0.97
NEAR_ENOUGH = 5
"""Candidates so close to the limit before the search ends: one alone may be a quiet moment."""
FINAL_SHARE = 0.25


@record
class Progress(Record):
    """Where a study stands; times in seconds. `left_s` is None when the budget is no time and
    before its clock starts; `notes` are the judge's so far (a baseline that failed and why)."""

    phase: str
    best_time_s: float | None = None
    speedup: float | None = None
    of_limit: float | None = None
    judged: int = 0
    accepted: int = 0
    refused: int = 0
    failed: int = 0
    elapsed_s: float = 0.0
    left_s: float | None = None
    notes: tuple[str, ...] = ()


class Study:
    """One search for one problem on one machine; see `create_study`."""

    def __init__(
        self, problem: Problem, machine: Any, proposer: Any, ledger: Ledger, budget: Budget,
        seed: int = 0, judge: Any = None,
    ) -> None:  # fmt: skip
        self.problem, self.machine, self.proposer = problem, machine, proposer
        self.ledger, self.budget, self.seed = ledger, budget, seed
        self.stop_reason = ""
        self.tools: Callable[[Study], Sequence[Tool]] = lambda study: ()
        """What the view offers; `create_study` sets the desk's."""
        self.waiting: dict[str, Candidate] = {}
        self.baselines: Sequence[str] | None = None
        """Those that candidates are compared with; None: all that run here."""
        self._judge = judge
        self._callbacks: Sequence[Callable[[Progress], None]] = ()
        self._start_s = 0.0
        self._preparing = self._searching = False
        self._phase = ""
        self._fresh = 0
        self._fault = ""
        self.seconds: dict[str, float] = {}
        """How long each phase of `optimize` took: capture, baselines, search, final."""
        ledger.add_problem(problem)
        self.machine_digest = ledger.add_machine(machine.fingerprint())
        self.known = {
            c.digest: (c, v) for c, v in ledger.judged(problem.digest, self.machine_digest)
        }

    # -- ask and tell ---------------------------------------------------------------------------

    def ask(self, count: int = 1) -> list[Candidate]:
        """Up to `count` candidates that have not been judged here."""
        proposed = self.proposer.propose(self.view(), count)
        new = [c for c in proposed if c.digest not in self.known and c.digest not in self.waiting]
        for candidate in new:
            self.ledger.add_candidate(candidate)
            self.waiting[candidate.digest] = candidate
        return new

    def tell(self, candidate: Candidate, verdict: Verdict) -> None:
        """Record what became of a candidate."""
        if verdict.candidate != candidate.digest:
            raise BadInput(
                "the verdict is on another candidate", "pass the pair that belongs together"
            )
        self.ledger.add_candidate(candidate)
        self.ledger.add_verdict(verdict)
        self.waiting.pop(candidate.digest, None)
        if verdict.status != "machine_fault":
            self.known[candidate.digest] = (candidate, verdict)
        self.proposer.learn([verdict])

    def view(self) -> View:
        """What proposers see."""
        return View(self)

    @property
    def judge(self) -> Any:
        """The judge, made at first use."""
        if self._judge is None:
            kind = judge_for(self.machine)
            self._judge = kind(
                self.problem, self.machine, baselines=self.baselines, report=self.say
            )
        return self._judge

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What the judge remarked so far (baselines that failed, inputs that judge nobody), and
        what a proposer that asks a model did."""
        asked = self.proposer.notes if isinstance(self.proposer, Asking) else ()
        return (*getattr(self._judge, "notes", ()), *asked)

    @property
    def best(self) -> Judged | None:
        """The best fully judged candidate; the best screened one before any full judgement."""
        full = [p for p in self.known.values() if p[1].plan == "full"]
        found = [p for p in full or self.known.values() if p[1].accepted]
        ranked = sorted(found, key=lambda p: (p[1].plan != "full", -p[1].merit))
        return ranked[0] if ranked else None

    # -- the search -----------------------------------------------------------------------------

    def optimize(self, callbacks: Sequence[Callable[[Progress], None]] = ()) -> None:
        """Search until the budget is spent, no move is left, or the limit is near; says which in
        `stop_reason`. Baselines are prepared before the budget's clock starts."""
        self._callbacks = callbacks
        self._start_s, self._preparing = now_s(), True
        try:
            # First, because a module of which nothing can be grown needs no baselines.
            with self._clocked("capture"):
                self.say("capturing")
                first = self.ask(BATCH)
            with self._clocked("baselines"):
                self.say("preparing baselines")
                self.judge.baselines()
            self._start_s, self._preparing, self._searching = now_s(), False, True
            with self._clocked("search"):
                self._search(first)
            with self._clocked("final"):
                self._final()
        except KeyboardInterrupt:
            self.stop_reason = "interrupted"
            raise
        finally:
            self.ledger.add_event(self.problem.digest, "stopped", unix_s(), reason=self.stop_reason)
            if isinstance(self.proposer, Asking):
                self.proposer.close()
            if hasattr(self.judge, "close"):
                self.judge.close()

    @contextlib.contextmanager
    def _clocked(self, phase: str) -> Iterator[None]:
        start_s = now_s()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now_s() - start_s

    def _search(self, first: Sequence[Candidate]) -> None:
        with contextlib.closing(self._built(first)) as built:
            self._screen(built)

    def _screen(self, built: Iterator[Candidate]) -> None:
        stale, near, top = 0, 0, self._top()
        for candidate in built:
            verdict = self._judged(candidate, "screen")
            improved = verdict.merit > top * MARGIN
            top = max(top, verdict.merit)
            stale = 0 if improved else stale + 1
            near += (verdict.of_limit or 0) >= NEAR_LIMIT
            if near >= NEAR_ENOUGH:
                self.stop_reason = f"{near} candidates within 3 % of the measured limit"
                return
            if stale >= PATIENCE:
                self.stop_reason = f"{PATIENCE} candidates in a row were no faster"
                return

    def _built(self, first: Sequence[Candidate]) -> Generator[Candidate, None, None]:
        """Candidates whose build has ended, `first` before others, while the budget lasts.

        The next ones are built meanwhile on cores that no kernel uses; where there is none, between
        the measurements: a compiler beside them costs more than it saves.
        """
        overlap = getattr(self.machine, "spare_cores", 0) > 0
        ahead: deque[tuple[Candidate, Future[Any]]] = deque()
        pool = ThreadPoolExecutor(max_workers=BATCH, initializer=yield_to_timing)
        ahead += [(c, pool.submit(self._build, c)) for c in first]
        try:
            while not self._spent():
                if len(ahead) < BATCH and (overlap or not ahead):
                    asked = self.ask(BATCH - len(ahead))
                    ahead += [(c, pool.submit(self._build, c)) for c in asked]
                if not ahead:
                    self.stop_reason = self.proposer.stop_reason() or "the proposer has no more"
                    return
                if not ahead[0][1].done():
                    self.say("building")
                for _, build in ahead if not overlap else [ahead[0]]:
                    build.result()
                yield ahead.popleft()[0]
        finally:
            pool.shutdown(cancel_futures=True)
            for candidate, _ in ahead:
                self.waiting.pop(candidate.digest, None)

    def _build(self, candidate: Candidate) -> None:
        if hasattr(self.judge, "build"):
            self.judge.build(candidate)

    def _judged(self, candidate: Candidate, plan: str) -> Verdict:
        self.say("measuring" if plan == "screen" else "final judging")
        best = self._top() if plan == "screen" else 0.0
        verdict: Verdict = self.judge.judge(candidate, plan, best)
        self._fresh += 1
        if verdict.status == "machine_fault":
            self._fault = verdict.reason
        self.tell(candidate, verdict)
        self.say("measuring" if plan == "screen" else "final judging")
        return verdict

    def _final(self) -> None:
        """Judge the best in full, against every baseline; others too while the budget lasts.

        Raises MachineFault where that alone kept them from being judged.
        """
        proven = faults = 0
        for candidate, verdict in self._raced(self.view().best(3 * FINALISTS)):
            if proven and self._late():
                return
            if verdict.plan != "full":
                verdict = self._judged(candidate, "full")
            proven += verdict.accepted
            faults += verdict.status == "machine_fault"
            if FINALISTS in (proven, faults):
                break
        if self._fault and not proven and (faults or not self.known):
            raise MachineFault(
                f"no candidate could be judged: {self._fault}",
                "mend that and run again: what was measured is kept",
            )

    def _raced(self, best: Sequence[Judged]) -> list[Judged]:
        """`best` with those that are close as a race ranks them, while the budget lasts."""
        close = contenders(best)
        if not close or self._late() or not hasattr(self.judge, "race"):
            return list(best)
        self.say("final judging")
        ratios: dict[str, float] = self.judge.race(close)
        self.ledger.add_event(self.problem.digest, "raced", unix_s(), ratios=ratios)
        return ranked(best, ratios)

    def _late(self) -> bool:
        """Whether the budget's time is over, final judging included."""
        limit_s = self.budget.seconds
        return limit_s is not None and now_s() - self._start_s > limit_s

    def _top(self) -> float:
        return max((v.merit for _, v in self.view().best(1)), default=0.0)

    def _spent(self) -> bool:
        left = self.left()
        if left.paid:
            budget = self.budget
            told = {"money": f"{budget.usd or 0:g} US dollars", "tokens": f"{budget.tokens} tokens"}
            self.stop_reason = f"{told[left.paid]} are spent"
        elif left.over:
            self.stop_reason = "the budget is spent"
        return left.over or bool(left.paid)

    def left(self) -> Left:
        """What remains for the search."""
        budget, seconds, usd, tokens = self.budget, None, self.budget.usd, self.budget.tokens
        if self._preparing:
            seconds = 0.0
        elif budget.seconds is not None and self._searching:
            ends_s = self._start_s + budget.seconds * (1 - FINAL_SHARE)
            seconds = max(0.0, ends_s - now_s())
        if isinstance(self.proposer, Asking):
            spent = self.proposer.spent()
            usd = None if usd is None else max(0.0, usd - spent.usd)
            tokens = None if tokens is None else max(0, tokens - spent.tokens)
        candidates = budget.candidates and max(0, budget.candidates - self._fresh)
        return Left(
            seconds=seconds, candidates=candidates, usd=usd, tokens=tokens,
            preparing=self._preparing,
        )  # fmt: skip

    def say(self, phase: str) -> None:
        """Tell the callbacks where the search stands."""
        verdicts = [v for _, v in self.known.values()]
        best = self.best
        elapsed = now_s() - self._start_s
        left = self.budget.seconds - elapsed if self.budget.seconds and self._searching else None
        notes = tuple(n.message for n in self.notes)
        # The judge reports its notes as well as its phases.
        self._phase = self._phase if phase in notes else phase
        progress = Progress(
            phase=self._phase,
            best_time_s=best[1].time_s if best else None,
            speedup=best[1].speedup if best else None,
            of_limit=best[1].of_limit if best else None,
            judged=len(verdicts),
            accepted=sum(v.accepted for v in verdicts),
            refused=sum(v.status in ("refused", "incorrect") for v in verdicts),
            failed=sum(v.status in ("build_failed", "crashed", "timeout") for v in verdicts),
            elapsed_s=elapsed,
            left_s=None if left is None else max(0.0, left),
            notes=notes,
        )
        for callback in self._callbacks:
            callback(progress)


def create_study(
    problem: Any, *, machine: Any = "local", proposer: Any = "grower",
    ledger: Ledger | Path | str | None = None, budget: str | Budget = "2m", seed: int = 0,
    trust: bool = False,
) -> Study:  # fmt: skip
    """A study for a Problem, or for anything that `epitaxy.problem.load` takes.

    `machine` and `proposer` are names or objects; `budget` is "90s", "2m" or "200" (judged
    candidates). What the ledger already holds for this problem and machine is not judged again.
    `trust` runs candidates unconfined. Raises BadInput and BadEnvironment.
    """
    spend = Budget.parse(budget)
    where = open_machine(machine) if isinstance(machine, str) else machine
    if trust:
        where.trust = True
    what = plugins("proposers").get(proposer) if isinstance(proposer, str) else proposer
    store = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
    known = problem if isinstance(problem, Problem) else problems.load(problem)
    made = Study(known, where, what, store, spend, seed)
    from epitaxy.services import services  # they stand above the study

    made.tools = services
    return made
