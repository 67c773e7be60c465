"""The main job, from a file to its report and export."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from epitaxy.chip import Chip
from epitaxy.cli import DONE, INTERRUPTED, NOTHING_ACCEPTED
from epitaxy.commands.condition import apply
from epitaxy.commands.output import emit, note, stdout, writable_folder, write_text
from epitaxy.errors import BadInput, UnknownName
from epitaxy.exporting import built
from epitaxy.problem import Problem, load
from epitaxy.progress import Display, milliseconds
from epitaxy.report import Run, headline, html, summary_table, verdict_json, won
from epitaxy.verdict import Finding


@dataclasses.dataclass(frozen=True)
class Options:
    """How to search; as on the command line."""

    chip: str = "local"
    proposer: str = "grower"
    budget: str = "2m"
    seed: int = 0
    ledger: Path | None = None
    trust: bool = False
    condition: str = "warm"
    threads: int = 0
    policy: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the problem's policy that the command line sets."""
    model: str = ""
    islands: int = 1
    max_cost: str = ""


FIRST_PROBE_S = 30.0


def optimize_file(file: str, options: Options, out: Path | None, as_json: bool) -> int:
    """Search, then leave report, verdict and export in `out`; an exit code."""
    check_names(options)
    if out is not None:
        writable_folder(out)
    problem = load(file, **options.policy)
    folder = writable_folder(out or default_folder(problem))
    run, interrupted = search(problem, options)
    if interrupted:
        note(kept(run))
        if as_json:
            emit(verdict_json(run))
        return INTERRUPTED
    paths = leave(run, folder)
    if as_json:
        emit(verdict_json(run) | {"files": {k: str(v) for k, v in paths.items()}})
    else:
        stdout().print(summary_table(run, paths))
    return NOTHING_ACCEPTED if run.best is None else DONE


def check_names(options: Options) -> None:
    """Raise UnknownName, BadInput or NoCompiler before anything slow is begun."""
    from epitaxy.compiler import find_compiler
    from epitaxy.plugin import plugins

    budget(options)
    open_proposer(options)
    if options.chip in plugins("machines").names():
        apply(open_machine(options.chip), options.condition, options.threads)
        # Asked now, not after minutes of baselines.
        find_compiler()
        return
    apply(open_machine(options.chip), options.condition, options.threads)


def budget(options: Options) -> Any:
    """What may be spent. Raises BadInput."""
    from epitaxy.budget import Budget

    return Budget.parse(options.budget).costing(options.max_cost)


def open_proposer(options: Options) -> Any:
    """The proposer, with the model that it is to ask.

    Raises UnknownName, BadInput where a model is named for one that asks none, and BadEnvironment
    where a key or a package is missing.
    """
    from epitaxy.plugin import plugins
    from epitaxy.proposer import Asking

    it = plugins("proposers").get(options.proposer)
    if isinstance(it, Asking):
        return it.asking(options.model, options.islands)
    if options.model or options.max_cost or options.islands != 1:
        raise BadInput(
            f"{options.proposer} asks no model", "add --with agent, or leave --model etc. out"
        )
    return it


def default_folder(problem: Problem) -> Path:
    """`epitaxy-out/<problem's name>`, with a name that is safe as a folder's."""
    name = re.sub(r"[^\w.-]+", "_", problem.name).strip("._") or "problem"
    return Path("epitaxy-out") / name


def open_machine(name: str, toolchain: str = "") -> Any:
    """The machine plugin called `name`, the accelerator of this machine where it is the chip called
    so, or what stands in for that chip, by `toolchain` where one is named.

    Raises UnknownName, BadInput where no toolchain builds for that chip, and BadEnvironment where
    the one that does is not installed.
    """
    from epitaxy.machine import accelerator
    from epitaxy.machine import open_machine as at_hand
    from epitaxy.plugin import plugins

    chip = chip_of(name)
    if chip is None:
        return at_hand(name)
    here = accelerator(chip.id)
    if here is not None and (not toolchain or toolchain in here.toolchains):
        return here
    return plugins("machines").get("absent").of(chip, toolchain)


