"""What the desk's tools answer: frozen records that the command line, the MCP server and the agent
loop share. Times are in seconds, rates per second; None is unknown, and `unknown` says why.
"""

from __future__ import annotations

from epitaxy.metric import Bottleneck
from epitaxy.record import FrozenDict, Record, record


@record
class Baseline(Record):
    """What a kernel must beat: its name and its time of one call, as last measured here."""

    name: str
    time_s: float


@record
class ProblemCard(Record):
    """One problem on one chip: what to compute, what it costs at least, what is known of it.

    `problem` is the id, `sha256` the digest of reference, shapes and policy: an edited reference is
    another problem. `flops` and `bytes` are the least work of one call, `intensity` flops per byte,
    `ridge` the intensity at which this chip's arithmetic and memory take equally long. `limit` is
    what sets the floor. `best` is the id of the fastest accepted candidate, `why` says in one line
    what made it so.
    """

    problem: str
    sha256: str
    name: str
    source: str
    entry: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[str, ...]
    policy: FrozenDict[str]
    flops: float
    bytes: float
    working_set_bytes: int
    chip: str
    floor_s: float | None = None
    limit: str = ""
    intensity: float | None = None
    ridge: float | None = None
    baselines: tuple[Baseline, ...] = ()
    judged: FrozenDict[int] = FrozenDict()
    best: str = ""
    best_time_s: float | None = None
    best_speedup: float | None = None
    best_of_limit: float | None = None
    why: str = ""
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@record
class Memory(Record):
    """One level of memory: bytes that run at its speed (0: unbounded), bytes per second, seconds.

    0.0 is "not known".
    """

    name: str
    bytes: int
    read_bytes_per_s: float
    write_bytes_per_s: float = 0.0
    stream_bytes_per_s: float = 0.0
    latency_s: float = 0.0


@record
class ChipCard(Record):
    """One chip: peaks (operations per second by dtype), memories, and its ridge points (operations
    per byte of the last memory). `facts` are a datasheet's, each with unit, confidence, sources.
    """

    chip: str
    name: str
    vendor: str
    kind: str
    measured: bool
    cores: int
    vector_bytes: int
    vector_registers: int
    isa: tuple[str, ...]
    peak_per_s: FrozenDict[float]
    peak_core_per_s: FrozenDict[float]
    memories: tuple[Memory, ...]
    ridges: FrozenDict[float]
    barrier_s: float
    facts: FrozenDict[str]
    notes: tuple[str, ...]
    unknown: tuple[str, ...]


@record
class ErrorCard(Record):
    """The distribution on which a candidate erred most, measured by its limit.

    `error` is None where it is no number: NaN or infinite.
    """

    distribution: str
    error: float | None
    limit: float


@record
class VerdictCard(Record):
    """A verdict, cut to what matters for the next step.

    `reason` and `mend` are set when it is not accepted; `compiler` is the compiler's message, cut
    to its errors. `speedup` is over `strongest`, the fastest baseline, `low` and `high` hold it.
    `known` says that nothing was run: these sources have been judged before. `diagnosis` is what
    its own figures say of its limits.
    """

    candidate: str
    problem: str
    status: str
    accepted: bool
    plan: str
    basis: str
    reason: str = ""
    mend: str = ""
    compiler: str = ""
    time_s: float | None = None
    strongest: str = ""
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    outcome: str = ""
    baselines: tuple[Baseline, ...] = ()
    floor_s: float | None = None
    limit: str = ""
    of_limit: float | None = None
    algebra: float = 1.0
    determinism: str = ""
    worst_error: ErrorCard | None = None
    metrics: FrozenDict[float] = FrozenDict()
    remarks: tuple[str, ...] = ()
    diagnosis: tuple[Bottleneck, ...] = ()
    known: bool = False


@record
class CandidateCard(Record):
    """A candidate with its sources and what became of it (`verdict` None: not judged yet), and the
    latest profile that was taken of it (None: never profiled)."""

    candidate: str
    problem: str
    toolchain: str
    proposer: str
    intent: str
    genome: str
    parents: tuple[str, ...]
    regions: tuple[str, ...]
    left: tuple[str, ...]
    files: FrozenDict[str]
    verdict: VerdictCard | None = None
    profile: ProfileCard | None = None


