"""The catalogue of timed ablations: what is left out or changed, by which build or condition."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from epitaxy.candidate import Candidate
from epitaxy.errors import BadCandidate
from epitaxy.profiling import edits
from epitaxy.record import FrozenDict
from epitaxy.toolchain import Variant

SOURCES = (".cpp", ".h", ".hpp", ".inc")


@dataclass(frozen=True)
class Ablation:
    """One change. `says` completes "the time ..."; `threads` above 0 limits them; `rewrite` changes
    the candidate's sources, and raises BadCandidate where it finds nothing to change; `even` gives
    every element of a floating-point input the same ordinary value. `needs` are metrics of which
    one must be above 0 for it to tell anything. Not `usual`: only where it is asked for.
    `smaller`: the problem is cut down to what the caches hold."""

    name: str
    says: str
    variant: Variant | None = None
    threads: int = 0
    rewrite: Callable[[Candidate], Candidate] | None = None
    even: bool = False
    needs: tuple[str, ...] = ()
    usual: bool = True
    smaller: bool = False

    def pointless(self, known: Mapping[str, float]) -> str:
        """Why it would tell nothing, from the metrics that are known; "" where it may."""
        asked = [n for n in self.needs if n in known]
        if not asked or any(known[n] > 0 for n in asked):
            return ""
        return f"nothing to leave out: {' and '.join(asked)} {'is' if len(asked) == 1 else 'are'} 0"


def dynamic(candidate: Candidate) -> Candidate:
    """Iterations of parallel loops are handed out one by one instead of in equal shares."""
    changed = 0
    files: dict[str, str] = {}
    for name, text in candidate.files.items():
        if name.endswith(SOURCES):
            text, count = _PRAGMA.subn(_one_by_one, text)
            changed += count
        files[name] = text
    if not changed:
        raise BadCandidate("it has no parallel loop whose shares OpenMP makes", "")
    return candidate.replace(files=FrozenDict(files))


_PRAGMA = re.compile(r"^(\s*#\s*pragma\s+omp\s+(?:parallel\s+)?for\b)(?!.*\bsimd\b)(.*)$", re.M)


def _one_by_one(match: re.Match[str]) -> str:
    rest = re.sub(r"\bschedule\s*\([^)]*\)", "", match[2])
    return f"{match[1]} schedule(dynamic, 1){rest}"


def _edited(name: str, says: str, edit: Callable[[str], str], *needs: str) -> Ablation:
    return Ablation(name, says, Variant(f"{name} 2", (), edit), needs=needs)


def _flagged(
    name: str, says: str, *flags: str, needs: tuple[str, ...] = (), usual: bool = True
) -> Ablation:
    variant = Variant(f"{name} 2", flags, edits.same)
    return Ablation(name, says, variant, needs=needs, usual=usual)


CATALOGUE: Mapping[str, Ablation] = {
    a.name: a
    for a in (
        Ablation("one_thread", "on one thread", threads=1),
        Ablation("in_cache", "per byte, at a size that the caches hold", smaller=True),
        Ablation("even_inputs", "with inputs of one value", even=True),
        Ablation("dynamic_schedule", "with iterations handed out one by one", rewrite=dynamic,
                 needs=("sample.imbalance",)),
        _edited("without_stores", "without its stores to memory", edits.without_stores),
        Ablation("one_thread_without_stores", "on one thread without stores",
                 Variant("without_stores 2", (), edits.without_stores), threads=1),
        _edited("without_loads", "without its loads from memory", edits.without_loads),
        _edited("without_memory", "without loads and stores", edits.without_memory),
        _edited("streaming", "with streaming stores", edits.streaming),
        _edited("not_streaming", "with plain stores", edits.not_streaming),
        _edited("denormals_flushed", "with denormals taken as zero", edits.flush_denormals),
        _edited("cheap_divides", "with divisions and roots made cheap", edits.cheap_divides,
                "static.divides"),
        _edited("without_math_calls", "without calls of exp, log ...", edits.without_math_calls,
                "static.math_calls"),
        _edited("without_spills", "without vectors kept on the stack", edits.without_spills,
                "static.spills"),
        _edited("without_atomics", "without the locks of its atomics", edits.without_atomics),
        _flagged("not_vectorised", "without the compiler's vectors",
                 "-fno-tree-vectorize", "-fno-tree-slp-vectorize"),
        _flagged("reordered", "with sums in any order", "-ffast-math"),
        _flagged("single_constants", "with constants in float32", "-fsingle-precision-constant",
                 needs=("static.converts",)),
        _flagged("unoptimised", "at -O1", "-O1", usual=False),
        _flagged("plain_cpu", "built for any x86-64", "-march=x86-64", usual=False),
    )
}  # fmt: skip
