"""Run confined, as a program: compile what a bundle calls, for a TPU that need not be here.

    python -m epitaxy.toolchains._pallas_build JOB.json

The bundle's ModelNew is called once on tensors of zeros while every function of JAX arrays is
noted instead of run. Each is traced, its blocks are held against the chip's limits, and libtpu
compiles it ahead of time. `metrics.json` appears beside the job.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epitaxy.toolchains._builder import Refused, build, called, opened

BUFFERS = 2
"""Pallas has each block twice: one is computed on while the other is copied."""


def main(path: str) -> int:
    """Compile; what is refused goes to stdout as one line beginning with `error:`."""
    return build(path, _build)


def _build(job: dict[str, Any]) -> None:
    each = [looked_at(one, job) for one in _noted(job)]
    if not each:
        raise Refused("the candidate calls no Pallas kernel")
    found = {k: sum(x.get(k, 0.0) for x in each) for k in dict.fromkeys(k for x in each for k in x)}
    found["vmem_bytes"] = max(x["vmem_bytes"] for x in each)
    found |= _bundles(Path("dump"), each)
    found = {k: v for k, v in found.items() if not k.startswith("_")}
    shutil.rmtree("dump", ignore_errors=True)
    Path("metrics.json").write_text(json.dumps(found), encoding="utf-8")


def _noted(job: dict[str, Any]) -> list[tuple[Any, list[Any]]]:
    """Every call of one forward: the function, and its arrays' shapes."""
    model, module = opened()
    found: list[tuple[Any, list[Any]]] = []
    _instead(module, found)
    called(model, module, job)
    return found


def _instead(module: dict[str, Any], found: list[tuple[Any, list[Any]]]) -> None:
    """Functions of arrays note their calls from now on, and give zeros."""
    import jax
    import torch

    def noting(run: Any) -> Any:
        def call(*tensors: Any) -> list[Any]:
            avals = [_aval(t) for t in tensors]
            found.append((run, avals))
            shapes = jax.eval_shape(run, *avals)
            return [torch.zeros(s.shape, dtype=getattr(torch, str(s.dtype))) for s in shapes]

        return call

    for name, value in list(module.items()):
        inner = getattr(value, "__wrapped__", None)
        if callable(value) and inner is not None and not isinstance(value, type):
            if getattr(value, "__code__", None) is _wrapper_code(module):
                module[name] = noting(inner)


def _wrapper_code(module: dict[str, Any]) -> Any:
    """The code object that every function under `_epitaxy_arrays` has."""
    return module["_epitaxy_arrays"](lambda: None).__code__


def _aval(tensor: Any) -> Any:
    import jax
    import jax.numpy as jnp

    name = str(tensor.dtype).removeprefix("torch.")
    if name in ("float64", "int64", "float16"):
        raise Refused(f"{name} is not a dtype that a TPU's vector unit has")
    return jax.ShapeDtypeStruct(tuple(tensor.shape), jnp.dtype(name))


def looked_at(noted: tuple[Any, list[Any]], job: dict[str, Any]) -> dict[str, float]:
    """One function traced, held against the limits, and compiled. Raises Refused."""
    import jax

    run, avals = noted
    calls = list(_calls(jax.make_jaxpr(run)(*avals).jaxpr))
    if not calls:
        raise Refused("the candidate calls no Pallas kernel")
    found = {"vmem_bytes": 0.0, "bytes_moved": 0.0, "grid_steps": 0.0, "launches": 0.0}
    for call in calls:
        name = str(call.params["name"] or "kernel")
        held = _held(call, job)
        if held > job["vmem_bytes"]:
            raise Refused(
                f"{name} takes {held} bytes of VMEM; {job['chip']} has {job['vmem_bytes']} "
                f"(vmem_mib)"
            )
        _exact(call, name)
        found["vmem_bytes"] = max(found["vmem_bytes"], held)
        found["bytes_moved"] += _moved(call)
        steps = math.prod(call.params["grid_mapping"].grid)
        found["grid_steps"] += steps
        found["launches"] += 1
        found[f"_steps {name}"] = steps
    if job["compile"]:
        _compile(run, avals, job["target"])
    return found