@record
class Grown(Record):
    """A candidate that the grower wrote, and the verdict on it where it was asked for."""

    candidate: str
    genome: str
    intent: str
    regions: tuple[str, ...]
    left: tuple[str, ...]
    verdict: VerdictCard | None = None


@record
class GrowCard(Record):
    """What the grower wrote, the fastest first where it was judged.

    `decisions` gives the values tried of each decision ("region0.unroll": "1, 2, 4, 8"), `meaning`
    says what each decides; `reason` says why there are fewer than asked for.
    """

    grown: tuple[Grown, ...]
    decisions: FrozenDict[str]
    meaning: FrozenDict[str]
    reason: str = ""


@record
class DiagnosisCard(Record):
    """What limits kernels, the heaviest first: evidence, gain with formula and source, the move.

    `unasked` maps rules that could not be asked to what they need; `unknown` are metrics that no
    table explains. `left_out` counts bottlenecks that are not shown.
    """

    kernels: tuple[str, ...]
    bottlenecks: tuple[Bottleneck, ...]
    unasked: FrozenDict[str]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: int = 0


@record
class AblationCard(Record):
    """A variant of a candidate timed beside it: `ratio` is its time over the candidate's, in [low,
    high] where so few rounds say that. Far below 1: what the variant leaves out costs that much."""

    name: str
    ratio: float
    low: float | None
    high: float | None


@record
class ProfileCard(Record):
    """What this machine tells of one candidate: timed variants, the hot loop in a sentence, every
    metric by name, and what limits it. `failed` maps variants that could not be tried to why;
    `taken_unix_s` is when it was measured (Unix time, s).
    """

    candidate: str
    taken_unix_s: float
    time_s: float | None
    ablations: tuple[AblationCard, ...]
    failed: FrozenDict[str]
    loop: str
    metrics: FrozenDict[float]
    diagnosis: DiagnosisCard
    notes: tuple[str, ...] = ()


@record
class LessonCard(Record):
    """One thing learnt before: `told` says the move, its effect, where, how often and the evidence.

    `likeness` (0 to 1) is that of its problem and chip to this one's; `candidate` shows it, where
    it is of this ledger.
    """

    told: str
    kind: str
    effect: str
    likeness: float
    candidate: str


@record
class LessonsCard(Record):
    """What earlier problems taught that may help here, the likest first."""

    lessons: tuple[LessonCard, ...]
    note: str = ""


@record
class ExportCard(Record):
    """A candidate as a folder: `model` is its model_new.py, `files` everything in it."""

    candidate: str
    folder: str
    model: str
    files: tuple[str, ...]
    headline: str


@record
class Row(Record):
    """One figure of two candidates; `ratio` is other / one, None where that says nothing."""

    name: str
    one: float | None
    other: float | None
    ratio: float | None = None


@record
class CompareCard(Record):
    """Two candidates side by side: `diff` leads from `one` to `other`, as do the decisions
    ("region0 unroll": "4 -> 8"). `shortened` counts the lines of the difference left out.

    `figures` are those of the verdicts, then those of the latest profiles on one machine; `note`
    says where only one of the two was profiled.
    """

    one: str
    other: str
    same_problem: bool
    diff: str
    shortened: int
    decisions: FrozenDict[str]
    figures: tuple[Row, ...]
    one_status: str
    other_status: str
    note: str = ""


@record
class Hit(Record):
    """One candidate found in the ledger; `speedup` over its strongest baseline, on `machine`.
    `limits` is what its latest profile says, the heaviest first ("few_threads 50%")."""

    candidate: str
    problem: str
    name: str
    machine: str
    status: str
    speedup: float | None
    time_s: float | None
    intent: str
    genome: str
    reason: str
    limits: tuple[str, ...] = ()


@record
class DeadEnd(Record):
    """A reason why candidates failed, how often, and one of them."""

    reason: str
    times: int
    example: str


@record
class SearchCard(Record):
    """What the ledger holds: what worked, the best first, and what did not.

    `similar` names other problems that share operators, by their names. `considered` counts the
    judged candidates that were looked at.
    """

    worked: tuple[Hit, ...]
    dead_ends: tuple[DeadEnd, ...]
    similar: tuple[str, ...]
    considered: int
