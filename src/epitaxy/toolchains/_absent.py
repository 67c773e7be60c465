"""What toolchains of Python kernels share whose chip is not here, and which a build only looks at.

A candidate holds `kernels.py` and `forward.py` (ModelNew); files under `small/` are the same
kernels for smaller sizes, for the stand-in. A build runs one module, confined, which calls ModelNew
once at the problem's own sizes and leaves files that say what it made; what it refuses it says in
one line that begins with `error:`.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epitaxy.candidate import Candidate
from epitaxy.chip import Chip
from epitaxy.errors import BadCandidate, BadEnvironment, MachineFault
from epitaxy.parsing import parsed
from epitaxy.problem import Problem
from epitaxy.product import compose
from epitaxy.record import FrozenDict, canonical, digest_text, printable
from epitaxy.toolchain import Availability, Build
from epitaxy.toolchains import _confined
from epitaxy.toolchains._files import kept, written

LATE = "error: building takes more than {:g} s"
KERNELS, SMALL, METRICS = "kernels.py", "small/", "metrics.json"
GUARDS = Path(__file__).parent / "guards_prelude.py.txt"
LOG_BYTES, FOLDER_BYTES, FILE_BYTES = 1 << 16, 1 << 30, 128 << 20
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGFPE)
MEMORY_BYTES = 48 << 30
"""Address space of one build: compilers map far more than they use."""


class AbsentToolchain:
    """A language for chips that are not here; see `epitaxy.toolchain.Crossing`."""

    name: str
    runs = "torch"
    language: str
    builder: str
    """The module that a build runs."""
    prelude: Path
    """Text of the bundle after its guards: where tensors lie, what the language takes them as."""
    needs: str
    sources: tuple[str, ...] = (KERNELS,)

    def __init__(self, timeout_s: float = 180.0) -> None:
        self.timeout_s = timeout_s
        self._chip: Chip | None = None

    # -- what each language gives --------------------------------------------------------------

    def available(self) -> Availability:
        """Whether it works here."""
        raise NotImplementedError

    def default_chip(self) -> Chip:
        """The chip that is built for where nobody says which."""
        raise NotImplementedError

    def job(self, chip: Chip) -> dict[str, Any]:
        """What the builder is told of the chip. Raises BadInput where its facts do not suffice."""
        raise NotImplementedError

    def packages(self) -> tuple[str, ...]:
        """Installed packages that the builder reads; their versions name the build."""
        raise NotImplementedError

    def versions(self) -> Mapping[str, str]:
        """What else names a build: compilers that are no packages."""
        return {}

    def reads(self) -> tuple[str, ...]:
        """Folders that the builder reads beside the system's and those of its packages."""
        return ()

    def environment(self, made: Path) -> Mapping[str, str]:
        """Variables of the builder beside the usual ones."""
        return {}

    def loader(self) -> list[str]:
        """The texts that a bundle begins with."""
        return [path.read_text(encoding="utf-8") for path in (GUARDS, self.prelude)]

    def look(self, made: Path, chip: Chip) -> tuple[dict[str, float], str]:
        """The metrics of what was built, and the limit of the chip that it breaks, if any."""
        path = made / METRICS
        if not path.is_file():
            return {}, "error: the builder left no metrics"
        return json.loads(path.read_text(encoding="utf-8")), ""

    def moved(self, made: Path, folder: Path) -> None:
        """What was built in `made` will lie in `folder`: mend what names its own place."""

    # -- the contract --------------------------------------------------------------------------

    def aim(self, chip: Chip) -> None:
        """Build for `chip` from now on. Raises BadInput when its facts do not suffice."""
        self.job(chip)
        self._chip = chip

    def build(self, candidate: Candidate, problem: Problem, cache: Path) -> Build:
        """Build into `cache/<digest>`; what was built or refused before is read back.

        Raises BadEnvironment when the language is not installed or the cache cannot be written.
        """
        return self.built(candidate, problem, cache)

    def built(
        self, candidate: Candidate, problem: Problem, cache: Path, small: bool = False
    ) -> Build:
        """As `build`; `small`: for the stand-in alone, which the chip's compiler never sees."""
        state = self.available()
        if not state.ok:
            raise BadEnvironment(f"{self.name}: {state.detail}", state.mend)
        chip = self._chip or self.default_chip()
        try:
            text = self.bundle(candidate, problem)
        except BadCandidate as error:
            return Build(ok=False, folder="", log=f"error: {error}")
        facts = {"toolchain": self.name, "chip": chip.id, "chip's facts": chip.digest[:12]}
        facts |= {p: importlib.metadata.version(p) for p in self.packages()}
        facts |= {**self.versions(), **({"small": "yes"} if small else {})}
        digest = digest_text(canonical({"bundle": text, "candidate": candidate.digest, **facts}))
        folder = Path(cache, digest)
        return kept(
            folder,
            "model_new.py",
            lambda made: self._build_in(made, folder, text, problem, facts, small),
        )

    def reduced(self, candidate: Candidate, problem: Problem, cache: Path) -> Build | None:
        """The candidate's own smaller form, for `problem`; None without one.

        Raises BadCandidate where the two differ in more than numbers.
        """
        form = self.smaller_form(candidate, problem)
        if form is None:
            return None
        text = self.bundle(form, problem)
        digest = digest_text(canonical({"reduced": text, "toolchain": self.name}))
        files = {**form.files, "model_new.py": text}
        folder = written(form.replace(files=files), Path(cache, digest))
        return Build(ok=True, folder=str(folder))

    def smaller_form(self, candidate: Candidate, problem: Problem) -> Candidate | None:
        """The files under `small/` as a candidate for `problem`; None without any.

        Raises BadCandidate where they differ from the others in more than numbers.
        """
        small = {
            n.removeprefix(SMALL): t for n, t in candidate.files.items() if n.startswith(SMALL)
        }
        for name, own in small.items():
            same = same_but_numbers if name.endswith(".py") else same_text_but_numbers
            if not same(candidate.files.get(name, ""), own):
                raise BadCandidate(
                    f"{SMALL}{name} differs from {name} in more than numbers",
                    "write both by the same rules",
                )
        if not small:
            return None
        return candidate.replace(problem=problem.digest, files=small, parents=())

    def inspect(self, build: Build) -> FrozenDict[float]:
        """Static metrics of all kernels together; empty when it was not built."""
        path = Path(build.folder, METRICS)
        if not build.ok or not path.is_file():
            return FrozenDict()
        found = json.loads(path.read_text(encoding="utf-8"))
        return FrozenDict({k: float(v) for k, v in found.items()})

    def bundle(self, candidate: Candidate, problem: Problem) -> str:
        """The text of `model_new.py`. Raises BadCandidate or BadProblem."""
        if KERNELS not in candidate.files:
            raise BadCandidate(f"the candidate has no {KERNELS}", "put its kernels there")
        matters = f"_epitaxy_training_matters = {compose.training_matters(problem)!r}\n"
        loader = [*self.loader(), matters]
        return compose.assemble(candidate, problem, self.needs, loader, candidate.files[KERNELS])

    def _build_in(
        self, made: Path, folder: Path, text: str, problem: Problem, facts: Mapping[str, str],
        small: bool,
    ) -> Build:  # fmt: skip
        (made / "model_new.py").write_text(text, encoding="utf-8", newline="")
        chip = self._chip or self.default_chip()
        job = self.job(chip)
        job["inputs"] = [s and (s.shape, s.dtype) for s in problem.inputs]
        job["small"] = small
        (made / "job.json").write_text(json.dumps(job), encoding="utf-8")
        start = time.monotonic()
        fault = self._compile(made)
        if not fault and not small:
            metrics, fault = self.look(made, chip)
            (made / METRICS).write_text(json.dumps(metrics), encoding="utf-8")
            self.moved(made, folder)
        late = fault == LATE.format(self.timeout_s)  # not kept: another time it may be faster
        return Build(
            ok=not fault, folder="" if late else str(folder), log=fault,
            fingerprint=FrozenDict[str](facts), seconds=time.monotonic() - start,
        )  # fmt: skip

    def _compile(self, made: Path) -> str:
        """Why it was not built, in what matters of the output; "" when it was."""
        command = [sys.executable, "-m", self.builder, "job.json"]
        limits = {
            "cpu_s": int(self.timeout_s) + 1, "memory_bytes": MEMORY_BYTES,
            "file_bytes": FILE_BYTES,
        }  # fmt: skip
        reads, paths = _python_paths(("torch", "numpy", *self.packages()))
        environment = {
            "PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1", **self.environment(made),
        }  # fmt: skip
        bounds = _confined.Bounds(
            self.timeout_s, FOLDER_BYTES, reads=(*reads, *self.reads()), environment=environment
        )
        with tempfile.TemporaryFile(dir=made) as output:
            ended = _confined.run(command, made, output, limits, bounds)
            output.seek(0)
            said = printable(output.read(LOG_BYTES).decode(errors="replace")).strip()
        if ended.late:
            return LATE.format(self.timeout_s)
        if ended.big:
            return f"error: building takes more than {FOLDER_BYTES >> 20} MiB of disk"
        if ended.status == 0:
            return ""
        lines = [x for x in said.splitlines() if x.startswith("error:")]
        if crash := not lines and crashed(ended.status):
            raise MachineFault(
                f"what builds for {self.name} crashed ({crash})",
                "run again; where it crashes again, install another version of the compiler",
            )
        lines = lines or said.splitlines()[-1:]
        return "\n".join(lines) or f"error: the builder ended with status {ended.status}"


