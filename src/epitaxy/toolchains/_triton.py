"""What the Triton toolchains share: bundle, confined build for an absent chip, static metrics.

A candidate holds `kernels.py` (functions under `@triton.jit` and their launchers) and `forward.py`
(ModelNew). Files under `small/` are the same kernels for smaller sizes, for the interpreter.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.errors import BadCandidate, BadEnvironment
from epitaxy.problem import Problem
from epitaxy.product import compose
from epitaxy.record import FrozenDict, canonical, digest_text, printable
from epitaxy.toolchain import Availability, Build, StandIn
from epitaxy.toolchains import _confined
from epitaxy.toolchains._files import written

KERNELS, SMALL = "kernels.py", "small/"
PRELUDE = Path(__file__).parent / "triton_prelude.py.txt"
MEND = "pip install 'epitaxy[triton]'"
NEEDS = "Needs PyTorch and Triton, and runs on the chip that it was grown for."
LOG_BYTES, FOLDER_BYTES, FILE_BYTES = 1 << 16, 512 << 20, 128 << 20
MEMORY_BYTES = 24 << 30
"""Address space of one build: PyTorch and LLVM map far more than they use."""


@dataclass(frozen=True)
class Target:
    """What is compiled for: Triton's backend and architecture, and the lanes of a warp."""

    backend: str
    arch: int | str
    lanes: int


