"""Problem: what to compute, on which inputs, how exactly. It knows no chip and imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from epitaxy.errors import BadProblem
from epitaxy.precision import STRICT, precision
from epitaxy.record import FrozenDict, Record, make_callable, record

ITEM_BYTES: Mapping[str, int] = FrozenDict(
    float64=8, float32=4, bfloat16=2, float16=2, int64=8, int32=4, int16=2, int8=1, uint8=1, bool=1
)


SPECIALS = ("nan", "none", "all")
WEIGHTS = ("frozen", "live")


@record
class TensorSpec(Record):
    """One tensor of a problem: its shape (elements) and dtype (PyTorch's name, no prefix)."""

    shape: tuple[int, ...]
    dtype: str

    def validate(self) -> None:
        if self.dtype not in ITEM_BYTES:
            raise BadProblem(
                f"unsupported dtype {self.dtype}", f"use one of {', '.join(ITEM_BYTES)}"
            )
        if any(d < 1 for d in self.shape):
            raise BadProblem(
                f"a tensor of shape {self.shape} is empty", "give every dimension at least 1"
            )

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in bytes, contiguous."""
        return self.numel * ITEM_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@record
class Work(Record):
    """The least work a computation implies: contraction flops, and bytes that must move once.

    `dtype` is what most of these flops multiply; without any, what arithmetic is done in.
    """

    flops: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    dtype: str = "float32"

    @property
    def bytes(self) -> float:
        """Bytes that must cross the memory boundary at least once."""
        return self.bytes_read + self.bytes_written


@record
class Policy(Record):
    """What counts as the same answer and as a fair time.

    `precision` names one of `precision.toml`; `error_ratio` is how often the error of the
    reference itself is allowed; `weights`: copies of "frozen" ones may be kept until they change,
    "live" ones are read in every call; `special` says which special values are tried ("nan", "none"
    or "all": infinities too); `deterministic` refuses outputs that differ from call to call.
    """

    precision: str = STRICT
    weights: str = "frozen"
    libraries: tuple[str, ...] = ("torch",)
    error_ratio: float = 8.0
    special: str = "nan"
    deterministic: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what has not been asked for is left out, so that older digests hold."""
        data = super().to_dict()
        for name, usual in (("special", "nan"), ("deterministic", False)):
            if data[name] == usual:
                del data[name]
        return data

    def validate(self) -> None:
        if self.precision != STRICT:
            precision(self.precision)
        if self.special not in SPECIALS:
            raise BadProblem(
                f"unknown special values {self.special!r}", f"use one of {', '.join(SPECIALS)}"
            )
        if not isinstance(self.deterministic, bool):
            raise BadProblem("deterministic is not a truth value", "use true or false")
        if self.weights not in WEIGHTS:
            raise BadProblem(
                f"unknown weights policy {self.weights!r}", f"use {' or '.join(map(repr, WEIGHTS))}"
            )
        if not self.error_ratio >= 1:
            raise BadProblem(f"error_ratio {self.error_ratio} is below 1", "use 1 or more")


@record
class Problem(Record):
    """A reference computation with its input and output shapes, precision policy and work.

    `reference` names the plugin that can run `source`; `entry` is what it runs (`Model`, or a
    function's name). Scalars and other non-tensor inputs stand in `inputs` as None.
    """

    name: str
    reference: str
    source: str
    entry: str
    inputs: tuple[TensorSpec | None, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: tuple[TensorSpec, ...] = ()
    policy: Policy = Policy()
    work: Work = Work()

    def validate(self) -> None:
        if not self.outputs:
            raise BadProblem(
                f"{self.name} returns no tensor", "return a tensor or a tuple of tensors"
            )

    @property
    def working_set_bytes(self) -> int:
        """Inputs, parameters and outputs together."""
        specs = (*self.inputs, *self.parameters, *self.outputs)
        return sum(s.bytes for s in specs if s is not None)


class Reference(Protocol):
    """A problem brought to life, in the broker only: it makes inputs and expected outputs.

    Tensors are the reference's own kind (torch.Tensor for `torch`); outputs are always a list.
    """

    problem: Problem

    def inputs(self, seed: int, distribution: str = "given") -> list[Any]:
        """Fresh inputs of the problem's shapes, drawn with `seed` from a named distribution."""

    def distributions(self) -> Sequence[str]:
        """Names that `inputs` accepts for this problem; "given" (the file's own) is first."""

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The honest same-precision outputs."""

    def oracle(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs computed in float64."""

    def stir(self, seed: int) -> bool:
        """Give the parameters other values than a constructor's; False where that cannot be."""

    def lends(self) -> bool:
        """Whether its outputs lie in its inputs' memory, or where those of another call lie."""


def load(target: str | Path | Callable[..., Any], **options: Any) -> Problem:
    """A Problem from a file, `package.module:Name` or a decorated function.

    Raises BadProblem when the target cannot be loaded, run or judged.
    """
    from epitaxy.plugin import plugins

    reference = options.pop("reference", "torch_module")
    return plugins("references").get(reference).load(target, **options)  # type: ignore[no-any-return]


def open_reference(problem: Problem) -> Reference:
    """Bring `problem` to life through the plugin that its record names."""
    from epitaxy.plugin import plugins

    return plugins("references").get(problem.reference).open(problem)  # type: ignore[no-any-return]


BEARABLE_NUMEL = 1 << 16
"""Elements of all inputs and outputs together that an interpreter gets through in a second."""


def smaller(whole: Problem) -> Problem | None:
    """The same computation at sizes that an interpreter can bear; None where `whole` itself is
    small enough, or no smaller one can be made. The same for the same problem."""
    from epitaxy.plugin import plugins

    plugin = plugins("references").get(whole.reference)
    numel = sum(s.numel for s in (*whole.inputs, *whole.outputs) if s is not None)
    if numel <= BEARABLE_NUMEL or not hasattr(plugin, "smaller"):
        return None
    return plugin.smaller(whole, BEARABLE_NUMEL)  # type: ignore[no-any-return]


def problem(**inputs: tuple[Sequence[int], str]) -> Callable[[Any], Any]:
    """Mark a function as a problem: `@problem(x=((4096, 4096), "float32"))`, one per argument."""

    def mark(function: Any) -> Any:
        function.__epitaxy_inputs__ = dict(inputs)
        return function

    return mark


make_callable(__name__, problem)  # `epitaxy.problem` is this module and the decorator
