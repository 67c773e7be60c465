"""What toolchains of kernels for GPUs share that are text of their own: CUDA C++, HIP.

A candidate holds sources (`kernel.cu`, ...) and `forward.py` (ModelNew), which names each kernel
with its launch: `_epitaxy_kernel(name, inputs, outputs, grid=..., block=...)`. A kernel's arguments
are pointers to its inputs, then to its outputs. The chip's own compiler builds the sources, at the
problem's own sizes; for correctness a C++ compiler builds the same text against the headers of
`_shim/`, whose runtime makes every thread a fiber, holds every access against the tensors, and
watches shared memory for races.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.compiler import Compiler, find_compiler
from epitaxy.errors import BadCandidate, NoCompiler
from epitaxy.problem import Problem
from epitaxy.product import compose
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Availability, Build, StandIn
from epitaxy.toolchains._absent import AbsentToolchain
from epitaxy.toolchains._triton import fact, over_limit, together
from epitaxy.toolchains.triton_nvidia import read_target

SHIM = Path(__file__).parent / "_shim"
LIBRARY = "kernel-shim.so"
CHECKED = (
    "-fsanitize=kernel-address", "--param=asan-stack=0", "--param=asan-globals=1",
    "--param=asan-instrumentation-with-call-threshold=0",
    "-fno-strict-aliasing", "-fno-threadsafe-statics", "-fsanitize=bounds",
)  # fmt: skip
"""gcc calls the runtime before each load and store, and tells it of each array's size."""
SPOILED = "-ftrivial-auto-var-init=pattern"
"""Variables hold a pattern until they are set."""
GCC, SPOILS = 11, 12
"""The first major versions of gcc with CHECKED and `__builtin_bit_cast`, and with SPOILED."""


@dataclass(frozen=True)
class Tool:
    """A program of a vendor's: how it is called, its version, and where its files lie."""

    command: tuple[str, ...]
    version: str
    folder: str


