"""Verdict: what the judge found, with every sample it was found from."""

from __future__ import annotations

import math
from collections.abc import Mapping

from epitaxy.errors import BadInput
from epitaxy.record import FrozenDict, Record, record

STATUSES: Mapping[str, str] = FrozenDict(
    accepted="correct, and timed where the basis is measured",
    unchecked="built by the real compiler, and nothing here can run it",
    build_failed="the compiler refused it",
    refused="a check refused it",
    incorrect="its outputs differ from the oracle",
    crashed="its process died or raised",
    timeout="it did not finish in the time allowed",
    machine_fault="the machine failed; nothing is said about the candidate",
)

BASES: Mapping[str, str] = FrozenDict(
    measured="run and timed on the chip",
    checked="correct under a simulator or interpreter, built by the chip's own compiler, not timed",
    compiled="built by the chip's own compiler, not run",
    simulated="correct under a simulator or model, not built by the chip's own compiler, not timed",
)
CONDITIONS: Mapping[str, str] = FrozenDict(
    warm="inputs rotate, caches hold what the calls before left there",
    cold="every core's caches are filled with other data before each call, for both sides",
)
DETERMINISM: Mapping[str, str] = FrozenDict(
    {
        "": "nothing was computed twice",
        "bitwise": "the same inputs gave the same bits, in every repetition and process",
        "within bounds": "repetitions differ in bits, each within its limit",
        "not": "right once and wrong later, on the same inputs",
    }
)


@record
class Finding(Record):
    """One remark of one check: severity "refusal", "warning" or "note"; a refusal has a mend."""

    check: str
    severity: str
    message: str
    mend: str = ""

    def validate(self) -> None:
        if self.severity not in ("refusal", "warning", "note"):
            raise BadInput(f"unknown severity {self.severity!r}", "use refusal, warning or note")


@record
class ErrorRow(Record):
    """Error on one input distribution: normalised max error against the float64 oracle.

    `honest` is what the reference gets in the same precision, or, if that is more, what rounding
    the inputs alone changes; `limit` is what was allowed.
    """

    distribution: str
    error: float
    honest: float
    limit: float

    @property
    def ok(self) -> bool:
        """Whether the error is within its limit (a NaN is not)."""
        return self.error <= self.limit


@record
class Comparison(Record):
    """Candidate against one baseline: `speedup` = median of paired baseline/candidate times.

    `low`, `high`: the interval that holds it with probability `confidence` (`paired.py`);
    `outcome`: "faster", "slower" or "no evidence"; `detectable`: the least |speedup - 1| that
    would have been found nineteen times in twenty. Records from before 0.99 say 0.95.
    """

    baseline: str
    time_s: float
    speedup: float
    low: float
    high: float
    outcome: str
    detectable: float
    pairs: int
    confidence: float = 0.95

    @property
    def half_width(self) -> float:
        """Half the interval's width, as a share of the ratio."""
        return (self.high - self.low) / (2 * self.speedup)

    def validate(self) -> None:
        if self.outcome not in ("faster", "slower", "no evidence"):
            raise BadInput(f"unknown outcome {self.outcome!r}", "use faster, slower or no evidence")
        if not self.low <= self.speedup <= self.high:
            raise BadInput("an interval must contain its median", "check low <= speedup <= high")
        implied = "faster" if self.low > 1 else "slower" if self.high < 1 else "no evidence"
        if self.outcome != implied:
            raise BadInput(
                f"outcome {self.outcome!r} contradicts its interval", f"it implies {implied!r}"
            )


@record
class Floor(Record):
    """The physical lower limit on the time (s), and what sets it: "compute" or a memory level."""

    time_s: float
    limit: str
    compute_s: float
    memory_s: float
    measured: bool

    def validate(self) -> None:
        if self.time_s < max(self.compute_s, self.memory_s):
            raise BadInput("a floor is the maximum of its parts", "set time_s to that maximum")


