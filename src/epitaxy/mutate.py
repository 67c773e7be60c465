"""Mutants: honest C++ kernels with one planted mistake each, to see whether the judge finds it.

An operator is a pattern and what may stand in its place: the mistakes that writers of kernels
make. Mutation is textual, so it applies to grown and handwritten kernels alike; what the
compiler then refuses, or turns into the very same code, is told apart by whoever runs the mutants.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from epitaxy.record import Record, record

Change = Callable[[re.Match[str]], str]


class Operator(NamedTuple):
    """A kind of mistake: `pattern` is looked for in code, `change` writes the mistake.

    `helpers`: whether it looks in the vector functions above the kernel, not in the kernel;
    `needs`: text without which the mistake is none.
    """

    name: str
    mistake: str
    pattern: str
    change: Change
    helpers: bool = False
    needs: str = ""


@record
class Mutant(Record):
    """A changed source: the operator's name, the line (from 1), what stood there, what stands."""

    operator: str
    line: int
    before: str
    after: str
    text: str


def _sub(template: str) -> Change:
    return lambda match: match.expand(template)


def _plus(group: int, by: int) -> Change:
    """The number in that group, `by` more."""

    def change(match: re.Match[str]) -> str:
        whole, at = match.group(0), match.start(group) - match.start(0)
        number = match.group(group)
        return f"{whole[:at]}{int(number) + by}{whole[at + len(number) :]}"

    return change


def _times(match: re.Match[str]) -> str:
    return f"{match[1]}{float(match[2]) * 1.01!r}f"


