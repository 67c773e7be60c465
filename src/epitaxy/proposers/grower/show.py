"""Print a region as mathematics, for people: one line for every shared value and every output."""

from __future__ import annotations

from epitaxy.proposers.grower.algebra import (
    Affine,
    Axis,
    Const,
    Index,
    Load,
    Map,
    Reduce,
    Region,
    Value,
    operands,
    walk,
)

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "eq": "==", "ne": "!=", "lt": "<", "le": "<=",
    "gt": ">", "ge": ">=", "and": "&", "or": "|", "floordiv": "//", "remainder": "%", "pow": "**",
}  # fmt: skip


def describe(region: Region) -> str:
    """The region, readably: inputs x0, x1 …, shared values t0, t1 …, outputs y0, y1 …"""
    roots = tuple(s.value for s in region.stores)
    order = walk(roots)
    uses: dict[Value, int] = dict.fromkeys(roots, 0)
    for value in order:
        for part in operands(value):
            uses[part] = uses.get(part, 0) + 1
    names: dict[Value, str] = {}
    lines = [f"{region.name}:"]
    lines += [f"  x{k}: {spec}" for k, spec in enumerate(region.inputs)]
    for value in order:
        if isinstance(value, Const | Index) or (uses[value] < 2 and not _heavy(value)):
            continue
        if isinstance(value, Load) and not value.guards and not value.indirect:
            continue
        text = _text(value, names)
        names[value] = f"t{len(names)}"
        lines.append(f"  {names[value]}{_axes(value.axes)} = {text}")
    for store in region.stores:
        place = ", ".join(f"{a.name}<{a.size}" for a in store.axes)
        text = _text(store.value, names)
        spec = region.outputs[store.buffer]
        left = f"  y{store.buffer}[{_affine(store.index)}]"
        lines.append(f"{left} = {text}  for {place or 'once'}: {spec}")
    return "\n".join(lines)


def _heavy(value: Value) -> bool:
    return not isinstance(value, Load | Map | Const | Index)


def _axes(axes: frozenset[Axis]) -> str:
    return f"[{', '.join(sorted(a.name for a in axes))}]" if axes else ""


def _affine(index: Affine) -> str:
    parts = [a.name if c == 1 else f"{c}*{a.name}" for a, c in index.terms]
    if index.offset or not parts:
        parts.append(str(index.offset))
    return " + ".join(parts).replace("+ -", "- ")


def _number(value: Const) -> str:
    return f"{value.value:g}" if value.dtype.startswith(("float", "bfloat")) else str(value.value)


def _text(value: Value, names: dict[Value, str]) -> str:
    if value in names:
        return names[value]
    if isinstance(value, Const):
        return _number(value)
    if isinstance(value, Index):
        return f"({_affine(value.index)})"
    if isinstance(value, Load):
        gathered = "".join(f" + {c}*{_text(v, names)}" for v, c in value.indirect)
        guards = " and ".join(f"0 <= {_affine(g.index)} < {g.size}" for g in value.guards)
        inside = f"{_affine(value.index)}{gathered}"
        return f"x{value.buffer}[{inside}{f' if {guards} else {value.fill:g}' if guards else ''}]"
    if isinstance(value, Map):
        args = [_text(a, names) for a in value.args]
        if value.fn in _INFIX:
            return f"({args[0]} {_INFIX[value.fn]} {args[1]})"
        return f"{value.dtype if value.fn == 'cast' else value.fn}({', '.join(args)})"
    body = _text(value.arg, names)
    if isinstance(value, Reduce):
        return f"{value.kind} over {', '.join(f'{a.name}<{a.size}' for a in value.over)} of {body}"
    way = "backwards " if value.reverse else ""
    return f"running {value.kind} {way}along {', '.join(a.name for a in value.along)} of {body}"
