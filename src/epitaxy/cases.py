"""Cases: the secret inputs that a candidate is judged on, with their exact outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from epitaxy.memory import available_bytes
from epitaxy.precision import Precision, precision, precisions
from epitaxy.verdict import ErrorRow, Finding

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
LEAST_EPS = 16
"""Errors below this many units of the last place are never held against a candidate."""
KEPT_BYTES, KEPT_SHARE = 6 << 30, 8
"""Cases are kept up to so many bytes, and up to this part of the memory there is at first."""
BLEND = -1
"""The case that is one of the timed ones but for a stretch of each input."""
OTHER_BLEND = -2
"""Another such case, with another stretch."""
LOOSE = 1e-3
"""Limits above this would let lower precision pass for float32: bfloat16 errs by up to 2e-3."""
ILL_RATIO = 64
TOO_FAR = 0.05
"""Where honest code itself errs by more than this, inputs can judge nobody."""


class Case:
    """Secret inputs with their exact outputs and the honest implementation's error."""

    def __init__(self, reference: Any, distribution: str, inputs: Sequence[Any]) -> None:
        self.distribution = distribution
        self.inputs = inputs
        self._reference = reference
        self._narrow: dict[str, float] = {}
        self.honest = reference.run(inputs)
        self.exact = reference.oracle(inputs)
        self.unusable = reference.unusable(self.exact, self.honest, distribution)
        self.honest_error = reference.error(self.honest, self.exact, self.honest)
        self.moved = 0.0 if self.unusable else reference.movement(inputs, self.exact, self.honest)
        self.honest_error = max(self.honest_error, self.moved)
        if not self.unusable and self.honest_error > TOO_FAR:
            self.unusable = f"honest code itself errs by {self.honest_error:.1g}"
        own = precision(reference.problem.policy.precision)
        if own.narrow and not self.unusable and not self.narrow_error(own) <= TOO_FAR:
            self.unusable = f"honest code of {own.name} errs by {self.narrow_error(own):.1g}"

    def narrow_error(self, to: Precision) -> float:
        """The error of the reference when its operands are rounded as `to` permits; inf: it fails.

        Integers are left out: they must be right at any precision.
        """
        if not to.narrow:
            return 0.0
        if to.name not in self._narrow:
            self._narrow[to.name] = self._narrowed(to)
        return self._narrow[to.name]

    def _narrowed(self, to: Precision) -> float:
        try:
            outputs = self._reference.narrow(self.inputs, to)
        except (RuntimeError, TypeError, NotImplementedError):
            return math.inf
        found = float(self._reference.float_error(outputs, self.exact, self.honest))
        if to.operands == "contractions" and not self._reference.problem.work.flops:
            return found
        # Of few outputs one may be right by luck; an output of the mean size, rounded, is not.
        return max(found, to.rounding / 2)