def machine_like(fingerprint: Mapping[str, str], toolchain: str) -> Any:
    """The machine of the chip that `fingerprint`, a recorded machine's or {}, names, for candidates
    of `toolchain`; without a chip the processors, or what takes kernels that are not for them.

    Raises as `open_machine` does.
    """
    from epitaxy.plugin import plugins
    from epitaxy.toolchain import Crossing

    if chip := fingerprint.get("chip"):
        return open_machine(chip, toolchain)
    crosses = isinstance(plugins("toolchains").get(toolchain), Crossing)
    return open_machine("local" if crosses and not fingerprint else "cpu")


def chip_of(name: str) -> Chip | None:
    """The shipped chip called `name`; None for a machine's name. Raises UnknownName."""
    from epitaxy.chip_facts import find, load_all
    from epitaxy.plugin import plugins

    machines = plugins("machines").names()
    if name in machines:
        return None
    try:
        return find(name)
    except UnknownName:
        names = [*machines, *(chip.id for chip in load_all())]
        raise UnknownName.of("chip", name, names) from None


def search(problem: Problem, options: Options) -> tuple[Run, bool]:
    """Run one study with live progress; what is known at its end, and whether it was cut short."""
    from epitaxy.proposer import Asking
    from epitaxy.study import create_study

    machine = apply(open_machine(options.chip), options.condition, options.threads)
    study = create_study(
        problem,
        machine=machine,
        proposer=open_proposer(options),
        ledger=options.ledger,
        budget=budget(options),
        seed=options.seed,
        trust=options.trust,
    )
    interrupted = False
    with Display(problem.name) as display:
        try:
            measure_chip(machine, display)
            study.optimize(callbacks=[cast(Any, display)])
        except KeyboardInterrupt:
            interrupted = True
    bill: tuple[Finding, ...] = ()
    if isinstance(study.proposer, Asking):
        bill = (Finding(check=options.proposer, severity="note", message=study.proposer.bill()),)
        note(bill[0].message)
    reason = "interrupted" if interrupted else study.stop_reason
    judged = tuple(study.view().judged())
    run = Run(
        problem=problem,
        judged=judged,
        best=study.best,
        # An interrupted probe is not begun again.
        chip=None if interrupted and not judged else machine.chip(),
        stop_reason=reason,
        notes=(*study.notes, *bill),
        fingerprint=machine.fingerprint(),
        seconds=dict(study.seconds),
    )
    return run, interrupted


def measure_chip(machine: Any, display: Display) -> None:
    """Probe this machine once, so that floors rest on measured peaks."""
    from epitaxy.probe import load_measured, probe

    if not getattr(machine, "probed", False) or load_measured() is not None:
        return
    display.note("first use of this machine: measuring its peaks (once)")
    probe(progress=display.step, budget_s=FIRST_PROBE_S)


def kept(run: Run) -> str:
    """What an interrupted user wants to know."""
    best = f"; best {milliseconds(run.best[1].time_s)} ({run.best[0].id})" if run.best else ""
    count = len(run.judged)
    return f"interrupted: {count} judged candidates are kept{best}; the same command resumes"


def leave(run: Run, folder: Path, more: Mapping[str, Any] | None = None) -> dict[str, Path]:
    """Write verdict.json (with `more`), report.html and export/ into `folder`; their paths.

    The export is the best candidate where it is shown to be faster than the strongest baseline;
    else the original, and the slower candidate lies beside it in candidate/.
    """
    from epitaxy.product import export, export_original

    document = verdict_json(run) | dict(more or {})
    paths = {
        "report": write_text(folder / "report.html", html(run)),
        "verdict": write_text(folder / "verdict.json", json.dumps(document, indent=2)),
    }
    if run.best is not None:
        candidate, verdict = run.best
        build = built(candidate, run.problem, run.chip)
        place = folder / ("export" if won(run) else "candidate")
        paths["export" if won(run) else "candidate"] = export(
            candidate, verdict, run.problem, place, build
        )
    if run.best is not None and run.best[1].basis != "measured":
        return paths  # nothing is said about which is faster
    if not won(run):
        note(f"{run.problem.name} stays with PyTorch: {headline(run)}")
        paths["export"] = export_original(run.problem, headline(run), folder / "export")
    return paths
