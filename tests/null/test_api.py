"""The public face: complete, light to import, usable as documented."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest

import epitaxy

IMPORT_S = 0.1
HEAVY = ("torch", "numpy", "typer", "rich", "jinja2", "jax")
TIMED = f"""
import sys, time
start = time.process_time()
import {{module}}
print(time.process_time() - start, *(m for m in {HEAVY!r} if m in sys.modules))
"""


@pytest.mark.parametrize("name", epitaxy.__all__)
def test_every_public_name_can_be_imported(name):
    found = getattr(epitaxy, name)
    assert found.__doc__
    assert name in dir(epitaxy)


def test_the_list_is_sorted_out():
    assert len(set(epitaxy.__all__)) == len(epitaxy.__all__)
    wanted = {"problem", "machine", "create_study", "judge", "load", "chip", "Study", "Verdict"}
    assert wanted <= set(epitaxy.__all__)


def test_every_error_is_public():
    errors = importlib.import_module("epitaxy.errors")
    assert set(errors.__all__) <= set(epitaxy.__all__)
    for name in errors.__all__:
        made = getattr(epitaxy, name)("what", "do this")
        assert isinstance(made, epitaxy.EpitaxyError)
        assert str(made) == "what (do this)"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="colour"):
        _ = epitaxy.colour


@pytest.mark.parametrize("module", ["epitaxy", "epitaxy.cli"])
def test_importing_is_quick_and_light(module):
    times = []
    for _ in range(5):
        code = TIMED.format(module=module)
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seconds, *heavy = out.stdout.split()
        assert heavy == []
        times.append(float(seconds))
        if times[-1] < IMPORT_S:
            break
    assert min(times) < IMPORT_S


def test_problem_is_a_decorator_and_a_module():
    @epitaxy.problem(x=((4, 8), "float32"))
    def double(x):
        return 2 * x

    assert double(3) == 6
    assert double.__epitaxy_inputs__ == {"x": ((4, 8), "float32")}
    assert isinstance(epitaxy.problem, types.ModuleType)
    assert epitaxy.problem.Problem is epitaxy.Problem


def test_machine_and_chip_are_functions_and_modules():
    assert epitaxy.machine("replay").name == "replay"
    assert epitaxy.machine.Job
    assert epitaxy.chip.Chip is epitaxy.Chip
    assert epitaxy.chip("h100").name
    assert callable(epitaxy.judge)
    assert epitaxy.judge.Judge is epitaxy.Judge
