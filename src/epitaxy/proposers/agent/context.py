"""What a model is told: prompts filled with evidence, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epitaxy import trim
from epitaxy.candidate import Candidate
from epitaxy.proposer import View
from epitaxy.proposers.agent import calls, choice
from epitaxy.proposers.agent.calls import HELPERS, split
from epitaxy.verdict import Verdict

FOLDER = Path(__file__).parent
OPENING_TOKENS = 12_000
"""What a conversation may begin with."""
CHARACTERS = 4
"""Per token, near enough."""
BEST, SAMPLE, DEAD = 3, 3, 8


def strategies() -> dict[str, str]:
    """Name to text, in a fixed order."""
    paths = sorted((FOLDER / "strategies").glob("*.md"))
    return {p.stem: p.read_text(encoding="utf-8").strip() for p in paths}


def filled(template: str, **values: Any) -> str:
    """A prompt of `prompts/`; a value that is missing is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "prompts"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {"us": _us, "count": _count}
    return environment.get_template(template).render(**values).strip()


def system(view: View) -> str:
    """What holds for every conversation on this problem: rules, and how files look."""
    return filled("system.md.j2", toolchains=tuple(view.toolchains), chip=view.chip)


def opening(view: View, strategy: str, parent: Candidate | None) -> str:
    """The task, and the evidence so far: the parent's files first, the rest while room is left."""
    judged = list(view.judged())
    best = list(view.best(BEST))
    apart = [c for c, _ in best] + ([parent] if parent else [])
    accepted = list(view.best(len(judged)))
    evidence: dict[str, Any] = {
        "problem": view.problem, "chip": view.chip, "strategy": strategies()[strategy],
        "best": best, "sample": choice.diverse(accepted, SAMPLE, apart),
        "dead": choice.dead_ends(judged, DEAD), "judged": len(judged), "left": view.left(),
        "floor": next((v.floor for _, v in best if v.floor), None),
        "baselines": baselines(best),
    }  # fmt: skip
    room = OPENING_TOKENS * CHARACTERS - len(
        filled("task.md.j2", parent=None, files={}, **evidence)
    )
    files = _shown(parent, room) if parent else {}
    return filled("task.md.j2", parent=parent, files=files, **evidence)


def _shown(parent: Candidate, room: int) -> dict[str, str]:
    """The parent's files as far as there is room, the helpers as the list of what they offer."""
    found: dict[str, str] = {}
    for name, text in sorted(split(parent.files).items(), key=lambda item: len(item[1])):
        text = _offers(text) if name == HELPERS else text
        if len(text) > room:
            text = f"{text[: max(room, 0)]}\n... cut: read_file shows the rest"
        found[name] = text
        room -= len(text)
    return found


def _offers(text: str) -> str:
    """The names that the helpers define, one signature a line."""
    lines = (line.strip() for line in text.splitlines())
    found = [line.partition("{")[0].strip() for line in lines if line.startswith("template <")]
    return "\n".join(["// what it offers (read_file shows the rest):", *found])


def baselines(best: Sequence[tuple[Candidate, Verdict]]) -> Mapping[str, float]:
    """Seconds per call of what must be beaten, by name."""
    return {c.baseline: c.time_s for _, v in reversed(best) for c in v.comparisons}


def verdict(candidate: Candidate, found: Verdict, best: float) -> str:
    """A verdict as a tool's result; `best` is the best speed-up known before."""
    log = trim.compiler(found.build_log) if found.status == "build_failed" else ""
    return filled("verdict.md.j2", candidate=candidate, verdict=found, log=log, best=best)


class Seeing:
    """The way of `--with agent`: all that an expert looks at, and the study's tools."""

    cold = True
    system = staticmethod(system)
    opening = staticmethod(opening)
    verdict = staticmethod(verdict)
    tools = staticmethod(calls.offered)


def _us(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1e6:.4g} us"


def _count(number: float) -> str:
    return f"{number:.4g}"
