"""Lint: whether a problem can judge anybody, before anybody is judged by it.

A refusal means that a candidate which computes nothing would pass; a warning that one which
leaves something out would, or that times or errors will say little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from epitaxy import timing
from epitaxy.cases import LOOSE, Case, Cases
from epitaxy.precision import STRICT, precision
from epitaxy.problem import Problem, open_reference
from epitaxy.verdict import Finding

SEED = 30_011
REPEATS = 3
UNSTEADY = 1e-4
"""A reference that differs by more from call to call is no reference."""
SMALL_S = 2e-6
"""Work that takes less is lost in the cost of a call."""
BYTES_PER_S, FLOPS_PER_S = 5e10, 5e11
"""Round figures of a small machine, to tell microseconds from nothing."""
PARTIES = 8
"""Processes that hold the inputs at once: a candidate, its control, the baselines."""
LOOKS = ("normal", "large", "skewed")
"""Where a dependence is looked for that the file's own inputs do not show."""
LEAST = 4
"""Parameters that are looked at however slow the reference is."""
QUIET_S = 3.0
PATIENCE_S = 60.0


def lint(problem: Problem, cases: Cases | None = None, deep: bool = True) -> tuple[Finding, ...]:
    """What is wrong with a problem: refusals first, then warnings, then notes.

    `cases` are the judge's own; without them new ones are made. Not `deep`: the file's own inputs
    alone, for QUIET_S seconds at most, unless they raise a suspicion.
    """
    heard: list[Finding] = []

    def note(check: str, message: str) -> None:
        if check == "oracle":
            heard.append(_warning(check, message, "use operators that also run in float64"))
        else:
            heard.append(Finding(check=check, severity="note", message=message))

    own = cases or _cases(problem, note)
    found = list(_Lint(own, PATIENCE_S if deep else QUIET_S).findings())
    if deep:
        for number in range(own.count):
            own.usable(number)
    order = {"refusal": 0, "warning": 1, "note": 2}
    return tuple(sorted((*found, *heard), key=lambda f: order[f.severity]))


def _cases(problem: Problem, note: Callable[[str, str], None]) -> Cases:
    """Cases like the judge's: with parameters that are not the constructor's."""
    reference: Any = open_reference(problem)
    reference.stir(SEED)
    return Cases(reference, SEED, note)