@record
class Verdict(Record):
    """Everything the judge found about one candidate on one machine under one plan.

    `basis` is one of BASES: times exist only where it is "measured". `samples` maps each party
    ("candidate" and the baselines) to its raw times in seconds, in the order taken; they exist
    only when the status is "accepted". `speedup` is against the strongest baseline.
    `determinism` is one of DETERMINISM, `condition` of CONDITIONS; `threads` 0 means PyTorch's own
    choice, one per core. `algebra` is how many times less work than the reference the candidate
    does, at the roofline (`roofline.algebra`); what remains of the speed-up is `silicon`.
    """

    candidate: str
    problem: str
    machine: str
    plan: str
    status: str
    basis: str = "measured"
    reason: str = ""
    errors: tuple[ErrorRow, ...] = ()
    time_s: float | None = None
    samples: FrozenDict[tuple[float, ...]] = FrozenDict()
    comparisons: tuple[Comparison, ...] = ()
    floor: Floor | None = None
    energy_j: float | None = None
    metrics: FrozenDict[float] = FrozenDict()
    findings: tuple[Finding, ...] = ()
    build_log: str = ""
    judged_unix_s: float = 0.0
    determinism: str = ""
    condition: str = "warm"
    threads: int = 0
    algebra: float = 1.0

    def validate(self) -> None:
        if self.condition not in CONDITIONS:
            raise BadInput(
                f"unknown condition {self.condition!r}", f"use {' or '.join(CONDITIONS)}"
            )
        if self.status not in STATUSES:
            raise BadInput(f"unknown status {self.status!r}", f"use one of {', '.join(STATUSES)}")
        if not 1 <= self.algebra < math.inf:
            raise BadInput(f"algebra {self.algebra} is no gain", "it is 1 or more, and finite")
        if self.determinism not in DETERMINISM:
            raise BadInput(
                f"unknown determinism {self.determinism!r}", f"use {', '.join(DETERMINISM)}"
            )
        self._validate_basis()
        if self.status != "accepted" and (self.samples or self.comparisons):
            raise BadInput(f"a verdict that is {self.status} holds no samples", "drop them")
        if self.status == "accepted" and any(not row.ok for row in self.errors):
            raise BadInput("an accepted verdict has an error over its limit", "it is incorrect")
        if self.status == "accepted" and self.refusal is not None:
            raise BadInput("an accepted verdict holds a refusal", "it is refused")
        if self.status != "accepted" and not self.reason:
            raise BadInput(f"a verdict that is {self.status} must say why", "fill in reason")

    def _validate_basis(self) -> None:
        """A time needs a clock on the chip; being correct needs to have run."""
        if self.basis not in BASES:
            raise BadInput(f"unknown basis {self.basis!r}", f"use one of {', '.join(BASES)}")
        timed = self.status == "accepted" and self.basis == "measured"
        if timed != (self.time_s is not None):
            raise BadInput(
                "a verdict holds a time if and only if it is accepted and measured",
                "drop one of the two",
            )
        if self.basis != "measured" and (self.samples or self.comparisons or self.energy_j):
            raise BadInput(f"a verdict that is {self.basis} holds no measurement", "drop it")
        if self.status == "accepted" and self.basis == "compiled":
            raise BadInput("what was only compiled is not shown to be correct", "use unchecked")
        if self.status == "unchecked" and self.basis != "compiled":
            raise BadInput("what is unchecked was compiled alone", "use the basis compiled")

    @property
    def accepted(self) -> bool:
        """Whether the candidate is correct, and timed where the basis is measured."""
        return self.status == "accepted"

    @property
    def refusal(self) -> Finding | None:
        """The finding that refused the candidate, if one did."""
        return next((f for f in self.findings if f.severity == "refusal"), None)

    @property
    def strongest(self) -> Comparison | None:
        """The comparison with the fastest baseline."""
        return min(self.comparisons, key=lambda c: c.speedup, default=None)

    @property
    def won(self) -> bool:
        """Whether the candidate is shown to be faster than the strongest baseline."""
        return self.strongest is not None and self.strongest.outcome == "faster"

    @property
    def speedup(self) -> float | None:
        """Speed-up over the strongest baseline."""
        return self.strongest.speedup if self.strongest else None

    @property
    def merit(self) -> float:
        """By what candidates are ranked: the speed-up where measured, else how near to the floor
        static metrics predict it to run (`predict.py`); 0.0 where neither is known."""
        if self.basis == "measured":
            return self.speedup or 0.0
        predicted = self.metrics.get("predicted_cost", 0.0)
        return 1.0 / predicted if predicted > 0 else 0.0

    @property
    def silicon(self) -> float | None:
        """Speed-up over the strongest baseline without what better algebra brought."""
        return None if self.speedup is None else self.speedup / self.algebra

    @property
    def of_limit(self) -> float | None:
        """Floor of the work that the candidate does, divided by its time: 1.0 is the silicon's
        limit."""
        if not self.floor or not self.time_s:
            return None
        return self.floor.time_s / self.algebra / self.time_s
