"""Imported by the parent of workers: `torch.cuda` as far as a worker uses it, on the CPU.

FAKE_CLOCK in a worker's variables is the share of the time that its events show. With FAKE_BROKEN
there is no device.
"""

from __future__ import annotations

import os
import time

from epitaxy.worker import cuda


class Stream:
    """All there is: work is done when it is asked for."""


class Event:
    def __init__(self, enable_timing=False):
        assert enable_timing
        self.at_s = 0.0

    def record(self, stream):
        assert stream is STREAM
        self.at_s = time.perf_counter()

    def elapsed_time(self, other):
        return (other.at_s - self.at_s) * 1e3 * float(os.environ.get("FAKE_CLOCK", "1"))


STREAM = Stream()


class Api:
    Event = Event

    @staticmethod
    def synchronize():
        pass

    @staticmethod
    def set_stream(stream):
        assert stream is STREAM

    @staticmethod
    def default_stream():
        if "FAKE_BROKEN" in os.environ:
            raise RuntimeError("CUDA error 304")
        return STREAM

    @staticmethod
    def memory():
        return 8 << 30, 16 << 30

    @staticmethod
    def bound(share):
        assert 0 < share <= 1

    @staticmethod
    def _sleep(cycles):
        time.sleep(1e-5)


cuda.driver = Api
cuda.FLUSHED_BYTES = 1 << 20
cuda.Cuda.kind = "cpu"