OPERATORS = (
    Operator("bound short", "the last iteration is missing",
             r"\b\w+ < (\d+); \+\+", _plus(1, -1)),
    Operator("bound short", "the last element is missing",
             r"sweep\w*<[^>]*>\(\w+, (\d+), ", _plus(1, -1)),
    Operator("bound short", "the last iteration is missing",
             r"(; \w+) < ([a-z]\w*);", _sub(r"\1 < \2 - 1;")),
    Operator("bound long", "one iteration too many", r"(; \w+) < (\w+;)", _sub(r"\1 <= \2")),
    Operator("bound long", "one element too many",
             r"sweep\w*<[^>]*>\(\w+, (\d+), ", _plus(1, 1)),
    Operator("late start", "the first iteration is missing",
             r"for \(int64_t \w+ = (0);", _plus(1, 1)),
    Operator("late start", "the first element is missing",
             r"sweep\w*<[^>]*>\((0), ", _plus(1, 1)),
    Operator("dropped remainder", "what is left after whole vectors is skipped",
             r"if \(i < hi\) body\(part\{\}, i, 0, int\(hi - i\)\);", _sub(""), helpers=True),
    Operator("dropped remainder", "what is left after whole vectors is skipped",
             r"tile\(part\{\}, edge\{\}\); else", _sub("{} else")),
    Operator("dropped remainder", "what is left after whole vectors is skipped",
             r"for \(; \w+ < \w+; \+\+\w+\)(?= *\w)", _sub("if (false)")),
    Operator("wrong mask", "lanes beyond the end are reduced too",
             r"epx::keep\(tail, (V\(.*\)), \w+\[u\], n\);", _sub(r"\1;")),
    Operator("wrong mask", "a tail is written as a whole vector",
             r"(epx::put\w*)\(tail, (y\d)", _sub(r"\1(epx::whole{}, \2")),
    Operator("wrong mask", "one lane less is written",
             r"(epx::put\w*\(tail, y\d.*), n\);", _sub(r"\1, n - 1);")),
    Operator("wrong stride", "a stride is one too small",
             r"(?<=\w \* )(\d{2,})\b(?!f|\.)", _plus(1, -1)),
    Operator("swapped strides", "two strides are exchanged",
             r"(\w+ \* )(\d+)( \+ \w+ \* )(\d+)", _sub(r"\1\4\3\2")),
    Operator("wrong index", "another index takes its place",
             r"\b(i\d\w*_|r|i|j|k)( \* \d+)", _sub(r"0\2")),
    Operator("wrong index", "the neighbour is read",
             r"(x\d \+ )(?=\w)", _sub(r"\g<1>1 + ")),
    Operator("wrong index", "the neighbour is written",
             r"(y\d \+ )(?=\w)", _sub(r"\g<1>1 + ")),
    Operator("wrong start value", "a reduction starts from the wrong value",
             r"splat<V>\(-INFINITY\)|splat<V>\(0\)(?=\);)", _sub("splat<V>(0.25f)")),
    Operator("wrong start value", "a reduction starts from the wrong value",
             r"(float|double) (\w+) = (0\.0f?|-INFINITY);", _sub(r"\1 \2 = 0.25f;")),
    Operator("no start value", "an accumulator is never filled",
             r"(V \w+\[\w+\];) epx::fill\([^;]*;", _sub(r"\1")),
    Operator("no start value", "an accumulator is never filled",
             r"((?:float|double) \w+(?:\[8\])?) = (?:0\.0f?|\{[0, ]+\}|-INFINITY);",
             _sub(r"\1;")),
    Operator("wrong reduction", "another reduction takes its place",
             r"\bepx::hmax\b|\bepx::hsum\b", lambda m: "epx::hmin"),
    Operator("wrong reduction", "maximum and minimum are exchanged",
             r"epx::maximum|epx::minimum",
             lambda m: "epx::minimum" if "max" in m[0] else "epx::maximum"),
    Operator("lost sum", "only the last value is kept",
             r"(\w+\[\w+\]) = \1 \+ (?=\w)", _sub(r"\1 = ")),
    Operator("lost sum", "only the last value is kept",
             r"\b(sum|one) = \1 \+ (?=\w)", _sub(r"\1 = ")),
    Operator("lost NaN", "a comparison lets NaN fall through",
             r"epx::maximum\(([\w\[\]]+), ([\w\[\]]+)\)", _sub(r"epx::select(\1 > \2, \1, \2)")),
    Operator("lost NaN", "a comparison lets NaN fall through", r" \|\| (\w+) != \1", _sub("")),
    Operator("sign flip", "plus and minus are exchanged",
             r"(V|float) (\w+ = [\w\[\]]+) ([+-]) (?=[\w:])",
             lambda m: f"{m[1]} {m[2]} {'-' if m[3] == '+' else '+'} "),
    Operator("sign flip", "the value is negated", r"(const (?:V|float) \w+ = )(\w+ \* )",
             _sub(r"\1-\2")),
    Operator("wrong operation", "product and quotient are exchanged",
             r"(const (?:V|float) \w+ = \w+) ([*/]) ",
             lambda m: f"{m[1]} {'/' if m[2] == '*' else '*'} "),
    Operator("dropped term", "the second operand is forgotten",
             r"(const (?:V|float) \w+ = \w+) [-+*/] [^;]+;", _sub(r"\1;")),
    Operator("dropped function", "a function is forgotten",
             r"epx::(?:tanh|sigmoid|exp|exp_fast|log|erf|abs|rsqrt|sqrt)\((\w+)\)", _sub(r"\1")),
    Operator("wrong constant", "a constant is 1 % off", r"(?<![\w.])()(\d+\.\d+(?:e-?\d+)?)f\b",
             _times),
    Operator("precision loss", "a value is rounded to bfloat16",
             r"const V (v\d+) = ([^;]+);",
             _sub(r"const V \1 = epx::bits_as<V>(epx::bits(V(\2)) & int32_t(0xffff0000u));")),
    Operator("dropped store", "a result is never written",
             r"epx::put\w*\((?:tail, )?y\d[^;]*;", _sub(";")),
    Operator("dropped store", "a result is never written", r"y\[[^;]*;", _sub(";")),
    Operator("race", "threads share a variable that each should own",
             r"(?<=    )(float|double) (\w+) = (0\.0f?|-INFINITY);",
             _sub(r"static volatile \1 \2; \2 = \3;"), needs="#pragma omp parallel"),
    Operator("race", "threads share an array that each should own",
             r"(?<=    )float (\w+)\[8\] = \{[^}]*\};",
             _sub(r"static volatile float \1[8]; for (int z = 0; z < 8; ++z) \1[z] = 0;"),
             needs="#pragma omp parallel"),
    Operator("race", "threads add to one variable at once",
             r" reduction\(\+ : \w+\)", _sub("")),
    Operator("wrong block", "what is beyond the end counts as inside",
             r"splat_int<VI>\(int64_t\((\d+)\)\)", _plus(1, 1)),
    Operator("wrong block", "the last element counts as outside",
             r"splat_int<VI>\(int64_t\((\d+)\)\)", _plus(1, -1)),
    Operator("wrong block", "pieces are taken for longer", r"\bt [/%] (\d+)", _plus(1, 1)),
    Operator("wrong block", "a window beyond the border counts as inside",
             r"\bwithin\([^()]*, (\d+)\)", _plus(1, 1)),
    Operator("wrong block", "a window at the border counts as inner",
             r">= (\d+) && \w+ < \d+\) tile", _plus(1, -1)),
    Operator("wrong block", "a window at the border counts as inner",
             r">= \d+ && \w+ < (\d+)\) tile", _plus(1, 1)),
    Operator("wrong block", "a line lies one place off", r"\bline \+ j \+ (\d+)", _plus(1, 1)),
    Operator("wrong block", "the last block counts as whole",
             r"(?:epx::)?\bleast\(([\w:]+), [\w:]+ - [\w:*+ -]+\)", _sub(r"\1")),
    Operator("wrong block", "the last block counts as whole",
             r"\bif \(j0 \+ \d+ > (\d+)\) tile", _plus(1, 1_000_000)),
    Operator("wrong block", "sums begin again in every block",
             r"&& !first\)", _sub("&& false)")),
    Operator("wrong block", "sums are finished a block early",
             r"(\bd) \+ 1 == (d1)", _sub(r"\1 + 2 >= \2")),
    Operator("wrong block", "a maximum of other pieces is used",
             r"(epx::exp\w*)\(v(\d+)\)(?=;\n *const V \w+ = v\d+ \* )", _sub(r"\1(-v\2)")),
)  # fmt: skip
NAMES = tuple(dict.fromkeys(operator.name for operator in OPERATORS))


