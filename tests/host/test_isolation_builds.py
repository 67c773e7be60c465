"""Sources that attack through the compiler harm nothing, learn nothing, and cost only a refusal."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from isolation_case import PROBLEM, hostile

from epitaxy import sandbox
from epitaxy.compiler import find_compiler
from epitaxy.errors import BadCandidate
from epitaxy.toolchains import cpp
from epitaxy.toolchains._inspect import inspect_library
from epitaxy.toolchains.cpp import Cpp

pytestmark = pytest.mark.skipif(
    not set(sandbox.NEEDED) <= set(sandbox.available()), reason="no Landlock or seccomp here"
)

MARK = "the_secret_is_42"
END = '\nextern "C" int region0(const void* const*, void* const*) { return 0; }\n'
# Ways to make a compiler read a file, past all filters on the text.
READS = {
    "include of the system's": '#include "/etc/passwd"',
    "include": '#include "SECRET"',
    "include by macro": '#define FILE "SECRET"\n#include FILE',
    "include through /proc": '#include "/proc/self/root/SECRET"',
    "parent folders": '#include "../../../../../../../../../../SECRET"',
    "incbin": 'asm(".incbin \\"SECRET\\"");',
    "incbin in pieces": 'asm(".inc" "bin \\"SECRET\\"");',
    "assembler's include": 'asm(".include \\"SECRET\\"");',
    "line numbers of another file": '#line 1 "SECRET"\nint x = ;',
    "environment": '#include "/proc/self/environ"',
    "a parent's environment": '#include "/proc/1/environ"',
    "dependency": '#pragma GCC dependency "SECRET" stale',
}
# A compiler that is given these ends only when it is stopped.
ENDLESS = {
    "templates": """
template <int N, int M> struct Two {
  static const long v = Two<N - 1, 2 * M>::v + Two<N - 1, 2 * M + 1>::v;
};
template <int M> struct Two<0, M> { static const long v = M; };
long much = Two<28, 0>::v;""",
    "constant expressions": """
constexpr long sum(long seed) {
  for (long i = 0; i < 250000; ++i) seed = seed * 7 % 1000003;
  return seed;
}
template <int N> struct Each : Each<N - 1> { char c[sum(N) + 1]; };
template <> struct Each<0> {};
Each<800> each;""",
    "macros": "#define A0 x,\n"
    + "".join(f"#define A{i + 1} A{i} A{i} A{i} A{i}\n" for i in range(30))
    + "int f(A30 int);",
    "includes": "#if __INCLUDE_LEVEL__ < 150\n#include __FILE__\n#include __FILE__\n#endif",
}  # fmt: skip
# These fill the disk or the memory.
HUGE = {
    "data": "char much[1L << 40] = {1};",
    "filled section": 'asm(".data\\n.fill 500000000, 1, 7\\n.text");',
    "code": 'asm(".rept 60000000\\n nop\\n .endr");',
}


def compiled(folder: Path, files: dict[str, str], timeout_s: float) -> tuple[int | None, str]:
    for name, text in files.items():
        (folder / name).write_text(text)
    units = [name for name in files if name.endswith(".cpp")]
    command = [find_compiler().path, "-shared", "-fPIC", "-O1", *units, "-o", "k.so"]
    return cpp._compile(command, folder, timeout_s)


@pytest.mark.parametrize("name", READS)
def test_a_compiler_reads_no_other_file(tmp_path, name):
    secret = tmp_path / "home" / "secret.h"
    secret.parent.mkdir()
    secret.write_text(f'#error "{MARK}"\n')
    folder = tmp_path / "build"
    folder.mkdir()
    line = READS[name].replace("SECRET", str(secret))
    code, log = compiled(folder, {"k.cpp": line + END}, 30.0)
    made = folder / "k.so"
    assert code != 0, log
    assert MARK not in log
    assert "root:" not in log
    assert not made.is_file() or MARK.encode() not in made.read_bytes()


def test_asking_whether_a_file_exists_ends_the_compilation(tmp_path):
    secret = tmp_path / "secret.h"
    secret.write_text(f"int {MARK} = 0;\n")
    folder = tmp_path / "build"
    folder.mkdir()
    text = f'#if __has_include("{secret}")\nint there;\n#endif\n'
    code, log = compiled(folder, {"k.cpp": text + END}, 30.0)
    assert code != 0
    assert "Permission denied" in log
    assert MARK not in log


def running() -> list[bytes]:
    """The command lines of all processes."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.append(Path("/proc", pid, "cmdline").read_bytes())
    return found


def left(cache: Path) -> int:
    """Bytes that are in the cache."""
    return sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_compilation_is_cut_with_all_its_processes(tmp_path, name):
    build = Cpp(timeout_s=1.0).build(hostile(ENDLESS[name] + END), PROBLEM, tmp_path)
    assert not build.ok
    assert os.listdir(tmp_path) == [] or build.log
    assert left(tmp_path) < 1 << 20
    assert not [line for line in running() if str(tmp_path).encode() in line]


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_product_is_refused_and_not_kept(tmp_path, name):
    build = Cpp(timeout_s=3.0).build(hostile(HUGE[name] + END), PROBLEM, tmp_path)
    assert not build.ok
    assert left(tmp_path) < 1 << 20


def test_many_files_cannot_fill_the_disk(tmp_path):
    each = 'asm(".data\\n.fill 60000000, 1, 7\\n.text");\n'
    more = {f"more{i}.cpp": each for i in range(20)}
    build = Cpp().build(hostile(each + END, **more), PROBLEM, tmp_path)
    assert not build.ok
    assert "MiB of disk" in build.log
    assert left(tmp_path) < 1 << 20


def test_a_long_disassembly_is_not_read(tmp_path):
    build = Cpp().build(hostile('asm(".rept 600000\\n nop\\n .endr");' + END), PROBLEM, tmp_path)
    assert build.ok, build.log
    assert not Cpp().inspect(build)
    assert not inspect_library(tmp_path / "no-such-library")


@pytest.mark.parametrize(
    "name", ["-fplugin=x.cpp", "@x.cpp", "a/-B.cpp", "../x.cpp", "/x.cpp", "a//x.cpp", "x\n.cpp",
             "x" * 300 + ".cpp", "kernel.cpp/x.cpp"],
)  # fmt: skip
def test_no_file_is_called_like_an_option_or_lies_elsewhere(name):
    with pytest.raises(BadCandidate, match="file name"):
        hostile(END, **{name: "int x;"})


def test_sources_are_text_of_reasonable_size():
    with pytest.raises(BadCandidate, match="Unicode"):
        hostile(END + "// \ud800")
    with pytest.raises(BadCandidate, match="characters"):
        hostile(END + " " * (9 << 20))
    with pytest.raises(BadCandidate, match="files"):
        hostile(END, **{f"x{i}.h": "" for i in range(300)})


def test_what_a_program_starts_ends_with_it(tmp_path):
    """The first of a process namespace takes all others along, whatever sessions they made."""
    if "namespaces" not in sandbox.available():
        pytest.skip("no namespaces here")
    script = "(setsid sleep 987 &) ; sleep 0.2 ; exit 3"
    command = sandbox.confined(
        ["/bin/sh", "-c", script], ["/usr", "/bin", "/lib", "/lib64"], [], {}
    )
    assert subprocess.run(command, check=False).returncode == 3
    assert not [line for line in running() if b"sleep\x00987" in line]
