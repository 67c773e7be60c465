"""Write a candidate and its problem as one `model_new.py` that needs PyTorch and a compiler only.

The text is a function of candidate and problem alone: the same on every machine, so that what
the judge ran is, byte for byte, what is exported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.compiler import BASE_FLAGS
from epitaxy.errors import BadCandidate, BadProblem
from epitaxy.parsing import parsed, source_lines
from epitaxy.problem import Problem
from epitaxy.record import canonical, digest_text

PRELUDE = Path(__file__).parent.parent / "toolchains" / "prelude.py.txt"
MADE = Path(__file__).parent / "made.py.txt"
"""Looks after what the reference's constructor decides; for forward parts that ask for it."""
AS_MODULE = Path(__file__).parent / "as_module.py.txt"
"""How a reference that is a function becomes a module; it follows the loader."""
SOURCE_SUFFIXES = (".cpp", ".h", ".hpp", ".inc")

_ALLOWED_FLAG = re.compile(
    r"-O[23]|-funroll-loops|-fno-[a-z0-9][a-z0-9-]*|-mprefer-vector-width=(128|256|512)"
    r"|--param=?[a-z0-9-]+=[0-9]+"
)
# These would take away what the base flags promise: position-independent code and OpenMP.
_FORBIDDEN_FLAG = re.compile(r"-fno-(pic|PIC|openmp.*)")

# What makes a module compute something else in training mode, by name.
_TRAINING = re.compile(
    r"training|\.train\(|dropout|batch_?norm|instance_?norm|rrelu|multihead|transformer|gumbel"
    r"|\b(rnn|lstm|gru)|lazy|syncbatch",
    re.IGNORECASE,
)
_KNOWN_IMPORTS = {"torch", "math", "typing", "numpy", "functools", "itertools", "collections"}


def kernel_flags(candidate: Candidate) -> tuple[str, ...]:
    """The compiler's flags for `candidate`: the base ones and its own.

    Raises BadCandidate for a flag outside the allow-list.
    """
    for flag in candidate.flags:
        if not _ALLOWED_FLAG.fullmatch(flag) or _FORBIDDEN_FLAG.fullmatch(flag):
            raise BadCandidate(
                f"compiler flag {flag!r} is not allowed",
                "use -O2, -O3, -funroll-loops, -fno-..., -mprefer-vector-width=..., --param=...",
            )
    return (*BASE_FLAGS, *candidate.flags)


def kernel_sources(candidate: Candidate) -> dict[str, str]:
    """The candidate's C++ files by name. Raises BadCandidate when there is none to compile."""
    found = {n: t for n, t in candidate.files.items() if n.endswith(SOURCE_SUFFIXES)}
    if not any(name.endswith(".cpp") for name in found):
        raise BadCandidate("the candidate has no .cpp file", "add kernel.cpp to its files")
    return {name: text if text.endswith("\n") else text + "\n" for name, text in found.items()}


def kernel_digest(candidate: Candidate) -> str:
    """Twelve hexadecimal characters that name sources and flags: the library's identity."""
    content = [kernel_sources(candidate), kernel_flags(candidate)]
    return digest_text(canonical(content))[:12]


def kernel_name(candidate: Candidate) -> str:
    """File name of the built library, `kernel-<digest12>.so`."""
    return f"kernel-{kernel_digest(candidate)}.so"


def bundle(candidate: Candidate, problem: Problem) -> str:
    """The text of `model_new.py`.

    Loader, the reference's source verbatim (lines that only the tuner needs become comments),
    the embedded C++ and the candidate's forward part, which defines `ModelNew`. Raises
    BadCandidate or BadProblem when one of them is not valid Python or lacks what it must define.
    """
    needs = "Needs PyTorch, and the kernel-*.so beside this file or a C++ compiler (g++, or $CXX)."
    loader = [PRELUDE.read_text(encoding="utf-8"), _settings(candidate, problem)]
    return _bundle(candidate, problem, needs, loader, "")


def assemble(
    candidate: Candidate, problem: Problem, needs: str, loader: Sequence[str], kernels: str
) -> str:
    """As `bundle`, for kernels that are Python text: they stand before the forward part.

    `needs` is the line of the header that says what the file needs; `loader` is put before the
    reference, and defines `_epitaxy_guarded`.
    """
    return _bundle(candidate, problem, needs, loader, kernels)


def _bundle(
    candidate: Candidate, problem: Problem, needs: str, loader: Sequence[str], kernels: str
) -> str:
    forward = candidate.files[candidate.entry]
    _defines(forward, "ModelNew", candidate.entry)
    reference, futures = _reference(problem)
    wrap = ""
    if problem.entry != "Model":
        text = AS_MODULE.read_text(encoding="utf-8")
        wrap = f"\n\n{text}\n\nModel = _epitaxy_as_module({problem.entry})\n"
    parts = [
        _header(candidate, problem, needs),
        *sorted(futures),
        *loader,
        MADE.read_text(encoding="utf-8") if "_epitaxy_made(" in forward else "",
        f"# --- reference: {_one_line(problem.name)} ---\n",
        reference,
        wrap,
        f"\n# --- kernels ---\n{kernels}" if kernels else "",
        "\n# --- forward: how the kernel is called ---\n",
        forward if forward.endswith("\n") else forward + "\n",
        _function(problem),
    ]
    text = "\n".join(part for part in parts if part)
    try:
        parsed(text)
    except (SyntaxError, ValueError) as error:
        raise BadCandidate(f"the bundle is not valid Python: {error}", "check its parts") from None
    return text


