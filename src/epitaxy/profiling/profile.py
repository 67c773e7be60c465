"""profile: all that this machine can tell of one candidate, as metrics with their sources.

ablation.<what>.time_ratio   time of a variant / time as it is, with .low and .high (99 %)
static.<what>                one turn of the hot loop, by its instructions
sample.<what>                where the process is while it computes, by sampling
probe.<what>                 the time against this chip's measured peaks
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.errors import BadCandidate, EpitaxyError, UnknownName
from epitaxy.machine import Job, WorkerFailure
from epitaxy.measure import AGAIN, OURS
from epitaxy.metric import Metric, Profile, metrics_of
from epitaxy.problem import Problem, open_reference
from epitaxy.profiling.ablations import CATALOGUE, Ablation
from epitaxy.profiling.clock import Clock, Timings, Watched, of_fast_ends
from epitaxy.profiling.counters import try_counters
from epitaxy.profiling.loops import Loop, hot_loop
from epitaxy.profiling.smaller import cut_down
from epitaxy.profiling.static import figures, memory_passes, nest_figures
from epitaxy.profiling.view import DEBUG, LoopView, built, listed, view, workbench
from epitaxy.record import FrozenDict, Record, record
from epitaxy.roofline import bandwidths, floor
from epitaxy.toolchain import Build
from epitaxy.verdict import Comparison

FAMILY = "cpu"
IN_CACHE = "in_cache"
WIDE = 0.15
"""An interval this wide on either side of its ratio decides nothing small: it is said."""


@record
class Measured(Record):
    """What `profile` found: the metrics, the hot loop, and what could not be tried."""

    profile: Profile
    loop: LoopView | None
    ablations: FrozenDict[Comparison]
    failed: FrozenDict[str]
    genome: str = ""


def profile(
    candidate: Candidate,
    problem: Problem,
    machine: Any,
    *,
    ablations: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Build the candidate in variants, time them side by side on `machine`, and read its hot loop.

    `ablations` names some of CATALOGUE, or "all" (none: the usual ones). Raises BadCandidate for
    one that does not build or run, UnknownName for an ablation.
    """
    wanted = _wanted(ablations)
    bench = workbench(candidate)
    where = _Where(bench, candidate, problem, Path(machine.home) / "build")
    if hasattr(machine, "require"):
        machine.require()
    plain = built(bench, candidate, problem, where.cache, DEBUG)
    found = listed(bench, plain)
    try:
        with Clock(machine, open_reference(problem)) as clock:
            for name in (OURS, AGAIN):
                clock.add(name, Job(problem=problem, folder=plain.folder))
            tell("watching the kernel as it is")
            watched = clock.watch()
            loop, share = hot_loop(found, watched.seen.hits)
            seen = [*_static(found, loop), *_sampled(watched, found, share, _threads(machine))]
            tell("building and starting variants")
            _add(clock, where, wanted, {m.id: m.value for m in seen})
            tell("timing them side by side")
            timings = clock.time()
            with _cold(machine) as possible:
                cold = clock.time("cold", only=OURS) if possible else None
        small = _in_cache(where, machine, timings) if any(a.smaller for a in wanted) else None
    except WorkerFailure as failure:
        raise BadCandidate(f"it {failure.kind}: {failure.message}", "see epitaxy judge") from None
    run = _Run(timings, cold, watched, found, loop, share, small)
    return _measured(candidate, problem, machine, run, seen)


@dataclass(frozen=True)
class _Where:
    bench: Any
    candidate: Candidate
    problem: Problem
    cache: Path


@dataclass(frozen=True)
class _Run:
    timings: Timings
    cold: Timings | None
    watched: Watched
    loops: Sequence[Loop]
    loop: Loop | None
    share: float
    small: Comparison | None = None


