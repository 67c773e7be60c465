"""Kernels under AddressSanitizer: none reads where it must not."""

import subprocess
import sys

import pytest
import sanitized

UNDER = sanitized.environment()
BEYOND = """
import ctypes, sys, torch
from pathlib import Path
from grown_case import build
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.genome import Choices
x = torch.randn(64)
(step,) = capture(lambda x: x.exp(), [x]).steps
library = build([step.region], Choices(), Path(sys.argv[1]))
held, out = torch.randn(int(sys.argv[2])), torch.zeros(64)
pack = lambda t: (ctypes.c_void_p * 1)(t.data_ptr())
getattr(library, step.region.name)(pack(held), pack(out))
"""

pytestmark = pytest.mark.skipif(UNDER is None, reason="this compiler has no AddressSanitizer")


@pytest.mark.parametrize(("given", "code"), [(64, 0), (60, 1)])
def test_a_read_beyond_the_end_is_found(tmp_path, given, code):
    done = subprocess.run(
        [sys.executable, "-c", BEYOND, str(tmp_path), str(given)],
        env=UNDER, cwd=sanitized.HERE, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode != 0) == bool(code), done.stderr
    assert ("AddressSanitizer" in done.stderr) == bool(code)


def test_transposed_convolutions_read_nothing_beyond_the_ends():
    assert sanitized.main([str(sanitized.HERE / "test_transposed.py")]) == 0
