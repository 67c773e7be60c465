"""Genome: the named decisions that fix a candidate, as text and back.

`region0(width=8 unroll=4 stash=1 ...) region1(...)`: one group of decisions per region. The
meaning of each decision stands in DECISIONS; a genome prints completely and can be replayed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from epitaxy.errors import BadInput
from epitaxy.proposers._genomes import read

DECISIONS: dict[str, str] = {
    "algebra": "1: the cheapest form that the rules of algebra find, 0: the form it was written in",
    "samples": "1: one sample (index of the first dimension) after the other, each by one thread, "
    "together with neighbouring regions that do so, 0: all samples at once; more: so many parts of "
    "a sample's channels, one after the other, together with what reads them channel by channel",
    "leave": "1: leave the region to the framework's own operators, 0: grow it",
    "width": "float lanes of one vector value",
    "unroll": "vectors handled together in the innermost loop, each with its own accumulators",
    "stash": "1: keep costly row values between passes, 0: compute them again",
    "stream": "1: write results past the caches, 0: through them",
    "threads": "threads of the parallel loops, 0: as many as PyTorch uses",
    "grain": "elements of one piece of an element-wise loop",
    "tile": "float lanes handled together when each lane is a row of its own",
    "split": "pieces that a long reduction or scan is cut into for the threads, 0: none",
    "online": "1: dependent reductions of pieces from one reading, 0: a reading for each",
    "lane": "0: vectorise along the most contiguous axis, 1: along the next best",
    "windows": "1: windows one direction after the other, 2: so, few lines at a time where they "
    "overlap, 3: weighed ones from a copy of each plane, several rows at once, 0: all elements of "
    "one at once",
    "sum": "0: plain partial sums, 1: sums in blocks, 2: compensated sums",
    "dynamic": "1: threads take pieces as they get free, 0: a fixed share each",
    "form": "of a contraction, 0: register tiles, 1: lanes along the contracted axis, "
    "2: rows of the right operand one after the other, 4: lanes along the rows of the result, "
    "blocks of which are turned before they are finished; of a convolution, 3: lanes along the "
    "filters, else along the pixels; of a recurrent layer, 1: each thread has rows or directions "
    "of its own, 2: each has layers of its own, 0: all threads share each step",
    "attend": "1: attention as one kernel with a running softmax, 0: product by product",
    "tile_m": "rows of a contraction's register tile",
    "tile_n": "vectors in a row of a contraction's register tile",
    "kc": "steps along the contracted axis before the sums are put aside",
    "mc": "rows of the result that one piece of a contraction computes, at most those of a thread "
    "in a recurrent layer of form 1",
    "nc": "columns of the result that one piece of a contraction computes",
    "across": "1: register tiles of a piece row by row, 0: column by column",
    "split_k": "pieces that the contracted axis is cut into for the threads; of a recurrent layer, "
    "spans of its steps: products with x are made for one at a time, and in form 2 a layer is one "
    "behind the layer before",
    "pack_a": "1: copy the left operand tile by tile before use, 0: read it where it is",
    "pack_b": "1: copy the right operand panel by panel before use, 2: one that all threads share "
    "past the caches, 0: read it where it is",
    "keep": "1: copies of weights are made once and kept until a weight changes, 0: in every call",
    "ahead": "1: fetch the next row while a pass over this one runs, rows that data chooses some "
    "rows early (the next product of a batch while this one is worked out), 0: don't",
    "winograd": "results of each side of a square in Winograd's transform of a 3 x 3 convolution, "
    "0: no transform",
    "squares": "squares that one piece of a transformed convolution computes",
    "prefetch": "vectors (quarter rows in a tile) to fetch early, 0: leave it to the hardware",
}


@dataclass(frozen=True)
class Choices:
    """The decisions for one region; see DECISIONS."""

    width: int = 8
    unroll: int = 4
    stash: int = 1
    stream: int = 1
    threads: int = 0
    grain: int = 32768
    tile: int = 64
    split: int = 0
    online: int = 1
    lane: int = 0
    windows: int = 1
    sum: int = 1
    dynamic: int = 0
    prefetch: int = 0
    form: int = 0
    tile_m: int = 6
    tile_n: int = 2
    kc: int = 256
    mc: int = 96
    nc: int = 512
    across: int = 0
    split_k: int = 1
    pack_a: int = 0
    pack_b: int = 1
    winograd: int = 0
    squares: int = 32
    ahead: int = 0
    keep: int = 0
    attend: int = 1
    algebra: int = 0
    samples: int = 0
    leave: int = 0

    @property
    def pieces(self) -> int:
        """How many parts of a sample run one after the other: one where transformed weights would
        be made anew for each."""
        return 1 if self.winograd else self.samples

    def __str__(self) -> str:
        return " ".join(f"{k}={v}" for k, v in asdict(self).items())


@dataclass(frozen=True)
class Genome:
    """Choices for every region of a program, by region name."""

    regions: tuple[tuple[str, Choices], ...]

    def __str__(self) -> str:
        return " ".join(f"{name}({choices})" for name, choices in self.regions)

    def of(self, region: str) -> Choices:
        """The choices for one region. Raises BadInput for an unknown one."""
        for name, choices in self.regions:
            if name == region:
                return choices
        raise BadInput(
            f"the genome says nothing of {region!r}",
            f"it has {', '.join(n for n, _ in self.regions)}",
        )

    def with_choice(self, region: str, **changes: int) -> Genome:
        """A copy with some decisions of one region changed."""
        return Genome(
            tuple((n, replace(c, **changes) if n == region else c) for n, c in self.regions)
        )


_KNOWN = sorted(f.name for f in fields(Choices))


def parse(text: str) -> Genome:
    """Read a printed genome. Raises BadInput on unknown decisions or broken text."""
    return Genome(read(text, _KNOWN, lambda d: Choices(**d), "region0(width=8 unroll=4 ...)"))
