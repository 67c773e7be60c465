"""C++ kernels built by the system's compiler, with PyTorch's OpenMP runtime."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from epitaxy.candidate import Candidate
from epitaxy.compiler import Compiler, cpu_fingerprint, cpu_flags, find_compiler, harsh_flags
from epitaxy.errors import BadCandidate, NoCompiler
from epitaxy.problem import Problem
from epitaxy.product import compose
from epitaxy.record import FrozenDict, canonical, digest_text, printable
from epitaxy.toolchain import Availability, Build, Variant
from epitaxy.toolchains import _confined
from epitaxy.toolchains._files import kept, write_files
from epitaxy.toolchains._inspect import inspect_library, list_library
from epitaxy.toolchains._units import Units

LOG_CHARACTERS = 4000
LOG_BYTES = 1 << 20
MEMORY_BYTES = 4 << 30
"""Address space that one compiler process may take."""

SOURCE_BYTES = 128 << 10
"""Of C++, up to which a compilation has the toolchain's time; more of it has more time: a network
of a hundred regions comes to 500 KiB."""
FILE_BYTES = 64 << 20
FOLDER_BYTES = 256 << 20
"""What one build may take of the disk; kernels and what is made on the way to them take a few."""

# What a source may not pull into the compiler: files outside its own folder.
_HASH = r"^\s*(?:#|%:|\?\?=)\s*"
_OUTSIDE = tuple(
    (re.compile(pattern, re.MULTILINE), what)
    for pattern, what in (
        (
            _HASH + r"(?:include|include_next|import|embed)\b\s*[<\"]\s*(?:[/~]|[^>\"]*\.\.)",
            "an absolute or parent path in #include",
        ),
        (
            _HASH + r"(?:include|include_next|import|embed)\b\s*[^<\"\s]",
            "a computed #include",
        ),
        (_HASH + r"embed\b|__has_embed", "#embed"),
        (_HASH + r"pragma\s+GCC\s+(?:plugin|dependency)", "a pragma that reads files"),
        (r"incbin", "incbin"),
    )
)


class Cpp:
    """The toolchain plugin; `timeout_s` bounds one compilation of up to SOURCE_BYTES."""

    name = "cpp"
    runs = "torch"
    sources = ("*.cpp",)

    def __init__(self, timeout_s: float = 60.0) -> None:
        self.timeout_s = timeout_s
        self._assembled: dict[str, dict[str, str]] = {}

    def available(self) -> Availability:
        """Whether a C++ compiler is here, and which."""
        try:
            return Availability(ok=True, detail=str(find_compiler()))
        except NoCompiler as error:
            return Availability(ok=False, detail=error.message, mend=error.mend)

    def build(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """Build into `cache/<digest>`; what was built or refused before is read back.

        Raises NoCompiler, or BadEnvironment when the cache cannot be written. Compilations that
        ran out of time are not kept.
        """
        return self._build(candidate, problem, cache, ())

    def build_harsh(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """As `build`, with array bounds checked and unset variables spoiled; never timed."""
        return self._build(candidate, problem, cache, harsh_flags(find_compiler()))

    def build_variant(
        self, candidate: Candidate, problem: Problem, cache: Path, variant: Variant
    ) -> Build:
        """As `build`, with the variant's flags, through its edit of the assembly if it has one."""
        return self._build(candidate, problem, cache, variant.flags, variant)

    def _build(
        self,
        candidate: Candidate, problem: Problem, cache: Path, more: tuple[str, ...],
        variant: Variant | None = None,
    ) -> Build:  # fmt: skip
        compiler = find_compiler()
        try:
            text = compose.bundle(candidate, problem)
            sources = compose.kernel_sources(candidate)
            command = _command(compiler, candidate, sources, more)
            _stay_inside(sources)
        except BadCandidate as error:
            return Build(ok=False, folder="", log=str(error))
        facts = {
            "compiler": str(compiler),
            "flags": " ".join(command[1:]),
            "cpu": cpu_fingerprint(),
        }
        if variant is not None and variant.edit is not None:
            facts["edit"] = variant.name
        digest = digest_text(canonical({"bundle": text, "candidate": candidate.digest, **facts}))
        files = {**sources, "model_new.py": text}
        folder = Path(cache, digest)

        def make(made: Path) -> Build:
            if variant is None or variant.edit is None:
                return self._build_in(made, folder, command, files, facts)
            units = self._assembly(made, command, sources)
            edited = {name: variant.edit(text) for name, text in units.items()}
            linking = _command(compiler, candidate, sources, ())
            assembling = _assembling(linking, units)
            return self._build_in(made, folder, assembling, {**files, **edited}, facts)

        try:
            return kept(folder, "kernel-*.so", make)
        except BadCandidate as error:
            return Build(ok=False, folder="", log=str(error))

    def _build_in(
        self,
        made: Path,
        folder: Path,
        command: list[str],
        files: Mapping[str, str],
        facts: Mapping[str, str],
    ) -> Build:
        write_files(made, files)
        start = time.monotonic()
        limit_s = self._limit_s(files)
        code, log = _library(command, made, facts, limit_s)
        seconds = time.monotonic() - start
        library = made / command[-1]
        ok = code == 0 and library.is_file()
        build = Build(
            ok=ok,
            folder=str(folder),
            log=log if ok or log else f"the compiler ended with status {code}",
            fingerprint=FrozenDict(facts),
            seconds=seconds,
        )
        if code is None:
            return build.replace(
                folder="", log=f"compiling took more than {limit_s:.3g} s\n{log}".strip()
            )
        if ok:
            _write_card(library, facts["compiler"])
        return build

    def _limit_s(self, sources: Mapping[str, str]) -> float:
        """Seconds that one compilation of `sources` may take: the more text, the longer."""
        size = sum(len(text) for name, text in sources.items() if not name.endswith(".py"))
        return self.timeout_s * max(1.0, size / SOURCE_BYTES)

    def _assembly(
        self, made: Path, command: list[str], sources: Mapping[str, str]
    ) -> dict[str, str]:
        """The compiler's assembly of each unit, `kernel.s` for `kernel.cpp`."""
        key = digest_text(canonical({"command": command, "sources": dict(sources)}))
        if key in self._assembled:
            return self._assembled[key]
        write_files(made, sources)
        words = [word for word in command[: command.index("-o")] if word != "-shared"]
        code, log = _compile([*words, "-S"], made, self._limit_s(sources))
        units = [made / Path(name).with_suffix(".s").name for name in command if _is_unit(name)]
        if code != 0 or not all(unit.is_file() for unit in units):
            raise BadCandidate(f"it does not compile: {log[:500]}", "see epitaxy judge")
        found = {u.name: u.read_text(encoding="utf-8", errors="replace") for u in units}
        self._assembled = {key: found}  # the next edit is of the same
        return found

    def listing(self, build: Build) -> str:
        """The library's machine code, with source lines where it was built with -g."""
        library = next(Path(build.folder).glob("kernel-*.so"), None) if build.ok else None
        return list_library(library, lines=True) if library else ""

    def inspect(self, build: Build) -> FrozenDict[float]:
        """Code size and vector instructions of the library; empty without objdump."""
        library = next(Path(build.folder).glob("kernel-*.so"), None) if build.ok else None
        return inspect_library(library) if library else FrozenDict()