def _calls(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            yield equation
            continue
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _calls(inner)


def _block(mapping: Any) -> tuple[int, ...]:
    """The block's shape; a dimension that is one place at a time is a word, not a number."""
    sizes = [getattr(b, "block_size", b) for b in mapping.block_shape]
    return tuple(int(n) if isinstance(n, int) else 1 for n in sizes)


def _tiled(shape: tuple[int, ...], item: int) -> int:
    """Bytes in VMEM, where the last two dimensions are filled up to whole registers."""
    *outer, rows, columns = (1, 1, *shape)
    tall = 8 * max(1, 4 // item)
    return math.prod(outer) * -(-rows // tall) * tall * -(-columns // 128) * 128 * item


def _held(call: Any, job: dict[str, Any]) -> int:
    """Bytes of VMEM that blocks and scratch take."""
    mapping = call.params["grid_mapping"]
    held = 0
    for one in mapping.block_mappings:
        held += BUFFERS * _tiled(_block(one), one.array_aval.dtype.itemsize)
    for scratch in mapping.scratch_avals:
        inner = getattr(scratch, "inner_aval", scratch)
        if hasattr(inner, "shape") and hasattr(inner.dtype, "itemsize"):
            held += _tiled(tuple(inner.shape), inner.dtype.itemsize)
    return held


def _moved(call: Any) -> float:
    """Bytes between HBM and VMEM: a block is copied when it is not the one of the step before."""
    import jax
    import numpy as np
    from jax.extend.core import jaxpr_as_fun

    mapping = call.params["grid_mapping"]
    grid = mapping.grid
    if not grid:
        aval = [one.array_aval for one in mapping.block_mappings]
        return float(sum(a.size * a.dtype.itemsize for a in aval))
    steps = np.indices(grid).reshape(len(grid), -1).astype(np.int32)
    total = 0.0
    for one in mapping.block_mappings:
        at = jax.vmap(jaxpr_as_fun(one.index_map_jaxpr))(*steps)
        rows = np.stack([np.broadcast_to(np.asarray(a), steps.shape[1:]) for a in at])
        changes = 1 + int((np.diff(rows, axis=1) != 0).any(axis=0).sum())
        total += changes * math.prod(_block(one)) * one.array_aval.dtype.itemsize
    return total


def _exact(call: Any, name: str) -> None:
    """Refuse what the interpreter would compute better than the chip."""
    stack = [call.params["jaxpr"]]
    while stack:
        for equation in stack.pop().eqns:
            if equation.primitive.name == "dot_general" and not _said(equation):
                raise Refused(
                    f"{name} multiplies float32 at the default precision, which rounds operands "
                    f"to bfloat16 on a TPU and not in the interpreter: say precision=HIGHEST, or "
                    f"cast them"
                )
            for inner in equation.params.values():
                for one in inner if isinstance(inner, tuple | list) else (inner,):
                    one = getattr(one, "jaxpr", one)
                    if hasattr(one, "eqns"):
                        stack.append(one)


def _said(equation: Any) -> bool:
    """Whether a product of float32 says how precise it is."""
    if all(str(v.aval.dtype) != "float32" for v in equation.invars):
        return True
    precision = equation.params.get("precision")
    both = precision if isinstance(precision, tuple) else (precision,)
    return all(str(p) == "HIGHEST" for p in both)


def _compile(run: Any, avals: list[Any], target: str) -> None:
    import jax
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    chips = topologies.get_topology_desc(platform="tpu", topology_name=target)
    place = SingleDeviceSharding(chips.devices[0])
    given = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place) for a in avals]
    jax.jit(run).lower(*given).compile()


def _bundles(dump: Path, each: list[dict[str, float]]) -> dict[str, float]:
    """Instruction bundles and slots of all kernels, from what libtpu left of each."""
    from epitaxy.toolchains._bundles import kernel

    found: dict[str, float] = {}
    steps = {k.removeprefix("_steps "): v for x in each for k, v in x.items() if k[0] == "_"}
    for name, count in steps.items():
        for key, value in kernel(dump, name, count).items():
            found[key] = found.get(key, 0.0) + value
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
