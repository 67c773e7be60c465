"""How often the statistics err on simulated times, with the trouble that real machines make.

    python benchmarks/simulate.py [--runs 500] [--only lasting] [--out docs/results/simulation]

Each run is a whole measurement by the full plan (`epitaxy.measure`): a baseline process that stays
warm, fresh processes of the candidate with a control in each, rounds in random order, more of
them, and more processes, where the interval is wide. Only the workers are simulated. Prints a
Markdown table: the share of runs that call a copy of the baseline faster, and that find planted
slowdowns of 3 %.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock

from epitaxy import paired, timing
from epitaxy.measure import AGAIN, OURS, Measurement
from epitaxy.timing import median
from epitaxy.verdict import Comparison

CALL_S = 2e-3
"""A burst is one call: the noise is that of bursts."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Standard deviations of the logarithm of a burst's time, unless said otherwise.

    `shared` wanders slowly and hits everybody; `own` is each process's, and remembers `memory` of
    itself from burst to burst; a share `hits` of bursts is lengthened by an exponential of mean
    `blow`; each process has an offset of `process` for life; in half-speed phases (a share `half`
    of the time, some tens of bursts long) everything takes twice as long, this party up to
    `uneven` more or less.
    """

    shared: float = 0.03
    own: float = 0.01
    memory: float = 0.0
    hits: float = 0.05
    blow: float = 0.2
    process: float = 0.002
    half: float = 0.0
    uneven: float = 0.1


SCENARIOS: Mapping[str, Scenario] = {
    "quiet": Scenario(own=0.004, hits=0.02),
    "ordinary": Scenario(),
    "heavy tails": Scenario(own=0.02, hits=0.2, blow=0.5),
    "loud": Scenario(own=0.05, hits=0.1),
    "lasting disturbances": Scenario(memory=0.8),
    "loud and lasting": Scenario(own=0.03, memory=0.8, hits=0.1),
    "drift": Scenario(shared=0.2),
    "half-speed phases": Scenario(half=0.2),
    "processes differ by 0.5 %": Scenario(own=0.004, process=0.005),
    "processes differ by 1 %": Scenario(own=0.004, process=0.01),
}


class Wandering:
    """A value that remembers `memory` of itself from step to step."""

    def __init__(self, rng: random.Random, sd: float, memory: float) -> None:
        self.rng, self.sd, self.memory = rng, sd, memory
        self.value = rng.gauss(0, sd)

    def step(self) -> float:
        """The next value."""
        rest = self.sd * math.sqrt(1 - self.memory**2)
        self.value = self.memory * self.value + self.rng.gauss(0, rest)
        return self.value


class Weather:
    """What hits everybody."""

    def __init__(self, scenario: Scenario, rng: random.Random) -> None:
        self.scenario, self.rng = scenario, rng
        self._slow = Wandering(rng, scenario.shared, 0.95)
        self.half = False

    def step(self) -> float:
        """The logarithm of everybody's slowdown in the next burst."""
        chance = 0.03 if self.half else 0.03 * self.scenario.half / (1 - self.scenario.half)
        if self.rng.random() < chance:
            self.half = not self.half
        return self._slow.step() + (math.log(2) if self.half else 0.0)


class Worker:
    """A simulated process; `slower` multiplies its time."""

    overhead_s = 0.0

    def __init__(self, scenario: Scenario, weather: Weather, slower: float = 1.0) -> None:
        self.scenario, self.weather, self.rng = scenario, weather, weather.rng
        self._level = math.log(slower) + self.rng.gauss(0, scenario.process)
        self._own = Wandering(self.rng, scenario.own, scenario.memory)
        self._uneven = self.rng.uniform(-scenario.uneven, scenario.uneven)

    def burst(self, slots: Sequence[int]) -> float:
        """Seconds for one call per slot."""
        log = self._level + self.weather.step() + self._own.step()
        log += self._uneven if self.weather.half else 0.0
        if self.rng.random() < self.scenario.hits:
            log += self.rng.expovariate(1 / self.scenario.blow)
        return len(slots) * CALL_S * math.exp(log)


@contextlib.contextmanager
def steady_processor() -> Iterator[None]:
    """The real processor's speed does not count here."""
    with mock.patch.object(timing, "pulse_s", return_value=3e-5):
        yield


def measured(
    scenario: Scenario, slower: float, rng: random.Random
) -> tuple[Comparison, Comparison]:
    """What a full judgement would say of a candidate `slower` times as slow, and what the bootstrap
    over pooled rounds alone would."""
    weather = Weather(scenario, rng)
    baseline = Worker(scenario, weather)
    it = Measurement(timing.plan("full").replace(limit_s=1e9), object())
    while not it.enough:
        pair = {name: Worker(scenario, weather, slower) for name in (OURS, AGAIN)}
        it.process({**pair, "theirs": baseline}, [0], rng)
    plain = paired.compare("theirs", it.times("theirs"), it.times(OURS))
    return it.compare("theirs"), plain


def line(name: str, scenario: Scenario, runs: int, seed: int = 1) -> str:
    """A row of the table."""
    rng = random.Random(seed)
    with steady_processor():
        copies = [measured(scenario, 1.0, rng) for _ in range(runs)]
        planted = [measured(scenario, 1.03, rng) for _ in range(runs // 2)]
    wrong = {o: sum(c.outcome == o for c, _ in copies) / runs for o in ("faster", "slower")}
    naive = sum(c.outcome == "faster" for _, c in copies) / runs
    found = sum(c.outcome == "slower" for c, _ in planted) / len(planted)
    same = [c for c, _ in copies]
    cells = (
        name, f"{wrong['faster']:.1%}", f"{wrong['slower']:.1%}", f"{naive:.1%}", f"{found:.0%}",
        f"±{median([c.half_width for c in same]):.1%}",
        f"{median([c.detectable for c in same]):.1%}", f"{median([c.pairs for c in same]):g}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| noise | says faster of a copy | says slower of a copy | bootstrap alone says faster "
    "| finds 3 % | half-width | detectable | pairs |\n|" + "---|" * 8
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--only", default="", help="scenarios whose names hold this")
    parser.add_argument("--out", default="")
    arguments = parser.parse_args()
    lines = [HEADER]
    print(HEADER, flush=True)
    for name, scenario in SCENARIOS.items():
        if arguments.only in name:
            lines.append(line(name, scenario, arguments.runs))
            print(lines[-1], flush=True)
    if arguments.out:
        text = "\n".join(["# Simulated error rates", "", __doc__ or "", *lines, ""])
        Path(f"{arguments.out}.md").write_text(text)


if __name__ == "__main__":
    main()
