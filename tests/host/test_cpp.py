"""The C++ toolchain: finding a compiler, building by digest, refusing what it must refuse."""

from __future__ import annotations

import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from product_case import KERNEL, PROBLEM, candidate

from epitaxy import sandbox
from epitaxy.compiler import BASE_FLAGS, cpu_flags, find_compiler, flags
from epitaxy.errors import BadEnvironment, MachineFault, NoCompiler
from epitaxy.product import kernel_name
from epitaxy.toolchains import cpp
from epitaxy.toolchains.cpp import SOURCE_BYTES, Cpp, inspect_library, trim_log


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Make a program that answers like a compiler, and name it in $CXX."""

    def make(banner: str, version: str) -> str:
        path = tmp_path / "c++"
        path.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "{banner}" && exit\necho {version}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("CXX", str(path))
        return str(path)

    return make


def test_a_compiler_is_found_and_described():
    compiler = find_compiler()
    assert os.path.isabs(compiler.path)
    assert compiler.kind in ("gcc", "clang")
    assert compiler.major >= 9
    assert compiler.version in str(compiler)
    assert compiler.openmp == ("libgomp" if compiler.kind == "gcc" else "libomp")
    assert "-ffast-math" not in flags(compiler)


def test_no_compiler_says_how_to_get_one(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoCompiler, match=r"g\+\+ is not installed.*apt install g\+\+"):
        find_compiler()
    found = Cpp().available()
    assert not found.ok
    assert "apt install g++" in found.mend


def test_a_named_compiler_that_is_missing_is_not_skipped(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoCompiler, match="no-such-compiler is not installed"):
        find_compiler()


def test_an_old_compiler_is_refused(fake):
    fake("g++ (X) 8.3.0\\nFree Software Foundation", "8.3.0")
    with pytest.raises(NoCompiler, match=r"too old \(gcc 9 or newer"):
        find_compiler()


def test_something_else_is_no_compiler(fake):
    fake("hello", "1")
    with pytest.raises(NoCompiler, match="neither gcc nor clang"):
        find_compiler()


def test_build_makes_bundle_library_and_card(tmp_path):
    build = Cpp().build(candidate(), PROBLEM, tmp_path)
    assert build.ok, build.log
    names = set(os.listdir(build.folder))
    library = kernel_name(candidate())
    assert {"model_new.py", "kernel.cpp", library, library.replace(".so", ".json")} <= names
    card = json.loads(Path(build.folder, library).with_suffix(".json").read_text())
    assert card["cpu"] == list(cpu_flags())
    assert "gcc" in build.fingerprint["compiler"] or "clang" in build.fingerprint["compiler"]
    assert all(flag in build.fingerprint["flags"] for flag in BASE_FLAGS)


def test_a_second_build_is_read_back(tmp_path):
    first = Cpp().build(candidate(), PROBLEM, tmp_path)
    assert Cpp().build(candidate(), PROBLEM, tmp_path) == first
    other = Cpp().build(candidate(KERNEL + "// other"), PROBLEM, tmp_path)
    assert other.folder != first.folder


def test_builds_of_one_candidate_at_once_agree(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        builds = list(pool.map(lambda _: Cpp().build(candidate(), PROBLEM, tmp_path), range(4)))
    assert all(b.ok and b.folder == builds[0].folder for b in builds)
    assert len(os.listdir(tmp_path)) == 1


def test_a_compiler_error_is_data_and_kept(tmp_path):
    bad = candidate(KERNEL.replace("float most", "flaot most"))
    build = Cpp().build(bad, PROBLEM, tmp_path)
    assert not build.ok
    assert "kernel.cpp:" in build.log
    assert "flaot" in build.log
    assert str(tmp_path) not in build.log
    assert Cpp().build(bad, PROBLEM, tmp_path) == build
    assert not Cpp().inspect(build)


def test_a_compilation_that_takes_too_long_is_cut_and_not_kept(tmp_path):
    heavy = "#include <regex>\ntemplate class std::basic_regex<char>;\n"
    build = Cpp(timeout_s=0.1).build(candidate(heavy + KERNEL), PROBLEM, tmp_path)
    assert not build.ok
    assert "more than 0.1 s" in build.log
    assert os.listdir(tmp_path) == []
    long = "// as long as four kernels\n" * (4 * SOURCE_BYTES // 27)
    build = Cpp(timeout_s=0.05).build(candidate(heavy + long + KERNEL), PROBLEM, tmp_path)
    assert "more than 0.2 s" in build.log, "a long source has longer"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('#include "/etc/hostname"', "absolute or parent path"),
        ("#include <../../etc/hostname>", "absolute or parent path"),
        ("#inc\\\nlude </etc/hostname>", "absolute or parent path"),
        ('%:include "/etc/hostname"', "absolute or parent path"),
        ("#define F </etc/hostname>\n#include F", "computed"),
        ('asm(".incbin \\"/etc/hostname\\"");', "incbin"),
    ],
)
def test_sources_cannot_pull_in_foreign_files(tmp_path, line, said):
    build = Cpp().build(candidate(f"{line}\n{KERNEL}"), PROBLEM, tmp_path)
    assert not build.ok
    assert said in build.log


def test_own_headers_can_be_included(tmp_path):
    own = candidate('#include "own.h"\n' + KERNEL.replace("-INFINITY", "LEAST"))
    own = own.replace(files={**own.files, "own.h": "#define LEAST (-INFINITY)\n"})
    assert Cpp().build(own, PROBLEM, tmp_path).ok


@pytest.mark.parametrize("flag", ["-O2", "-funroll-loops", "-mprefer-vector-width=256"])
def test_allowed_flags_reach_the_compiler(tmp_path, flag):
    build = Cpp().build(candidate(flags=(flag,)), PROBLEM, tmp_path)
    assert build.ok, build.log
    assert flag in build.fingerprint["flags"]


@pytest.mark.parametrize("flag", ["-ffast-math", "-fno-openmp", "-I/etc", "-fplugin=x.so", "@x"])
def test_other_flags_are_refused(tmp_path, flag):
    build = Cpp().build(candidate(flags=(flag,)), PROBLEM, tmp_path)
    assert not build.ok
    assert flag in build.log
    assert "-funroll-loops" in build.log


def test_inspect_counts_vector_instructions(tmp_path):
    fused = """#include <immintrin.h>