class TritonToolchain:
    """One vendor's chips through Triton; `arch(chip)` gives the architecture, None for another's.

    `read(folder, launch)` gives the metrics of one compiled kernel.
    """

    name: str
    runs = "torch"
    language = "triton"
    vendor: str
    checked = "Triton's interpreter, repaired"

    def __init__(self, timeout_s: float = 120.0) -> None:
        self.timeout_s = timeout_s
        self._chip: Chip | None = None

    # -- what a vendor's file gives ------------------------------------------------------------

    def target(self, chip: Chip) -> Target:
        """What to compile for. Raises BadInput when the chip's facts do not say."""
        raise NotImplementedError

    def metrics(self, folder: Path, launch: Mapping[str, Any], chip: Chip) -> dict[str, float]:
        """What one compiled kernel says of itself."""
        raise NotImplementedError

    def after(self, target: Target) -> list[tuple[list[str], str]]:
        """Commands to look at a compiled kernel with, and the suffix of the file for what they
        say; "{}" stands for the kernel's files."""
        return []

    # -- the contract --------------------------------------------------------------------------

    def targets(self, chip: Chip) -> bool:
        """Whether it builds for `chip`."""
        return chip.kind == "gpu" and chip.vendor == self.vendor and "target" in chip.facts

    def aim(self, chip: Chip) -> None:
        """Build for `chip` from now on."""
        self._chip = chip

    def stand_in(self) -> StandIn:
        """How a built candidate runs on this machine's CPU."""
        return StandIn(
            name=self.checked,
            packages=("triton",),
            preload=("epitaxy.toolchains._triton_interpreter",),
            environment=FrozenDict(TRITON_INTERPRET="1"),
        )

    def available(self) -> Availability:
        """Whether Triton is installed with this vendor's compiler."""
        if importlib.util.find_spec("triton") is None:
            return Availability(ok=False, detail="no Triton", mend=MEND)
        version = importlib.metadata.version("triton")
        missing = self.missing()
        if missing:
            return Availability(ok=False, detail=f"Triton {version} without {missing}", mend=MEND)
        return Availability(ok=True, detail=f"Triton {version}")

    def missing(self) -> str:
        """What the installed Triton lacks for this vendor; "" when nothing."""
        return ""

    def build(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """Build into `cache/<digest>`; what was built or refused before is read back.

        Raises BadEnvironment when Triton is not installed or the cache cannot be written.
        """
        if importlib.util.find_spec("triton") is None:
            raise BadEnvironment("Triton is not installed", MEND)
        chip = self._chip or self.default_chip()
        target = self.target(chip)
        try:
            text = bundle(candidate, problem)
        except BadCandidate as error:
            return Build(ok=False, folder="", log=f"error: {error}")
        facts = {
            "toolchain": self.name,
            "triton": importlib.metadata.version("triton"),
            "target": f"{target.backend}:{target.arch}",
            "chip": chip.id,
        }
        digest = digest_text(canonical({"bundle": text, "candidate": candidate.digest, **facts}))
        folder = Path(cache, digest)
        known = _read(folder)
        if known is not None:
            return known
        try:
            Path(cache).mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f"{digest[:12]}-", dir=cache))
            try:
                build = self._build_in(made, folder, text, problem, (chip, target), facts)
                return _settle(made, folder, build)
            finally:
                shutil.rmtree(made, ignore_errors=True)
        except OSError as error:
            raise BadEnvironment(
                f"cannot write the build cache {cache}: {error.strerror or error}",
                "free space there or set EPITAXY_HOME to a writable folder",
            ) from None

    def reduced(self, candidate: Candidate, problem: Problem, cache: Path) -> Build | None:
        """The candidate's own smaller form, for `problem`, uncompiled; None without one.

        Raises BadCandidate where the two differ in more than numbers.
        """
        small = {
            n.removeprefix(SMALL): t for n, t in candidate.files.items() if n.startswith(SMALL)
        }
        if not small:
            return None
        for name, own in small.items():
            if not same_but_numbers(candidate.files.get(name, ""), own):
                raise BadCandidate(
                    f"{SMALL}{name} differs from {name} in more than numbers",
                    "write both by the same rules",
                )
        form = candidate.replace(problem=problem.digest, files=small, parents=())
        text = bundle(form, problem)
        digest = digest_text(canonical({"reduced": text, "toolchain": self.name}))
        folder = written(form.replace(files={**small, "model_new.py": text}), Path(cache, digest))
        return Build(ok=True, folder=str(folder))

    def default_chip(self) -> Chip:
        """The vendor's chip that is built for where nobody says which."""
        raise NotImplementedError

    def _build_in(
        self, made: Path, folder: Path, text: str, problem: Problem, where: tuple[Chip, Target],
        facts: Mapping[str, str],
    ) -> Build:  # fmt: skip
        chip, target = where
        (made / "model_new.py").write_text(text, encoding="utf-8", newline="")
        job = {
            "backend": target.backend, "arch": target.arch, "lanes": target.lanes,
            "inputs": [s and (s.shape, s.dtype) for s in problem.inputs],
            "after": self.after(target),
        }  # fmt: skip
        (made / "job.json").write_text(json.dumps(job), encoding="utf-8")
        start = time.monotonic()
        log, ok = self._compile(made)
        metrics: dict[str, float] = {}
        if ok:
            launches = json.loads((made / "launches.json").read_text(encoding="utf-8"))
            metrics, fault = self._looked_at(made, launches, chip)
            ok, log = not fault, fault or log
        (made / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        return Build(
            ok=ok,
            folder=str(folder),
            log=log,
            fingerprint=FrozenDict(facts),
            seconds=time.monotonic() - start,
        )

    def _compile(self, made: Path) -> tuple[str, bool]:
        """(what matters of the output, whether it was built)."""
        command = [sys.executable, "-m", "epitaxy.toolchains._triton_build", "job.json"]
        limits = {
            "cpu_s": int(self.timeout_s) + 1, "memory_bytes": MEMORY_BYTES,
            "file_bytes": FILE_BYTES,
        }  # fmt: skip
        bounds = _confined.Bounds(
            self.timeout_s, FOLDER_BYTES, reads=_python_paths(), environment=_environment(made)
        )
        with tempfile.TemporaryFile(dir=made) as output:
            ended = _confined.run(command, made, output, limits, bounds)
            output.seek(0)
            said = printable(output.read(LOG_BYTES).decode(errors="replace")).strip()
        if ended.late:
            return f"error: compiling takes more than {self.timeout_s:g} s", False
        if ended.big:
            return f"error: compiling takes more than {FOLDER_BYTES >> 20} MiB of disk", False
        if ended.status == 0:
            return said, True
        lines = [x for x in said.splitlines() if x.startswith("error:")] or said.splitlines()[-1:]
        return "\n".join(lines) or f"error: the compiler ended with status {ended.status}", False

    def _looked_at(
        self, folder: Path, launches: list[Mapping[str, Any]], chip: Chip
    ) -> tuple[dict[str, float], str]:
        """The metrics of all kernels together, and the limit that one of them breaks, if any."""
        each: list[dict[str, float]] = []
        for launch in launches:
            fault = over_limit(launch, chip)
            if fault:
                return {}, fault
            each.append(self.metrics(folder, launch, chip))
        return together(each, launches), ""

    def inspect(self, build: Build) -> FrozenDict[float]:
        """Registers, spills, shared memory, occupancy, instruction counts: of the worst kernel,
        or their sum; empty when it was not built."""
        path = Path(build.folder, "metrics.json")
        if not build.ok or not path.is_file():
            return FrozenDict()
        found = json.loads(path.read_text(encoding="utf-8"))
        return FrozenDict({k: float(v) for k, v in found.items()})


def bundle(candidate: Candidate, problem: Problem) -> str:
    """The text of `model_new.py`. Raises BadCandidate or BadProblem."""
    if KERNELS not in candidate.files:
        raise BadCandidate(f"the candidate has no {KERNELS}", "put its @triton.jit functions there")
    matters = f"_epitaxy_training_matters = {compose.training_matters(problem)!r}\n"
    loader = [PRELUDE.read_text(encoding="utf-8"), matters]
    return compose.assemble(candidate, problem, NEEDS, loader, candidate.files[KERNELS])


def same_but_numbers(one: str, other: str) -> bool:
    """Whether two Python texts are the same but for comments and the numbers in them."""
    try:
        trees = [ast.parse(x) for x in (one, other)]
    except (SyntaxError, ValueError, RecursionError):
        return False
    shapes = []
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and type(node.value) in (int, float):
                node.value = 0
        _undocumented(tree)
        shapes.append(ast.dump(tree))
    return shapes[0] == shapes[1]


def _undocumented(tree: ast.Module) -> None:
    """Without docstrings: they name the genome and the shapes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                body[0].value.value = ""


def fact(chip: Chip, name: str) -> float:
    """A number of the chip's file; 0.0 where it is not known."""
    found = chip.facts.get(name)
    return float(found.value) if found else 0.0


def over_limit(launch: Mapping[str, Any], chip: Chip) -> str:
    """The limit of the chip that a kernel breaks, with its bytes; "" when none."""
    limit = fact(chip, "block_local_bytes")
    if limit and launch["shared_bytes"] > limit:
        return (
            f"error: {launch['kernel']} takes {launch['shared_bytes']} bytes of shared memory; "
            f"a block of {chip.name} has {limit:.0f} (block_local_bytes)"
        )
    lanes, most = fact(chip, "warp_lanes"), fact(chip, "block_lanes")
    if most and launch["warps"] * lanes > most:
        return (
            f"error: {launch['kernel']} has {launch['warps'] * lanes:.0f} lanes in a block; "
            f"{chip.name} allows {most:.0f} (block_lanes)"
        )
    return ""


SUMS = ("instructions", "spill_bytes", "matrix_instructions", "stall_cycles", "launches")
LEAST = ("occupancy",)


def together(each: list[dict[str, float]], launches: list[Mapping[str, Any]]) -> dict[str, float]:
    """One candidate's metrics from its kernels': sums of counts, the worst of everything else."""
    found: dict[str, float] = {"launches": float(sum(x["count"] for x in launches))}
    for name in dict.fromkeys(k for one in each for k in one):
        values = [one[name] for one in each if name in one]
        counts = name in SUMS or name.startswith("count_")
        fold: Callable[[list[float]], float] = sum if counts else min if name in LEAST else max
        found[name] = float(fold(values))
    found["programs"] = float(sum(x["programs"] * x["count"] for x in launches))
    return found


def _python_paths() -> tuple[str, ...]:
    """Python, this package, and where torch, triton and NumPy lie."""
    found = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])}
    for package in ("torch", "triton", "numpy"):
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            found.add(str(Path(place).parent))
    return tuple(sorted(found))


