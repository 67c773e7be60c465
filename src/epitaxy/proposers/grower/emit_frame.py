"""What a region's C++ function has around its own statements: its arguments, head and end."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.problem import TensorSpec
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.emit_expr import STORAGE, Unsupported, indent
from epitaxy.proposers.grower.genome import Choices


def storage(dtype: str) -> str:
    """The C++ type of an element in memory. Raises Unsupported."""
    if dtype not in STORAGE:
        raise Unsupported(f"{dtype} tensors")
    return STORAGE[dtype]


def given(number: int, spec: TensorSpec) -> str:
    """The pointer to an input, x0 and so on. Raises Unsupported."""
    T = storage(spec.dtype)
    return f"const {T}* const x{number} = static_cast<const {T}*>(in[{number}]);  // {spec}"


def made(number: int, spec: TensorSpec) -> str:
    """The pointer to an output, y0 and so on. Raises Unsupported."""
    T = storage(spec.dtype)
    return f"{T}* const y{number} = static_cast<{T}*>(out[{number}]);  // {spec}"


def arguments(region: Region) -> tuple[list[str], dict[int, tuple[str, str]]]:
    """Statements that name all inputs and outputs, and refuse integers beyond their lanes; names
    and dtypes of the inputs' buffers. Raises Unsupported."""
    buffers, lines = {}, []
    for i, spec in enumerate(region.inputs):
        buffers[i] = (f"x{i}", spec.dtype)
        lines += [given(i, spec), f"(void)x{i};"]
        if spec.dtype == "int64":
            lines.append(f"if (epx::beyond(x{i}, {spec.numel})) return 1;  // 32-bit lanes")
    lines += [made(i, spec) for i, spec in enumerate(region.outputs)]
    return lines, buffers


def lanes(choices: Choices) -> list[str]:
    """The vectors of floats and of integers that statements are written over."""
    return [f"using V = epx::vf<{choices.width}>;", f"using VI = epx::vi<{choices.width}>;"]


def function(
    region: Region, choices: Choices, lines: Sequence[str], refuses: bool, before: str | None = None
) -> str:
    """The whole function of a region from its statements; with `refuses` it returns 0, or 1 from a
    statement of its own. `before` stands between what is said of it and the function."""
    head = f"// {region.name} replaces {', '.join(region.source) or 'a region'}\n// {choices}"
    head += "".join(f"\n// rewritten: {rule}" for rule in region.algebra)
    returns, end = ("int", ["return 0;"]) if refuses else ("void", [])
    signature = f'extern "C" {returns} {region.name}(const void* const* in, void* const* out) {{'
    parts = [
        head,
        *([] if before is None else [before]),
        signature,
        *indent([*lines, *end]),
        "}",
        "",
    ]
    return "\n".join(parts)
