"""As `fake_gpu`, with a driver for Triton that loads everything and says what it would launch."""

from __future__ import annotations

import os

import fake_gpu
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from epitaxy.toolchains import _triton_resident

assert fake_gpu.Api
assert os.environ["EPITAXY_TRITON_TARGET"] == "cuda:90:32"
assert _triton_resident


class Utils:
    @staticmethod
    def load_binary(name, kernel, shared, device):
        assert kernel[:4] == b"\x7fELF"
        return 1, 2, 32, 0, 1024

    @staticmethod
    def unload_module(module):
        pass

    @staticmethod
    def get_device_properties(device):
        return {"max_shared_mem": 232448}


class Driver:
    utils = Utils()

    @staticmethod
    def launcher_cls(src, metadata):
        def launch(*arguments):
            raise RuntimeError(f"would launch {metadata.name} in a grid of {arguments[0]}")

        return launch

    @staticmethod
    def get_current_device():
        return 0

    @staticmethod
    def get_current_stream(device):
        return 0

    @staticmethod
    def get_current_target():
        return GPUTarget("cuda", 90, 32)


driver.set_active(Driver())
