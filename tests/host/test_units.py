"""Libraries of several units: only what changed is compiled, and nothing is hidden by that."""

import ctypes
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from product_case import KERNEL, PROBLEM, candidate

from epitaxy.product import kernel_name
from epitaxy.record import FrozenDict
from epitaxy.toolchains import _units, cpp
from epitaxy.toolchains.cpp import Cpp

HEADER = "#pragma once\ninline int base() { return 40; }\n"
ONE = '#include "base.h"\nextern "C" int one() { return base() + 1; }\n'
TWO = '#include "base.h"\nextern "C" int two() { return base() + 2; }\n'


def of(**files):
    """A candidate of several units."""
    named = {name.replace("_", "."): text for name, text in files.items()}
    given = {"base.h": HEADER, "one.cpp": ONE, "two.cpp": TWO, **named}
    return candidate().replace(
        files=FrozenDict({**candidate().files, "kernel.cpp": KERNEL, **given})
    )


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled: units by their names, "link" for links, "all" for single commands."""
    seen, names = [], {}
    real = cpp._compile

    def noted(command, folder, timeout_s, within=None):
        found = real(command, folder, timeout_s, within)
        if "-E" in command:
            text = folder / command[-1]
            names[str(text.parent)] = command[command.index("-E") + 1]
        elif "-c" in command:
            seen.append(names[str(folder)])
        else:
            seen.append("all" if any(word.endswith(".cpp") for word in command) else "link")
        return found

    monkeypatch.setattr(cpp, "_compile", noted)
    return seen


def call(build, it, name):
    return getattr(ctypes.CDLL(f"{build.folder}/{kernel_name(it)}"), name)()


def test_only_the_unit_that_changed_is_compiled(tmp_path, compiled):
    first = Cpp().build(of(), PROBLEM, tmp_path)
    assert first.ok, first.log
    assert sorted(compiled) == ["kernel.cpp", "link", "one.cpp", "two.cpp"]
    compiled.clear()
    other = of(two_cpp=TWO.replace("+ 2", "+ 3"))
    second = Cpp().build(other, PROBLEM, tmp_path)
    assert compiled == ["two.cpp", "link"]
    assert [call(first, of(), n) for n in ("one", "two")] == [41, 42]
    assert [call(second, other, n) for n in ("one", "two")] == [41, 43]


def test_candidates_that_are_built_at_once_compile_what_they_share_once(tmp_path, compiled):
    several = [of(two_cpp=TWO.replace("+ 2", f"+ {n}")) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        builds = list(pool.map(lambda it: Cpp().build(it, PROBLEM, tmp_path), several))
    assert [call(b, c, "two") for b, c in zip(builds, several, strict=True)] == [40, 41, 42, 43]
    assert sorted(compiled) == ["kernel.cpp", *["link"] * 4, "one.cpp", *["two.cpp"] * 4]


def test_a_changed_header_or_flag_compiles_all_that_may_see_it(tmp_path, compiled):
    Cpp().build(of(), PROBLEM, tmp_path)
    header, flag = of(base_h=HEADER.replace("40", "50")), of().replace(flags=("-O2",))
    for other, units, one in (
        (header, ["link", "one.cpp", "two.cpp"], 51),
        (flag, ["kernel.cpp", "link", "one.cpp", "two.cpp"], 41),
    ):
        compiled.clear()
        build = Cpp().build(other, PROBLEM, tmp_path)
        assert sorted(compiled) == units
        assert call(build, other, "one") == one
    compiled.clear()
    assert Cpp().build_harsh(of(), PROBLEM, tmp_path).ok
    assert len(compiled) == 4


def test_a_header_that_a_unit_does_not_use_leaves_its_object(tmp_path, compiled):
    Cpp().build(of(), PROBLEM, tmp_path)
    compiled.clear()
    Cpp().build(of(other_h="int unused();\n"), PROBLEM, tmp_path)
    assert compiled == ["link"]


def test_an_error_names_its_file_and_nothing_of_it_is_kept(tmp_path, compiled):
    bad = of(two_cpp=TWO.replace("return", "retrun"))
    build = Cpp().build(bad, PROBLEM, tmp_path)
    assert not build.ok
    assert "two.cpp:2:" in build.log
    assert str(tmp_path) not in build.log
    assert "link" not in compiled
    compiled.clear()
    assert Cpp().build(of(), PROBLEM, tmp_path).ok
    assert compiled == ["two.cpp", "link"]


def test_a_warning_is_said_again_each_time(tmp_path, compiled):
    warns = '#warning "look"\n' + TWO
    for n in (1, 2):
        build = Cpp().build(of(two_cpp=warns, one_cpp=f"{ONE}// {n}\n"), PROBLEM, tmp_path)
        assert build.ok
        assert "look" in build.log


def test_what_two_units_define_is_an_error_of_the_link(tmp_path):
    twice = Cpp().build(of(two_cpp=ONE), PROBLEM, tmp_path)
    assert not twice.ok
    assert "multiple definition" in twice.log


def test_units_may_include_each_other(tmp_path):
    text = '#include "one.cpp"\nextern "C" int two() { return 2 * base(); }\n'
    it = of(two_cpp=text, one_cpp='#include "base.h"\nstatic int unused() { return base(); }\n')
    build = Cpp().build(it, PROBLEM, tmp_path)
    assert build.ok, build.log
    assert call(build, it, "two") == 80


def test_an_error_of_one_unit_compiles_no_other_again(tmp_path, compiled):
    Cpp().build(of(), PROBLEM, tmp_path)
    compiled.clear()
    assert not Cpp().build(of(two_cpp=TWO.replace("return", "retrun")), PROBLEM, tmp_path).ok
    assert compiled == ["two.cpp"]


def test_a_spoiled_object_is_made_again(tmp_path, compiled):
    Cpp().build(of(), PROBLEM, tmp_path)
    for kept in (tmp_path / "units").glob("*.o"):
        kept.write_bytes(b"half of it")
    it = of(two_cpp=TWO.replace("+ 2", "+ 4"))
    build = Cpp().build(it, PROBLEM, tmp_path)
    assert build.ok, build.log
    assert [call(build, it, n) for n in ("one", "two")] == [41, 44]


def test_the_oldest_objects_make_room_and_large_ones_are_not_kept(tmp_path, compiled, monkeypatch):
    monkeypatch.setattr(_units, "MOST_KEPT", 4)
    store = tmp_path / "units"
    for n in range(8):
        assert Cpp().build(of(two_cpp=f"{TWO}// {n}\n"), PROBLEM, tmp_path).ok
        assert len(list(store.iterdir())) <= 4
    assert compiled.count("one.cpp") < 8, "what is used stays"
    monkeypatch.setattr(_units, "OBJECT_BYTES", 100)
    before = {path.name for path in store.iterdir()}
    assert Cpp().build(of(two_cpp=f"{TWO}// large\n"), PROBLEM, tmp_path).ok
    assert {path.name for path in store.iterdir()} <= before


PEEKS = {
    "a name over two lines": '#if __has_include("on\\\ne.cpp")\n',
    "a name from macros": "#define P cpp\n#define A <one.P>\n#if __has_include(A)\n",
}


@pytest.mark.parametrize("peek", PEEKS.values(), ids=PEEKS)
def test_a_unit_sees_the_files_that_an_export_has(tmp_path, peek):
    """What is judged is what the export's one folder makes."""
    told = "#define N 3\n#else\n#define N 4\n#endif\n"
    it = of(two_cpp=f'{peek}{told}extern "C" int two() {{ return N; }}\n')
    build = Cpp().build(it, PROBLEM, tmp_path)
    assert build.ok, build.log
    assert call(build, it, "two") == 3


