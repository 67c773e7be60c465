"""Attention as C++: the sizes and strides that attention.h works from, scores and results."""

from __future__ import annotations

from collections.abc import Sequence

from epitaxy.proposers.grower.algebra import Axis, Value
from epitaxy.proposers.grower.attention import Attention, Condition, conditions, memory
from epitaxy.proposers.grower.contract import size_of, step
from epitaxy.proposers.grower.emit_expr import Scope, indent
from epitaxy.proposers.grower.emit_gemm import decoded, even
from epitaxy.proposers.grower.emit_kernel import KernelWriter
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.schedule import Kernel

LINES = 1
"""The form of few queries: keys and values are read once, as they lie."""


class AttentionWriter(KernelWriter):
    """Sizes and strides as constants, operands as functions, `score` and `finish` around them."""

    def __init__(
        self,
        kernel: Kernel,
        choices: Choices,
        buffers: dict[int, tuple[str, str]],
        what: Attention,
    ) -> None:
        super().__init__(kernel, choices, buffers, what.columns[-1])
        self.what = what
        self.conditions = conditions(what)

    def write(self) -> list[str]:
        """The block of C++."""
        what, inner = self.what, self.what.weighted
        sizes = ", ".join(f"{name} = {value}" for name, value in self._shape().items())
        body = [
            f"struct Shape {{ enum : int64_t {{ {sizes} }}; }};",
            "using A = epx::Attend<Shape>;",
            f"const auto q = [=](int64_t t) {{ {self._operand(inner.query, 't', what.batch)} }};",
            f"const auto k = [=](int64_t u) {{ {self._operand(inner.key, 'u', what.shared)} }};",
            f"const auto v = [=](int64_t u) {{ {self._operand(inner.value, 'u', what.shared)} }};",
            f"const auto of = [](int64_t t) {{ (void)t; return int64_t({self._of()}); }};",
            *self._score(),
            *self._live(),
            *self._finish(),
            "const epx::Scratch<float> pk(A::k_floats), pv(A::v_floats), parts(A::part_floats);",
            "const epx::Scratch<int> odd(Shape::KVB);",
        ]
        call = "epx::attend<Shape>(q, k, v, of, pk.data, pv.data, parts.data, odd.data, score, live, finish);"  # fmt: skip
        return ["{", *indent(body + self._run(call)), "}"]

    def _run(self, call: str) -> list[str]:
        """The call by one thread or by a team."""
        fence = ["epx::fence();"] if self.streams else []
        if self.choices.threads == 1:
            return [call, *fence]
        threads = f" num_threads({self.choices.threads})" if self.choices.threads else ""
        return [f"#pragma omp parallel{threads}", "{", *indent([call, *fence]), "}"]

    def _shape(self) -> dict[str, int]:
        """Sizes, strides and decisions, by the names that attention.h gives them."""
        what, inner, chosen = self.what, self.what.weighted, self.choices
        q, k, v = (memory(x).index for x in (inner.query, inner.key, inner.value))
        m, j, e = size_of(what.rows), size_of(inner.keys), size_of(what.columns)
        lines = chosen.form == LINES and step(k, inner.depth) == 1 and step(q, inner.depth) == 1
        high = min(chosen.tile_m, m, 3 if lines else m)
        wide, across = min(chosen.tile_n, -(-j // self.N)), min(chosen.tile_n, -(-e // self.N))
        if lines:
            across = max(1, min(8, 12 // high, -(-e // self.N)))
        keys = even(j, chosen.nc, wide * self.N)
        parts = max(1, min(chosen.split_k, -(-j // (wide * self.N))))
        apart = not chosen.dynamic and parts == 1 and size_of(what.shared) > 1
        return {
            "N": self.N, "MR": high, "NV": wide, "WV": across,
            "BATCH": size_of(what.batch), "KVB": size_of(what.shared),
            "M": m, "J": j, "D": size_of(inner.depth), "E": e,
            "MC": even(m, chosen.mc, high), "JC": keys,
            "PARTS": parts,
            "QI": step(q, what.rows) or 0, "QD": step(q, inner.depth) or 0,
            "KJ": step(k, inner.keys) or 0, "KD": step(k, inner.depth) or 0,
            "VJ": step(v, inner.keys) or 0, "VE": step(v, what.columns) or 0,
            "PACK_Q": int(chosen.pack_a and not lines),
            "PACK_V": int(chosen.pack_b or step(v, what.columns) != 1),
            "LINES": int(lines), "SKIPS": int(bool(self.conditions)), "SAFE": int(inner.safe),
            "STEPS": chosen.unroll, "DYNAMIC": chosen.dynamic,
            "OWN": int(apart),
            "FAR": -(-chosen.prefetch * self.N // size_of(inner.depth)) if lines else 0,
        }  # fmt: skip

    def _operand(self, value: Value, variable: str, axes: Sequence[Axis]) -> str:
        """The first element of batch `variable`."""
        load = memory(value)
        name, _ = self.buffers[load.buffer]
        parts = [name, *([str(load.index.offset)] if load.index.offset else [])]
        for axis, text in decoded(variable, axes):
            if stride := load.index.coefficient(axis):
                parts.append(f"{text} * {stride}")
        return f"(void){variable}; return {' + '.join(parts)};"

    def _of(self) -> str:
        """Which keys and values batch t has."""
        parts, stride = [], size_of(self.what.shared)
        for axis, text in decoded("t", self.what.batch):
            if axis in self.what.shared:
                stride //= axis.size
                parts.append(f"{text} * {stride}" if stride > 1 else text)
        return " + ".join(f"({p})" if "%" in p else p for p in parts) or "0"

    def _score(self) -> list[str]:
        """The function from one vector of products to scores."""
        what = self.what.weighted
        groups = (("t", self.what.batch), ("i", self.what.rows), ("j", what.keys))
        lines = self._vector(groups, what.keys[-1], what.product, "sum")
        value = self.vector(what.scores)
        return [
            "const auto score = [=](auto tail, int64_t t, int64_t i, int64_t j, V sum, int n) EPX_BODY {",
            "  (void)tail, (void)t, (void)i, (void)j, (void)n;",
            *indent([*lines, f"return {value};"]),
            "};",
        ]  # fmt: skip

    def _finish(self) -> list[str]:
        """What happens to one vector of results."""
        (target,) = self.kernel.targets
        groups = (("t", self.what.batch), ("i", self.what.rows), ("j", self.what.columns))
        lines = self._vector(groups, self.what.columns[-1], self.what.weighted.total, "sum")
        lines.append(self.put(target, self.vector(target.value), vector=True))
        return [
            "const auto finish = [=](auto tail, int64_t t, int64_t i, int64_t j, V sum, int n) EPX_BODY {",
            "  (void)t, (void)i, (void)j, (void)n;",
            *indent(lines),
            "};",
        ]  # fmt: skip

    def _vector(
        self, groups: Sequence[tuple[str, Sequence[Axis]]], lane: Axis, known: Value, name: str
    ) -> list[str]:
        """Start a function of one vector along `lane`: its lines, with every axis' position."""
        axes = frozenset(a for _, own in groups for a in own)
        scope = Scope(axes, memo={known: name})
        for variable, own in groups:
            for axis, text in decoded(variable, own):
                if text == variable:
                    self.names[axis] = variable
                else:
                    self.names[axis] = f"{axis.name}_"
                    scope.lines.append(f"const int64_t {self.names[axis]} = {text};")
        self.lane, self.scopes, self.prefetch = lane, [scope], 0
        return scope.lines

    def _live(self) -> list[str]:
        """The function that tells blocks whose scores are all masked from those that count."""
        tests = [self._extreme(c) for c in self.conditions]
        return [
            "const auto live = [](int64_t i0, int64_t i1, int64_t j0, int64_t j1) {",
            "  (void)i0, (void)i1, (void)j0, (void)j1;",
            f"  return {' && '.join(tests) or 'true'};",
            "};",
        ]

    def _extreme(self, condition: Condition) -> str:
        """Whether the condition holds anywhere in a block."""
        parts = [str(condition.index.offset)]
        for axis, c in condition.index.terms:
            name = "i" if axis in self.what.rows else "j"
            end = f"{name}0" if (c > 0) == condition.least else f"({name}1 - 1)"
            parts.append(f"{end} * {c}")
        relation = "<" if condition.least else ">="
        return f"{' + '.join(parts)} {relation} {condition.bound}"
