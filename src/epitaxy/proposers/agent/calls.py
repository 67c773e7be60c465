"""The tools a model is offered: two of the loop's own, one for reading, and the study's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.errors import BadCandidate, BadInput, EpitaxyError, UnknownName
from epitaxy.handmade import written
from epitaxy.plugin import plugins
from epitaxy.proposer import Tool, View
from epitaxy.proposers.agent.client import Call
from epitaxy.record import Record, printable

JUDGE, FINISH, READ, GROW = "judge", "finish", "read_file", "grow"
AUTHOR = "agent"
LONGEST = 12_000
"""Characters of one tool's result."""
LINES = 200
MOST_GROWN = 4
GROWER = "grower"
HELPERS = "epx.h"
"""Where the grower's vector functions go: they stand above its kernels in one file, and a model
that had to send them along with every edit would pay for them every time."""
_END = "}  // namespace epx\n"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,),
}  # fmt: skip

_FILE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "text": {"type": "string"}},
    "required": ["name", "text"],
}


def _text(about: str) -> dict[str, str]:
    return {"type": "string", "description": about}


OWN = (
    Tool(
        name=JUDGE,
        about="Build, prove and time a candidate. Send whole files; those that you leave out are "
        "the parent's. The answer is the verdict, or why there is none.",
        schema={
            "type": "object",
            "properties": {
                "files": {"type": "array", "items": _FILE, "description": "Files you change."},
                "intent": _text("What you try, and what gain you expect from it, in one line."),
                "parent": _text("Id of the candidate you start from. Default: the one shown."),
                "toolchain": _text("Only where it is not the parent's."),
            },
            "required": ["files", "intent"],
        },
        call=lambda **_: None,
    ),
    Tool(
        name=FINISH,
        about="End your work: nothing that you know of would still make it faster.",
        schema={
            "type": "object",
            "properties": {"reason": _text("Why, in one line.")},
            "required": ["reason"],
        },
        call=lambda **_: None,
    ),
    Tool(
        name=READ,
        about=f"Up to {LINES} lines of one file of a candidate.",
        schema={
            "type": "object",
            "properties": {
                "candidate": _text("Its id."),
                "file": _text("The file's name."),
                "first_line": {"type": "integer", "description": "From 1."},
            },
            "required": ["candidate", "file"],
        },
        call=lambda **_: None,
    ),
)
GROWN = Tool(
    name=GROW,
    about="Let the grower write C++ and judge it: its own next ideas, or a sweep around decisions "
    'that you hold ("region0(width=8 unroll=4)", as in the comment above its kernels).',
    schema={
        "type": "object",
        "properties": {
            "genome": _text("Decisions to hold; empty: the grower's own choice."),
            "vary": {
                "type": "object",
                "description": 'Decisions to sweep: {"region0.unroll": [2, 4]}; an empty list '
                "takes every value.",
            },
            "count": {"type": "integer", "description": f"How many, 1 to {MOST_GROWN}."},
        },
    },
    call=lambda **_: None,
)


def offered(view: View) -> tuple[Tool, ...]:
    """All tools: the loop's own and the study's. Raises BadInput when two have one name."""
    grown = (GROWN,) if "cpp" in view.toolchains else ()
    tools = (*OWN, *grown, *view.tools())
    names = [tool.name for tool in tools]
    twice = next((n for n in names if names.count(n) > 1), "")
    if twice:
        raise BadInput(f"two tools are called {twice!r}", "rename the study's")
    return tools


def arguments(call: Call, tools: Sequence[Tool]) -> dict[str, Any]:
    """The call's arguments, checked against the tool's schema. Raises BadInput, UnknownName."""
    tool = next((t for t in tools if t.name == call.tool), None)
    if tool is None:
        raise UnknownName.of("tool", call.tool, [t.name for t in tools])
    try:
        given = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the arguments are not JSON: {error}", "send one JSON object") from None
    _fits(given, tool.schema, "the arguments")
    return dict(given)


