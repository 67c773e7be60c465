"""Guides: how to write fast code for one family of chips with one toolchain, for a model to read.

A guide is one file of `guides/`: a head in TOML between lines of `+++` (what it is for, its
sources, and the parts that it shares with others, files that begin with `_`), then Markdown whose
every point ends with the keys of its sources in brackets. The chip's numbers are no text of the
file: they are filled in when the guide is read (`guide_numbers.py`), from this machine's probe
where the chip is this machine's. What is not known is said to be unknown.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from epitaxy.chip import Chip
from epitaxy.errors import BadInput, UnknownName
from epitaxy.guide_numbers import EXPLORE, Numbers
from epitaxy.record import FrozenDict, Record, record

MOST_TOKENS = 1500
CHARACTERS_A_TOKEN = 3.5
"""A low estimate for English with numbers: what it says is no less than what a model reads."""
HEADINGS = (
    "Memory", "Matrix unit", "Matrix units", "Engines", "Arithmetic", "Limits", "How it runs",
    "What the compiler does", "What the compiler does not do", "Moves that pay",
    "What profiles tell", "Traps",
)  # fmt: skip
RESERVE = 250
"""Characters kept for headings and the lines that say what was left out."""
OWN = "chip"
"""The key of the source that is the chip's own file, or this machine's probe."""
_POINT = re.compile(r"^- (.*) \[([\w ]+)\]$")


@record
class Pattern(Record):
    """One guide's file before its numbers are filled in.

    `chips`: ids of shipped chips that it is for. A measured chip is one of its family when it has
    such an id as an alias, or is of `kind`, has all of `isa` and none of `without`; among several
    the last by `rank` is taken.
    """

    name: str
    title: str
    toolchains: tuple[str, ...]
    chips: tuple[str, ...]
    body: str
    sources: FrozenDict[str]
    parts: tuple[str, ...] = ()
    kind: str = ""
    isa: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    rank: int = 0

    def fits(self, chip: Chip) -> bool:
        """Whether it is for `chip`."""
        if chip.id in self.chips or set(chip.aliases) & set(self.chips):
            return True
        if not chip.measured:
            return False
        has, never = set(self.isa), set(self.without)
        return bool(has) and chip.kind == self.kind and has <= set(chip.isa) and not (
            never & set(chip.isa)
        )  # fmt: skip


@record
class Guide(Record):
    """A guide filled in for one chip. `text` is Markdown; `unknown` are the numbers that it wanted
    and that nobody knows; `others` are further guides for the same chip."""

    name: str
    title: str
    chip: str
    measured: bool
    toolchains: tuple[str, ...]
    text: str
    sources: FrozenDict[str]
    unknown: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """About how many tokens a model reads, rather too many than too few."""
        return round(len(self.text) / CHARACTERS_A_TOKEN)


@cache
def patterns() -> tuple[Pattern, ...]:
    """Every guide's file, by name. Raises BadInput when one is broken."""
    folder = resources.files("epitaxy") / "guides"
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".md"))
    texts = {f.removesuffix(".md"): (folder / f).read_text(encoding="utf-8") for f in files}
    return tuple(parse(name, texts) for name in texts if not name.startswith("_"))


def parse(name: str, texts: Mapping[str, str]) -> Pattern:
    """The guide `name` of `texts`, its parts put in. Raises BadInput where a head is broken or a
    point has no source."""
    head, body = _split(name, texts)
    sources = dict(head.pop("sources", {}))
    for part in head.get("parts", ()):
        more, text = _split(part, texts)
        sources |= more.get("sources", {})
        body = _merged(body, text)
    try:
        found = Pattern(name=name, body=body, sources=FrozenDict(sources), **head)
    except TypeError as error:
        raise BadInput(f"guide {name} cannot be read: {error}", "see another guide") from None
    _check_sources(found)
    return found


