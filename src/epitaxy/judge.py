"""Judge: the one path from candidate to verdict.

Stages: static checks, build, correct, time, inspect. Each can refuse; a refusal names the check
and the mend. The judge holds the seeds, the inputs, the expected outputs and the clock; the
candidate sees only the buffers of its own confined process.
"""

from __future__ import annotations

import contextlib
import functools
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from epitaxy import correct, natives, onchip, timing
from epitaxy.ahead import prepare
from epitaxy.candidate import Candidate
from epitaxy.cases import Cases, Repeats
from epitaxy.errors import BadInput, BadProblem, MachineFault, PluginError
from epitaxy.guards import Manners, Refused, Rounds, Watch, possible, refusal, switched_off
from epitaxy.lint import lint
from epitaxy.machine import Job, Trusted, WorkerFailure, open_machine
from epitaxy.measure import AGAIN, OURS, Measurement
from epitaxy.plugin import plugins
from epitaxy.problem import Problem, load, open_reference
from epitaxy.race import race
from epitaxy.record import canonical, digest_text, make_callable, printable
from epitaxy.reload import Reload
from epitaxy.roofline import algebra, below_physics, floor
from epitaxy.sequential import HOPELESS
from epitaxy.timing import Plan
from epitaxy.toolchain import Build, aimed
from epitaxy.trim import telling
from epitaxy.verdict import Finding, Floor, Verdict

SLOTS = (0, 1)
"""Input slots that timed calls take turns with."""
FAR_BEHIND = 1.25
"""A screening ends early for a candidate that takes this many times as long as the best so far."""
LOOKS = 5
"""How often the strongest baseline is watched, for candidates to be measured by."""


class _Untimed(Exception):
    """Nothing was found without a clock."""


