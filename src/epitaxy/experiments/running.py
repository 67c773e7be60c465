"""Run an experiment: build, check, compare outputs, time in pairs, and keep the answer."""

from __future__ import annotations

import datetime
import platform
import random
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from epitaxy import memory, quiet
from epitaxy.errors import BadInput
from epitaxy.experiments import building, gate, gpu, verdicts
from epitaxy.experiments.process import A, B, Failed, Pair, Point, Timed, require_jail
from epitaxy.experiments.recipe import UNITS, Experiment, catalogue, parse_size
from epitaxy.machines._activity import activity
from epitaxy.probe import explored, host
from epitaxy.probe.explored import Exploration, Explored, Listed, Measured
from epitaxy.record import FrozenDict
from epitaxy.timing import Plan, Taken, interleave, unix_s

PLAN = Plan(
    name="explore", rounds=14, processes=4, cases=0, rechecks=1, limit_s=2.5, most=14
)  # fmt: skip
SHARE_OF_FREE = 0.4
"""Of the free memory that one experiment may take."""
Progress = Callable[[float, str], None]


def impossible(experiment: Experiment) -> str:
    """Why this machine cannot run it; "" when it can."""
    if experiment.language == "cuda":
        return _no_gpu(experiment)
    cores = len(host.core_cpus())
    if experiment.threads > cores:
        return f"it needs {experiment.threads} cores, and there are {cores}"
    return building.missing(experiment)


def overview() -> Exploration:
    """The catalogue with what was found here, and the results of files of the user's."""
    known = explored.load()
    rows = []
    for experiment in catalogue():
        last = known.pop(experiment.name, None)
        more = (last.verdict, last.effect, last.measured_on) if last else ("", "", "")
        rows.append(
            Listed(
                name=experiment.name, hypothesis=experiment.hypothesis,
                needs=impossible(experiment), last=more[0], effect=more[1], measured_on=more[2],
            )
        )  # fmt: skip
    return Exploration(results=tuple(known.values()), catalogue=tuple(rows))


def _no_gpu(experiment: Experiment) -> str:
    if not gpu.here():
        return "it needs an NVIDIA GPU, and none is here"
    if experiment.origin != "catalogue":
        return "programs for a GPU cannot be confined: only the catalogue's are run"
    return ""


def check(experiment: Experiment) -> Explored:
    """Build the pairs of `experiment` and look at what the compiler wrote; nothing is run.

    The result is "refused" or, since it was not run, "impossible". Raises as `explore`.
    """
    why = building.missing(experiment)
    if why:
        return _result(experiment, "impossible", why=why)
    values = experiment.x if experiment.compiled else experiment.x[:1]
    try:
        with tempfile.TemporaryDirectory(prefix="epitaxy-explore-") as name:
            for number, x in enumerate(values):
                folder = Path(name, str(number))
                folder.mkdir()
                _build(experiment, x, folder, link=False)
    except Failed as failure:
        return _result(experiment, "refused", why=str(failure))
    return _result(experiment, "impossible", why="built, its instructions are there; not run")


def _build(experiment: Experiment, x: float, folder: Path, link: bool = True) -> Path:
    if experiment.language == "cuda":
        return gpu.build(experiment, folder, x, link)
    return building.build(experiment, x, folder)


def explore(
    experiment: Experiment, progress: Progress | None = None, keep: bool = True
) -> Explored:
    """Run `experiment` here; its result, kept among this machine's unless `keep` is False.

    A pair that is refused, or cannot run here, is a result too and never kept. Raises NoCompiler,
    NoSandbox, BadEnvironment, MachineFault.
    """
    why = impossible(experiment)
    if why:
        return _result(experiment, "impossible", why=why)
    if experiment.language != "cuda":
        require_jail()
    try:
        result = _run(experiment, progress or (lambda fraction, text: None))
    except Failed as failure:
        return _result(experiment, "refused", why=str(failure))
    if keep:
        explored.save(result)
    return result