def mutants(text: str, count: int, seed: int, kernel: str = 'extern "C"') -> list[Mutant]:
    """At most `count` different mutants of `text`, operators in turn, drawn by `seed`.

    The kernel begins at the first occurrence of `kernel`; what is above are helpers.
    """
    rng = random.Random(seed)
    waiting = [list(_of(name, text, kernel)) for name in NAMES]
    for sites in waiting:
        rng.shuffle(sites)
    found: dict[str, Mutant] = {}
    while len(found) < count and any(waiting):
        for sites in waiting:
            if sites and len(found) < count:
                mutant = sites.pop()
                found.setdefault(mutant.text, mutant)
    return list(found.values())


def _of(name: str, text: str, kernel: str) -> Iterator[Mutant]:
    start = max(text.find(kernel), 0)
    for operator in OPERATORS:
        if operator.name != name or operator.needs not in text[start:]:
            continue
        for match in re.compile(operator.pattern).finditer(text):
            inside = (match.start() < start) if operator.helpers else (match.start() >= start)
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            after = operator.change(match)
            if inside and "//" not in line and after != match[0]:
                changed = text[: match.start()] + after + text[match.end() :]
                number = text.count("\n", 0, match.start()) + 1
                yield Mutant(operator=name, line=number, before=match[0], after=after, text=changed)
