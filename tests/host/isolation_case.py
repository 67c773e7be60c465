"""Hostile kernels for the tests of the jail: real C++, built by the toolchain, run by a worker."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from epitaxy.candidate import Candidate
from epitaxy.machine import Job
from epitaxy.machines.local import LocalMachine
from epitaxy.problem import Problem, TensorSpec
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.forward import write_forward
from epitaxy.proposers.grower.program import Program, RegionCall
from epitaxy.toolchain import Build
from epitaxy.toolchains.cpp import Cpp

SOURCES = Path(__file__).parent / "isolation_sources"
IN, OUT = TensorSpec(shape=(128,), dtype="int64"), TensorSpec(shape=(2,), dtype="int64")
PROBLEM = Problem(
    name="attempts",
    reference="torch_module",
    source="import torch\nclass Model(torch.nn.Module):\n    def forward(self, x): return x[:2]\n",
    entry="Model",
    inputs=(IN,),
    outputs=(OUT,),
)


def forward_of(problem: Problem) -> str:
    """The forward file that calls one kernel, `region0`, for the whole problem."""
    tensors = tuple(spec for spec in problem.inputs if spec is not None)
    region = Region(name="region0", inputs=tensors, outputs=problem.outputs, stores=(), source=())
    names = tuple(f"x{i}" for i in range(len(tensors)))
    program = Program(
        inputs=names,
        state=(),
        steps=(RegionCall(region=region, args=names, results=("y",)),),
        outputs=("y",),
        left=(),
    )
    return write_forward(program, problem)


def hostile(source: str, **more: str) -> Candidate:
    """A candidate whose kernel is `source` (its text, or the name of a file in SOURCES)."""
    text = source if "\n" in source else (SOURCES / source).read_text(encoding="utf-8")
    return Candidate(
        problem=PROBLEM.digest,
        toolchain="cpp",
        files={"kernel.cpp": text, "forward.py": forward_of(PROBLEM), **more},
        entry="forward.py",
        proposer="test",
    )


def built(source: str, cache: Path) -> Build:
    """It built below the static checks, which would refuse it."""
    build = Cpp().build(hostile(source), PROBLEM, cache)
    assert build.ok, build.log
    return build


def question(machine: LocalMachine, secret: torch.Tensor, name: str, path: str) -> torch.Tensor:
    """The input that asks for one attempt; see isolation_sources/attempts.cpp."""
    head = struct.pack("<8q", os.getpid(), machine.zygote().pid, secret.data_ptr(), *[0] * 5)
    text = head + name.encode() + b"\0" + path.encode() + b"\0"
    return torch.frombuffer(bytearray(text.ljust(128 * 8, b"\0")), dtype=torch.int64)


class Attacker:
    """A worker that holds hostile code; a lost one is started again."""

    def __init__(self, machine: LocalMachine, build: Build, without: tuple[str, ...] = ()) -> None:
        self.machine, self.build, self.without = machine, build, without
        self.secret = torch.full((1,), 0x5EC2E7)
        self._worker: Any = None

    def ask(self, name: str, path: str = "/etc/passwd") -> tuple[int, int]:
        """(0 or the error number, detail). Raises WorkerFailure when the worker did not survive."""
        worker = self.worker()
        try:
            worker.write(0, [question(self.machine, self.secret, name, path)])
            worker.burst([0])
            code, detail = worker.outputs()[0].tolist()
        except BaseException:
            self.close()
            raise
        assert code >= 0, f"no attempt is called {name!r}"
        return code, detail

    def worker(self) -> Any:
        """The live worker."""
        if self._worker is None:
            job = Job(problem=PROBLEM, folder=self.build.folder, without=self.without)
            self._worker = self.machine.open(job)
            self._worker.prepare([], {})
        return self._worker

    def close(self) -> None:
        """End it."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


@contextlib.contextmanager
def attacker(machine: LocalMachine, build: Build, **more: Any) -> Iterator[Attacker]:
    """An Attacker for a block."""
    made = Attacker(machine, build, **more)
    try:
        yield made
    finally:
        made.close()