def _run(experiment: Experiment, tell: Progress) -> Explored:
    points: list[Measured] = []
    notes: dict[str, None] = {}
    wanted = [(x, size) for x in experiment.x for size in experiment.sizes]
    with tempfile.TemporaryDirectory(prefix="epitaxy-explore-") as name:
        library = Path()
        for number, (x, size) in enumerate(wanted):
            tell(number / len(wanted), f"{experiment.name} at {size}")
            folder = Path(name, f"x{experiment.x.index(x) if experiment.compiled else 0}")
            if not folder.exists():
                folder.mkdir()
                library = _build(experiment, x, folder)
            point = _point(experiment, size, x)
            each = [_take(library, point, experiment) for _ in range(PLAN.processes)]
            taken = [rounds for rounds, _ in each]
            points.append(verdicts.measured(experiment, size, point.size, x, taken))
            for finding in quiet.findings(taken, [seen for _, seen in each if seen]):
                text = finding.message.replace("the candidate", "b")
                notes[f"{experiment.name}, {size}: {text}"] = None
    answer = verdicts.verdict(points, experiment.every)
    return _result(
        experiment, answer, points=tuple(points), notes=tuple(notes),
        effect=verdicts.effect(experiment, points), found=verdicts.found(experiment, points),
    )  # fmt: skip


def _take(
    library: Path, point: Point, experiment: Experiment
) -> tuple[Taken, quiet.Activity | None]:
    """The rounds of one fresh process, its outputs compared before and after, and what the
    processors did meanwhile."""
    # The jail shuts out a GPU's devices: what runs there is of the catalogue (_no_gpu).
    confined = experiment.language != "cuda"
    pair = Pair(library, point, secrets.randbits(62), confined)
    try:
        gate.check(pair, experiment.tolerance)
        workers = {"a": Timed(pair, A), "candidate": Timed(pair, B)}
        before = activity([pair.pid], 0.0)
        taken = interleave(workers, [0], PLAN, random.Random(secrets.randbits(62)))
        after = activity([pair.pid], 0.0)
        gate.check(pair, experiment.tolerance)
        scaled = Taken(
            {name: worker.alone(taken.times[name]) for name, worker in workers.items()},
            {name: worker.alone(taken.waits[name]) for name, worker in workers.items()},
            taken.pulses,
        )
        return scaled, after.since(before) if after and before else None
    finally:
        pair.close()


def _point(experiment: Experiment, size: str, x: float) -> Point:
    """Sizes in bytes, by this machine's caches. Raises Failed for more memory than there is."""
    whole = bytes_of(size)
    scale = {"size": whole, "threads": experiment.threads}
    out, input_ = (bytes_of(text, scale) for text in (experiment.out, experiment.input))
    pages = (experiment.a.pages == "huge", experiment.b.pages == "huge")
    point = Point(whole, x, out, input_, experiment.threads, pages)
    free = memory.available_bytes()
    if point.memory_bytes > SHARE_OF_FREE * free:
        need, have = point.memory_bytes >> 20, free >> 20
        raise Failed(f"{size} needs {need} MiB, and {have} MiB are free")
    return point


def bytes_of(text: str, scale: dict[str, int] | None = None) -> int:
    """A size in bytes, a multiple of 64. Raises BadInput, Failed for a cache that is unknown."""
    number, unit = parse_size(text)
    known = {**UNITS, **host.caches(), **(scale or {})}
    if unit not in known:
        if unit in ("L1", "L2", "LLC"):
            raise Failed(f"this machine does not say how large its {unit} cache is")
        raise BadInput(f"a size of {text!r} makes no sense here", "use bytes or caches")
    return max(64, int(number * known[unit]) // 64 * 64)


def _result(experiment: Experiment, answer: str, **more: Any) -> Explored:
    day = datetime.datetime.fromtimestamp(unix_s(), datetime.UTC)
    return Explored(
        name=experiment.name, hypothesis=experiment.hypothesis, verdict=answer,
        conditions=_conditions(experiment), experiment=experiment.digest,
        origin=experiment.origin, measured_on=day.isoformat(timespec="seconds"), **more,
    )  # fmt: skip


def _conditions(experiment: Experiment) -> FrozenDict[str]:
    vendor, model = host.cpu_model()
    caches = host.caches()
    cuda = experiment.language == "cuda"
    return FrozenDict(
        cpu=f"{vendor} {model}", gpu=gpu.chip_name() if cuda else "none",
        microcode=host.cpu_field("microcode") or "unknown", kernel=platform.release(),
        compiler=gpu.describe() if cuda else building.describe(),
        threads=str(experiment.threads), cores=str(len(host.core_cpus())),
        a=experiment.a.name, b=experiment.b.name,
        caches=", ".join(f"{n} {b >> 10} KiB" for n, b in caches.items()),
    )  # fmt: skip
