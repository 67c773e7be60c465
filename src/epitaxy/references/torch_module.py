"""Problems written in PyTorch: KernelBench files, module classes, decorated functions."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from epitaxy.errors import BadProblem
from epitaxy.precision import Precision
from epitaxy.problem import Problem, Work
from epitaxy.references._compare import error as _error
from epitaxy.references._examine import examine
from epitaxy.references._inputs import (
    DISTRIBUTIONS,
    INDICES,
    SPECIAL,
    blend,
    nudged,
    transform,
    unseen,
)
from epitaxy.references._live import Live, line, spec
from epitaxy.references._memory import out_of_memory
from epitaxy.references._narrow import narrowing, rounded
from epitaxy.references._small import smaller
from epitaxy.references._source import find, policy_beside
from epitaxy.references._tensors import cloned, floats, same
from epitaxy.references._trials import Trials
from epitaxy.references._weights import stirred
from epitaxy.references._wide import widen, widening
from epitaxy.worker.loading import flatten

CHECK_SEED = 20_011
FEW, TRIALS = 64, 5
"""With fewer output elements than FEW, the effect of rounding is the largest of TRIALS trials."""
ALONE_BYTES = 16 << 20
"""Working sets up to this are handled by one thread while something is timed."""


def plugin() -> TorchModules:
    """The reference plugin named `torch_module`."""
    return TorchModules()


class TorchModules:
    """Loads PyTorch problems and brings them to life."""

    name = "torch_module"

    def load(self, target: str | Path | Callable[..., Any], **options: Any) -> Problem:
        """A Problem, tried out: it runs, is deterministic, finite and leaves its inputs alone.

        `policy` takes the place of the file's own; other options change one field of it each.
        Raises BadProblem with the mend.
        """
        name, source, entry, path = find(target)
        live = Live(name, source, entry)
        policy = options.pop("policy", None) or policy_beside(path)
        known = {f.name for f in dataclasses.fields(policy)}
        for option in options:
            if option not in known:
                raise BadProblem(f"unknown option {option!r}", f"known: {', '.join(sorted(known))}")
        policy = policy.replace(**options)
        given = live.given(CHECK_SEED)
        outputs = examine(live, given)
        parameters = tuple(spec(t) for t in live.state().values() if t.numel())
        inputs = tuple(spec(x) if isinstance(x, torch.Tensor) else None for x in given)
        flops, read, multiplied = live.work(given)
        return Problem(
            name=name,
            reference=self.name,
            source=source,
            entry=live.entry,
            inputs=inputs,
            outputs=tuple(spec(t) for t in outputs),
            parameters=parameters,
            policy=policy,
            work=Work(
                flops=flops,
                bytes_read=read,
                bytes_written=float(sum(spec(t).bytes for t in outputs)),
                dtype=multiplied or _arithmetic(outputs[0].dtype),
            ),
        )

    def smaller(self, problem: Problem, most_numel: int) -> Problem | None:
        """The same module on inputs cut down to about `most_numel` elements; None where that
        cannot be."""
        return smaller(problem, self.open(problem), most_numel)

    def open(self, problem: Problem) -> TorchReference:
        """The problem's reference, alive in this process."""
        return TorchReference(problem, Live(problem.name, problem.source, problem.entry))


