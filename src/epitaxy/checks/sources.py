"""Refuse sources that reach for more than computing: the system, other code, the harness."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from epitaxy.candidate import Candidate
from epitaxy.problem import Problem
from epitaxy.verdict import Finding

IMPORTS = ("torch", "math", "operator", "_operator", "typing", "__future__")
NAMES = ("eval", "exec", "compile", "open", "__import__", "globals", "locals", "vars", "getattr",
         "setattr", "delattr", "breakpoint", "input")  # fmt: skip
CALLS = ("system", "popen", "dlopen", "dlsym", "socket", "fork", "vfork", "execve", "execl",
         "execvp", "ptrace", "syscall", "mmap", "mprotect", "open", "fopen", "ofstream",
         "ifstream", "getenv", "setenv", "kill", "clone", "asm", "__asm__", "pthread_create",
         "_exit", "exit", "sched_setscheduler")  # fmt: skip


def plugin() -> Sources:
    """The check named `sources`."""
    return Sources()


class Sources:
    """Looks at Python as a syntax tree and at C++ as words outside comments and strings."""

    name = "sources"

    def check(self, candidate: Candidate, problem: Problem) -> Sequence[Finding]:
        """A refusal for the first thing that a kernel has no use for."""
        for name, text in candidate.files.items():
            found = _python(text) if name.endswith(".py") else _cpp(text)
            if found:
                return [Finding(check=self.name, severity="refusal", message=f"{name}: {found}",
                                mend="compute with the inputs alone")]  # fmt: skip
        return []


def _python(text: str) -> str:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        return f"not Python: {error}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            bad = [a.name for a in node.names if a.name.split(".")[0] not in IMPORTS]
            if bad:
                return f"imports {bad[0]}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in IMPORTS:
            return f"imports {node.module}"
        elif isinstance(node, ast.Name) and node.id in NAMES:
            return f"uses {node.id}"
        elif isinstance(node, ast.Attribute) and re.fullmatch(r"__(?!init__)\w+__", node.attr):
            return f"reaches for {node.attr}"
    return ""


def _cpp(text: str) -> str:
    plain = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', " ", text, flags=re.S)
    include = re.search(r'#\s*include\s*"|#\s*include\s*<[^>]*(?:/\.\.|^/)', text)
    if include:
        return "includes a file by path"
    if ".incbin" in text:
        return "uses .incbin"
    for word in CALLS:
        if re.search(rf"(?<![\w.>]){word}\s*\(", plain) or (
            word == "asm" and re.search(r"\basm\b", plain)
        ):
            return f"calls {word}"
    return ""
