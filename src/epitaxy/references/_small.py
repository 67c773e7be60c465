"""The same module on smaller inputs, for interpreters: sizes are halved while it still runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from epitaxy.problem import Problem, TensorSpec

LEAST = 32
"""A size that is larger to begin with is not halved below this, a smaller one not below 2."""
SMALLER = '''

_epitaxy_whole_inputs = get_inputs


def get_inputs():
    """The reference's own inputs, cut down to {shapes}."""
    shapes = {shapes!r}
    given = _epitaxy_whole_inputs()
    return [
        x if s is None else x[tuple(slice(n) for n in s)].clone() for x, s in zip(given, shapes)
    ]
'''


def smaller(problem: Problem, reference: Any, most_numel: int) -> Problem | None:
    """`problem` cut down to `most_numel` elements of inputs and outputs, as far as its module runs.

    Equal sizes stay equal, since the module may rely on it. None when nothing can be cut.
    """
    if "def get_inputs" not in problem.source:
        return None
    given = reference.inputs(0)
    sizes = {n for x in given if isinstance(x, torch.Tensor) for n in x.shape if n > 2}
    new = {n: n for n in sizes}
    fixed: set[int] = set()
    outputs = _outputs(reference, given)
    while outputs is not None and _numel(_cut(given, new)) + _numel(outputs) > most_numel:
        taken = set(new.values())  # different sizes stay different: the module may tell them apart
        free = [n for n in sizes if n not in fixed and _halved(n, new[n], taken)]
        if not free:
            break
        largest = max(free, key=lambda n: (new[n], n))
        tried = {**new, largest: new[largest] // 2}
        made = _outputs(reference, _cut(given, tried))
        if made is None:
            fixed.add(largest)
        else:
            new, outputs = tried, made
    if new == {n: n for n in sizes} or outputs is None:
        return None
    cut = _cut(given, new)
    shapes = [tuple(x.shape) if isinstance(x, torch.Tensor) else None for x in cut]
    return problem.replace(
        source=problem.source + SMALLER.format(shapes=shapes),
        inputs=tuple(_spec(x) if isinstance(x, torch.Tensor) else None for x in cut),
        outputs=tuple(_spec(x) for x in outputs),
    )


def _halved(size: int, now: int, taken: set[int]) -> bool:
    """Whether a size may be halved once more."""
    least = LEAST if size > LEAST else 2
    return now % 2 == 0 and now // 2 >= least and now // 2 not in taken


def _cut(given: Sequence[Any], new: dict[int, int]) -> list[Any]:
    return [
        x[tuple(slice(new.get(n, n)) for n in x.shape)].clone()
        if isinstance(x, torch.Tensor)
        else x
        for x in given
    ]


def _outputs(reference: Any, given: Sequence[Any]) -> list[Any] | None:
    """What the module gives on these inputs; None when it does not take them."""
    try:
        made: list[Any] = reference.run(given)
    except Exception:  # a problem's own code may raise anything
        return None
    floats = [x for x in made if x.is_floating_point()]
    return made if all(bool(torch.isfinite(x).all()) for x in floats) else None


def _numel(tensors: Sequence[Any]) -> int:
    return sum(x.numel() for x in tensors if isinstance(x, torch.Tensor))


def _spec(x: torch.Tensor) -> TensorSpec:
    return TensorSpec(shape=tuple(x.shape), dtype=str(x.dtype).removeprefix("torch."))
