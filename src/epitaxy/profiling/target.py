"""What is to be profiled: a recorded candidate, a folder of sources, or one C++ file."""

from __future__ import annotations

from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.errors import BadCandidate
from epitaxy.handmade import written
from epitaxy.problem import Problem

KERNEL = "region0"
"""The function that a single C++ file defines: `extern "C" void region0(const void* const* in,
void* const* out)`, tensors in the order of the problem's inputs and outputs."""


def from_cpp(file: Path, problem: Problem) -> Candidate:
    """A candidate for the whole problem from one C++ file that defines KERNEL.

    Raises BadCandidate for an unreadable file, and for problems with parameters or plain inputs.
    """
    from epitaxy.proposers.grower.algebra import Region
    from epitaxy.proposers.grower.forward import write_forward
    from epitaxy.proposers.grower.program import Program, RegionCall

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadCandidate(f"cannot read {file}: {error}", "give a readable C++ file") from None
    tensors = tuple(spec for spec in problem.inputs if spec is not None)
    if problem.parameters or len(tensors) < len(problem.inputs):
        raise BadCandidate(
            f"{problem.name} has parameters or inputs that are no tensors",
            "give a folder with forward.py beside the kernel",
        )
    region = Region(name=KERNEL, inputs=tensors, outputs=problem.outputs, stores=())
    given = tuple(f"x{n}" for n in range(len(tensors)))
    made = tuple(f"y{n}" for n in range(len(problem.outputs)))
    program = Program(
        inputs=given,
        state=(),
        steps=(RegionCall(region=region, args=given, results=made),),
        outputs=made,
        returns_tuple=len(made) > 1,
    )
    files = {"kernel.cpp": text, "forward.py": write_forward(program, problem)}
    return written(files, problem, intent=f"from {file.name}")
