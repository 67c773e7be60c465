"""Write a candidate's `forward.py` from a captured program: regions between framework calls."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterator, Sequence
from typing import Any

from epitaxy.errors import BadCandidate
from epitaxy.problem import Problem, TensorSpec
from epitaxy.proposers.grower.program import FrameworkCall, Program, Ref, RegionCall

_ROOTS = ("torch", "operator", "_operator", "math")
_TORCH_NAMES = ("dtype", "device", "layout", "memory_format")
_TAKEN = ("self", "torch", "Model", "ModelNew", "_MADE_AS", *_ROOTS)


def write_forward(
    program: Program, problem: Problem, constants: Sequence[Any] = (), language: str = "C++"
) -> str:
    """The text of `forward.py`: one line for each step, guarded to the tuned shapes.

    In another language than C++ the regions are functions that stand before this text.
    `constants` holds the values of the problem's non-tensor inputs, in order; the kernel runs
    only when a call passes the same ones. Raises BadCandidate when one of them is not given or
    cannot be written down.
    """
    names = _Names(program)
    roots = {s.target.split(".")[0] for s in program.steps if isinstance(s, FrameworkCall)}
    imports = [f"import {root}\n" for root in sorted({"torch", *roots})]
    given = [name for name in program.inputs if name is not None]
    parameters = [names[v] for v in (*given, *(value for value, _ in program.state))]
    # What was captured on the CPU runs where the inputs are, unless it can run nowhere else.
    where = f"{parameters[0]}.device" if parameters and language != "C++" else ""
    body = [*_steps(program, names, where), _result(program, names)]
    return "".join(
        [
            *imports,
            "\n",
            *(_regions(program) if language == "C++" else ()),
            *_made_as(program),
            "\n\nclass ModelNew(Model):\n",
            *_docstring(program, language),
            *_constructor(program),
            "    @_epitaxy_guarded(\n        Model,\n",
            *_inputs(program, problem, constants),
            *_state(program),
            "    )\n",
            f"    def forward({', '.join(parameters)}):\n",
            *(f"        {line}\n" for line in body),
        ]
    )


class _Names:
    """Python identifiers for the program's values."""

    def __init__(self, program: Program) -> None:
        self._of: dict[str, str] = {}
        self._used = {*_TAKEN, *(_handle(r) for r in _distinct(program))}
        for name in _values(program):
            self[name]

    def __getitem__(self, value: str) -> str:
        if value not in self._of:
            plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in value)
            plain = plain if plain and not plain[0].isdigit() else f"v{plain}"
            while plain in self._used or keyword.iskeyword(plain) or plain.startswith("_epitaxy"):
                plain = f"v{plain}" if plain.startswith("_") else f"{plain}_"
            self._used.add(plain)
            self._of[value] = plain
        return self._of[value]


def _values(program: Program) -> Iterator[str]:
    yield from (name for name in program.inputs if name is not None)
    yield from (value for value, _ in program.state)
    for step in program.steps:
        yield from step.results


def _distinct(program: Program) -> list[Any]:
    """The program's regions, each once, in order."""
    return list(
        {s.region.name: s.region for s in program.steps if isinstance(s, RegionCall)}.values()
    )


def _handle(region: Any) -> str:
    return f"_{region.name}"


def _regions(program: Program) -> Iterator[str]:
    for region in _distinct(program):
        made = "".join(f"({s.dtype!r}, {s.shape!r}), " for s in region.outputs)
        made = made.rstrip(" ") if len(region.outputs) == 1 else made.rstrip(", ")
        yield f"# {region.name} replaces: {', '.join(region.source) or 'nothing named'}\n"
        yield (
            f"{_handle(region)} = _epitaxy_kernel(\n    {region.name!r}, "
            f"inputs={len(region.inputs)}, outputs=({made})"
            f"{', refuses=True' if region.refuses else ''}"
            f"{f', weights={region.weights!r}' if region.weights else ''}\n)\n"
        )


def _docstring(program: Program, language: str) -> Iterator[str]:
    grown = ", ".join(r.name for r in _distinct(program)) or "nothing"
    yield f'    """Model with its forward grown: {grown} in {language}.\n\n'
    yield f"    Stays with PyTorch: {', '.join(program.left) or 'nothing'}.\n"
    yield '    """\n\n'


def _made_as(program: Program) -> Iterator[str]:
    if not program.made_as:
        return
    yield "\n# How the reference was made: path, class, names of tensors, attributes.\n"
    yield "_MADE_AS = (\n"
    yield from (f"    {_plain(part)},\n" for part in program.made_as)
    yield ")\n"


def _constructor(program: Program) -> Iterator[str]:
    """What is made otherwise than what was tuned is the reference."""
    if program.made_as:
        yield "    def __init__(self, *args, **kwargs):\n"
        yield "        super().__init__(*args, **kwargs)\n"
        yield "        _epitaxy_made(self, Model, _MADE_AS)\n\n"


