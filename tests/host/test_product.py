"""The bundle, its export, and what the product does in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from product_case import KERNEL, PROBLEM, PROGRAM, SOURCE, X, candidate

from epitaxy import compiler
from epitaxy.errors import BadCandidate, BadEnvironment, BadInput, BadProblem
from epitaxy.problem import TensorSpec
from epitaxy.product import bundle, export, kernel_name, load
from epitaxy.product.compose import training_matters
from epitaxy.product.export import KEPT_MEMORY
from epitaxy.proposers.grower.algebra import Region
from epitaxy.proposers.grower.program import Program, RegionCall
from epitaxy.toolchains.cpp import Cpp
from epitaxy.verdict import Comparison, ErrorRow, Floor, Verdict

ALONE = Path(__file__).with_name("product_alone.py")
DOUBLE = """extern "C" void region0(const void* const* in, void* const* out) {
  for (int i = 0; i < 264; ++i) ((float*)out[0])[i] = 2 * ((const float*)in[0])[i];
}
"""
TWICE = Program(
    inputs=("x",),
    state=(),
    steps=(RegionCall(region=Region("region0", (X,), (X,), ()), args=("x",), results=("y",)),),
    outputs=("y",),
)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return Cpp().build(candidate(), PROBLEM, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def exported(build, tmp_path):
    return export(candidate(), None, PROBLEM, tmp_path / "out", build).parent


def alone(folder: Path, home: Path, script: str = "", **more: str) -> subprocess.CompletedProcess:
    """Python without epitaxy on its path, in `folder`, with its own kernel cache."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CXX")}
    environment |= {"EPITAXY_HOME": str(home), "OMP_NUM_THREADS": "2", **more}
    command = [sys.executable, *(["-c", script] if script else [str(ALONE), str(folder)])]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def library_used(folder: Path, home: Path, **more: str) -> str:
    """Path of the library that a fresh process maps after one call."""
    script = (
        "import torch, model_new as m; torch.set_grad_enabled(False)\n"
        "m.ModelNew().eval()(*m.get_inputs())\n"
        "print(*{l.split()[-1] for l in open('/proc/self/maps') if 'kernel-' in l})"
    )
    done = alone(folder, home, script, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_bundle_is_the_same_text_every_time():
    text = bundle(candidate(), PROBLEM)
    assert text == bundle(candidate(), PROBLEM)
    assert SOURCE in text
    assert KERNEL in text
    assert "/work" not in text
    assert "import epitaxy" not in text


def test_the_product_alone_with_its_library(exported, tmp_path):
    done = alone(exported, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["fine", str(exported / kernel_name(candidate()))]


def test_the_library_is_rebuilt_when_it_is_missing_broken_or_for_another_cpu(exported, tmp_path):
    library = exported / kernel_name(candidate())
    assert library_used(exported, tmp_path / "a") == str(library)
    card = json.loads(library.with_suffix(".json").read_text())
    richer = {**card, "cpu": [*card["cpu"], "avx9000"]}
    library.with_suffix(".json").write_text(json.dumps(richer))
    used = library_used(exported, tmp_path / "b")
    assert used.startswith(str(tmp_path / "b" / "kernels"))
    before = os.stat(used).st_mtime_ns
    library.with_suffix(".json").write_text(json.dumps(card))
    library.write_bytes(library.read_bytes() + b"x")
    assert library_used(exported, tmp_path / "b") == used
    assert os.stat(used).st_mtime_ns == before, "built once, then found"
    library.unlink()
    Path(used).write_bytes(b"broken")
    assert library_used(exported, tmp_path / "b") == used


def test_without_library_and_compiler_the_error_says_what_to_do(exported, tmp_path):
    (exported / kernel_name(candidate())).unlink()
    script = (
        "import torch, model_new as m; torch.set_grad_enabled(False)\n"
        "m.ModelNew().eval()(*m.get_inputs())"
    )
    done = alone(exported, tmp_path / "home", script, CXX="no-such-compiler")
    assert done.returncode == 1
    assert "no-such-compiler not found" in done.stderr
    assert "apt install g++, or set CXX" in done.stderr


def test_the_loader_and_the_tuner_see_the_same_cpu(exported):
    module = sys.modules[load(exported).__module__]
    assert tuple(module._epitaxy_cpu()) == compiler.cpu_flags()


def test_load_gives_the_class(exported):
    product = load(exported)
    assert product is load(exported / "model_new.py")
    assert issubclass(product, torch.nn.Module)
    with torch.no_grad():
        x = torch.randn(8, 33)
        module = product().eval()
        torch.testing.assert_close(module(x), torch.softmax(module.inner(x) + module.bias, -1))


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot read"), ("raise ValueError('x')", "ValueError: x"), ("", "no ModelNew")],
)
def test_load_says_what_is_wrong(tmp_path, text, said):
    if text is not None:
        (tmp_path / "model_new.py").write_text(text)
    with pytest.raises(BadInput, match=said):
        load(tmp_path / "model_new.py")


def test_a_function_problem_gives_module_and_function(tmp_path):
    source = (
        "from __future__ import annotations\nimport epitaxy\nimport torch\n\n\n"
        '@epitaxy.problem(\n    x=((8, 33), "float32"),\n)\n'
        "def twice(x: torch.Tensor, factor: float = 2.0) -> torch.Tensor:\n    return x * factor\n"
    )
    problem = PROBLEM.replace(source=source, entry="twice", parameters=())
    grown = candidate(DOUBLE, TWICE, problem=problem)
    build = Cpp().build(grown, problem, tmp_path / "cache")
    folder = export(grown, None, problem, tmp_path / "out", build).parent
    assert "from model_new import twice" in (folder / "README.md").read_text()
    script = (
        "import sys, warnings; sys.modules['epitaxy'] = None\n"
        "import torch, model_new as m\n"
        "x = torch.randn(8, 33)\n"
        "warnings.simplefilter('error')\n"
        "assert torch.equal(m.twice(x), 2 * x) and torch.equal(m.ModelNew()(x=x), 2 * x)\n"
        "warnings.simplefilter('ignore')\n"
        "assert torch.equal(m.twice(x, factor=3.0), 3 * x)\n"
        "assert torch.equal(m.twice(x[:2]), 2 * x[:2])\n"
        "print(*[1 for l in open('/proc/self/maps') if 'kernel-' in l][:1])"
    )
    done = alone(folder, tmp_path / "home", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"


def test_other_entry_names_and_plain_inputs(tmp_path):
    source = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x, factor):\n        return x * factor\n"
    )
    problem = PROBLEM.replace(source=source, entry="Net", parameters=(), inputs=(X, None))
    from epitaxy.proposers.grower.forward import write_forward

    two = Program(inputs=("x", None), state=(), steps=TWICE.steps, outputs=("y",))
    forward = write_forward(two, problem, [2.0])
    grown = candidate(DOUBLE).replace(files={"kernel.cpp": DOUBLE, "forward.py": forward})
    build = Cpp().build(grown, problem, tmp_path)
    module = load(build.folder)()
    x = torch.randn(8, 33)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(module(x, 2.0), 2 * x)
        with pytest.raises(RuntimeWarning, match=r"input 1 is 3\.0, tuned for 2\.0"):
            module(x, 3.0)
    assert torch.equal(module(x, 3.0), 3 * x)


