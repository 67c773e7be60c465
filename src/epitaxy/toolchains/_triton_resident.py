"""Imported by the parent of workers whose Triton kernels run on the GPU that is here.

A confined worker starts no program, and Triton asks ptxas for its version and builds its driver's
glue with a C compiler when it first needs them. Both are done here once, and inherited. Nothing of
this starts CUDA. EPITAXY_TRITON_TARGET is backend:architecture:lanes. TROUBLE says why it could not
be done; whoever starts workers asks for it.
"""

from __future__ import annotations

import contextlib
import importlib
import os


def _warm(backend: str, arch: str, lanes: str) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend

    make_backend(GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(lanes))).hash()
    for place in ("triton.runtime.cache", "triton.compiler.compiler"):
        with contextlib.suppress(ImportError, AttributeError):
            importlib.import_module(place).triton_key()
    # It is made active here: a worker that made one of its own would build the glue again.
    driver = importlib.import_module("triton.backends.nvidia.driver").CudaDriver()
    importlib.import_module("triton.runtime.driver").driver.set_active(driver)


TROUBLE = ""
if "EPITAXY_TRITON_TARGET" in os.environ:
    try:
        _warm(*os.environ["EPITAXY_TRITON_TARGET"].split(":"))
    except Exception as error:  # no compiler, no headers of Python, no libcuda: whatever it is
        TROUBLE = f"Triton's driver cannot be made ready: {type(error).__name__}: {error}"