def _fits(value: Any, schema: Mapping[str, Any], what: str) -> None:
    """The part of JSON schema that the tools use: types, required and known properties, items."""
    wanted = schema.get("type", "")
    if wanted in _TYPES and (
        not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")
    ):
        raise BadInput(f"{what}: expected {wanted}, got {type(value).__name__}", "send that type")
    if wanted == "object" and "properties" in schema:
        for name in schema.get("required", ()):
            if name not in value:
                raise BadInput(f"{what}: {name!r} is missing", f"send {name}")
        for name, inner in value.items():
            if name not in schema["properties"]:
                raise UnknownName.of("argument", name, schema["properties"])
            _fits(inner, schema["properties"][name], name)
    for each in value if wanted == "array" else ():
        _fits(each, schema.get("items", {}), f"an item of {what}")


def use(call: Call, tools: Sequence[Tool], view: View) -> str:
    """What a tool of the study's, or `read_file`, answers, as text; mistakes too."""
    try:
        given = arguments(call, tools)
        if call.tool == READ:
            return shortened(_read(view, **given))
        tool = next(t for t in tools if t.name == call.tool)
        found = tool.call(**given)
    except EpitaxyError as error:
        return mistake(error)
    text = json.dumps(found.to_dict()) if isinstance(found, Record) else str(found)
    return shortened(text)


def mistake(error: EpitaxyError) -> str:
    """An error as a tool's result."""
    return f"error: {printable(error.message)} — {error.mend}"


def shortened(text: str) -> str:
    """At most LONGEST characters, and how many were left out."""
    more = len(text) - LONGEST
    return text if more <= 0 else f"{text[:LONGEST]}\n... {more} more characters"


def _read(view: View, candidate: str, file: str, first_line: int = 1) -> str:
    files = split(known(view, candidate).files)
    if file not in files:
        raise UnknownName.of("file", file, files)
    lines = files[file].splitlines()
    start = max(1, first_line)
    shown = lines[start - 1 : start - 1 + LINES]
    head = f"{file}, lines {start} to {start - 1 + len(shown)} of {len(lines)}"
    return "\n".join([head, *shown])


def known(view: View, id: str) -> Candidate:
    """The judged candidate whose id begins so. Raises UnknownName."""
    judged = [c for c, _ in view.judged()]
    found = [c for c in judged if len(id) >= 4 and c.digest.startswith(id)]
    if not found:
        raise UnknownName.of("candidate", id, [c.id for c in judged])
    return found[-1]


def split(files: Mapping[str, str]) -> dict[str, str]:
    """The same sources with the grower's vector functions in a file of their own."""
    found: dict[str, str] = {}
    for name, text in files.items():
        head, end, rest = text.rpartition(_END)
        if end and name.endswith(".cpp") and HELPERS not in files and rest.strip():
            found[HELPERS] = f"#pragma once\n{head}{end}"
            found[name] = f'#include "{HELPERS}"\n{rest}'
        else:
            found[name] = text
    return found


def candidate(view: View, given: Mapping[str, Any], parent: Candidate | None) -> Candidate:
    """The candidate that a `judge` call describes; `parent` where it names none.

    Raises BadCandidate, UnknownName.
    """
    of = known(view, given["parent"]) if given.get("parent") else parent
    sent = {file["name"]: file["text"] for file in given["files"]}
    if not sent:
        raise BadCandidate("no file is sent", "send the files that you change, whole")
    texts = {**(split(of.files) if of else {}), **sent}
    toolchain = str(given.get("toolchain", ""))
    if toolchain and toolchain not in view.toolchains:
        raise UnknownName.of("toolchain", toolchain, view.toolchains)
    intent = " ".join(printable(given["intent"]).split())[:200]
    return written(
        texts, view.problem, toolchain=toolchain, proposer=AUTHOR, intent=intent, parent=of
    )


def grown(view: View, given: Mapping[str, Any]) -> list[Candidate]:
    """The candidates that a `grow` call asks for. Raises BadInput and BadProblem."""
    count = int(given.get("count", MOST_GROWN))
    if not 1 <= count <= MOST_GROWN:
        raise BadInput(f"count={count}", f"ask for 1 to {MOST_GROWN}")
    grower = plugins("proposers").get(GROWER)
    genome, vary = given.get("genome", ""), given.get("vary", {})
    for name, values in vary.items():
        if not isinstance(values, list) or not all(type(v) is int for v in values):
            raise BadInput(f"vary {name!r} is no list of whole numbers", "send e.g. [2, 4]")
    if not genome and not vary:
        return list(grower.propose(view, count))
    return list(grower.around(view, genome, vary, count))
