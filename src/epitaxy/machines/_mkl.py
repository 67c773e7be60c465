"""MKL's fast path on processors that are not Intel's: the preload library, and its effect here."""

from __future__ import annotations

import platform
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from epitaxy.compiler import find_compiler
from epitaxy.errors import EpitaxyError, MachineFault, NoCompiler
from epitaxy.machine import Job, WorkerFailure
from epitaxy.probe.host import cpu_field
from epitaxy.problem import Problem, TensorSpec
from epitaxy.record import digest_text
from epitaxy.toolchain import Availability

if TYPE_CHECKING:
    from epitaxy.machines.local import LocalMachine

SOURCE = Path(__file__).parent / "mkl_fast.c"
SIZE, PAIRS = 768, 21
SAME = 0.05
"""Speed-ups below this, with the same bits, count as no effect."""

_PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, a, b):
        return torch.mm(a, b)
"""


def applies() -> bool:
    """Whether MKL may be holding back here: an x86-64 processor that is not Intel's."""
    return platform.machine() == "x86_64" and cpu_field("vendor_id") != "GenuineIntel"


def build(home: Path) -> Path:
    """The preload library, built once into `home`. Raises NoCompiler or MachineFault."""
    text = SOURCE.read_text(encoding="utf-8")
    library = home / "mkl" / f"mkl_fast-{digest_text(text)[:12]}.so"
    if library.exists():
        return library
    compiler = find_compiler()
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            command = [compiler.path, "-x", "c", "-O2", "-fPIC", "-shared", str(SOURCE)]
            subprocess.run([*command, "-o", str(made)], check=True, capture_output=True, timeout=60)
            made.replace(library)
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineFault(f"cannot build {SOURCE.name}: {error}", f"check {compiler}") from None
    return library


def effect(machine: LocalMachine) -> Availability:
    """Whether the preload changes torch.mm here: timed in pairs, and compared bit by bit."""
    if not applies():
        return Availability(ok=False, detail="MKL takes its fast path on this processor by itself")
    try:
        return _measure(machine)
    except NoCompiler as error:
        return Availability(
            ok=False, detail=f"MKL's fast path cannot be had: {error.message}", mend=error.mend
        )
    except (EpitaxyError, WorkerFailure) as error:
        # Unknown is not absent: the baselines stay, and whatever fails is said when it does.
        return Availability(ok=True, detail=f"the effect of MKL's fast path was not seen: {error}")


def _measure(machine: LocalMachine) -> Availability:
    import torch

    spec = TensorSpec(shape=(SIZE, SIZE), dtype="float32")
    problem = Problem(
        name="mm",
        reference="torch_module",
        source=_PROBLEM,
        entry="Model",
        inputs=(spec, spec),
        outputs=(spec,),
    )
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(spec.shape, generator=generator) for _ in range(2)]
    plain, fast = Job(problem=problem, baseline="eager"), Job(problem=problem, baseline="eager+mkl")
    with machine.start(plain) as one, machine.start(fast) as other:
        for worker in (one, other):
            worker.prepare([], {})
            worker.write(0, inputs)
            worker.burst([0] * 3)
        ratios = [one.burst([0] * 2) / other.burst([0] * 2) for _ in range(PAIRS)]
        same_bits = torch.equal(one.outputs()[0], other.outputs()[0])
    gain = statistics.median(ratios)
    bits = "the same bits" if same_bits else "other bits"
    detail = (
        f"torch.mm of {SIZE} is {gain:.2f} times as fast with MKL's Intel check answered, {bits}"
    )
    if same_bits and abs(gain - 1) < SAME:
        return Availability(ok=False, detail=f"no effect on this processor: {detail}")
    return Availability(ok=True, detail=detail)
