"""The command line itself: help, version, wrong words."""

import pytest

import epitaxy
from epitaxy.cli import DONE, UNUSABLE, main


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
        (["chips", "zz"], "and 40 more"),
        (["bench", "nowhere"], "nowhere does not exist — give a folder"),
        (["bench", __file__], "is a file — give a folder; `epitaxy optimize` takes one file"),
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