def _environment(made: Path) -> Mapping[str, str]:
    paths = [str(Path(__file__).parents[2])]
    for package in ("torch", "triton"):
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            if not Path(place).is_relative_to(sys.prefix):
                paths.append(str(Path(place).parent))
    return {
        "PYTHONPATH": ":".join(dict.fromkeys(paths)),
        "TRITON_CACHE_DIR": str(made / "triton"),
        "TRITON_DUMP_PTXAS_LOG": "1",
        "TRITON_DEFAULT_FP_FUSION": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _settle(made: Path, folder: Path, build: Build) -> Build:
    """Give the finished folder its name; whoever was first with the same digest stays."""
    shutil.rmtree(made / "triton", ignore_errors=True)
    (made / "build.json").write_text(canonical(build), encoding="utf-8")
    made.chmod(0o755)
    try:
        made.rename(folder)
    except OSError:
        known = _read(folder)
        if known is not None:
            return known
        shutil.rmtree(folder, ignore_errors=True)  # half a folder, from a crash of the system
        made.rename(folder)
    return build


def _read(folder: Path) -> Build | None:
    try:
        build = Build.from_dict(json.loads((folder / "build.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    if build.ok and not (folder / "model_new.py").is_file():
        return None
    return build.replace(folder=str(folder))