class Judge:
    """Judges candidates for one problem on one machine, against warm baselines."""

    def __init__(
        self,
        problem: Problem,
        machine: Any,
        *,
        baselines: Sequence[str] | None = None,
        cache: Path | None = None,
        report: Callable[[str], None] = lambda _: None,
        without: Sequence[str] = (),
    ) -> None:
        self._off = switched_off(without, plugins("checks").names())
        self.problem = problem
        self.machine = machine
        self.notes: list[Finding] = []
        self.condition: str = getattr(machine, "condition", "warm")
        self.threads: int = getattr(machine, "threads", 0)
        self.chip = machine.chip()
        self.reference: Any = open_reference(problem)
        self._wanted = baselines
        self._cache = cache or Path(machine.home) / "build"
        self._report = report
        self._stack = contextlib.ExitStack()
        self._workers: dict[str, Any] = {}
        self._times: dict[str, float] = {}
        if self.on("weights"):
            self.reference.stir(secrets.randbits(40))
        seed = secrets.randbits(40) if self.on("seeds") else 0
        self.cases = Cases(self.reference, seed, self._note)
        self._reload = Reload(self.cases)
        self._ready = False
        self._model = Manners()
        for name in sorted(self._off):
            message = f"the guard {name} was off: this verdict proves less"
            self.notes.append(Finding(check=name, severity="warning", message=message))
        self.machine_digest = digest_text(canonical(machine.fingerprint()))

    def on(self, guard: str) -> bool:
        """Whether a guard or static check is in force."""
        return guard not in self._off

    # -- baselines ------------------------------------------------------------------------------

    def baselines(self) -> dict[str, float]:
        """Seconds per call of each baseline that works here, preparing them at first.

        One that does not work becomes a note with its reason.
        """
        if self._ready:
            return self._times
        names = list(self._wanted if self._wanted is not None else self.machine.baselines())
        if names:
            self._lint()
            self.cases.limit(self.cases.get(0))  # once, before several ask for it
        prepare(names, self._baseline)
        if not self._workers:
            raise MachineFault("no baseline runs on this machine", "run: epitaxy doctor")
        rng = random.Random(secrets.randbits(64))
        sample = timing.interleave(self._workers, SLOTS, timing.plan("screen", self.condition), rng)
        self._times = {name: timing.median(s) for name, s in sample.times.items()}
        self._model = self._honest(min(self._times, key=self._times.__getitem__))
        self._ready = True
        return self._times

    def _honest(self, name: str) -> Manners:
        """The manners of a baseline, as they are just now."""
        kinds = tuple(filter(self.on, ("repeats", "witness", "early")))
        model = Watch(self.cases, self._workers[name], SLOTS, kinds.__contains__, self._times[name])
        for _ in range(LOOKS):
            model.look()
        return model.manners

    def _lint(self) -> None:
        """Look at the problem first: its warnings are kept, its refusal is raised as BadProblem."""
        for finding in lint(self.problem, self.cases, deep=False):
            if finding.severity == "refusal":
                raise BadProblem(f"{self.problem.name}: {finding.message}", finding.mend)
            self.notes.append(finding)
            self._report(finding.message)

    def _baseline(self, name: str) -> None:
        self._report(f"preparing baseline {name}")
        try:
            worker = self._stack.enter_context(
                self.machine.start(Job(problem=self.problem, baseline=name))
            )
            self._prepare(worker)
            worker.burst([0])
            outputs = worker.outputs()
        except (WorkerFailure, BadInput, PluginError) as failure:
            text = getattr(failure, "message", str(failure))
            self._note(name, f"baseline {name} does not run: {telling(text)[:200]}")
            return
        case = self.cases.get(0)
        error = self.cases.error(outputs, case)
        if not error <= 64 * self.cases.limit(case):
            self._note(name, f"baseline {name} gives wrong results (error {error:.1e}); left out")
            return
        self._workers[name] = Trusted(worker, f"baseline {name}")

    def _note(self, check: str, message: str) -> None:
        self.notes.append(Finding(check=check, severity="note", message=message))
        self._report(message)

    @property
    def strongest(self) -> str:
        """The name of the fastest baseline."""
        times = self.baselines()
        alive = [n for n in times if n in self._workers]
        if not alive:
            raise MachineFault("no baseline is left on this machine", "run: epitaxy doctor")
        return min(alive, key=lambda n: times[n])

    def _prepare(self, worker: Any) -> None:
        worker.prepare(self.reference.init_arguments(), self.reference.state())
        for slot in SLOTS:
            worker.write(slot, self.cases.get(slot).inputs)

    @contextlib.contextmanager
    def started(self, build: Build) -> Iterator[Any]:
        """A confined worker of what was built, with the inputs in its slots."""
        with self.machine.start(self._job(build)) as worker:
            self._prepare(worker)
            yield worker

    def race(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """How many times as long as the fastest each takes; see `race.py`."""
        return race(self, candidates, SLOTS, self.condition)

    # -- the path -------------------------------------------------------------------------------

    def build(self, candidate: Candidate) -> Build:
        """Build ahead of judging: the toolchain keeps the result by digest."""
        if self.on("sandbox") and hasattr(self.machine, "require"):
            self.machine.require()
        toolchain = aimed(candidate.toolchain, self.chip)
        return toolchain.build(candidate, self.problem, self._cache)  # type: ignore[no-any-return]

    def judge(self, candidate: Candidate, plan: str = "screen", best: float = 0.0) -> Verdict:
        """The verdict on `candidate`. Never raises on the candidate's account.

        `best` is the speed-up of the best candidate so far: a screening ends early for one that is
        far behind it.
        """
        hopeless = min(HOPELESS, FAR_BEHIND / best) if best > 0 else HOPELESS
        measured = Measurement(timing.plan(plan, self.condition), self.machine, hopeless)
        return self._walk(candidate, measured.plan, functools.partial(self._measure, measured))

    def refuse(self, candidate: Candidate) -> Verdict | None:
        """What the full plan refuses before its clock starts; None when times alone are left."""
        try:
            return self._walk(candidate, timing.plan("full", self.condition), self._untimed)
        except _Untimed:
            return None

    def _walk(
        self,
        candidate: Candidate,
        chosen: Plan,
        measure: Callable[[Candidate, Build, Plan, dict[str, Any]], None],
    ) -> Verdict:
        facts: dict[str, Any] = {"findings": []}
        try:
            if candidate.problem != self.problem.digest:
                raise BadInput("the candidate is for another problem", "judge it with its own")
            self._static(candidate, facts)
            build = self._built(candidate, facts)
            measure(candidate, build, chosen, facts)
        except Refused as refused:
            if refused.finding:
                facts["findings"].append(refused.finding)
            return self._verdict(candidate, chosen, facts, refused.status, refused.reason)
        except WorkerFailure as failure:
            return self._verdict(candidate, chosen, facts, failure.kind, failure.message)
        except MachineFault as fault:
            return self._verdict(candidate, chosen, facts, "machine_fault", str(fault))
        return self._verdict(candidate, chosen, facts, "accepted", "")

    def _verdict(
        self, candidate: Candidate, chosen: Plan, facts: dict[str, Any], status: str, reason: str
    ) -> Verdict:
        kept = {k: v for k, v in facts.items() if status == "accepted" or k not in _TIMES}
        return Verdict(
            candidate=candidate.digest,
            problem=self.problem.digest,
            machine=self.machine_digest,
            plan=chosen.name,
            status=status,
            reason=printable(reason)[:2000],
            judged_unix_s=timing.unix_s(),
            condition=chosen.condition,
            threads=self.threads,
            **kept,
        )

    def _static(self, candidate: Candidate, facts: dict[str, Any]) -> None:
        for name in filter(self.on, plugins("checks").names()):
            for found in plugins("checks").get(name).check(candidate, self.problem):
                finding = found.replace(message=printable(found.message))
                if finding.severity == "refusal":
                    raise Refused("refused", f"{finding.check}: {finding.message}", finding)
                facts["findings"].append(finding)

    def _built(self, candidate: Candidate, facts: dict[str, Any]) -> Build:
        onchip.at_home(candidate.toolchain, self.machine)
        build = self.build(candidate)
        facts["build_log"] = build.log[:20_000]
        if not build.ok:
            line = next((x for x in build.log.splitlines() if "error" in x), build.log[:200])
            raise Refused("build_failed", line.strip() or "the compiler refused it")
        metrics = dict(plugins("toolchains").get(candidate.toolchain).inspect(build))
        facts["metrics"] = {**metrics, "build_s": build.seconds}
        foreign = natives.foreign(Path(build.folder)) if self.on("symbols") else []
        if foreign:
            what = ", ".join(foreign[:3])
            raise refusal("symbols", f"it calls {what}", "compute with the inputs alone")
        return build

    def _job(self, build: Build) -> Job:
        lent = {"views"} if self.reference.lends() else set()
        without = tuple(sorted(self._off | lent))
        return Job(problem=self.problem, folder=build.folder, without=without)

    def _untimed(
        self, candidate: Candidate, build: Build, chosen: Plan, facts: dict[str, Any]
    ) -> None:
        job = self._job(build)
        with self.started(build) as worker:
            correct.check(self._place, worker, chosen, facts, Repeats(self.cases))
        facts["findings"] += correct.harsh(self._place, candidate, job, self._cache)
        raise _Untimed

    def _measure(
        self,
        measured: Measurement, candidate: Candidate, build: Build, _: Plan, facts: dict[str, Any],
    ) -> None:  # fmt: skip
        cases = Repeats(self.cases)
        try:
            self._run(candidate, build, measured, facts, cases)
        finally:
            facts["determinism"] = cases.determinism

    def _run(
        self,
        candidate: Candidate, build: Build, measured: Measurement, facts: dict[str, Any],
        cases: Repeats,
    ) -> None:  # fmt: skip
        chosen, job = measured.plan, self._job(build)
        parties = self._parties(chosen)
        while not measured.enough:
            first = not measured.taken
            with contextlib.ExitStack() as stack:
                worker = stack.enter_context(self.started(build))
                if first:
                    correct.check(self._place, worker, chosen, facts, cases)
                    if chosen.processes > 1:
                        facts["findings"] += correct.harsh(self._place, candidate, job, self._cache)
                workers = {OURS: worker, **parties}
                if chosen.processes > 1:
                    workers[AGAIN] = stack.enter_context(self.started(build))
                self._timed(workers, measured, cases)
                correct.steady(cases)
                if first:
                    onchip.read(self.machine, job, workers, measured, facts)
            parties = {name: parties[name] for name in measured.contenders(parties)}
        self._conclude(candidate, measured, facts)

    def _parties(self, chosen: Plan) -> dict[str, Any]:
        self.baselines()
        for name in [n for n, worker in self._workers.items() if worker.failed]:
            del self._workers[name]
            self._baseline(name)  # a fresh process for one that a busy machine lost
        return (
            dict(self._workers)
            if chosen.processes > 1
            else {self.strongest: self._workers[self.strongest]}
        )

    @property
    def _place(self) -> correct.Place:
        return correct.Place(self.machine, self.cases, self._prepare, SLOTS, self.on, self._reload)

    def _timed(self, workers: dict[str, Any], measured: Measurement, cases: Repeats) -> None:
        chosen, rng = measured.plan, random.Random(secrets.randbits(64))
        closely = {rng.randrange(3), *rng.sample(range(chosen.rounds), chosen.rechecks)}
        watches = {
            name: Watch(cases, worker, SLOTS, self.on, self._times[self.strongest])
            for name, worker in workers.items()
            if name.startswith(OURS)
        }
        rounds = Rounds(workers, watches, closely, self.on("recheck"))
        with getattr(self.reference, "beside_timing", contextlib.nullcontext)():
            taken = measured.process(workers, SLOTS, rng, rounds.after)
            for name, watch in watches.items():
                time_s = timing.median(taken.times[name])
                watch.conclude(time_s, self._model, lambda: self._honest(self.strongest))

    def _conclude(self, candidate: Candidate, measured: Measurement, facts: dict[str, Any]) -> None:
        time_s = timing.median(measured.times(OURS))
        limit = self.floor()
        if self.on("physics"):
            possible(time_s, limit)
        gain = algebra(self.problem.work, candidate.work, self.chip, self._rotating, time_s)
        if below_physics(time_s, limit) and candidate.work is None:
            message = "it does less arithmetic than the reference: its algebra is better"
            facts["findings"].append(Finding(check="algebra", severity="note", message=message))
        static = facts.get("metrics", {})
        facts.update(
            time_s=time_s, floor=limit, algebra=gain,
            metrics={**static, **onchip.predicted(self.problem, self.chip, static, limit),
                     **measured.metrics()},
            samples=measured.samples, comparisons=measured.comparisons(),
            findings=(*facts["findings"], *measured.findings(), *self.notes),
        )  # fmt: skip

    def floor(self) -> Floor:
        """The physical lower limit for this problem, with the inputs rotating between slots."""
        return floor(self.problem.work, self.chip, self._rotating)

    @property
    def _rotating(self) -> int:
        """Bytes that are touched between two uses of the same input."""
        own = sum(s.bytes for s in self.problem.inputs if s is not None)
        return self.problem.working_set_bytes + (len(SLOTS) - 1) * own

    def close(self) -> None:
        """End the baselines' processes."""
        self._stack.close()


_TIMES = ("time_s", "samples", "comparisons", "algebra", "energy_j")


def judge(
    candidate: Candidate, problem: Any, machine: Any = "local", plan: str = "full"
) -> Verdict:
    """One verdict, with everything set up and taken down: `epitaxy.judge(candidate, problem)`."""
    where = open_machine(machine) if isinstance(machine, str) else machine
    known = problem if isinstance(problem, Problem) else load(problem)
    with contextlib.closing(Judge(known, where)) as it:
        return it.judge(candidate, plan)


make_callable(__name__, judge)