def test_awkward_kernel_text_survives(tmp_path):
    awkward = DOUBLE + "// ''' and \"\"\" and \\\n// \\n \\u1234 é\n"
    build = Cpp().build(candidate(awkward, TWICE), PROBLEM, tmp_path)
    module = sys.modules[load(build.folder).__module__]
    assert module._epitaxy_sources["kernel.cpp"] == awkward


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"forward.py": "class ModelNew(Model): pass"}, "no .cpp file"),
        ({"forward.py": "x = 1", "kernel.cpp": DOUBLE}, "defines no class ModelNew"),
        ({"forward.py": "def (", "kernel.cpp": DOUBLE}, "not valid Python"),
    ],
)
def test_a_bad_candidate_is_named(tmp_path, files, said):
    bad = candidate().replace(files=files)
    with pytest.raises(BadCandidate, match=said):
        bundle(bad, PROBLEM)
    assert said in Cpp().build(bad, PROBLEM, tmp_path).log


def test_a_bad_reference_is_named():
    with pytest.raises(BadProblem, match="not valid Python"):
        bundle(candidate(), PROBLEM.replace(source="class Model(:"))


@pytest.mark.parametrize(
    "line",
    [
        "import epitaxy",
        "from __future__ import annotations",
        "from epitaxy import (\n    problem,\n)",
    ],
)
def test_what_only_the_tuner_needs_is_taken_out_and_nothing_else(line):
    alone = f"\n\x0c\n{line}  # of the tuner\n"
    awkward = f'{line}; SHARED = 1\nOTHER = 2; {line}{alone}TEXT = "a\u2028b\x0c"\n'
    text = bundle(candidate(), PROBLEM.replace(source=SOURCE + awkward))
    assert not [x for x in text.splitlines() if x.startswith(("import epitaxy", "from epitaxy"))]
    body = text[text.index("# --- reference") : text.index("# --- forward")]
    space: dict[str, object] = {}
    exec(body, space)
    assert (space["SHARED"], space["OTHER"], space["TEXT"]) == (1, 2, "a\u2028b\x0c")