def _split(name: str, texts: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    parts = texts.get(name, "").split("+++\n", 2)
    try:
        return tomllib.loads(parts[1]), parts[2].strip()
    except (IndexError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"guide {name} cannot be read: {error}", "see another guide") from None


def _merged(body: str, more: str) -> str:
    """Two texts as one: what stands under a heading that both have comes together, headings in
    the order of HEADINGS."""
    sections: dict[str, list[str]] = {}
    for text in (body, more):
        for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
            title, _, rest = section.strip().partition("\n")
            if title:
                sections.setdefault(title, []).append(rest.strip())
    named = [*HEADINGS, *(title.removeprefix("## ") for title in sections)]
    order = sorted(sections, key=lambda title: named.index(title.removeprefix("## ")))
    return "\n\n".join("\n".join([title, *sections[title]]) for title in order)


def _check_sources(found: Pattern) -> None:
    used = set[str]()
    for line in points(found.body):
        match = _POINT.match(line)
        keys = set(match[2].split()) if match else set()
        lost = keys - {*found.sources, OWN}
        if not keys or lost:
            raise BadInput(
                f"guide {found.name}: {line[:60]!r} names no known source {sorted(lost)}",
                "end it with the keys of its sources in brackets",
            )
        used |= keys
    idle = sorted(set(found.sources) - used)
    if idle:
        raise BadInput(f"guide {found.name}: nothing rests on source {idle[0]}", "leave it out")


def points(body: str) -> list[str]:
    """The points of a guide, each on one line."""
    return [line for line in _joined(body).splitlines() if line.startswith("- ")]


def _joined(body: str) -> str:
    """The text with each point on one line."""
    return re.sub(r"\n {2,}(?=\S)", " ", body)


def names() -> list[str]:
    """The names of all guides, sorted."""
    return [p.name for p in patterns()]


def for_chip(chip: Chip, toolchain: str = "") -> list[Pattern]:
    """The guides for `chip`, the most fitting first; of one toolchain where it is named."""
    fitting = [p for p in patterns() if p.fits(chip) and toolchain in ("", *p.toolchains)]
    if chip.measured and fitting:  # wider vectors make the narrower guides old advice
        best = max(p.rank for p in fitting)
        fitting = [p for p in fitting if p.rank == best]
    return sorted(fitting, key=lambda p: (-p.rank, p.name))


def read(name: str = "", chip: Chip | None = None, toolchain: str = "") -> Guide:
    """The guide called `name`, or for the chip or toolchain of that name, filled in.

    `name` "" is `chip`, and without it this machine's chip. `toolchain` chooses among several
    guides of one chip. Raises UnknownName, BadInput when there is none or several.
    """
    wanted = name.strip().lower().replace("-", "_")
    if not wanted:
        chip = chip or local_chip()
        return _filled(_one(for_chip(chip, toolchain), chip, toolchain), chip)
    exact = [p for p in patterns() if p.name == wanted]
    if exact:
        return _filled(exact[0], _chip_of(exact[0], chip))
    if any(wanted in p.toolchains for p in patterns()):
        return _of_toolchain(wanted, chip)
    found = local_chip() if wanted == "local" else _named_chip(wanted, name)
    return _filled(_one(for_chip(found, toolchain), found, toolchain), found)


def local_chip() -> Chip:
    """This machine's chip as the last probe measured it. Raises BadInput without one."""
    from epitaxy.probe import load_measured

    chip = load_measured()
    if chip is None:
        raise BadInput("this machine was never measured", "run `epitaxy probe`, or name a chip")
    return chip


def _named_chip(wanted: str, name: str) -> Chip:
    from epitaxy.chip_facts import find, load_all

    try:
        return find(wanted)
    except UnknownName:
        chips = [n for c in load_all() for n in (c.id, *c.aliases)]
        tools = sorted({t for p in patterns() for t in p.toolchains})
        raise UnknownName.of("chip, toolchain or guide", name, [*names(), *tools, *chips]) from None


def _one(fitting: Sequence[Pattern], chip: Chip, toolchain: str) -> Pattern:
    if fitting:
        return fitting[0]
    with_ = f" with {toolchain}" if toolchain else ""
    raise BadInput(
        f"there is no guide for {chip.name}{with_} yet", f"there are: {', '.join(names())}"
    )


def _of_toolchain(toolchain: str, chip: Chip | None) -> Guide:
    """The guide of a toolchain for `chip`, for this machine, or the only one there is."""
    if chip is None:
        from epitaxy.probe import load_measured

        here = load_measured()
        chip = here if here is not None and for_chip(here, toolchain) else None
    if chip is not None:
        return _filled(_one(for_chip(chip, toolchain), chip, toolchain), chip)
    found = [p for p in patterns() if toolchain in p.toolchains]
    if len(found) > 1:
        listed = ", ".join(p.name for p in found)
        raise BadInput(f"there are {len(found)} guides for {toolchain}", f"name one: {listed}")
    return _filled(found[0], _chip_of(found[0], None))


def _chip_of(pattern: Pattern, chip: Chip | None) -> Chip:
    """The chip that fills a guide: the one asked for, this machine's where it fits, or the
    first that the guide is for."""
    if chip is not None:
        if not pattern.fits(chip):
            raise BadInput(
                f"guide {pattern.name} is not for {chip.name}",
                f"it is for {', '.join(pattern.chips) or ', '.join(pattern.isa)}",
            )
        return chip
    from epitaxy.chip_facts import find
    from epitaxy.probe import load_measured

    here = load_measured()
    if here is not None and pattern.fits(here):
        return here
    if pattern.chips:
        return find(pattern.chips[0])
    return Chip(id="unknown", name="no chip that is known", vendor="", kind=pattern.kind)


def _filled(pattern: Pattern, chip: Chip) -> Guide:
    """The guide with the chip's numbers and the list of its sources."""
    import jinja2

    numbers = Numbers(chip)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals.update(numbers.helpers())
    body = _joined(environment.from_string(pattern.body).render().strip())
    sources = dict(pattern.sources)
    if any(re.search(rf"[\[ ]{OWN}[\] ]", line[line.rfind("[") :]) for line in points(body)):
        sources = {OWN: numbers.source(), **sources}
    head = f"# {pattern.title}\n\nChip: {chip.name} ({numbers.basis()}).\n"
    listed = "\n".join(f"{key}: {text}" for key, text in sources.items())
    room = int(MOST_TOKENS * CHARACTERS_A_TOKEN) - sum(map(len, (head, body, listed))) - RESERVE
    explored = numbers.explored(room)
    if explored:
        sources[EXPLORE] = "`epitaxy explore` on this machine, with the conditions that it lists"
    tail = "\n".join(f"{key}: {text}" for key, text in sources.items())
    others = tuple(p.name for p in for_chip(chip) if p.name != pattern.name)
    return Guide(
        name=pattern.name,
        title=pattern.title,
        chip=chip.id,
        measured=chip.measured,
        toolchains=pattern.toolchains,
        text="\n".join([head, body, *explored, "", "## Sources", tail, ""]),
        sources=FrozenDict(sources),
        unknown=tuple(numbers.unknown),
        others=others,
    )


def listing() -> list[dict[str, Any]]:
    """One row for each guide: name, title, toolchains and chips."""
    return [
        {
            "name": p.name,
            "title": p.title,
            "toolchains": ", ".join(p.toolchains),
            "chips": ", ".join(p.chips) or f"measured with {' '.join(p.isa)}",
        }
        for p in patterns()
    ]
