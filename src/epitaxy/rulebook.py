"""The rules that turn metrics into bottlenecks, and tables of metric names: data, with sources.

`rules/*.toml` hold rules; several files may serve one family. `rules/names/*.toml` hold, for each
family, which metric names exist, on which chips, and what they mean.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from epitaxy import expression
from epitaxy.errors import BadInput, UnknownName
from epitaxy.metric import SEVERITIES
from epitaxy.record import FrozenDict, Record, record

_SOURCE = re.compile(r"(\w*)[ ;,:]*(.*)")
_HOLE = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")


@record
class Rule(Record):
    """`when` holds: `limit` limits the kernel; `gain` of its time goes at best by `move`.

    Expressions are those of `expression.py`; `let` are definitions that they may use. `says` is a
    sentence with holes "{expression:format}". `explained_by` are rules whose bottleneck makes this
    one a symptom.
    """

    # The default hides Record.id (a property without a setter), as for Chip.
    id: str = ""
    family: str
    limit: str
    when: str
    says: str
    move: str
    source: str
    gain: str = ""
    severity: str = "medium"
    explained_by: tuple[str, ...] = ()
    let: FrozenDict[str] = FrozenDict()

    def validate(self) -> None:
        if self.severity not in SEVERITIES:
            raise BadInput(f"rule {self.id}: severity {self.severity!r}", "use high, medium or low")
        for text in (self.when, self.gain, *(hole for hole, _ in _HOLE.findall(self.says))):
            expression.parse(text or "0")

    def sentence(self, numbers: expression.Evaluation) -> str:
        """`says` with its holes filled in. Raises Missing, Undefined."""
        return _HOLE.sub(lambda m: format(numbers.value(m[1]), m[2] or ".3g"), self.says)

    def formula(self) -> str:
        """`gain` with what its definitions stand for."""
        used = [n for n in expression.names(self.gain) if n in self.let] if self.gain else []
        where = "; ".join(f"{n} = {self.let[n]}" for n in used)
        return f"{self.gain}, where {where}" if where else self.gain


@record
class Name(Record):
    """What is known of one metric name; `chips` are code names, () where all of the family."""

    what: str = ""
    unit: str = ""
    group: str = ""
    chips: tuple[str, ...] = ()


@record
class Names(Record):
    """The metric names of one family. `codes` maps what reports call a chip to its code name,
    `labels` what a report shows, alone or as "section/label", to the metric's name; names that
    begin with a prefix of `prefixes` are known; `toolchains` build for chips of this family, which
    are those of `vendors`: "AMD gpu", or a kind alone."""

    source: str
    names: FrozenDict[Name]
    codes: FrozenDict[str] = FrozenDict()
    labels: FrozenDict[str] = FrozenDict()
    prefixes: tuple[str, ...] = ()
    toolchains: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()


def find(family: str, metric: str) -> Name | None:
    """The entry for a metric, or for its base name without roll-ups; None where unknown."""
    table = names(family)
    found = table.names.get(metric) or _bases(family).get(metric.split(".")[0])
    if found is None and metric.startswith(table.prefixes or ("\0",)):
        return Name()
    return found


@cache
def _bases(family: str) -> dict[str, Name]:
    """Entries by the part of their name before the first dot."""
    entries = names(family).names.items()
    return {metric.split(".")[0]: entry for metric, entry in entries if "." in metric}


@cache
def families() -> tuple[str, ...]:
    """Every family that has rules, sorted."""
    return tuple(sorted({rule.family for rule in _all()}))


@cache
def rules(family: str) -> tuple[Rule, ...]:
    """The rules of one family, in the files' order. Raises UnknownName."""
    if family not in families():
        raise UnknownName.of("family of chips", family, families())
    return tuple(rule for rule in _all() if rule.family == family)


@cache
def names(family: str) -> Names:
    """The metric names of one family; an empty table where none is known."""
    file = resources.files("epitaxy") / "rules" / "names" / f"{family}.toml"
    if not file.is_file():
        return Names(source="", names=FrozenDict())
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    try:
        known = {
            metric: Name(**{"group": group, **entry})
            for group, entries in data["names"].items()
            for metric, entry in entries.items()
        }
        more = {
            k: data[k]
            for k in ("codes", "labels", "prefixes", "toolchains", "vendors")
            if k in data
        }
        return Names(source=data["source"], names=FrozenDict(known), **more)
    except (KeyError, TypeError) as error:
        raise BadInput(f"rules/names/{family}.toml: {error}", "see another family's") from None


def family_of(toolchain: str) -> str:
    """The family that a toolchain builds for, by the tables of names. Raises UnknownName."""
    by_toolchain = {t: f for f in families() for t in names(f).toolchains}
    if toolchain not in by_toolchain:
        raise UnknownName.of("toolchain with rules", toolchain, by_toolchain)
    return by_toolchain[toolchain]


@cache
def _all() -> tuple[Rule, ...]:
    folder = resources.files("epitaxy") / "rules"
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".toml"))
    found = [r for f in files for r in read(f, (folder / f).read_text(encoding="utf-8"))]
    known: set[tuple[str, str]] = set()
    for rule in found:
        if (rule.family, rule.id) in known:
            raise BadInput(f"two rules are called {rule.id!r}", "rename one")
        known.add((rule.family, rule.id))
    for rule in found:
        unknown = [other for other in rule.explained_by if (rule.family, other) not in known]
        if unknown:
            raise BadInput(f"rule {rule.id}: no rule {unknown[0]!r} explains it", "mend its name")
    return tuple(found)


def read(file: str, text: str) -> list[Rule]:
    """The rules of one file. Raises BadInput with the file and the rule."""
    try:
        data = tomllib.loads(text)
        served = data["family"] if isinstance(data["family"], list) else [data["family"]]
        made = []
        for entry in data.get("rule", []):
            made += [_rule(data, one, family) for family in served for one in _each(entry)]
        return made
    except (tomllib.TOMLDecodeError, KeyError, TypeError, BadInput) as error:
        raise BadInput(f"rules/{file}: {error}", "see any other file of rules") from None


def _rule(data: Mapping[str, Any], entry: Mapping[str, Any], family: str) -> Rule:
    key, place = _SOURCE.fullmatch(entry["source"]).groups()  # type: ignore[union-attr]
    source = data["sources"][key] + (f": {place}" if place else "")
    let = {**data.get("let", {}), **entry.get("let", {})}
    fields = {k: v for k, v in entry.items() if k not in ("source", "let")}
    return Rule(**fields, family=family, let=FrozenDict(let), source=source)


def _each(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One rule, or one for each entry of its table `each`: {name} and {its keys} are filled in."""
    plain = {k: v for k, v in entry.items() if k != "each"}
    if "each" not in entry:
        yield plain
        return
    for name, given in entry["each"].items():
        words = {"each": name, **given}
        yield {k: _filled(v, words) for k, v in plain.items()}


def _filled(value: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_filled(v, words) for v in value]
    if isinstance(value, dict):
        return {k: _filled(v, words) for k, v in value.items()}
    text = str(value)
    for word, meant in words.items():
        if text == f"<{word}>":
            return meant
        text = text.replace(f"<{word}>", str(meant))
    return text
