"""Experiments that are really built and run, in the jail."""

import json
import platform

import pytest

from epitaxy import sandbox
from epitaxy.cli import DONE, NOTHING_ACCEPTED, main
from epitaxy.experiments import explore, recipe
from epitaxy.probe import explored

pytestmark = [
    pytest.mark.skipif(not set(sandbox.NEEDED) <= set(sandbox.available()), reason="no jail"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="patterns of x86-64"),
]
RECIPE = """
name = "more-work"
hypothesis = "Forty times the multiplications take at least ten times as long."
out = "64 B"
input = "64 B"
common = '''
inline __attribute__((always_inline)) void multiply(const Job& job, long turns) {
  float v = 1.0f, f = 1.0f;
  for (long i = 0; i < turns; i++) asm volatile("mulss %1, %0" : "+x"(v) : "x"(f));
  for (int i = 0; i < 16; i++) job.output<float>()[i] = v;
}
'''
[a]
name = "many"
code = "multiply(job, 40000);"
contains = ['mulss\\s']
[b]
name = "few"
code = "multiply(job, 1000);"
contains = ['mulss\\s']
[[claims]]
at_least = 10.0
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))


def variant(code, which="b", text=RECIPE):
    experiment = recipe.parse(text, "mine.toml")
    changed = getattr(experiment, which).replace(code=code, contains=())
    return experiment.replace(**{which: changed})


def test_a_file_of_the_users_own(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    assert main(["explore", str(path), "--json"]) == DONE
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["verdict"] != "refused", answer["why"]
    assert answer["points"][0]["pairs"] >= 3 * 8
    assert answer["conditions"]["compiler"].startswith(("gcc", "clang"))
    kept = explored.load()["more-work"]
    assert (kept.origin, kept.verdict) == ("file", answer["verdict"])


def test_an_unequal_pair_is_refused(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.replace("multiply(job, 1000);", "multiply(job, 9); *job.out = 1;"))
    assert main(["explore", str(path)]) == NOTHING_ACCEPTED
    assert "do not compute the same" in " ".join(capsys.readouterr().out.split())
    assert explored.load() == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("mulss\\s", "mulps\\s"), "no loop holds"),
        (("asm volatile", "asm volatole"), "cannot be built"),
    ],
)
def test_what_was_not_meant_is_refused(change, says):
    answer = explore(recipe.parse(RECIPE.replace(*change), "mine.toml"))
    assert answer.verdict == "refused"
    assert says in answer.why


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("*(volatile int*)0 = 1;", "died of signal 11"),
        ("__builtin_trap();", "died of signal 4"),
    ],
)
def test_a_crash_is_the_kernels(code, says):
    answer = explore(variant(code))
    assert answer.verdict == "refused"
    assert says in answer.why


def test_a_kernel_reaches_nothing(tmp_path):
    """It reads no file of the user's, opens no socket and writes nowhere: it aborts if it can."""
    secret = tmp_path / "secret"
    secret.write_text("key")
    text = RECIPE.replace("common = '''", "common = '''\n#include <fcntl.h>\n"
        "#include <stdlib.h>\n#include <sys/socket.h>\n#include <unistd.h>\n")  # fmt: skip
    code = f"""
      if (open("{secret}", O_RDONLY) >= 0) _exit(41);
      if (open("{tmp_path}/new", O_CREAT | O_WRONLY, 0600) >= 0) _exit(42);
      if (socket(AF_INET, SOCK_STREAM, 0) >= 0) _exit(43);
      if (getenv("HOME") || getenv("EPITAXY_HOME") || getenv("EPITAXY_SECRET")) _exit(44);
      multiply(job, 1000);
    """
    answer = explore(variant(code, text=text))
    assert answer.answered, answer.why