class DeviceToolchain(AbsentToolchain):
    """One dialect. A dialect's file gives the attributes and methods of the first part."""

    builder = "epitaxy.toolchains._device_build"
    prelude = Path(__file__).parent / "device_prelude.py.txt"
    suffix: str
    vendor: str
    backend: str
    """The first word of a chip's fact `target`."""
    headers: tuple[str, ...] = ()
    """Those that its sources may include beside C++'s."""
    header: str
    """Of the shim, included before everything else."""
    code: str
    """What the vendor's compiler leaves, by its suffix."""

    # -- what each dialect gives ---------------------------------------------------------------

    def compiler(self) -> Tool | Availability:
        """The vendor's compiler, or why there is none."""
        raise NotImplementedError

    def commands(self, tool: Tool, chip: Chip, unit: str) -> list[dict[str, Any]]:
        """What a build runs: {"run": words, "log": file for what they say}, one after the other;
        `unit` stands for the source."""
        raise NotImplementedError

    def numbers(self, made: Path, kernel: str, chip: Chip) -> dict[str, float]:
        """What the compiler says of one kernel: `registers`, `static_bytes`, `spill_bytes`, ..."""
        raise NotImplementedError

    def most(self, chip: Chip) -> Mapping[str, int]:
        """Limits on a launch: grid_x, grid_y, grid_z, block_x, block_y, block_z."""
        raise NotImplementedError

    def keeps(self, made: Path) -> str:
        """Memory of the device that outlives a call, in words; "" when there is none."""
        raise NotImplementedError

    def remarks(self) -> str:
        """What cannot be told here for want of a program; "" when nothing."""
        return ""

    # -- the contract --------------------------------------------------------------------------

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]
        """Patterns of the files that it compiles."""
        return (f"*{self.suffix}",)

    @property
    def language(self) -> str:  # type: ignore[override]
        """Its own name: each dialect is a language."""
        return self.name

    def available(self) -> Availability:
        """Whether the vendor's compiler is here, and a C++ compiler for the stand-in."""
        tool = self.compiler()
        if isinstance(tool, Availability):
            return tool
        try:
            host = find_compiler()
        except NoCompiler as error:
            return Availability(ok=False, detail=error.message, mend=error.mend)
        if host.kind != "gcc" or host.major < GCC:
            return Availability(
                ok=False,
                detail=f"the stand-in is built by gcc {GCC} or later, not by {host}",
                mend="apt install g++, or set CXX to it",
            )
        return Availability(ok=True, detail=tool.version + self.remarks())

    def targets(self, chip: Chip) -> bool:
        """Whether it builds for `chip`."""
        target = chip.facts.get("target")
        named = str(target.value) if target else ""
        return chip.kind == "gpu" and named.partition(":")[0] == self.backend

    def stand_in(self) -> StandIn:
        """Our runtime on this machine's CPU."""
        return StandIn(
            name=f"our CPU runtime for {self.name}", environment=FrozenDict(EPITAXY_SHIM="1")
        )

    def resident(self, chip: Chip) -> StandIn:
        """On the chip itself, through its driver."""
        return StandIn(name=f"the driver of {chip.name}")

    def packages(self) -> tuple[str, ...]:
        """None: the compilers are programs."""
        return ()

    def versions(self) -> Mapping[str, str]:
        """The vendor's compiler and the stand-in's."""
        tool = self.compiler()
        return {
            "compiler": tool.version if isinstance(tool, Tool) else "none",
            "stand-in": str(find_compiler()),
        }

    def reads(self) -> tuple[str, ...]:
        """Where the vendor's compiler lies."""
        tool = self.compiler()
        return (tool.folder,) if isinstance(tool, Tool) else ()

    def environment(self, made: Path) -> Mapping[str, str]:
        """The loader notes launches instead of making them."""
        return {"EPITAXY_SHIM": "1"}

    def job(self, chip: Chip) -> dict[str, Any]:
        """What the builder runs. Raises BadInput where the chip's facts do not suffice."""
        read_target(chip, self.backend, str)
        tool = self.compiler()
        found = self.commands(tool, chip, "{unit}") if isinstance(tool, Tool) else []
        return {"device": found, "shim": self._shim(find_compiler()), "suffix": self.suffix}

    def _shim(self, host: Compiler) -> list[list[str]]:
        """Commands that build the stand-in's library."""
        plain = [host.path, "-std=c++17", "-fPIC", "-w", "-c"]
        headers = SHIM / self.name
        own = [*plain, "-O1", "-ffp-contract=fast", *CHECKED, f"-I{headers}"]
        own += [SPOILED] if host.major >= SPOILS else []
        return [
            [*plain, "-O2", str(SHIM / "runtime.cpp"), "-o", "runtime.o"],
            [*own, "-x", "c++", "-include", str(headers / self.header), "{unit}", "-o", "kernel.o"],
            [host.path, "-shared", "runtime.o", "kernel.o", "-Wl,-z,noexecstack", "-o", LIBRARY],
        ]

    def bundle(self, candidate: Candidate, problem: Problem) -> str:
        """The text of `model_new.py`. Raises BadCandidate or BadProblem."""
        sources = {n: t for n, t in candidate.files.items() if not n.endswith(".py")}
        sources = {n: t for n, t in sources.items() if "/" not in n}
        units = [n for n in sources if n.endswith(self.suffix)]
        if len(units) != 1:
            raise BadCandidate(
                f"the candidate has {len(units) or 'no'} {self.suffix} files",
                f"put its kernels into kernel{self.suffix}, and what they share into headers",
            )
        texts = "".join(f"    {n!r}: {compose.literal(t)},\n" for n, t in sources.items())
        chip = self._chip or self.default_chip()
        target = read_target(chip, self.backend, str)
        settings = (
            f"_epitaxy_training_matters = {compose.training_matters(problem)!r}\n"
            f"_epitaxy_dialect = {self.name!r}\n_epitaxy_code = {'kernel' + self.code!r}\n"
            f"_epitaxy_arch = {target.arch!r}\n_epitaxy_lanes = {target.lanes}\n"
            f"_epitaxy_sources = {{\n{texts}}}\n"
        )
        return compose.assemble(candidate, problem, self.needs, [*self.loader(), settings], "")

    def build_harsh(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """The same: what the stand-in runs is checked always."""
        return self.build(candidate, problem, cache)

    def reduced(self, candidate: Candidate, problem: Problem, cache: Path) -> Build | None:
        """The candidate's own smaller form, for `problem`, built for the stand-in alone; None
        without one. Raises BadCandidate where the two differ in more than numbers."""
        form = self.smaller_form(candidate, problem)
        return None if form is None else self.built(form, problem, cache, small=True)

    def artefacts(self, build: Build) -> list[Path]:
        """The code object that the bundle loads where the chip is."""
        return [Path(build.folder, f"kernel{self.code}")]

    def look(self, made: Path, chip: Chip) -> tuple[dict[str, float], str]:
        """Registers, spills, shared memory, occupancy, instruction counts: of the worst kernel, or
        their sum; and the limit that one of them breaks, if any."""
        kept = self.keeps(made)
        if kept:
            return {}, f"error: it keeps {kept} from call to call: make it an output, or constant"
        launches = json.loads((made / "launches.json").read_text(encoding="utf-8"))
        lanes = fact(chip, "warp_lanes")
        each: list[dict[str, float]] = []
        for launch in launches:
            fault = misshapen(launch, chip, self.most(chip))
            if fault:
                return {}, fault
            found = self.numbers(made, launch["kernel"], chip)
            if not found:
                return {}, f'error: no source defines extern "C" __global__ {launch["kernel"]}'
            threads = math.prod(launch["block"])
            launch["warps"] = math.ceil(threads / lanes)
            launch["programs"] = math.prod(launch["grid"])
            launch["shared_bytes"] += int(found.pop("static_bytes"))
            fault = over_limit(launch, chip) or _over_registers(launch, found, chip)
            if fault:
                return {}, fault
            each.append(found | self.occupied(launch, found, chip))
        (made / "launches.json").write_text(json.dumps(launches, indent=1), encoding="utf-8")
        return together(each, launches), ""

    def occupied(
        self, launch: Mapping[str, Any], found: Mapping[str, float], chip: Chip
    ) -> dict[str, float]:
        """Occupancy, and what limits it."""
        from epitaxy.toolchains._occupancy import occupancy

        return occupancy(launch, found["registers"], chip)


def ask(command: Sequence[str]) -> str:
    """What a program says, of its version for example; "" when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr


def misshapen(launch: Mapping[str, Any], chip: Chip, limits: Mapping[str, int]) -> str:
    """Why a launch cannot be made on the chip; "" when it can."""
    sizes = {f"grid_{k}": v for k, v in zip("xyz", launch["grid"], strict=True)}
    sizes |= {f"block_{k}": v for k, v in zip("xyz", launch["block"], strict=True)}
    for name, size in sizes.items():
        if not 1 <= size <= limits[name]:
            return (
                f"error: {launch['kernel']} is launched with {name} = {size}; "
                f"{chip.name} takes 1 to {limits[name]}"
            )
    threads, most = math.prod(launch["block"]), fact(chip, "block_lanes")
    if most and threads > most:
        return (
            f"error: {launch['kernel']} has {threads} threads in a block; "
            f"{chip.name} allows {most:.0f} (block_lanes)"
        )
    return ""


def _over_registers(launch: Mapping[str, Any], found: Mapping[str, float], chip: Chip) -> str:
    """Whether a block needs more registers than a core has: the launch would fail."""
    room, unit = fact(chip, "core_registers"), fact(chip, "lane_register_unit") or 1.0
    simds = fact(chip, "simds") or 1.0
    each = math.ceil(found["registers"] / unit) * unit * fact(chip, "warp_lanes")
    warps = math.ceil(launch["warps"] / simds) * simds
    if room and each * warps > room:
        return (
            f"error: {launch['kernel']} takes {each * warps:.0f} registers for a block; "
            f"a core of {chip.name} has {room:.0f} (core_registers)"
        )
    return ""
