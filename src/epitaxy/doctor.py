"""`epitaxy doctor`: what works on this machine, what does not, and the mend."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from epitaxy.errors import EpitaxyError
from epitaxy.machine import Accelerated, accelerator
from epitaxy.toolchain import Crossing

LEAST_FREE_BYTES = 200 << 20
"""Builds of one search and Inductor's caches take tens of MiB."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing looked at. `needed`: the main job cannot run without it."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    needed: bool = False


def examine(ledger: Path | None = None) -> list[Row]:
    """Look at everything that `epitaxy optimize` uses; never raises for what it finds."""

    rows = [_guard("python", True, _python), _guard("torch", True, _torch)]
    rows += [_guard("compiler", True, _compiler), _guard("openmp", True, _openmp)]
    rows += [_guard("sandbox", True, _sandbox), _guard("real-time priority", False, _real_time)]
    rows += [_guard("measured chip", False, _chip)]
    rows += [_guard("home", True, _home)]
    rows += [_guard("ledger", True, lambda: _ledger(ledger))]
    rows += [
        _guard("egglog", False, lambda: _extra("egglog", "algebra", "no cheaper algebra is found")),
        _guard(
            "scikit-learn",
            False,
            lambda: _extra("scikit-learn", "learn", "genomes are not ranked before they are built"),
        ),
    ]
    return rows + _accelerators() + _plugins("toolchains") + _plugins("baselines")


def usable(rows: list[Row]) -> bool:
    """Whether the main job can run."""
    return all(row.ok for row in rows if row.needed)


Found = tuple[bool, str, str]
"""ok, detail, mend"""


def _guard(name: str, needed: bool, look: Callable[[], Found]) -> Row:
    try:
        ok, detail, mend = look()
    except EpitaxyError as error:
        ok, detail, mend = False, error.message, error.mend
    # A broken part must not hide the state of the others.
    except Exception as error:
        ok, detail, mend = False, f"{type(error).__name__}: {error}", "report this as a fault"
    return Row(name, ok, detail, "" if ok else mend, needed)


def _python() -> Found:
    version = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info >= (3, 11), version, "use Python 3.11 or newer"


def _torch() -> Found:
    try:
        return True, importlib.metadata.version("torch"), ""
    except importlib.metadata.PackageNotFoundError:
        return False, "not installed", "pip install torch"


def _compiler() -> Found:
    from epitaxy.compiler import find_compiler

    found = find_compiler()
    return True, str(found), ""


def _extra(package: str, extra: str, without: str) -> Found:
    """A package that some parts of the grower use, and what is lost without it."""
    try:
        return True, importlib.metadata.version(package), ""
    except importlib.metadata.PackageNotFoundError:
        return False, f"not installed: {without}", f"pip install 'epitaxy[{extra}]'"


def _openmp() -> Found:
    from epitaxy.compiler import find_compiler

    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "try.cpp"
        source.write_text(
            '#include <omp.h>\nextern "C" int n() { return omp_get_max_threads(); }\n'
        )
        built = subprocess.run(
            [
                compiler.path,
                "-fopenmp",
                "-shared",
                "-fPIC",
                source,
                "-o",
                source.with_suffix(".so"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if built.returncode == 0:
        return True, "builds", ""
    lines = built.stderr.strip().splitlines() or ["the compiler said nothing"]
    return False, lines[0], f"install the OpenMP runtime of {compiler.path} (libgomp)"


def _sandbox() -> Found:
    from epitaxy.sandbox import NEEDED, available

    layers = available()
    mend = "use a kernel with Landlock and seccomp, or --trust what you wrote yourself"
    missing = [layer for layer in NEEDED if layer not in layers]
    detail = f"no {' and no '.join(missing)}: candidates cannot be confined"
    return not missing, detail if missing else ", ".join(layers), mend


def _real_time() -> Found:
    """Tried in a child, so that this process keeps its own priority."""
    child = os.fork()
    if child == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            os._exit(1)
        os._exit(0)
    ok = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mend = "give this user an rtprio limit in /etc/security/limits.conf: intervals will be narrower"
    return ok, "permitted" if ok else "not permitted: timings are noisier", mend


def _chip() -> Found:
    from epitaxy.probe import load_measured

    chip = load_measured()
    if chip is None:
        return False, "this machine has not been measured", "run: epitaxy probe"
    return True, chip.name, ""


def _home() -> Found:
    """The folder for builds and measured chips, and the room there."""
    from epitaxy.plugin import plugins

    home = Path(plugins("machines").get("local").home)
    folder = next(p for p in (home, *home.parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    mend = "free some space there, or set EPITAXY_HOME to a folder on another disk"
    fault = _unwritable(home)
    if fault:
        return False, f"{home}: {fault}", "set EPITAXY_HOME to a writable folder"
    return free > LEAST_FREE_BYTES, f"{home}, {free / 2**30:.1f} GiB free", mend


def _ledger(path: Path | None) -> Found:
    from epitaxy.ledger import Ledger

    path = path or Ledger.default_path()
    fault = _unwritable(path.parent)
    mend = "choose another file with --ledger or EPITAXY_HOME"
    return not fault, f"{path}: {fault}" if fault else str(path), mend


def _unwritable(folder: Path) -> str:
    """Why nothing can be written in `folder`, or where it would be made; "" when it can."""
    nearest = next(p for p in (folder, *folder.parents) if p.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=nearest):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _crossing(toolchain: Crossing) -> str:
    """For a toolchain of chips that are not here: what it builds for, and how that is checked."""
    from epitaxy.chip_facts import load_all

    chips = [chip.id for chip in load_all() if toolchain.targets(chip)]
    how = toolchain.stand_in().name
    here = accelerator()
    runs = here is not None and toolchain.name in here.toolchains
    where = f"runs on the {here.chip().name} here" if runs else "runs on none here"
    return f"; builds for {', '.join(chips) or 'no chip'}; {where}; checked by {how}"


def _accelerators() -> list[Row]:
    """Each machine plugin that is an accelerator of this machine: where one is here, `--chip local`
    means it."""
    from epitaxy.plugin import plugins

    known = plugins("machines")

    def look(name: str) -> Found:
        state = known.get(name).present()
        return state.ok, state.detail, state.mend

    found = []
    for name in known.names():
        # Where machines cannot be made at all, the row of the home says why.
        with contextlib.suppress(EpitaxyError):
            if not isinstance(known.get(name), Accelerated):
                continue
            found.append(_guard(f"machine {name}", False, functools.partial(look, name)))
    return found


def _plugins(folder: str) -> list[Row]:
    from epitaxy.plugin import plugins

    known = plugins(folder)

    def look(name: str) -> Found:
        plugin = known.get(name)
        found = plugin.available()
        more = _crossing(plugin) if found.ok and isinstance(plugin, Crossing) else ""
        return found.ok, found.detail + more, found.mend

    def row(name: str) -> Row:
        return _guard(f"{folder.removesuffix('s')} {name}", False, lambda: look(name))

    return [row(name) for name in known.names()]