class _Lint:
    """One examination, of at most about `budget_s` seconds."""

    def __init__(self, cases: Cases, budget_s: float) -> None:
        self.cases, self.reference = cases, cases.reference
        self.problem: Problem = cases.problem
        self.trials: Any = self.reference.trials()
        self._end_s = timing.now_s() + budget_s
        self._fixed = False

    def findings(self) -> Iterator[Finding]:
        """Everything found, in the order of looking."""
        yield from self._size()
        yield from self._seeds()
        case = self.cases.get(0)
        if case.unusable:
            yield _refusal(
                "trivial" if "zeros" in case.unusable else "conditioning",
                f"its own inputs can judge nobody: {case.unusable}",
                "give inputs on which the reference is finite, not zero and well-conditioned",
            )
            return
        yield from self._conditioning(case)
        yield from self._steady(case)
        yield from self._trivial()
        yield from self._inputs(case)
        yield from self._parameters(case)

    # -- size, seeds, conditioning ---------------------------------------------------------------

    def _size(self) -> Iterator[Finding]:
        work = self.problem.work
        time_s = work.bytes / BYTES_PER_S + work.flops / FLOPS_PER_S
        if time_s < SMALL_S:
            yield _warning(
                "size",
                f"about {time_s * 1e6:.1g} us of work: a call itself costs as much",
                f"make its inputs about {SMALL_S * 10 / max(time_s, 1e-9):.0f} times as large",
            )
        need = self._bytes()
        free = self.trials.available_bytes()
        if need > free:
            yield _warning(
                "memory",
                f"judging takes up to {need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
                "make its inputs smaller, or free some memory",
            )

    def _bytes(self) -> int:
        """Memory that broker and workers take together, at most."""
        given = sum(s.bytes for s in self.problem.inputs if s)
        out = sum(s.bytes for s in self.problem.outputs)
        state = sum(s.bytes for s in self.problem.parameters)
        return 3 * (given + 3 * out + state) + PARTIES * (2 * given + 2 * out + state)

    def _seeds(self) -> Iterator[Finding]:
        first, again, other = (self.reference.inputs(SEED + n) for n in (0, 0, 1))
        places = self.trials.tensors(first)
        differ = [i for i in places if not self.trials.same(first[i], again[i])]
        names = self.trials.names(len(first))
        if differ:
            yield _warning(
                "seeds",
                f"get_inputs() gives another {names[differ[0]]} under the same seed",
                "draw it with torch, which is seeded, and no generator of your own",
            )
        self._fixed = all(self.trials.same(first[i], other[i]) for i in places)
        if self._fixed and places:
            yield _warning(
                "seeds",
                "get_inputs() gives the same values under every seed: only redrawn inputs vary",
                "draw them at random, without a seed of their own: torch.randn(...)",
            )

    def _conditioning(self, case: Case) -> Iterator[Finding]:
        limit = self.cases.limit(case, precision(STRICT))
        if limit > 2 * LOOSE and self._exact():
            why = "rounding moves its outputs" if case.moved * 2 > case.honest_error else "it errs"
            yield _warning(
                "conditioning",
                f"{why} so far that errors up to {limit:.1g} must be allowed on its own inputs",
                "scale the inputs or shorten the sums, so that the outputs do not cancel",
            )

    def _exact(self) -> bool:
        """Whether its outputs are float32 or float64, so that narrow errors mean something."""
        return any(s.dtype in ("float32", "float64") for s in self.problem.outputs)

    def _steady(self, case: Case) -> Iterator[Finding]:
        names = self.trials.unsteady(case.inputs)
        if names:
            yield _warning(
                "determinism",
                f"a call changes {_some(names)}: later calls compute something else",
                "call .eval() in the constructor, or keep no state",
            )
        runs = [self.reference.run(case.inputs) for _ in range(REPEATS)]
        if all(self.reference.same(runs[0], run) for run in runs[1:]):
            return
        error = max(self.reference.error(run, runs[0], runs[0]) for run in runs[1:])
        worst = f"the reference differs from call to call on the same inputs (error {error:.1g})"
        mend = "remove randomness and races from forward, or torch.use_deterministic_algorithms"
        yield (_refusal if error > UNSTEADY else _warning)("determinism", worst, mend)

    # -- what would pass without computing ---------------------------------------------------------

    def _trivial(self) -> Iterator[Finding]:
        outputs = self.problem.outputs
        given = [self._pass(place, (0, 1), None) for place in range(len(outputs))]
        always = [self._pass(p, self._others(), own) if own else [] for p, own in enumerate(given)]
        if all(always):
            yield _refusal(
                "trivial",
                f"{' or '.join(always[0])} would pass for it, whatever the inputs",
                "let the outputs depend on the inputs: other scales, constants or operators",
            )
            return
        for place, (own, ever) in enumerate(zip(given, always, strict=True)):
            which = "it" if len(outputs) == 1 else f"output {place} ({outputs[place]})"
            if ever:
                yield _warning(
                    "trivial",
                    f"{' or '.join(ever)} would pass for {which}, whatever the inputs",
                    "return only what depends on the inputs",
                )
            elif own and not (self._fixed and own == [self.trials.thoughtless(0)[-1]]):
                yield _warning(
                    "trivial",
                    f"{' or '.join(own)} would pass for {which} on its own inputs; "
                    "only redrawn inputs would tell",
                    "let the outputs vary with the inputs that get_inputs() draws",
                )

    def _others(self) -> list[int]:
        """Every case but the file's own inputs and those with NaN."""
        finite = [n for n in range(2, self.cases.count) if self.cases.names[n] != "special"]
        return [n for n in finite if self.cases.usable(n)]

    def _pass(self, place: int, numbers: Sequence[int], kinds: list[str] | None) -> list[str]:
        """Which of `kinds` (None: all) pass for one output on all those cases."""
        if kinds is None:
            kinds = self.trials.thoughtless(len(self.problem.inputs))
        return [k for k in kinds if all(self._passes(k, place, n) for n in numbers)]

    def _passes(self, kind: str, place: int, number: int) -> bool:
        case, earlier = self.cases.get(number), self.cases.get(1 if number != 1 else 0)
        exact, honest = case.exact[place], case.honest[place]
        out = self.trials.fake(kind, case.inputs, honest, earlier.honest[place])
        limit = self.cases.limit(case)
        return out is not None and self.reference.error([out], [exact], [honest], limit) <= limit

    # -- what could be left out ------------------------------------------------------------------

    def _inputs(self, case: Case) -> Iterator[Finding]:
        names = self.trials.names(len(case.inputs))
        idle = [n for n in range(len(case.inputs)) if self._idle_input(n)]
        if idle:
            yield _warning(
                "dependence",
                f"the outputs do not depend on {_some([names[n] for n in idle])}",
                "use it in forward, or drop it from get_inputs()",
            )

    def _idle_input(self, number: int) -> bool:
        """Whether no look shows that the outputs depend on an input."""
        looked = False
        for case, other in self._pairs():
            changed = self.trials.changed(case.inputs, number, other.inputs)
            if changed is None:
                continue
            looked = True
            if self._moves(case, partial(self.reference.run, changed)):
                return False
        return looked

    def _pairs(self) -> Iterator[tuple[Case, Case]]:
        """Cases to look at, each with another whose inputs may take the place of its own."""
        yield self.cases.get(0), self.cases.get(1)
        for name in LOOKS:
            number = self.cases.names.index(name) if name in self.cases.names else 0
            if number and self.cases.usable(number):
                yield self.cases.get(number), self.cases.get(0)

    def _moves(self, case: Case, run: Callable[[], list[Any]]) -> bool:
        """Whether a changed run is told from the exact outputs of `case`; one that fails is."""
        try:
            return not self.cases.passes(run(), case)
        except Exception:
            return True

    def _parameters(self, case: Case) -> Iterator[Finding]:
        names = self.trials.parameters()
        idle, left = [], 0
        for count, name in enumerate(names):
            if count >= LEAST and timing.now_s() > self._end_s:
                left += 1
            elif self._idle_parameter(name):
                idle.append(name)
        if idle:
            yield _warning(
                "dependence",
                f"the outputs do not depend on {_some(idle)}",
                "drop it from the module, or use it",
            )
        plain = [name for name in self.trials.plain() if name not in idle]
        if plain:
            yield _warning(
                "parameters",
                f"{_some(plain)}: all 0 or all 1, a kernel that leaves them out would pass",
                "make them parameters, which the judge varies, or give them other values",
            )
        if left:
            message = f"{left} of {len(names)} parameters were not looked at: the reference is slow"
            yield Finding(check="dependence", severity="note", message=message)

    def _idle_parameter(self, name: str) -> bool:
        return not any(
            self._moves(case, partial(self._disturbed, name, case)) for case, _ in self._pairs()
        )

    def _disturbed(self, name: str, case: Case) -> list[Any]:
        with self.trials.disturbed(name):
            out: list[Any] = self.reference.run(case.inputs)
        return out


def _refusal(check: str, message: str, mend: str) -> Finding:
    return Finding(check=check, severity="refusal", message=message, mend=mend)


def _warning(check: str, message: str, mend: str) -> Finding:
    return Finding(check=check, severity="warning", message=message, mend=mend)


def _some(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
