"""Equality saturation of terms by egglog: all forms that the rules of algebra_rules.toml reach.

Tensat: Yang et al., "Equality Saturation for Tensor Graph Superoptimization", MLSys 2021; egglog:
Zhang et al., "Better Together: Unifying Datalog and Equality Saturation", PLDI 2023.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from epitaxy.errors import BadEnvironment

FOLDER = Path(__file__).parent
ROUNDS = 10
MOST_NODES = 3000
MOST_S = 1.0
SETTLE = "(run-schedule (saturate (run facts)))"
OPERATIONS = (
    "Leaf", "Num", "Add", "Neg", "Mul", "Div", "Fn", "Fn2", "Fn3", "Sum", "Max", "Red",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One equality: its name, how it rounds, and its text. `finite`: not for NaN; `silent`: it
    only orders terms and is not worth a line in a proof."""

    name: str
    rounding: str
    egglog: str
    finite: bool = False
    silent: bool = False


@dataclass(frozen=True)
class Node:
    """One form of a class of equal values: an operation on other classes."""

    op: str
    payload: tuple[str, ...]
    args: tuple[str, ...]


@dataclass
class Forms:
    """Every class of equal values with its forms; `roots` are the classes asked for."""

    classes: dict[str, list[Node]]
    roots: tuple[str, ...]
    cut: str = ""
    """Why saturation ended before every rule had been tried everywhere; "" when it had not."""
    rounds: int = 0
    nodes: int = 0
    matched: frozenset[str] = frozenset()
    """The names of the rules that applied anywhere."""


@cache
def rules() -> tuple[Rule, ...]:
    """The table of equalities, in the order of the file."""
    with (FOLDER / "algebra_rules.toml").open("rb") as file:
        return tuple(Rule(**entry) for entry in tomllib.load(file)["rule"])


@cache
def _language() -> str:
    return (FOLDER / "algebra_language.egg.txt").read_text(encoding="utf-8")


def available() -> bool:
    """Whether egglog can be imported here."""
    from importlib.util import find_spec

    return find_spec("egglog") is not None


def saturate(
    lines: Iterable[str], roots: Sequence[str], chosen: Sequence[Rule], most_s: float = MOST_S
) -> Forms:
    """The forms that `chosen` rules reach from the terms of `lines` (algebra_terms.Terms).

    Ends when nothing new is found, after ROUNDS rounds, MOST_NODES nodes or `most_s` seconds;
    `Forms.cut` says which. Raises BadEnvironment without egglog.
    """
    try:
        from egglog.bindings import EGraph
    except ImportError:
        raise BadEnvironment("egglog is not installed", "pip install egglog") from None
    graph: Any = EGraph()
    texts = [f'(rule {r.egglog} :ruleset rewrites :name "{r.name}")' for r in chosen]
    ends = [f"(union (Root {k}) {name})" for k, name in enumerate(roots)]
    program = "\n".join([_language(), "(ruleset rewrites)", *texts, *lines, *ends])
    _run(graph, program)
    _run(graph, SETTLE)
    cut, start_s, rounds = "", time.perf_counter(), 0
    matched: set[str] = set()
    while chosen and not cut:
        (report,) = _run(graph, "(run-schedule (run rewrites))")
        if not report.updated:
            break
        matched |= {name for name, count in report.num_matches_per_rule.items() if count}
        _run(graph, SETTLE)
        rounds += 1
        if (size := _nodes(graph)) > MOST_NODES:
            cut = f"after {size} nodes"
        elif time.perf_counter() - start_s > most_s:
            cut = f"after {most_s:g} s"
        elif rounds == ROUNDS:
            cut = f"after {ROUNDS} rounds"
    forms = _forms(graph, len(roots))
    forms.cut, forms.rounds, forms.matched = cut, rounds, frozenset(matched)
    return forms


def _run(graph: Any, text: str) -> list[Any]:
    """Run commands; the reports of the schedules among them."""
    outputs = graph.run_program(*graph.parse_program(text))
    return [o.report for o in outputs if hasattr(o, "report")]


def _nodes(graph: Any) -> int:
    """How many terms there are."""
    (found,) = graph.run_program(*graph.parse_program("(print-size)"))
    return sum(count for name, count in found.sizes if name in OPERATIONS)


def _forms(graph: Any, count: int) -> Forms:
    data: Mapping[str, Any] = json.loads(graph.serialize([]).to_json())["nodes"]
    classes: dict[str, dict[Node, None]] = {}
    roots: dict[int, str] = {}
    for entry in data.values():
        op, children = entry["op"], [data[c] for c in entry["children"]]
        if op == "Root":
            roots[int(children[0]["op"])] = entry["eclass"]
        elif op in OPERATIONS:
            payload = tuple(p for c in children for p in _payload(c, data))
            args = tuple(c["eclass"] for c in children if c["op"] in (*OPERATIONS, "Root"))
            classes.setdefault(entry["eclass"], {})[Node(op, payload, args)] = None
    ordered = {name: list(nodes) for name, nodes in classes.items()}
    found = Forms(ordered, tuple(roots[k] for k in range(count)))
    found.nodes = sum(map(len, ordered.values()))
    return found


def _payload(entry: Mapping[str, Any], data: Mapping[str, Any]) -> Sequence[str]:
    """What a term holds beside terms: a number, a string, or the members of a set."""
    op = entry["op"]
    if op in (*OPERATIONS, "Root"):
        return ()
    if op.startswith("set-"):
        return tuple(data[c]["op"] for c in entry["children"])
    return (op.strip('"'),)