@pytest.mark.parametrize(
    ("line", "matters"),
    [
        ("import math", False),
        ("x = nn.Dropout(0.5)", True),
        ("x = nn.BatchNorm2d(3)", True),
        ("x = F.instance_norm", True),
        ("y = self.training", True),
        ("import torchvision", True),
        ("from . import layers", True),
    ],
)
def test_training_mode_counts_where_it_may_matter(line, matters):
    assert training_matters(PROBLEM.replace(source=f"{SOURCE}\n{line}\n")) is matters


def test_dropout_in_training_runs_the_reference(tmp_path):
    source = SOURCE.replace("self.inner =", "self.drop = nn.Dropout(0.5)\n        self.inner =")
    problem = PROBLEM.replace(source=source)
    build = Cpp().build(candidate(problem=problem), problem, tmp_path)
    module = load(build.folder)()
    with torch.no_grad(), pytest.warns(RuntimeWarning, match=r"call \.eval\(\)"):
        module(torch.randn(8, 33))


def verdict() -> Verdict:
    return Verdict(
        candidate=candidate().digest,
        problem=PROBLEM.digest,
        machine="test",
        plan="p",
        status="accepted",
        time_s=1e-3,
        errors=(ErrorRow(distribution="given", error=1e-7, honest=1e-7, limit=1e-6),),
        comparisons=(
            Comparison(
                baseline="eager", time_s=2e-3, speedup=2.0, low=1.9, high=2.1,
                outcome="faster", detectable=0.01, pairs=60,
            ),
        ),
        floor=Floor(time_s=5e-4, limit="DRAM", compute_s=1e-4, memory_s=5e-4, measured=True),
    )  # fmt: skip


def test_export_writes_everything_and_the_evidence_reads_back(build, tmp_path):
    path = export(candidate(), verdict(), PROBLEM, tmp_path / "deep" / "out", build)
    folder = path.parent
    library = kernel_name(candidate())
    assert sorted(os.listdir(folder)) == sorted(
        [
            "README.md",
            "evidence.json",
            "kernel.cpp",
            "model_new.py",
            library,
            library.replace(".so", ".json"),
        ]
    )
    assert path.read_text() == Path(build.folder, "model_new.py").read_text()
    evidence = json.loads((folder / "evidence.json").read_text())
    assert Verdict.from_dict(evidence["verdict"]) == verdict()
    assert type(PROBLEM).from_dict(evidence["problem"]) == PROBLEM
    assert type(candidate()).from_dict(evidence["candidate"]) == candidate()
    readme = (folder / "README.md").read_text()
    assert "| eager | 2 | 2.000 | 1.900 to 2.100 | faster |" in readme
    assert "50 % of the physical limit" in readme
    assert ("ModelNew(*get_init_inputs())" in readme) == ("def get_init_inputs" in PROBLEM.source)
    assert "- float32[8, 33]" in readme
    assert "GLIBC_TUNABLES" not in readme, "its result is small"
    assert os.listdir(folder.parent) == ["out"], "nothing is left beside it"


@pytest.mark.parametrize("mebibytes", [31, 32, 100])
def test_the_readme_tells_what_large_results_cost(tmp_path, mebibytes):
    large = PROBLEM.replace(outputs=(TensorSpec(dtype="float32", shape=(mebibytes, 1 << 18)),))
    readme = export(candidate(), None, large, tmp_path / "out").with_name("README.md").read_text()
    told = f"has {mebibytes} MiB" in readme and "`GLIBC_TUNABLES=glibc.malloc.mmap_thr" in readme
    assert told == (mebibytes >= 32)


def test_the_settings_in_the_documentation_are_those_of_the_readme():
    root = Path(__file__).parents[2]
    assert KEPT_MEMORY in (root / "docs" / "python.md").read_text(encoding="utf-8")


def test_exporting_again_replaces_and_keeps_what_is_the_users(build, exported):
    (exported / "notes.txt").write_text("mine")
    (exported / "kernel_times.json").write_text("mine")
    (exported / "kernel-0123456789ab.so").write_text("old")
    export(candidate(), verdict(), PROBLEM, exported, build)
    assert "eager" in (exported / "README.md").read_text()
    assert (exported / "notes.txt").read_text() == "mine"
    assert (exported / "kernel_times.json").read_text() == "mine"
    assert not (exported / "kernel-0123456789ab.so").exists()


def test_a_folder_that_cannot_be_written_stays_as_it_was(build, tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/out")):
        with pytest.raises(BadEnvironment, match="writable folder"):
            export(candidate(), None, PROBLEM, folder, build)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "x"
    if os.getuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(BadEnvironment, match="writable folder"):
            export(candidate(), None, PROBLEM, tmp_path / "locked", build)


def test_the_program_is_the_case_it_says():
    assert PROGRAM.left == ("aten.linear",)
