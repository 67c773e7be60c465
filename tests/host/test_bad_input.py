"""Bad input at the command line: one line with its mend, exit code 2, no traceback.

What the loader of problems refuses is in test_reference.py; here is what a user sees of it.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

HEAD = "import torch\nimport torch.nn as nn\n"
MODEL = """
class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)
"""
INPUTS = """
def get_inputs():
    return [torch.randn(64, 256)]
def get_init_inputs():
    return []
"""
GOOD = HEAD + MODEL + INPUTS
OLD_COMPILER = """#!/bin/sh
case "$1" in
    --version) echo "BANNER"; echo "Copyright (C) 2017 Free Software Foundation, Inc." ;;
    *) echo 7.5.0 ;;
esac
"""


def forward(line):
    """A problem whose reference returns what `line` says."""
    return HEAD + MODEL.replace("return torch.softmax(x, dim=-1)", line) + INPUTS


def command(*arguments):
    return [sys.executable, "-m", "epitaxy.cli", *map(str, arguments)]


def epitaxy(place, *arguments, limit=None, **environment):
    """Run the command as a user would in the folder `place`; (exit code, stdout, stderr)."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=place, timeout=120,
        check=False, env={**os.environ, "EPITAXY_HOME": str(place / "home"), **environment},
        preexec_fn=limit,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def the_error(code, err):
    """The one error line of a failed command."""
    assert code == 2, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    message, dash, mend = lines[0].removeprefix("error: ").partition(" — ")
    assert message, err
    assert dash, err
    assert mend, err
    return lines[0]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "model.py").write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("y = 1\n", "defines no Model"),
        ("import nothing_of_that_name\n", "cannot be imported"),
        ("raise SystemExit(3)\n", "cannot be imported"),
        (forward("return x @ x"), "the reference raises"),
        (forward("return {'y': 1}"), "returns"),
        (forward("return x + torch.rand(1)"), "not deterministic"),
        (forward("return x * float('nan')"), "NaN"),
        (forward("return x.to(torch.complex64)"), "unsupported dtype complex64"),
        (GOOD.replace("(64, 256)", "(0, 256)"), "empty"),
        (GOOD.replace("(64, 256)", "(1 << 20, 1 << 20)"), "more memory"),
        (GOOD.replace("torch.randn(64, 256)", "torch.zeros(1).expand(1 << 41)"), "more memory"),
        (GOOD.replace("torch.randn(64, 256)", "torch.eye(9).to_sparse()"), "sparse_coo"),
        (GOOD.replace("torch.randn(64, 256)", "torch.ones(9, device='meta')"), "on meta"),
        ("def f(:\n", "(model, line 1)"),
    ],
)
def test_a_problem_that_cannot_be_judged(tmp_path, source, says):
    (tmp_path / "model.py").write_text(source)
    code, out, err = epitaxy(tmp_path, "optimize", "model.py", "--json")
    line = the_error(code, err)
    assert says in line
    document = json.loads(out)
    assert line == f"error: {document['error']} — {document['mend']}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("optimize", "model.py", "--budget", "0s"), "more than 0"),
        (("optimize", "model.py", "--budget", "-5"), "budget"),
        (("optimize", "model.py", "--with", "grover"), "did you mean 'grower'"),
        (("optimize", "model.py", "--chip", "trainum2"), "did you mean 'trainium2'"),
        (("optimise", "model.py"), "optimize"),
        (("optimize", "torch.nn:Nosuch"), "has no 'Nosuch'"),
        (("optimize", "nosuchpackage.module:Model"), "cannot import"),
        (("optimize", "."), "is a folder"),
        (("optimize", "model.py", "--out", "model.py"), "cannot write"),
        (("optimize", "model.py", "--ledger", "model.py"), "is not a ledger"),
        (("probe", "--budget", "1s"), "too short"),
        (("bench", "nothing"), "nothing does not exist"),
        (("judge", "new.py", "--problem", "model.py"), "no such file or folder: new.py"),
    ],
)
def test_a_wrong_word_on_the_command_line(place, arguments, says):
    code, _, err = epitaxy(place, *arguments)
    assert says in the_error(code, err)


def test_an_unknown_toolchain_names_the_nearest():
    from epitaxy.errors import UnknownName
    from epitaxy.plugin import plugins

    with pytest.raises(UnknownName, match="unknown toolchain 'ccp'") as caught:
        plugins("toolchains").get("ccp")
    assert "'cpp'" in caught.value.mend


@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_a_compiler_that_is_too_old(place, name):
    old = place / "bin" / name
    old.parent.mkdir()
    banner = {"g++": "g++ (Debian 7.5.0-1) 7.5.0", "clang++": "Debian clang version 4.0.1"}[name]
    old.write_text(OLD_COMPILER.replace("BANNER", banner))
    old.chmod(0o755)
    code, _, err = epitaxy(place, "optimize", "model.py", PATH=str(old.parent), CXX="")
    line = the_error(code, err)
    assert "too old" in line
    assert not (place / "home").exists()


def test_no_place_for_the_ledger(place):
    code, _, err = epitaxy(place, "optimize", "model.py", EPITAXY_HOME="/proc/nothing")
    assert "cannot write to /proc/nothing/ledger.sqlite" in the_error(code, err)


def test_a_home_where_baselines_cannot_be_built(place):
    code, _, err = epitaxy(place, "optimize", "model.py", EPITAXY_HOME=str(place / "my home"))
    assert "has a space" in the_error(code, err)


def test_a_full_disk(place):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    code, _, err = epitaxy(place, "optimize", "model.py", limit=small_files)
    assert "is full" in the_error(code, err)


def test_a_full_disk_when_results_are_written(tmp_path):
    from epitaxy.commands.output import write_text
    from epitaxy.errors import BadEnvironment

    (tmp_path / "report.html").write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(BadEnvironment, match="cannot write") as caught:
            write_text(tmp_path / "report.html", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.mend
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_an_interrupt_ends_with_130_and_says_what_is_kept(place):
    started = subprocess.Popen(
        command("optimize", "model.py"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, cwd=place, env={**os.environ, "EPITAXY_HOME": str(place / "home")},
        start_new_session=True,
        # Whoever runs the tests in the background has them ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with started:
        assert started.stderr.readline().strip(), "it says what it does first"
        # As a terminal does it: the whole group hears of it.
        os.killpg(started.pid, signal.SIGINT)
        err = started.stderr.read()
    assert started.returncode in (130, -signal.SIGINT), err  # a shell says 130 of both
    assert "interrupted: 0 judged candidates are kept; the same command resumes" in err
    assert "Traceback" not in err
    code, out, _ = epitaxy(place, "problems", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == ["model"]