extern "C" void region0(const void* const* in, void* const* out) {
  const float* a = (const float*)in[0];
  float* r = (float*)out[0];
  for (int i = 0; i < 4096; ++i) r[i] = a[i] * a[i + 4096] + a[i + 8192];
}
"""
    if "avx2" not in cpu_flags():
        pytest.skip("counts are shown on AVX2")
    build = Cpp().build(candidate(fused), PROBLEM, tmp_path)
    metrics = Cpp().inspect(build)
    if not metrics:
        pytest.skip("objdump is not installed")
    assert metrics["vector_fma"] >= 1
    assert metrics["vector_bits"] >= 256
    assert metrics["streaming_stores"] == 0
    assert 0 < metrics["code_bytes"] < 10_000


def test_without_objdump_there_are_no_metrics(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert not inspect_library(tmp_path / "kernel-x.so")


def test_an_unwritable_cache_has_a_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadEnvironment, match="EPITAXY_HOME"):
        Cpp().build(candidate(), PROBLEM, tmp_path / "file" / "cache")


@pytest.mark.parametrize("line", ["ld" * 400_000, "a:1:" * 200_000, "ld: " * 200_000, "e\n" * 9999])
def test_no_message_makes_the_broker_work_for_long(line):
    start = time.process_time()
    assert len(trim_log(line, "/tmp/x")) < 10_000
    assert time.process_time() - start < 5  # it took minutes


def test_no_source_can_steer_a_terminal_through_the_log(tmp_path):
    build = Cpp().build(candidate(KERNEL + '\n#error "\x1b[2J\x9b31m \u202e"\n'), PROBLEM, tmp_path)
    assert "#error" in build.log
    assert all(c.isprintable() or c in "\n\t" for c in build.log)


def test_errors_come_first_in_a_log():
    text = "a.cpp:1:2: warning: w\n" * 400 + "/tmp/x/a.cpp:9:9: error: wrong\n  code\n"
    log = trim_log(text, "/tmp/x")
    assert log.startswith("a.cpp:9:9: error: wrong\n  code")
    assert len(log) < 4100


ESCAPES = {
    "includes a file of the system's": '#include "/etc/passwd"\n',
    "includes a file of the user's": '#include "SECRET"\n',
    "assembles a file in": 'asm(".incbin \\"SECRET\\"");\n',
}


@pytest.mark.skipif(
    not set(sandbox.NEEDED) <= set(sandbox.available()), reason="no Landlock or seccomp here"
)
@pytest.mark.parametrize("name", ESCAPES)
def test_the_compiler_itself_is_confined(name, tmp_path):
    """Past the filters on the text: what a compiler is asked for, the kernel refuses."""
    secret = tmp_path / "secret.h"
    secret.write_text("#error the_secret_is_42\n")
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "k.cpp").write_text(ESCAPES[name].replace("SECRET", str(secret)) + "int f;\n")
    command = [find_compiler().path, "-shared", "-fPIC", "k.cpp", "-o", "k.so"]
    code, log = cpp._compile(command, folder, 30.0)
    assert code != 0, log
    assert "the_secret" not in log
    assert "root:" not in log
    assert "Permission denied" in log or "can't open" in log or "file not found" in log, log


def test_a_confined_compiler_still_compiles(tmp_path):
    (tmp_path / "k.cpp").write_text("#include <vector>\nint f() { return std::vector<int>{1}[0]; }")
    command = [find_compiler().path, "-shared", "-fPIC", "-O2", "k.cpp", "-o", "k.so"]
    code, log = cpp._compile(command, tmp_path, 60.0)
    assert (code, (tmp_path / "k.so").is_file()) == (0, True), log


def test_a_flood_of_messages_is_bounded(tmp_path):
    lines = "".join(f'#error "line {i} {"ld" * 600}"\n' for i in range(1000))
    (tmp_path / "k.cpp").write_text(lines)
    command = [find_compiler().path, "-shared", "-fmax-errors=0", "k.cpp", "-o", "k.so"]
    code, log = cpp._compile(command, tmp_path, 60.0)
    assert code != 0
    assert len(log) < 10_000


def test_a_compiler_that_cannot_be_started_is_the_machines_fault(tmp_path):
    with pytest.raises(MachineFault, match="not started"):
        cpp._compile([str(tmp_path / "no-such-compiler")], tmp_path, 10.0)