def plugin() -> Cpp:
    """The `cpp` toolchain."""
    return Cpp()


def _command(
    compiler: Compiler, candidate: Candidate, sources: Mapping[str, str], more: tuple[str, ...]
) -> list[str]:
    units = [name for name in sources if name.endswith(".cpp")]
    flags = compose.kernel_flags(candidate)
    return [compiler.path, *flags, *more, "-I.", *units, "-o", compose.kernel_name(candidate)]


def _is_unit(name: str) -> bool:
    return name.endswith(".cpp") and not name.startswith("-")


def _assembling(command: list[str], units: Mapping[str, str]) -> list[str]:
    """`command` with the units' assembly in the place of the units."""
    words = [word for word in command[: command.index("-o")] if not _is_unit(word)]
    return [*words, *units, *command[command.index("-o") :]]


def _stay_inside(sources: Mapping[str, str]) -> None:
    """Refuse sources that would make the compiler read files that are not the candidate's."""
    for name, text in sources.items():
        joined = re.sub(r"\\[ \t]*\n", "", text)
        for pattern, what in _OUTSIDE:
            if pattern.search(joined):
                raise BadCandidate(
                    f"{name} uses {what}",
                    "include system headers by name, and own headers by their file name",
                )


def _library(
    command: list[str], made: Path, facts: Mapping[str, str], limit_s: float
) -> tuple[int | None, str]:
    """Run `command`, unit by unit where it has several; as `_compile` tells it."""
    units = [word for word in command if _is_unit(word)]
    if len(units) < 2:
        return _compile(command, made, limit_s)
    words = [word for word in command[: command.index("-o")] if not _is_unit(word)]
    beside = {name: facts[name] for name in ("compiler", "cpu")}
    store = made.parent / "units"
    several = Units(words, units, beside, made, store, _compile, limit_s)
    status, log = several.library(command[-1])
    return status, trim_log(log, str(made))