def _in_cache(where: _Where, machine: Any, timings: Timings) -> Comparison | None:
    """The time per byte at a size that the caches hold, over that at full size; None where it
    cannot be had, for a reason that is noted."""
    try:
        candidate, problem = cut_down(where.candidate, where.problem, machine)
        build = built(where.bench, candidate, problem, where.cache, DEBUG)
        with Clock(machine, open_reference(problem)) as clock:
            clock.add(OURS, Job(problem=problem, folder=build.folder))
            theirs = clock.time().taken.times[OURS]
    except (BadCandidate, WorkerFailure) as error:
        timings.failed[IN_CACHE] = error.message
        return None
    scale = where.problem.work.bytes / problem.work.bytes
    ours = timings.taken.times[OURS]
    count = min(len(ours), len(theirs))
    return of_fast_ends(IN_CACHE, [t * scale for t in theirs[:count]], ours[:count], timings.apart)


def _threads(machine: Any) -> int:
    return getattr(machine, "threads", 0) or int(machine.chip().cores)


def _static(found: Sequence[Loop], loop: Loop | None) -> Iterator[Metric]:
    if loop is not None:
        yield from metrics_of(figures(loop), "static", "static.")
    yield from metrics_of(nest_figures(found), "static", "static.")


def _sampled(
    watched: Watched, found: Sequence[Loop], share: float, threads: int
) -> Iterator[Metric]:
    yield from metrics_of(watched.seen.figures(threads), "sample", "sample.")
    if share:
        passes = float(memory_passes(found, watched.seen.hits))
        yield Metric(id="sample.hot_loop_share", value=share, source="sample")
        yield Metric(id="sample.memory_passes", value=passes, source="sample")


def _wanted(names: Sequence[str]) -> list[Ablation]:
    if not names or "all" in names:
        return [a for a in CATALOGUE.values() if a.usual or names]
    unknown = next((n for n in names if n not in CATALOGUE), "")
    if unknown:
        raise UnknownName.of("ablation", unknown, ["all", *CATALOGUE])
    return [CATALOGUE[name] for name in names]


def _add(
    clock: Clock, where: _Where, wanted: Sequence[Ablation], known: Mapping[str, float]
) -> None:
    """Build and start what can tell something; the reasons of the rest are kept in the clock."""
    for one in wanted:
        if one.smaller:
            continue
        reason = one.pointless(known)
        if reason:
            clock.failed[one.name] = reason
            continue
        try:
            build = _build(where, one)
        except BadCandidate as error:
            clock.failed[one.name] = error.message
            continue
        job = Job(problem=where.problem, folder=build.folder, threads=one.threads)
        clock.add(one.name, job, one.even)


def _build(where: _Where, one: Ablation) -> Build:
    changed = one.rewrite(where.candidate) if one.rewrite else where.candidate
    variant = one.variant or DEBUG
    build: Build = where.bench.build_variant(changed, where.problem, where.cache, variant)
    if not build.ok:
        lines = build.log.splitlines()
        line = next((x for x in lines if "error" in x), build.log[:200])
        raise BadCandidate(line.strip().removesuffix(" ()"), "")
    return build


@contextlib.contextmanager
def _cold(machine: Any) -> Iterator[bool]:
    """Calls find the caches cold, where the machine has that condition."""
    before = getattr(machine, "condition", None)
    if before is None:
        yield False
        return
    machine.condition = "cold"
    try:
        yield True
    finally:
        machine.condition = before


def _measured(
    candidate: Candidate, problem: Problem, machine: Any, run: _Run, seen: Sequence[Metric]
) -> Measured:
    chip, threads = machine.chip(), _threads(machine)
    names = [n for n in run.timings.taken.times if n not in (OURS, AGAIN)]
    ratios = {n: r for n in names if (r := run.timings.ratio(n)) is not None}
    if run.small is not None:
        ratios[IN_CACHE] = run.small
    metrics = [
        *_ablation_metrics(ratios),
        *seen,
        *metrics_of(_probe(problem, chip, run, threads), "probe", "probe."),
    ]
    failed = run.timings.failed
    unreadable = {f"ablation.{name}.time_ratio": why for name, why in failed.items()}
    return Measured(
        profile=Profile(
            kernel=candidate.id, family=FAMILY, source="profile", chip=chip.id,
            time_s=run.timings.time_s, metrics=tuple(metrics), unreadable=FrozenDict(unreadable),
            notes=_notes(run, ratios, machine),
        ),
        loop=_view(candidate, run), ablations=FrozenDict(ratios), failed=FrozenDict(failed),
        genome=candidate.genome,
    )  # fmt: skip