def crashed(status: int) -> str:
    """The signal by which a builder's own code died, from its exit status; "" for any other end,
    such as that it was ended at a limit."""
    number = status - 128 if status > 128 else -status
    return next((s.name for s in CRASHES if s == number), "")


def same_but_numbers(one: str, other: str) -> bool:
    """Whether two Python texts are the same but for comments and the numbers in them."""
    try:
        trees = [parsed(x) for x in (one, other)]
    except (SyntaxError, ValueError, RecursionError):
        return False
    shapes = []
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and type(node.value) in (int, float):
                node.value = 0
        _undocumented(tree)
        shapes.append(ast.dump(tree))
    return shapes[0] == shapes[1]


def same_text_but_numbers(one: str, other: str) -> bool:
    """As `same_but_numbers`, for the languages of C's family."""
    return _blanked(one) == _blanked(other)


_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))|(?P<kept>[A-Za-z_]\w*|"(?:\\.|[^"\\\n])*")"""
    r"""|(?P<number>\.?[0-9](?:[eEpP][+-]|[\w.'])*)""",
    re.S,
)


def _blanked(text: str) -> list[str]:
    shown = {"comment": " ", "number": "0"}
    return _TOKEN.sub(lambda m: shown.get(m.lastgroup or "", m[0]), text).split()


def _undocumented(tree: ast.Module) -> None:
    """Without docstrings: they name the genome and the shapes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                body[0].value.value = ""


def _python_paths(packages: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(Where Python, this package and others lie, those that Python does not find by itself)."""
    own = str(Path(__file__).parents[2])
    reads, paths = {sys.prefix, sys.base_prefix, own}, [own]
    for package in packages:
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            reads.add(str(Path(place).parent))
            if not Path(place).is_relative_to(sys.prefix):
                paths.append(str(Path(place).parent))
    return tuple(sorted(reads)), tuple(dict.fromkeys(paths))