class TorchReference:
    """Makes inputs, honest outputs and float64 outputs. Tensors are on the CPU."""

    def __init__(self, problem: Problem, live: Live) -> None:
        self.problem = problem
        self.model = live.callable
        self._live = live
        self._double: Any = None
        self._lends: bool | None = None
        self._wide = True
        self._fixed: list[bool] | None = None
        self.notes: list[str] = []

    def distributions(self) -> Sequence[str]:
        """Names that `inputs` accepts; "given", the file's own, is first."""
        specs = [s for s in self.problem.inputs if s is not None]
        floats = any(s.dtype.startswith(("float", "bf")) for s in specs)
        integers = any("int" in s.dtype and s.numel > 1 for s in specs)
        found = [*(DISTRIBUTIONS if floats else DISTRIBUTIONS[:1]), *(INDICES if integers else ())]
        return [d for d in found if d != SPECIAL or self.problem.policy.special != "none"]

    def inputs(self, seed: int, distribution: str = "given") -> list[Any]:
        """Fresh inputs: the file's own under `seed`, or redrawn within their domain."""
        given = self._live.given(seed)
        if distribution == "given":
            return given
        if self._fixed is None:
            self._fixed = [
                isinstance(x, torch.Tensor) and x.shape == y.shape and same(x, y)
                for x, y in zip(given, self._live.given(seed + 1), strict=True)
            ]
        special = self.problem.policy.special
        return transform(given, distribution, seed + 1, self._fixed, special)

    def blend(self, first: Sequence[Any], second: Sequence[Any], seed: int) -> list[Any]:
        """`first` with a short stretch of each tensor from `second`, at a place set by `seed`."""
        return blend(first, second, seed)

    def unseen(self, first: Sequence[Any], second: Sequence[Any], seed: int) -> list[Any]:
        """Inputs that differ from both, set by `seed`; for timing only."""
        return unseen(first, second, seed)

    def trials(self) -> Trials:
        """What lint asks of a reference."""
        return Trials(self._live)

    def init_arguments(self) -> list[Any]:
        """What the module is constructed from."""
        return self._live.init

    def state(self) -> dict[str, Any]:
        """Parameters and buffers by name."""
        return self._live.state()

    def lends(self) -> bool:
        """Whether its outputs lie in its inputs' memory, or where those of another call lie."""
        if self._lends is None:
            self._lends = self._shares_memory()
        return self._lends

    def _shares_memory(self) -> bool:
        given = cloned(self._live.given(CHECK_SEED))
        with torch.no_grad():
            first, second = flatten(self.model(*given)), flatten(self.model(*given))
        kept = {x.untyped_storage().data_ptr() for x in (*given, *first) if torch.is_tensor(x)}
        return any(x.untyped_storage().data_ptr() in kept for x in second)

    def stir(self, seed: int) -> bool:
        """Give the parameters other values; False where there are none or the outputs suffer."""
        new = stirred(self.model, seed) if isinstance(self.model, torch.nn.Module) else {}
        if not new:
            return False
        old = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(new, strict=False)
        self._double = None
        if all(bool(torch.isfinite(x).all()) for x in self.run(self._live.given(seed))):
            return True
        self.model.load_state_dict(old)
        return False

    @contextlib.contextmanager
    def other_parameters(self, seed: int) -> Iterator[bool]:
        """For a while it has other parameters; what is given says whether it does."""
        old = {name: value.clone() for name, value in self.state().items()}
        try:
            yield self.stir(seed)
        finally:
            if old:
                self.model.load_state_dict(old)
                self._double = None

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The reference's own outputs, in its own precision."""
        with torch.no_grad():
            return flatten(self.model(*cloned(inputs)))

    def narrow(self, inputs: Sequence[Any], to: Precision) -> list[Any]:
        """The reference's outputs when operands are rounded as the policy `to` permits."""
        with torch.no_grad(), narrowing(to):
            outputs = flatten(self.model(*cloned(inputs)))
        return [rounded(t, to) for t in outputs] if to.operands == "all" else outputs

    def oracle(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs in float64; where that cannot run, the honest ones, and a note says so."""
        if not self._wide:
            return self.run(inputs)
        wide = [x.double() if floats(x) else x for x in cloned(inputs)]
        try:
            if self._double is None:
                self._double = widen(self.model)
            with torch.no_grad(), widening():
                return flatten(self._double(*wide))
        except Exception as error:
            if out_of_memory(error):
                raise
            honest = self.run(inputs)  # if this fails too, the inputs are to blame
            self._wide = False
            self.notes.append(
                f"no float64 oracle ({line(error)[:100]}): errors are against the reference itself,"
                " limits from what rounding its inputs moves"
            )
            return honest

    def error(
        self,
        outputs: Sequence[Any],
        exact: Sequence[Any],
        honest: Sequence[Any],
        enough: float = math.inf,
    ) -> float:
        """Worst normalised error of `outputs` against `exact`.

        error = max |out - exact| / (|exact| + rms(exact)) over all elements of all outputs; inf
        where NaN or infinities differ from both exact and honest. Integers and booleans must
        equal the exact or the honest value: error is inf where they equal neither. Once an error
        is more than `enough`, the rest of that output is not looked at.
        """
        triples = zip(outputs, exact, honest, strict=True)
        return max(_error(o, e, h, enough) for o, e, h in triples)

    def float_error(
        self, outputs: Sequence[Any], exact: Sequence[Any], honest: Sequence[Any]
    ) -> float:
        """`error` over the outputs that are floats; 0.0 when none is."""
        triples = zip(outputs, exact, honest, strict=True)
        return max((_error(o, e, h) for o, e, h in triples if floats(h)), default=0.0)

    def movement(self, inputs: Sequence[Any], exact: Sequence[Any], honest: Sequence[Any]) -> float:
        """How far rounding the inputs alone moves the exact outputs: an error as in `error`.

        A backward stable implementation errs about so much, whatever its order of summation:
        N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 1.6.
        Where the reference cannot run in float64, a rounding in its own precision stands for it.
        """
        # The largest of many elements is steady; of a few it takes several trials.
        few = sum(h.numel() for h in honest) < FEW or not self._wide
        found = [0.0]
        for trial in range(TRIALS if few else 1):
            moved = self.oracle(nudged(inputs, trial, self._wide))
            pairs = [t for t in zip(moved, exact, honest, strict=True) if floats(t[2])]
            found += [_error(m.to(h.dtype), e, h) for m, e, h in pairs]
        return max(x for x in found if math.isfinite(x))

    def unusable(self, exact: Sequence[Any], honest: Sequence[Any], distribution: str) -> str:
        """Why inputs with these outputs cannot judge anybody ("" when they can)."""
        for e, h in zip(exact, honest, strict=True):
            if floats(h) and distribution == SPECIAL:
                if not torch.equal(torch.isfinite(h), torch.isfinite(e)):
                    return "float32 and float64 disagree on where NaN stands"
                if not bool(torch.isfinite(h).any()):
                    return "every output is NaN"
            elif floats(h) and not (
                bool(torch.isfinite(h).all()) and bool(torch.isfinite(e).all())
            ):
                return "the reference itself gives NaN or infinity"
            if floats(h) and not bool((e != 0).any()):
                return "the reference gives nothing but zeros"
            if floats(h) and not bool((e.abs() > _vanishing(h.dtype)).any()):
                return "the outputs vanish below the range of their dtype"
        return ""

    def fingerprint(self, outputs: Sequence[Any]) -> tuple[int, ...]:
        """A number for the bits of each tensor, for telling repetitions apart: CRC-32."""
        flat = (t.contiguous().reshape(-1).view(torch.uint8) for t in outputs)
        return tuple(zlib.crc32(memoryview(t.numpy())) for t in flat)

    @contextlib.contextmanager
    def beside_timing(self) -> Iterator[None]:
        """Inside, the broker handles small tensors with one thread.

        The other threads of a team spin on for milliseconds beside what is timed, and on a busy
        machine every copy waits for them (22 ms of processor time for 400 kB at a load of 25).
        """
        before = torch.get_num_threads()
        if self.problem.working_set_bytes <= ALONE_BYTES:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def same(self, a: Sequence[Any], b: Sequence[Any]) -> bool:
        """Whether two lists of tensors hold the same bits (NaN equals itself)."""
        return all(same(x, y) for x, y in zip(a, b, strict=True))


def _arithmetic(dtype: torch.dtype) -> str:
    """What arithmetic without products is done in."""
    return str(dtype).removeprefix("torch.") if dtype.is_floating_point else "float32"


def _vanishing(dtype: torch.dtype) -> float:
    """Outputs so small that honest code may flush what they are made of to zero.

    float16 is short of range, so that its subnormals are ordinary results.
    """
    return 0.0 if dtype == torch.float16 else 1e6 * torch.finfo(dtype).tiny
