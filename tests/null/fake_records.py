"""Realistic records for tests of what the user sees; nothing here was measured."""

from __future__ import annotations

import random

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip, Level
from epitaxy.metric import Profile, Profiled, metrics_of
from epitaxy.problem import Problem, TensorSpec, Work
from epitaxy.report import Run
from epitaxy.verdict import Comparison, ErrorRow, Finding, Floor, Verdict

SPEC = TensorSpec(shape=(2048, 4096), dtype="float32")
KERNEL = """#include <cmath>
extern "C" void rows(const void* const* in, void* const* out) {{
  const float* x = static_cast<const float*>(in[0]);
  float* y = static_cast<float*>(out[0]);
#pragma omp parallel for
  for (long i = 0; i < 2048L * 4096; i += {step}) y[i] = std::exp(x[i]);
}}
"""
CHIP = Chip(
    id="local",
    name="AMD EPYC <4 cores>",
    vendor="amd",
    kind="cpu",
    measured=True,
    cores=4,
    vector_bytes=32,
    peak_flops_per_s={"float32": 3.1e11, "float64": 1.5e11},
    levels=(
        Level(name="L1", bytes=32 << 10, read_bytes_per_s=9e11, latency_s=1e-9),
        Level(name="L2", bytes=512 << 10, read_bytes_per_s=5e11, latency_s=4e-9),
        Level(name="memory", bytes=16 << 30, read_bytes_per_s=4.2e10, latency_s=1e-7),
    ),
)


def problem(
    flops: float = 0.0, name: str = "row softmax", source: str = "class Model: ...\n"
) -> Problem:
    half = float(SPEC.bytes)
    return Problem(
        name=name,
        reference="torch_module",
        source=source,
        entry="Model",
        inputs=(SPEC, None),
        outputs=(SPEC,),
        work=Work(flops=flops, bytes_read=half, bytes_written=half),
    )


def candidate(of: Problem, step: int, parents: tuple[str, ...] = (), kernel: str = "") -> Candidate:
    return Candidate(
        problem=of.digest,
        toolchain="cpp",
        files={
            "kernel.cpp": kernel or KERNEL.format(step=step),
            "forward.py": "def forward(self, x): ...\n",
        },
        entry="forward.py",
        proposer="grower",
        intent=f"unroll {step}",
        genome=f"unroll={step}\nvector=8",
        parents=parents,
        regions=("softmax",),
        left=("view",),
    )


def profiled(of: Candidate, machine: str = "a machine", **values: float) -> Profiled:
    """A profile that was kept: denormals cost two thirds of the time."""
    known = {"ablation.denormals_flushed.time_ratio": 0.31,
             "ablation.denormals_flushed.low": 0.3, "ablation.denormals_flushed.high": 0.35,
             **values}  # fmt: skip
    profile = Profile(
        kernel=of.id, family="cpu", source="profile", time_s=1e-3,
        metrics=metrics_of(known, "ablation"), unreadable={"ablation.streaming.time_ratio": "none"},
    )  # fmt: skip
    return Profiled(
        candidate=of.digest, problem=of.problem, machine=machine, profile=profile,
        loop="a loop", taken_unix_s=1e9,
    )  # fmt: skip


def accepted(of: Candidate, time_s: float, speedups: dict[str, float] | None = None) -> Verdict:
    """`speedups`: baseline name to speed-up; each interval is ±3 %."""
    noise = random.Random(of.digest)
    wanted = {"eager": 2.1, "compile max-autotune": 1.8} if speedups is None else speedups

    def draws(middle: float) -> list[float]:
        return [middle * noise.lognormvariate(0, 0.05) for _ in range(200)]

    def row(name: str, speedup: float) -> Comparison:
        low, high = speedup * 0.97, speedup * 1.03
        outcome = "faster" if low > 1 else "slower" if high < 1 else "no evidence"
        return Comparison(
            baseline=name,
            time_s=time_s * speedup,
            speedup=speedup,
            low=low,
            high=high,
            outcome=outcome,
            detectable=0.012,
            pairs=200,
        )

    return Verdict(
        candidate=of.digest,
        problem=of.problem,
        machine="local-1",
        plan="full",
        status="accepted",
        errors=(
            ErrorRow(distribution="given", error=2.1e-7, honest=1.9e-7, limit=1.5e-6),
            ErrorRow(distribution="large", error=4.0e-7, honest=2.2e-7, limit=1.7e-6),
        ),
        time_s=time_s,
        samples={"candidate": draws(time_s), **{k: draws(time_s * v) for k, v in wanted.items()}},
        comparisons=tuple(row(name, value) for name, value in wanted.items()),
        floor=Floor(time_s=1.6e-3, limit="memory", compute_s=1e-5, memory_s=1.6e-3, measured=True),
        metrics={"instructions": 4321.0},
        findings=(Finding(check="timing", severity="note", message="one round was dropped"),),
        build_log="kernel.cpp: built",
    )


def refused(of: Candidate, message: str = "writes outside its output") -> Verdict:
    finding = Finding(check="bounds", severity="refusal", message=message, mend="write less")
    return Verdict(
        candidate=of.digest,
        problem=of.problem,
        machine="local-1",
        plan="full",
        status="refused",
        reason=message,
        findings=(finding,),
    )


def run(count: int = 12, flops: float = 0.0, speedups: dict[str, float] | None = None) -> Run:
    """A search of `count` candidates, every fifth refused; the best has a judged parent."""
    of = problem(flops)
    judged: list[tuple[Candidate, Verdict]] = []
    for step in range(1, count + 1):
        new = candidate(of, step, parents=(judged[-1][0].digest,) if judged else ())
        time_s = 4e-3 / (1 + 0.07 * step)
        judged.append((new, refused(new) if step % 5 == 0 else accepted(new, time_s, speedups)))
    kept = [pair for pair in judged if pair[1].accepted]
    best = min(kept, key=lambda pair: pair[1].time_s or 1.0, default=None)
    facts = {"cpu": "AMD EPYC", "compiler": "g++ 12.2"}
    return Run(
        problem=of,
        judged=judged,
        best=best,
        chip=CHIP,
        stop_reason="no move helps",
        fingerprint=facts,
    )