def _compile(
    command: list[str], folder: Path, timeout_s: float, within: Path | None = None
) -> tuple[int | None, str]:
    """(exit status, what matters of the output); the status is None when time ran out.

    `within`: where others compile beside it, whose files count with its own.
    """
    limits = {
        "cpu_s": int(timeout_s) + 1, "memory_bytes": MEMORY_BYTES, "file_bytes": FILE_BYTES,
    }  # fmt: skip
    with tempfile.TemporaryFile(dir=folder) as log:
        ended = _confined.run(
            command, folder, log, limits, _confined.Bounds(timeout_s, FOLDER_BYTES, within=within)
        )
        log.seek(0)
        output = log.read(LOG_BYTES).decode(errors="replace")
    if ended.late:
        return None, ""
    if ended.big:
        return 1, f"error: compiling takes more than {FOLDER_BYTES >> 20} MiB of disk"
    return ended.status, trim_log(output, str(folder))


def trim_log(text: str, folder: str) -> str:
    """Errors with their source lines first, then warnings; at most LOG_CHARACTERS characters."""
    text = text.replace(folder + "/", "").replace(folder, ".")
    # Compilers repeat lines of the source, and a log goes to a terminal.
    text = printable(text)
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if _opens(line) or not blocks:
            blocks.append([])
        blocks[-1].append(line)
    bad = re.compile(r"\berror\b|undefined reference")
    # Stable: errors in their order, then the rest in its own.
    chosen = sorted(blocks, key=lambda block: bad.search(block[0]) is None)
    kept = "\n".join("\n".join(block[:12]) for block in chosen)
    if len(kept) <= LOG_CHARACTERS:
        return kept.strip()
    return kept[:LOG_CHARACTERS].rsplit("\n", 1)[0] + "\n... (shortened)"


def _opens(line: str) -> bool:
    """Whether a message begins: `file:1:2: `, `.../ld: `. In time linear in the line's length."""
    first, space, _ = line.partition(" ")
    if not space or not first.endswith(":"):
        return line.startswith("In file included")
    return first.split(":")[-2].isdigit() or any(p in first for p in ("ld", "cc1plus", "collect2"))


def _write_card(library: Path, compiler: str) -> None:
    """The sidecar by which the bundle's loader knows whether the library is fit for a CPU."""
    card = {
        "compiler": compiler,
        "cpu": list(cpu_flags()),
        "sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
    }
    library.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