def original(problem: Problem, reason: str) -> str:
    """The text of a `model_new.py` whose ModelNew is the reference itself, and why.

    Raises BadProblem when the reference is not valid Python.
    """
    reference, futures = _reference(problem)
    tree = parsed(problem.source)
    is_class = any(isinstance(n, ast.ClassDef) and n.name == problem.entry for n in tree.body)
    title = f"{_one_line(problem.name)}: ModelNew is {problem.entry} itself, left with PyTorch."
    why = _one_line(reason).replace("\\", "/").replace('"', "'")
    lines = [f'"""{title}\n\n{why}\n"""\n', *sorted(futures), reference]
    if is_class:
        lines.append(f'\nclass ModelNew({problem.entry}):\n    """The reference, unchanged."""\n')
    else:
        lines.append(
            "\nimport torch as _torch\n\n\nclass ModelNew(_torch.nn.Module):\n"
            '    """The reference, unchanged."""\n\n'
            "    def forward(self, *args, **kwargs):\n"
            f"        return {problem.entry}(*args, **kwargs)\n"
        )
    return "\n".join(lines)


def _header(candidate: Candidate, problem: Problem, needs: str) -> str:
    lines = [
        f"{_one_line(problem.name)}: ModelNew computes what {problem.entry} computes.",
        "",
        f"Candidate {candidate.id} of problem {problem.id}, grown by epitaxy.",
        needs,
    ]
    return '"""' + "\n".join(lines).replace("\\", "/").replace('"""', "'''") + '\n"""\n'


def _settings(candidate: Candidate, problem: Problem) -> str:
    sources = kernel_sources(candidate)
    files = "".join(f"    {name!r}: {literal(text)},\n" for name, text in sources.items())
    return (
        f"_epitaxy_digest = {kernel_digest(candidate)!r}\n"
        f"_epitaxy_flags = {list(kernel_flags(candidate))!r}\n"
        f"_epitaxy_training_matters = {training_matters(problem)!r}\n"
        f"_epitaxy_sources = {{\n{files}}}\n"
    )


def literal(text: str) -> str:
    """`text` as a Python literal, readable wherever a raw string can hold it exactly."""
    for quote in ("'''", '"""'):
        literal = f"r{quote}{text}{quote}"
        try:
            if ast.literal_eval(literal) == text:
                return literal
        except (SyntaxError, ValueError):
            continue
    return repr(text)


def _reference(problem: Problem) -> tuple[str, set[str]]:
    """The reference's source fit for the middle of a file, and the imports that must come first."""
    lines = [line.rstrip("\r\n") for line in source_lines(problem.source)]
    futures: set[str] = set()
    try:
        tree = parsed(problem.source)
    except (SyntaxError, ValueError) as error:
        raise BadProblem(f"{problem.name} is not valid Python: {error}", "mend the file") from None
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            futures |= {f"from __future__ import {a.name}" for a in node.names}
            _pass(lines, node)
        elif _imports_epitaxy(node):
            _pass(lines, node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if _root(decorator) in _epitaxy_names(tree):
                    _comment(lines, decorator)
    return "\n".join(lines) + "\n", futures


def _comment(lines: list[str], node: ast.AST) -> None:
    for i in range(node.lineno - 1, (node.end_lineno or node.lineno)):  # type: ignore[attr-defined]
        lines[i] = "# " + lines[i]


def _pass(lines: list[str], node: ast.stmt) -> None:
    """Take a statement out: as a comment, where no other one shares its lines."""
    last = node.end_lineno or node.lineno
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    after = lines[last - 1].encode()[node.end_col_offset :].decode()
    if not before.strip() and (after.strip("; \t") + "#").startswith("#"):
        _comment(lines, node)
        return
    lines[node.lineno - 1 : last] = [f"{before}pass{after}", *[""] * (last - node.lineno)]


def _imports_epitaxy(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import):
        return all(a.name.split(".")[0] == "epitaxy" for a in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "epitaxy"


def _epitaxy_names(tree: ast.Module) -> set[str]:
    """Names that imports of epitaxy bind at the top of the reference."""
    nodes = [n for n in tree.body if _imports_epitaxy(n)]
    return {
        (alias.asname or alias.name).split(".")[0]
        for node in nodes
        for alias in node.names  # type: ignore[attr-defined]
    }


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def training_matters(problem: Problem) -> bool:
    """Whether the reference may compute something else in training mode; in doubt, yes."""
    try:
        tree = parsed(problem.source)
    except (SyntaxError, ValueError):
        return True
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["" if node.level else (node.module or "")]
        if any(n.split(".")[0] not in {*_KNOWN_IMPORTS, "__future__", "epitaxy"} for n in names):
            return True
    return bool(_TRAINING.search(problem.source))


def _function(problem: Problem) -> str:
    """For a function problem: the function itself, through the kernel."""
    if any(
        isinstance(n, ast.FunctionDef) and n.name == problem.entry
        for n in parsed(problem.source).body
    ):
        return (
            f"\n_epitaxy_function = ModelNew()\n\n\ndef {problem.entry}(*args, **kwargs):\n"
            f'    """The function of the reference, through the kernel."""\n'
            f"    return _epitaxy_function(*args, **kwargs)\n"
        )
    return ""


def _defines(source: str, name: str, file: str) -> None:
    try:
        tree = parsed(source)
    except (SyntaxError, ValueError) as error:
        raise BadCandidate(f"{file} is not valid Python: {error}", "mend it") from None
    if not any(isinstance(n, ast.ClassDef) and n.name == name for n in tree.body):
        raise BadCandidate(f"{file} defines no class {name}", f"write `class {name}(Model): ...`")


def _one_line(text: str) -> str:
    return " ".join(text.split())
