"""Machine: a place that has a Chip and can run things. It never decides what is good."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from epitaxy.chip import Chip
from epitaxy.errors import BadEnvironment, MachineFault
from epitaxy.problem import Problem
from epitaxy.record import FrozenDict, Record, make_callable, record
from epitaxy.toolchain import Availability


@record
class Job(Record):
    """What a worker process shall hold: a built candidate's folder, or a baseline by name.

    Exactly one of `folder` and `baseline` is set. `trusted` workers (baselines) are not confined.
    `environment` holds extra variables; `without` names guards that are off (judge.GUARDS);
    `fenced` asks for a process, not to be timed, that watches the ends of the outputs,
    `traced` for one that watches which operators of PyTorch run.
    """

    problem: Problem
    folder: str = ""
    baseline: str = ""
    environment: FrozenDict[str] = FrozenDict()
    threads: int = 0
    without: tuple[str, ...] = ()
    fenced: bool = False
    traced: bool = False


class WorkerFailure(Exception):
    """The code under test failed: `kind` is "crashed", "timeout" or "incorrect"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Worker(Protocol):
    """One warm process holding one callable, fed through shared memory, blocked when idle."""

    label: str

    def prepare(self, init: Sequence[Any], state: dict[str, Any]) -> None:
        """Construct the module from init arguments and load its parameters (arrays)."""

    def write(self, slot: int, inputs: Sequence[Any]) -> None:
        """Put inputs (arrays) into one of the shared input slots."""

    def burst(self, slots: Sequence[int]) -> float:
        """Run one call per entry of `slots`; seconds for the whole burst on the broker's clock.

        Outputs of all but the last call are dropped.
        """

    def outputs(self) -> list[Any]:
        """The outputs of the last call of the last burst, copied into the broker."""

    def inputs(self, slot: int) -> list[Any]:
        """What the slot holds now, to detect a callable that writes to its inputs."""

    def close(self) -> None:
        """End the process."""


class Machine(Protocol):
    """What a place must offer; `testing.MachineConformance` checks it."""

    name: str

    def chip(self) -> Chip:
        """The chip, measured when a probe has run here."""

    def fingerprint(self) -> FrozenDict[str]:
        """Hardware, system, compiler and library versions: what makes two runs comparable."""

    def start(self, job: Job) -> AbstractContextManager[Worker]:
        """A worker for `job`. Raises MachineFault or NoSandbox, never on a candidate's account."""


class Trusted:
    """A worker that runs no candidate, as a baseline's: what fails in it is the machine's fault.

    Everything else is the worker's own; `failed` says whether it can be used no more.
    """

    def __init__(self, worker: Any, name: str) -> None:
        self._worker, self._name = worker, name
        self.failed = False

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._worker, attribute)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return value(*args, **kwargs)
            except WorkerFailure as failure:
                self.failed = True
                raise MachineFault(
                    f"{self._name}: {failure.message}",
                    "free the machine of other work and run the same command again",
                ) from None

        return call


@runtime_checkable
class Accelerated(Protocol):
    """What a machine offers beside that is an accelerator of the one that Epitaxy runs on."""

    def present(self) -> Availability:
        """Whether it is here and can be used; cheaply, without raising."""

    def chip(self) -> Chip:
        """The accelerator."""


def accelerator(chip: str = "") -> Any:
    """The machine whose accelerator is here, is that chip (by its id, "" for any) and can be used;
    None without."""
    from epitaxy.plugin import plugins

    for name in plugins("machines").names():
        try:
            it = plugins("machines").get(name)
        except BadEnvironment:  # whoever opens a machine by its name is told
            continue
        if isinstance(it, Accelerated) and it.present().ok and chip in ("", it.chip().id):
            return it
    return None


def open_machine(name: str) -> Any:
    """The machine plugin called `name`: `epitaxy.machine("local")`.

    `local` is the accelerator of this machine where there is one, else its processors, which are
    `cpu` always.
    """
    from epitaxy.plugin import plugins

    found = accelerator() if name == "local" else None
    return found or plugins("machines").get(name)


make_callable(__name__, open_machine)
