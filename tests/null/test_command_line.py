"""The command line itself: help, version, wrong words."""

import json
import subprocess
import sys

import fake_records
import pytest

import epitaxy
from epitaxy.cli import DONE, UNUSABLE, main
from epitaxy.ledger import Ledger


def test_the_version(capsys):
    assert main(["--version"]) == DONE
    assert capsys.readouterr().out == f"epitaxy {epitaxy.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["ledger"]])
def test_nothing_more_is_a_question_for_help(capsys, arguments):
    assert main(arguments) == DONE
    said = capsys.readouterr()
    assert "Usage: epitaxy" in said.out + said.err
    assert "error" not in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["optimize"], "Missing argument 'FILE' — see 'epitaxy optimize --help'"),
        (["optimize", "m.py", "--chip", "loca"], "did you mean 'local'?"),
        (["chips", "zz"], "and 41 more"),
        (["bench", "nowhere"], "nowhere does not exist — give a folder"),
        (["bench", "level1", "--scale", "2"], "scale '2' is not understood — give auto"),
        (["probe", "--budget", "soon"], "budget 'soon' is not a time — try 30s or 1m"),
        (["probe", "--budget", "5s"], "a probe of 5 s is too short"),
        (["probe", "--budget", "0"], "budget '0' is not a time"),
    ],
)
def test_a_wrong_word_is_one_short_line(capsys, arguments, says):
    assert main(arguments) == UNUSABLE
    line = capsys.readouterr().err.strip()
    assert says in line
    assert len(line.splitlines()) == 1
    assert len(line) < 300


CHATTY = """
import os, sys
from epitaxy.commands import output

def chatty():
    print("printed")
    os.system("echo from a child")
    output.emit({"good": True})
    return 0

with output.results_apart():
    chatty()
print("afterwards")
"""


def test_what_a_problem_prints_is_not_among_the_results():
    done = subprocess.run(
        [sys.executable, "-c", CHATTY], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == '{\n  "good": true\n}\nafterwards\n'
    assert done.stderr.split("\n")[:2] in (["printed", "from a child"], ["from a child", "printed"])


def test_a_reader_that_leaves_is_no_failure():
    line = f"{sys.executable} -m epitaxy.cli chips --json | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[\n0\n"
    assert done.stderr == ""


def test_problems_say_what_is_known(capsys, tmp_path):
    path = tmp_path / "ledger.sqlite"
    run, new = fake_records.run(5), fake_records.problem(name="new")
    with Ledger(path) as ledger:
        ledger.add_problem(run.problem)
        ledger.add_problem(new)
        for candidate, verdict in run.judged:
            ledger.add_candidate(candidate)
            ledger.add_verdict(verdict)
    assert main(["problems", "--ledger", str(path), "--json"]) == DONE
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[run.problem.name]["judged"] == len(run.judged)
    assert rows[run.problem.name]["speedup"] == run.best[1].speedup
    assert (rows["new"]["judged"], rows["new"]["speedup"]) == (0, None)
    assert main(["problems", "--ledger", str(path)]) == DONE
    assert f"{run.best[1].speedup:.2f}x" in capsys.readouterr().out
