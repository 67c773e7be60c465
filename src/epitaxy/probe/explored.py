"""What experiments found on this machine, beside its measured chip: one TOML per machine."""

from __future__ import annotations

import tomllib
from pathlib import Path

from epitaxy.chip import Fact
from epitaxy.errors import BadEnvironment, BadInput
from epitaxy.probe import store
from epitaxy.record import FrozenDict, Record, record

FORMAT = 1
VERDICTS = ("confirmed", "refuted", "inconclusive", "refused", "impossible")
"""`refused`: the pair is not what was meant, or unequal. `impossible`: it cannot run here."""


@record
class Measured(Record):
    """One point: `ratio` is time(a)/time(b), `low` and `high` its 99 % interval. `says` is
    "holds", "fails" or "open" for a point that a claim covers, else "outside"."""

    size: str
    bytes: int
    x: float
    time_a_s: float
    time_b_s: float
    ratio: float
    low: float
    high: float
    pairs: int
    says: str


@record
class Explored(Record):
    """The result of one experiment and the conditions that it holds under. `experiment` is the
    digest of what was run, `origin` whether that was the catalogue's or a file of the user's;
    `found` is what a sweep was for ("x = 8"), `why` what kept it from an answer."""

    name: str
    hypothesis: str
    verdict: str
    effect: str = ""
    found: str = ""
    why: str = ""
    points: tuple[Measured, ...] = ()
    conditions: FrozenDict[str] = FrozenDict()
    notes: tuple[str, ...] = ()
    experiment: str = ""
    origin: str = "catalogue"
    measured_on: str = ""

    def validate(self) -> None:
        if self.verdict not in VERDICTS:
            raise BadInput(f"unknown verdict {self.verdict!r}", f"one of {', '.join(VERDICTS)}")

    @property
    def answered(self) -> bool:
        """Whether the experiment was run to a verdict on its hypothesis."""
        return self.verdict in VERDICTS[:3]


@record
class Listed(Record):
    """One experiment of the catalogue: why it cannot run here (`needs`, else ""), and the `last`
    verdict here with its effect ("" when it was not run)."""

    name: str
    hypothesis: str
    needs: str = ""
    last: str = ""
    effect: str = ""
    measured_on: str = ""


@record
class Exploration(Record):
    """Results of experiments, and the catalogue where that was asked for."""

    results: tuple[Explored, ...] = ()
    catalogue: tuple[Listed, ...] = ()


def path() -> Path:
    """The file of this machine's results, whether or not it exists."""
    return store.path().with_suffix(".explored.toml")


def load() -> dict[str, Explored]:
    """This machine's results by name. Raises BadEnvironment when the file cannot be read."""
    file = path()
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        if data.get("format") != FORMAT:
            return {}
        return {r["name"]: Explored.from_dict(r) for r in data.get("results", [])}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, BadInput) as error:
        raise BadEnvironment(
            f"cannot read {file}: {error}", "delete it and run `epitaxy explore`"
        ) from None


def save(result: Explored) -> Path:
    """Keep `result` as this machine's latest of its name. Raises BadEnvironment."""
    with store.alone():
        known = {**load(), result.name: result}
        data = {"format": FORMAT, "results": [known[n].to_dict() for n in sorted(known)]}
        return store.write(path(), data)


def facts() -> dict[str, Fact]:
    """The answered hypotheses as facts of this machine's chip, by the experiment's name."""
    found = {}
    for name, result in load().items():
        if result.answered:
            value = f"{result.verdict}: {result.hypothesis} [{result.effect}]"
            origin = "explore" if result.origin == "catalogue" else "explore of a user's file"
            source = f"{origin}, {result.measured_on}, {result.conditions.get('compiler', '')}"
            found[name] = Fact(value=value, unit="", confidence="measured", sources=(source,))
    return found
