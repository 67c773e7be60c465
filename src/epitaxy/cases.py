"""Cases: the secret inputs that a candidate is judged on, with their exact outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
LEAST_EPS = 16
"""Errors below this many units of the last place are never held against a candidate."""
KEPT_BYTES = 6 << 30
BLEND = -1
"""The case that is one of the timed ones but for a stretch of each input."""
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
        self.honest = reference.run(inputs)
        self.exact = reference.oracle(inputs)
        self.unusable = reference.unusable(self.exact, self.honest, distribution)
        self.honest_error = reference.error(self.honest, self.exact, self.honest)
        self.moved = 0.0 if self.unusable else reference.movement(inputs, self.exact, self.honest)
        self.honest_error = max(self.honest_error, self.moved)
        if not self.unusable and self.honest_error > TOO_FAR:
            self.unusable = f"honest code itself errs by {self.honest_error:.1g}"


class Cases:
    """The cases of one problem, made when first wanted and kept while memory allows.

    Numbers 0 and 1 are the file's own inputs under two seeds, then come the reference's other
    distributions in order; BLEND is case 0 with a stretch of case 1. `note(check, message)` hears
    about distributions that cannot judge anybody.
    """

    def __init__(self, reference: Any, seed: int, note: Callable[[str, str], None]) -> None:
        self.names = ["given", *reference.distributions()]
        self.reference = reference
        self._seed, self._note = seed, note
        self._made: dict[int, Case] = {}
        self._dropped: set[int] = set()

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

    @property
    def count(self) -> int:
        """How many cases there are, the blend apart."""
        return len(self.names)

    def get(self, number: int) -> Case:
        """The case of that number."""
        if number not in self._made:
            made = self._make(number)
            specs = (*self.reference.problem.inputs, *self.reference.problem.outputs)
            each = 3 * sum(s.bytes for s in specs if s)
            if number > 3 and each * len(self._made) > KEPT_BYTES:
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

    def limit(self, case: Case) -> float:
        """The error allowed on a case: the policy's multiple of what honest code gets.

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
        if number == BLEND:
            first, second = self.get(0).inputs, self.get(1).inputs
            return Case(self.reference, "given", self.reference.blend(first, second, self._seed))
        name = self.names[number]
        return Case(self.reference, name, self.reference.inputs(self._seed + 1 + number, name))
