"""Both kernels of a pair must compute the same."""

from __future__ import annotations

from typing import Protocol

from epitaxy.experiments.process import A, B, Failed

POISONS = (0x00, 0xFF)


class Shows(Protocol):
    """What shows a kernel's output: a Pair."""

    def output(self, variant: int, poison: int) -> bytes:
        """What one call writes over `poison`."""


def check(pair: Shows, tolerance: float = 0.0) -> None:
    """Raises Failed unless both kernels write every byte of their output, and the same values.

    Each is called on two poisons: what it leaves unwritten differs. `tolerance` is relative to
    |value| + rms of float32 values; 0 demands the same bits.
    """
    first = pair.output(A, POISONS[0])
    for variant, poison in ((A, POISONS[1]), (B, POISONS[0]), (B, POISONS[1])):
        text = difference(first, pair.output(variant, poison), tolerance)
        if text and variant == A:
            raise Failed(f"kernel a leaves output unwritten, or is not repeatable: {text}")
        if text:
            raise Failed(f"the kernels do not compute the same: {text}")


def difference(first: bytes, second: bytes, tolerance: float) -> str:
    """How two outputs differ; "" when they agree."""
    if first == second:
        return ""
    if not tolerance:
        import numpy as np

        ours, theirs = np.frombuffer(first, np.uint8), np.frombuffer(second, np.uint8)
        wrong = np.flatnonzero(ours != theirs)
        return f"{len(wrong)} of {len(ours)} bytes differ, the first at {wrong[0]}"
    return _far(first, second, tolerance)


def _far(first: bytes, second: bytes, tolerance: float) -> str:
    import numpy as np

    ours, theirs = (np.frombuffer(x, np.float32).astype(np.float64) for x in (first, second))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return "there are values that are not finite"
    allowed = tolerance * (np.abs(ours) + np.sqrt(np.mean(ours * ours)))
    error = np.abs(ours - theirs)
    wrong = np.flatnonzero(error > allowed)
    if not len(wrong):
        return ""
    at = wrong[0]
    return f"{len(wrong)} of {len(ours)} values differ, the first {ours[at]:g} and {theirs[at]:g}"
