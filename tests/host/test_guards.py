"""Guards: honest code passes them again and again; what each one stops is in the attack corpus."""

import pytest

from epitaxy.attacks import Range, chosen, row
from epitaxy.compiler import find_compiler
from epitaxy.errors import UnknownName
from epitaxy.guards import GUARDS, Manners, switched_off
from epitaxy.natives import foreign, undefined
from epitaxy.plugin import plugins

LIBRARY = """
#include <cmath>
#include <vector>
extern "C" long clock_ticks(void);
extern "C" double own(double x) {
  std::vector<double> v(3, x);
  return std::sin(v[1]) + double(clock_ticks());
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    import subprocess

    folder = tmp_path_factory.mktemp("library")
    (folder / "a.cpp").write_text(LIBRARY)
    command = [find_compiler().path, "-O2", "-shared", "-fPIC", "a.cpp", "-o", "a.so"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def test_honest_code_passes_every_guard(tmp_path):
    place = Range(tmp_path)
    try:
        for _ in range(3):
            outcome = place.fire(*chosen(["plain_wave"]))
            assert not outcome.fault, row(outcome)
    finally:
        place.close()


def test_a_verdict_without_a_guard_says_so(tmp_path):
    place = Range(tmp_path)
    try:
        verdict = place.judge(*chosen(["plain_wave"]), without=["idle"])
    finally:
        place.close()
    assert any("idle" in f.message for f in verdict.findings if f.severity == "warning")


def test_an_unknown_guard_is_said():
    with pytest.raises(UnknownName, match="witness"):
        switched_off(["witnes"], plugins("checks").names())


def test_every_guard_says_what_it_is_for():
    assert all(GUARDS.values())
    assert not set(GUARDS) & set(plugins("checks").names())


def test_what_a_library_takes_from_others_is_read_from_it(library):
    assert {"sin", "clock_ticks"} <= set(undefined(library / "a.so"))
    assert "own" not in undefined(library / "a.so")
    assert undefined(library / "a.cpp") == []
    assert foreign(library) == ["clock_ticks"]


def test_preparing_grows_with_the_calls():
    manners = Manners()
    manners.armed = [(1, 2e-4), (1, 1e-4), (11, 3e-4), (11, 2e-4)]
    assert manners.arming_s(1) == pytest.approx(1e-4)
    assert manners.arming_s(21) == pytest.approx(3e-4)
