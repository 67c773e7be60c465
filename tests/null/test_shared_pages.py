"""The memory that broker and worker share lies in huge pages where the kernel has them."""

import os

import pytest

from epitaxy.machines._memory import sealed_file
from epitaxy.worker.views import HUGE_PAGE, bytes_at, mapped


@pytest.fixture
def file():
    descriptor = sealed_file("pages", 3 * HUGE_PAGE + 4096)
    yield descriptor
    os.close(descriptor)


def pages_mapped_huge() -> int:
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("ShmemPmdMapped"))


def test_both_sides_see_one_file_where_a_huge_page_may_begin(file):
    ours, theirs = mapped(file, fresh=True), mapped(file)
    assert len(ours) == len(theirs) == 3 * HUGE_PAGE + 4096
    for memory in (ours, theirs):
        assert bytes_at(memory, 0, 1).data_ptr() % HUGE_PAGE == 0
    ours[-1] = 7
    bytes_at(theirs, 5, 8).fill_(9)
    assert theirs[-1] == 7
    assert bytes(ours[4:9]) == b"\0\t\t\t\0"


def test_a_fresh_file_comes_in_huge_pages(file):
    before = pages_mapped_huge()
    memory = mapped(file, fresh=True)
    found = pages_mapped_huge() - before
    if not found:
        pytest.skip("this kernel puts no huge pages together for shared memory")
    assert found == 3 * HUGE_PAGE >> 10
    tensor = bytes_at(memory, 8, 16)
    del memory
    assert tensor.fill_(3).sum() == 24  # it keeps what it lies in
    del tensor
    assert pages_mapped_huge() == before


def test_a_closed_file_is_said_to_be_none():
    descriptor = sealed_file("pages", 4096)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        mapped(descriptor)


def test_nobody_who_has_the_file_can_change_its_size(file):
    for size in (0, 8 * HUGE_PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(file, size)
    assert os.fstat(file).st_size == 3 * HUGE_PAGE + 4096
