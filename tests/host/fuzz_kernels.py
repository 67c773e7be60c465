"""Small honest kernels to be mutated: twenty grown, four written by hand.

Shapes are odd or prime, so that every loop has a remainder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epitaxy import mutate
from epitaxy.candidate import Candidate
from epitaxy.problem import Problem, load, open_reference
from epitaxy.record import FrozenDict

FOLDER = Path(__file__).with_name("fuzz_sources")
SOURCE = """
import torch
import torch.nn.functional as F

class Model(torch.nn.Module):
    def forward(self, {names}):
        return {value}

def get_inputs():
    T, R = torch.randn, torch.rand
    return [{inputs}]

def get_init_inputs():
    return []
"""
GENOMES: tuple[dict[str, int], ...] = (
    {},
    {"width": 16, "unroll": 1, "stash": 0, "split": 8, "sum": 2},
    {"width": 4, "unroll": 8, "tile": 16, "split": 4, "sum": 0, "lane": 1, "dynamic": 1},
    {"threads": 1, "grain": 64, "unroll": 2},
    {"split": 16, "online": 1, "unroll": 2, "stash": 0},
    {"windows": 1, "tile": 16, "unroll": 2},
    {"tile_m": 4, "tile_n": 2, "kc": 16, "mc": 16, "nc": 32, "pack_a": 1, "pack_b": 1},
)
GROWN: dict[str, tuple[str, str, int]] = {
    "chain": ("torch.tanh(x + y) * torch.sigmoid(x) - x.abs()", "T(5, 7, 33), T(33)", 0),
    "gelu": ("F.gelu(x)", "T(3, 1001)", 3),
    "softmax": ("torch.softmax(x, 1)", "T(9, 133)", 0),
    "softmax_columns": ("torch.softmax(x, 1)", "T(3, 17, 41)", 1),
    "log_softmax": ("F.log_softmax(x, -1)", "T(7, 53)", 2),
    "layer_norm": ("F.layer_norm(x, (97,), y, z)", "T(5, 7, 97), T(97), T(97)", 0),
    "rms_norm": (
        "x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5) * y.view(1, -1, 1)",
        "T(3, 13, 53), T(13)",
        1,
    ),
    "group_norm": ("F.group_norm(x, 3, y, z)", "T(3, 9, 7, 5), T(9), T(9)", 0),
    "l2_norm": ("x / x.norm(dim=1, keepdim=True)", "T(67, 131)", 3),
    "huber": ("F.smooth_l1_loss(x, y)", "T(61, 101), T(61, 101)", 1),
    "cosine": ("(1 - F.cosine_similarity(x, y, dim=1)).mean()", "T(23, 37), T(23, 37)", 0),
    "argmax": ("torch.argmax(x, 1)", "T(7, 71)", 0),
    "max_values": ("torch.max(x, dim=1)[0]", "T(5, 31, 23)", 2),
    "cumsum": ("torch.cumsum(x, 1)", "T(5, 643)", 0),
    "max_pool2d": ("F.max_pool2d(x, 3, 2, 1)", "T(2, 3, 25, 31)", 1),
    "avg_pool2d": ("F.avg_pool2d(x, 3, 2, 1, False, False)", "T(2, 3, 25, 31)", 0),
    "online_softmax": ("torch.softmax(x, 1)", "T(3, 1009)", 4),
    "separated_pool": ("F.avg_pool2d(x, 5, 1, 2)", "T(2, 3, 19, 37)", 5),
    "gemm": ("F.gelu(x @ y + z)", "T(37, 53), T(53, 61), T(61)", 6),
    "transpose": ("x.transpose(1, 2).contiguous() * 2 + y", "T(5, 7, 11), T(5, 11, 7)", 2),
}
WRITTEN: dict[str, tuple[str, str]] = {
    "row_sums": ("x.sum(1)", "T(67, 1301)"),
    "total": ("(x * x).sum()", "T(301, 331)"),
    "product": ("torch.relu(x @ y)", "T(37, 53), T(53, 41)"),
    "swish_max": ("(x * torch.sigmoid(x)).amax(1)", "T(61, 997)"),
}
STARTS = {"gemm": "// ---- contractions:"}
"""Where a kernel begins, if not at its exported function: its loops stand above."""
NAMES = (*GROWN, *WRITTEN)


def problem(name: str, folder: Path) -> Problem:
    """The problem of that kernel, its file written into `folder`."""
    value, inputs = (GROWN[name] if name in GROWN else WRITTEN[name])[:2]
    names = ", ".join("xyz"[: inputs.count("T(") + inputs.count("R(")])
    path = folder / f"{name}.py"
    path.write_text(SOURCE.format(names=names, value=value, inputs=inputs))
    return load(path)


def honest(name: str, problem: Problem) -> Candidate:
    """The kernel itself."""
    if name in WRITTEN:
        files = {
            "kernel.cpp": (FOLDER / f"{name}.cpp").read_text(),
            "forward.py": _forward(problem),
        }
        return _candidate(name, problem, files)
    from epitaxy.proposers.grower.emit import emit_source
    from epitaxy.proposers.grower.genome import Choices, Genome
    from epitaxy.proposers.grower.growth import grow_program

    growth = grow_program(open_reference(problem))
    choices = Choices(**GENOMES[GROWN[name][2]])
    genome = Genome(tuple((r.name, choices) for r in growth.regions))
    files = {"kernel.cpp": emit_source(growth.regions, genome), "forward.py": growth.forward}
    return _candidate(name, problem, files)


def mutants(name: str, honest: Candidate, count: int, seed: int) -> list[mutate.Mutant]:
    """At most `count` mutants of that kernel, drawn by `seed`."""
    text = honest.files["kernel.cpp"]
    return mutate.mutants(text, count, seed, STARTS.get(name, 'extern "C"'))


def _candidate(name: str, problem: Problem, files: dict[str, Any]) -> Candidate:
    return Candidate(
        problem=problem.digest,
        toolchain="cpp",
        files=FrozenDict(files),
        entry="forward.py",
        proposer="fuzz",
        intent=name,
    )


def _forward(problem: Problem) -> str:
    """The forward that hands the inputs to `region0` and returns its output."""
    (out,) = ((s.dtype, s.shape) for s in problem.outputs)
    ins = tuple((s.dtype, s.shape) for s in problem.inputs if s)
    names = ", ".join("xyz"[: len(ins)])
    return "\n".join(
        (
            "import torch",
            f"_region0 = _epitaxy_kernel('region0', inputs={len(ins)}, outputs=({out!r},))",
            "class ModelNew(Model):",
            f"    @_epitaxy_guarded(Model, inputs={ins!r})",
            f"    def forward({names}):",
            f"        result, = _region0({names})",
            "        return result",
            "",
        )
    )