class Cases:
    """The cases of one problem, made when first wanted and kept while memory allows.

    Numbers 0 and 1 are the file's own inputs under two seeds, then come the reference's other
    distributions in order; BLEND and OTHER_BLEND are case 0 with a stretch of case 1.
    `note(check, message)` hears about distributions that cannot judge anybody.
    """

    def __init__(self, reference: Any, seed: int, note: Callable[[str, str], None]) -> None:
        self.names = ["given", *reference.distributions()]
        self.reference = reference
        self._seed, self._note = seed, note
        self._made: dict[int, Case] = {}
        self._dropped: set[int] = set()
        self._room = min(KEPT_BYTES, available_bytes() // KEPT_SHARE)

    @property
    def problem(self) -> Any:
        """The problem whose cases these are."""
        return self.reference.problem

    def unseen(self, seed: int) -> Sequence[Any]:
        """Inputs that no call has seen, for timing only: nothing is known of their outputs."""
        first, second = self.get(0).inputs, self.get(1).inputs
        return self.reference.unseen(first, second, seed)  # type: ignore[no-any-return]

    def error(self, outputs: Sequence[Any], case: Case) -> float:
        """The normalised error of `outputs` on `case`; inf when a special value is wrong."""
        return float(self.reference.error(outputs, case.exact, case.honest))

    def passes(self, outputs: Sequence[Any], case: Case) -> bool:
        """Whether `outputs` are within the limit on `case`; a miss is found soon."""
        limit = self.limit(case)
        return bool(self.reference.error(outputs, case.exact, case.honest, limit) <= limit)

    @property
    def count(self) -> int:
        """How many cases there are, the blend apart."""
        return len(self.names)

    def get(self, number: int) -> Case:
        """The case of that number."""
        if number not in self._made:
            made = self._make(number)
            for message in self.reference.notes:
                self._note("oracle", message)
            self.reference.notes.clear()
            specs = (*self.reference.problem.inputs, *self.reference.problem.outputs)
            each = 3 * sum(s.bytes for s in specs if s)
            if number > 1 and each * len(self._made) > self._room:
                return made
            self._made[number] = made
        return self._made[number]

    def usable(self, number: int) -> bool:
        """Whether a case can judge anybody; one that cannot is noted once, with the reason."""
        if number <= 1:
            return True
        if number in self._dropped:
            return False
        try:
            reason = self.get(number).unusable
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = f"the reference raises {str(error).strip().splitlines()[0][:120]}"
        if reason:
            self._dropped.add(number)
            self._note("inputs", f"{self.names[number]} inputs are not judged: {reason}")
        return not reason

    def honest(self, case: Case) -> float:
        """The error of honest code on a case, in the precision that the policy permits."""
        narrow = case.narrow_error(precision(self.problem.policy.precision))
        return float(max(case.honest_error, narrow if narrow <= TOO_FAR else 0.0))

    def too_far(self, row: ErrorRow, case: Case) -> tuple[str, Finding | None]:
        """Why an error is refused, and which precision policy would have allowed it."""
        own = precision(self.problem.policy.precision).name
        reason = (
            f"error {row.error:.2g} on {row.distribution} inputs; honest code gets "
            f"{row.honest:.2g}, the limit of {own} is {row.limit:.2g}"
        )
        other = self.would_meet(row.error, case)
        if not other:
            return reason, None
        message = f"{reason}: it is only as exact as {other} permits"
        mend = f"compute as exactly as {own} asks, or permit less: --precision {other}"
        finding = Finding(check="precision", severity="refusal", message=message, mend=mend)
        return message, finding

    def would_meet(self, error: float, case: Case) -> str:
        """The most exact policy, other than the problem's, that allows `error`; "" if none does."""
        own = precision(self.problem.policy.precision)
        for other in precisions().values():
            if other.name != own.name and error <= self.limit(case, other):
                return other.name
        return ""

    def limit(self, case: Case, policy: Precision | None = None) -> float:
        """The error allowed on a case, under the problem's precision policy or another.

        As a multiple of what honest code gets: of the reference's error, or of its error with
        narrower operands where the policy permits them and they still leave a result.
        """
        policy = policy or precision(self.problem.policy.precision)
        narrow = case.narrow_error(policy)
        return max(self._strict(case), policy.slack * narrow if narrow <= TOO_FAR else 0.0)

    def _strict(self, case: Case) -> float:
        """The error allowed to code in the reference's own precision.

        Where the problem itself is ill-conditioned (rounding its inputs moves the exact outputs by
        more than LEAST_EPS roundings), honest orders of summation differ by more. Where it is not,
        but PyTorch's own code is inexact, twice its error is enough above LOOSE.
        """
        problem = self.reference.problem
        eps = max((EPS[s.dtype] for s in problem.outputs if s.dtype in EPS), default=0.0)
        least = LEAST_EPS * eps
        ill = ILL_RATIO * case.honest_error if case.moved > least else 0.0
        allowed = problem.policy.error_ratio * case.honest_error
        if allowed > LOOSE and eps <= EPS["float32"]:
            allowed = max(LOOSE, 2 * case.honest_error)
        return float(max(allowed, least, ill))

    def _make(self, number: int) -> Case:
        if number in (BLEND, OTHER_BLEND):
            first, second = self.get(0).inputs, self.get(1).inputs
            inputs = self.reference.blend(first, second, self._seed - number)
            return Case(self.reference, "given", inputs)
        name = self.names[number]
        return Case(self.reference, name, self.reference.inputs(self._seed + 1 + number, name))


class Repeats(Cases):
    """The cases as one candidate meets them: whether the same inputs gave the same bits.

    Shares everything that the judge's `cases` have made.
    """

    def __init__(self, cases: Cases) -> None:
        self.__dict__.update(cases.__dict__)
        self._prints: dict[int, set[Any]] = {}
        self._repeated = self._broken = False

    def error(self, outputs: Sequence[Any], case: Case) -> float:
        """As the judge's; the outputs are noted."""
        found = super().error(outputs, case)
        number = next((n for n, made in self._made.items() if made is case), None)
        if number in (0, 1, BLEND, OTHER_BLEND):
            seen = self._prints.setdefault(number, set())
            self._repeated |= bool(seen)
            self._broken |= bool(seen) and not found <= self.limit(case)
            seen.add(self.reference.fingerprint(outputs))
        return found

    @property
    def determinism(self) -> str:
        """One of `verdict.DETERMINISM`; "" before anything was seen twice."""
        if self._broken:
            return "not"
        if any(len(seen) > 1 for seen in self._prints.values()):
            return "within bounds"
        return "bitwise" if self._repeated else ""