def test_no_object_is_kept_of_what_the_compiler_reads_besides(tmp_path):
    """The assembler reads files too, which no key would cover: there are none for it."""
    asks = '__asm__(".inc" "lude \\"said.inc\\"");\n'
    for value in ("1", "2"):
        it = of(two_cpp=TWO + asks, said_inc=f".set said, {value}\n")
        build = Cpp().build(it, PROBLEM, tmp_path)
        assert not build.ok
        assert "can't open said.inc" in build.log


def test_a_candidate_that_waits_for_others_loses_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(_units, "_turns", threading.BoundedSemaphore(1))
    with ThreadPoolExecutor(1) as pool:
        with _units._turns:
            waiting = pool.submit(Cpp(timeout_s=3.0).build, of(), PROBLEM, tmp_path)
            time.sleep(3.5)
        assert waiting.result().ok


def test_compiling_that_takes_too_long_is_cut_for_all_units_together(tmp_path, monkeypatch):
    heavy = "#include <regex>\ntemplate class std::basic_regex<char>;\n"
    build = Cpp(timeout_s=0.1).build(of(one_cpp=heavy, two_cpp=heavy + TWO), PROBLEM, tmp_path)
    assert not build.ok
    assert "more than 0.1 s" in build.log
    monkeypatch.setattr(_units, "_turns", threading.BoundedSemaphore(1))
    many = {f"more{n}_cpp": heavy for n in range(20)}
    start = time.monotonic()
    assert "more than 1 s" in Cpp(timeout_s=1.0).build(of(**many), PROBLEM, tmp_path).log
    assert time.monotonic() - start < 10