def _ablation_metrics(ratios: Mapping[str, Comparison]) -> Iterator[Metric]:
    for name, ratio in ratios.items():
        for what, value in (
            ("time_ratio", ratio.speedup), ("low", ratio.low), ("high", ratio.high),
        ):  # fmt: skip
            if math.isfinite(value):
                yield Metric(id=f"ablation.{name}.{what}", value=value, source="ablation")


def _probe(problem: Problem, chip: Chip, run: _Run, threads: int) -> dict[str, float]:
    """The time against the chip's measured peaks, and what the system had to do meanwhile."""
    time_s, work = run.timings.time_s, problem.work
    own = sum(s.bytes for s in problem.inputs if s is not None)
    touched = problem.working_set_bytes + own  # two slots of inputs take turns
    found = {
        "time_s": time_s,
        "threads": float(threads),
        "vector_bits": 8.0 * chip.vector_bytes,
        "working_set_bytes": float(touched),
        "output_bytes": float(sum(s.bytes for s in problem.outputs)),
        "least_bytes": float(work.bytes),
        "bytes_per_s": work.bytes / time_s,
        "flops_per_s": work.flops / time_s,
        "page_faults": run.watched.faults,
    }
    with contextlib.suppress(EpitaxyError):  # a chip without peaks: the notes of the probe say so
        limit = floor(work, chip, touched)
        found |= {
            "floor_share": limit.time_s / time_s,
            "memory_share": limit.memory_s / time_s,
            "compute_share": limit.compute_s / time_s,
            "read_bytes_per_s": bandwidths(chip, touched)["read"],
        }
    caches = [v.bytes for v in chip.levels[:-1] if v.bytes]
    if caches:
        found["last_cache_bytes"] = float(caches[-1])
        found["cache_fills"] = touched / caches[-1]
    if chip.barrier_s:
        found["barrier_share"] = chip.barrier_s / time_s
    if chip.page_fault_s:
        found["page_fault_share"] = min(1.0, run.watched.faults * chip.page_fault_s / time_s)
    if run.cold is not None:
        found["cold_ratio"] = run.cold.time_s / time_s
    return found


def _view(candidate: Candidate, run: _Run) -> LoopView | None:
    if run.loop is None:
        return None
    why = (
        f"{run.share:.0%} of {len(run.watched.seen.hits)} samples in the kernel"
        if run.share
        else "the innermost loop that does most, by looking: no samples"
    )
    others = [f"{v.function} {v.source}" for v in run.loops if v is not run.loop and v.inner]
    return view(run.loop, why, dict(candidate.files), others)


def _notes(run: _Run, ratios: Mapping[str, Comparison], machine: Any) -> tuple[str, ...]:
    counters = try_counters()
    text = (
        f"hardware counters work here ({', '.join(counters.usable)}): perf stat -j, then diagnose"
    )
    notes = [counters.why or text]
    if run.watched.seen.why:
        notes.append(f"no samples: {run.watched.seen.why}")
    if run.timings.apart > WIDE:
        text = f"two processes of the same code differ by {math.expm1(run.timings.apart):.0%}"
        notes.append(f"{text}: small effects are not decided")
    if run.loop is None:
        notes.append("its code has no loop: nothing static is said")
    wide = [n for n, r in ratios.items() if r.half_width > WIDE]
    if wide:
        notes.append(f"too noisy to decide anything small: {', '.join(wide)}")
    if run.cold is None:
        notes.append(f"the machine {machine.name} cannot empty its caches: nothing cold was timed")
    notes.append(f"{run.timings.taken.rounds} rounds, one process for each variant")
    return tuple(notes)
