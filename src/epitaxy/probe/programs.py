"""The probe's own programs: built with the system's compiler, run as processes of their own."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epitaxy.compiler import Compiler
from epitaxy.errors import MachineFault
from epitaxy.probe import disassembly

HERE = Path(__file__).parent
NAMES = ("flops", "memory", "latency", "overhead")
FLAGS = ("-O2", "-march=native", "-std=c++17", "-fopenmp", "-Wno-psabi")
_MEND = "run `epitaxy probe` again; if it stays, try another compiler: CXX=g++ or CXX=clang++"

Line = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How one program is run: its share of the time, threads, and the sizes that it sweeps."""

    budget_s: float
    threads: int
    per_octave: int
    most_bytes: int
    cpus: tuple[int, ...] = ()

    def arguments(self) -> list[str]:
        """As the programs take them."""
        return [
            f"{self.budget_s:.3f}",
            str(self.threads),
            str(self.per_octave),
            str(self.most_bytes),
        ]


def build(compiler: Compiler, folder: Path) -> dict[str, Path]:
    """Compile every program into `folder`. Raises MachineFault with the compiler's first error."""

    def one(name: str) -> Path:
        binary = folder / name
        command = [compiler.path, *FLAGS, str(HERE / f"{name}.cpp"), "-o", str(binary)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            said = (errors or done.stderr.splitlines() or ["it failed"])[0]
            raise MachineFault(f"{compiler} cannot build the probe's {name}.cpp: {said}", _MEND)
        return binary

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(NAMES, pool.map(one, NAMES), strict=True))


def check_loops(binaries: dict[str, Path], fused: bool) -> tuple[dict[str, str], list[str]]:
    """Functions whose loop is not the one that was meant (name -> why), and notes for the user.

    `fused`: whether the programs' target has a fused multiply-add.
    """
    wanted = disassembly.expectations(platform.machine(), _chains(), fused)
    wrong: dict[str, str] = {}
    checked = 0
    for binary in binaries.values():
        found = disassembly.check(binary, wanted)
        if found is None:
            return {}, ["objdump is absent: the measured loops were not checked by disassembly"]
        checked += len(found)
        wrong |= {name: why for name, why in found.items() if why}
    notes = [f"{checked - len(wrong)} of {checked} measured loops confirmed by disassembly"]
    notes += [
        f"{name} left out, the compiler wrote another loop: {why}" for name, why in wrong.items()
    ]
    return wrong, notes


def _chains() -> int:
    """CHAINS as flops.cpp chooses it is 12 or 24; the smaller is what every machine must have."""
    return min(
        int(n) for n in re.findall(r"#define CHAINS (\d+)", (HERE / "flops.cpp").read_text())
    )


def run(binary: Path, plan: Plan, step: Callable[[float], None]) -> list[Line]:
    """Run one program; its lines of results. `step` hears the fraction done.

    Raises MachineFault when it crashes, hangs or is out of memory.
    """
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))
    }
    environment |= {"OMP_NUM_THREADS": str(plan.threads), "OMP_DYNAMIC": "false"}
    process = subprocess.Popen(
        [str(binary), *plan.arguments()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=_pin(plan.cpus),
    )
    overdue = threading.Timer(4 * plan.budget_s + 30, process.kill)
    overdue.start()
    try:
        lines = _read(process, step)
        complaint = process.stderr.read() if process.stderr else ""
        code = process.wait()
    finally:
        overdue.cancel()
        process.kill()
        process.wait()
    if code:
        said = complaint.strip().splitlines()[-1] if complaint.strip() else f"exit status {code}"
        raise MachineFault(f"the probe's program {binary.name} failed: {said}", _MEND)
    return lines


def merge(lines: Sequence[Line]) -> list[Line]:
    """Lines of the same quantity as one, with the values of all."""
    found: dict[str, Line] = {}
    for line in lines:
        key = json.dumps({k: v for k, v in line.items() if k != "values"}, sort_keys=True)
        known = found.setdefault(key, {**line, "values": []})
        known["values"] = [*known["values"], *line["values"]]
    return list(found.values())


def _pin(cpus: Sequence[int]) -> Callable[[], None] | None:
    """One hardware thread per core, where a core has several."""
    if not cpus or set(cpus) == os.sched_getaffinity(0):
        return None
    return lambda: os.sched_setaffinity(0, cpus)


def _read(process: subprocess.Popen[str], step: Callable[[float], None]) -> list[Line]:
    lines = []
    assert process.stdout is not None
    for text in process.stdout:
        line: Line = json.loads(text)
        if "progress" in line:
            step(float(line["progress"]))
        else:
            lines.append(line)
    return lines