def _inputs(program: Program, problem: Problem, constants: Sequence[Any]) -> Iterator[str]:
    if len(program.inputs) != len(problem.inputs):
        raise BadCandidate(
            f"the program takes {len(program.inputs)} inputs, {problem.name} {len(problem.inputs)}",
            "capture the problem again",
        )
    rest = list(constants)
    yield "        inputs=(\n"
    for name, spec in zip(program.inputs, problem.inputs, strict=True):
        if name is not None and spec is not None:
            yield f"            ({spec.dtype!r}, {spec.shape!r}),\n"
        elif name is None and spec is None and rest:
            yield f'            ("value", {_plain(rest.pop(0))}),\n'
        else:
            raise BadCandidate(
                f"an input of {problem.name} is a plain value that is not known",
                "give its value in `constants`",
            )
    yield "        ),\n"


def _state(program: Program) -> Iterator[str]:
    if not program.state:
        return
    specs: dict[str, TensorSpec] = {}
    for step in program.steps:
        if isinstance(step, RegionCall):
            specs |= dict(zip(step.args, step.region.inputs, strict=True))
    yield "        state=(\n"
    for value, path in program.state:
        spec = specs.get(value)
        guard = f"{spec.dtype!r}, {spec.shape!r}" if spec else "None, None"
        yield f"            ({path!r}, {guard}),\n"
    yield "        ),\n"


def _steps(program: Program, names: _Names, where: str = "") -> Iterator[str]:
    """`where` is the device of what framework calls make; "" for the one that was captured."""
    last = _last_uses(program)
    for number, step in enumerate(program.steps):
        results = ", ".join(names[r] for r in step.results)
        if isinstance(step, RegionCall):
            arguments = ", ".join(names[a] for a in step.args)
            comma = "," if len(step.results) == 1 else ""
            yield f"{results}{comma} = {_handle(step.region)}({arguments})"
        else:
            yield f"{results} = {_call(step, names, where)}"
        dead = [names[v] for v in last.get(number, ())]
        if dead:  # give the memory back while it is still warm
            yield f"del {', '.join(dead)}"


def _last_uses(program: Program) -> dict[int, list[str]]:
    """Step number -> values made by earlier steps that nothing needs after it."""
    used: dict[str, int] = {}
    for number, step in enumerate(program.steps):
        for name in (*step.results, *_reads(step)):
            used[name] = number
    made = {r for step in program.steps for r in step.results}
    order: dict[int, list[str]] = {}
    for name, number in used.items():
        if name in made and name not in program.outputs and number + 1 < len(program.steps):
            order.setdefault(number, []).append(name)
    return order


def _reads(step: RegionCall | FrameworkCall) -> Iterator[str]:
    if isinstance(step, RegionCall):
        yield from step.args
        return
    stack: list[Any] = [step.args, [v for _, v in step.kwargs]]
    while stack:
        tree = stack.pop()
        if isinstance(tree, Ref):
            yield tree.name
        elif isinstance(tree, list | tuple):
            stack.extend(tree)
        elif isinstance(tree, dict):
            stack.extend(tree.values())


def _call(step: FrameworkCall, names: _Names, where: str) -> str:
    parts = step.target.split(".")
    if parts[0] not in _ROOTS or not all(p.isidentifier() for p in parts):
        raise BadCandidate(f"cannot call {step.target!r}", f"name something in {', '.join(_ROOTS)}")
    arguments = [_plain(a, names) for a in step.args]
    arguments += [
        f"{key}={where if where and key == 'device' and value else _plain(value, names)}"
        for key, value in step.kwargs
    ]
    return f"{step.target}({', '.join(arguments)})"


def _plain(value: Any, names: _Names | None = None) -> str:
    """`value` as Python text. Raises BadCandidate when it has none."""
    if isinstance(value, Ref) and names is not None:
        return names[value.name]
    if isinstance(value, tuple):
        return f"({', '.join(_plain(v, names) for v in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(_plain(v, names) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {_plain(v, names)}' for k, v in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value!r}")'
    if value is None or isinstance(value, bool | int | float | str | complex):
        return repr(value)
    if isinstance(value, slice):
        ends = (_plain(v, names) for v in (value.start, value.stop, value.step))
        return f"slice({', '.join(ends)})"
    if type(value).__module__ == "torch" and type(value).__name__ in _TORCH_NAMES:
        text = repr(value)
        return text if text.startswith("torch.") else f"torch.{text}"
    raise BadCandidate(f"cannot write a {type(value).__name__} into forward.py", "leave it out")


def _result(program: Program, names: _Names) -> str:
    outputs = [names[o] for o in program.outputs]
    if len(outputs) == 1 and not program.returns_tuple:
        return f"return {outputs[0]}"
    return f"return ({', '.join(outputs)}{',' if len(outputs) == 1 else ''})"
