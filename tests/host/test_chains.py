"""Regions in a row as one call, and sample by sample: the same results either way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from chain_case import captured_in, loaded
from generous import GENEROUS
from grown_case import pair
from torch import nn

from epitaxy.problem import open_reference
from epitaxy.product import export
from epitaxy.proposers.grower import emit
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.chains import chained, rows_of_samples
from epitaxy.proposers.grower.emit import emit_source
from epitaxy.proposers.grower.emit_chain import _ChainWriter
from epitaxy.proposers.grower.genome import Choices, Genome
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.program import RegionCall
from epitaxy.proposers.grower.slices import one_sample
from epitaxy.proposers.grower.space_samples import apart
from epitaxy.toolchains.cpp import plugin

T = torch.randn
NET = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(24, 16, 3, padding=1, bias=False)
        self.leave = nn.Conv2d(32, 5, 1)
        self.head = nn.Linear(5, 7)

    def forward(self, x, y):
        a = torch.relu(self.norm(self.enter(x)) + y)
        b = torch.relu(self.down(a))
        c = F.interpolate(torch.relu(self.deep(b)), scale_factor=2.0, mode="nearest")
        d = self.leave(torch.cat((a, c), dim=1))
        return d, self.head(d.amax((2, 3)) - d.mean((0, 2, 3)))

def get_inputs():
    return [torch.randn(6, 3, 18, 20), torch.randn(18, 20)]

def get_init_inputs():
    return []
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A network on two cores."""
    return captured_in(tmp_path_factory.mktemp("chains"), NET, cores=2)


def test_first_guess_runs_what_it_can_sample_by_sample(net):
    problem, captured, folder = net
    candidate, reference, ours = loaded(problem, captured, folder, captured.start)
    assert "for sample t" in candidate.files["kernel.cpp"]
    assert candidate.files["forward.py"].count("_epitaxy_kernel(") == 1
    inputs = open_reference(problem).inputs(3)
    with torch.no_grad():
        for _ in range(2):  # the second call finds copies of weights
            for x, y in zip(ours(*inputs), reference(*inputs), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
        reference.down.weight.mul_(-2.0)
        ours.down.weight.mul_(-2.0)
        for x, y in zip(ours(*inputs), reference(*inputs), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_all_samples_at_once_gives_the_same(net):
    problem, captured, folder = net
    genome = captured.start
    for name, _ in genome.regions:
        genome = genome.with_choice(name, samples=0)
    candidate, reference, ours = loaded(problem, captured, folder, genome)
    assert "for sample t" not in candidate.files["kernel.cpp"]
    inputs = open_reference(problem).inputs(4)
    with torch.no_grad():
        for x, y in zip(ours(*inputs), reference(*inputs), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_values_of_a_row_of_samples_never_lie_in_one_place():
    """One sample may be at the end of the row while another begins it."""
    convs = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))).eval()
    program = capture(convs, [T(4, 8, 16, 16)])
    names = [s.region.name for s in program.steps if isinstance(s, RegionCall)]
    assert len(names) == 4
    _, (chain,) = chained(program, {}, dict.fromkeys(names[1:3], 1))
    assert [len(row) for row in chain.rows()] == [1, 2, 1]
    writer = _ChainWriter(chain, "")
    (read,) = chain.links[0].results
    (made,) = chain.links[2].results
    apart = abs(writer.shared[read] - writer.shared[made])
    assert apart >= writer.bytes[read] == writer.bytes[made]


def test_a_region_that_looks_at_all_samples_is_not_cut(net):
    _, captured, _ = net
    program = captured.program.program
    alone = {r.name for r in captured.regions if one_sample(r) is None}
    assert alone  # the mean over all images
    assert not alone & rows_of_samples(program).keys()
    _, (chain,) = chained(program, {}, {r.name: 1 for r in captured.regions})
    rows = list(chain.rows())
    assert [link.region.name for row in rows for link in row] == [
        s.region.name for s in program.steps if isinstance(s, RegionCall)
    ]
    assert all(len(row) == 1 for row in rows if row[0].sample is None)
    assert max(map(len, rows)) > 2


def test_an_input_without_samples_is_read_whole(net):
    _, captured, _ = net
    (reading,) = (r for r in captured.regions if (18, 20) in [s.shape for s in r.inputs])
    sample = one_sample(reading)
    assert sample.count == 6
    whole = [s.shape for i, s in enumerate(reading.inputs) if i not in sample.divided]
    assert (18, 20) in whole
    assert all(s.shape[0] == 1 for i, s in enumerate(sample.region.inputs) if i in sample.divided)


def test_a_region_alone_runs_so_for_what_its_kernels_hand_on():
    def pooled(x, w):
        return F.max_pool2d(torch.softmax(F.conv2d(x, w, padding=1), 1), 2)

    large = capture(pooled, [T(4, 3, 64, 66), T(16, 3, 3, 3)])
    assert rows_of_samples(large)
    assert not rows_of_samples(capture(pooled, [T(4, 3, 6, 6), T(4, 3, 3, 3)]))


def weighed(x, down, up):
    s = torch.sigmoid(F.linear(torch.relu(F.linear(x.mean((2, 3)), down)), up))
    return x * s[:, :, None, None]


def test_a_sample_that_is_read_again_runs_apart():
    """Channels weighed by a small network of their means: a cache holds one sample, not all."""
    for hidden, expected in ((8, 1), (1024, 0)):  # a large one would be read for every sample
        inputs = [T(8, 64, 36, 36), T(hidden, 64), T(64, hidden)]
        program = capture(weighed, inputs, accept=writable)
        samples = rows_of_samples(program)
        assert len(samples) == expected
        assert len(apart(samples, GENEROUS.replace(cores=2))) == expected


def test_results_that_the_next_region_reads_are_not_written_past_the_caches():
    def both(x, down, up, filters):
        return F.conv2d(weighed(x, down, up), filters, padding=1)

    inputs = [T(8, 64, 36, 36), T(8, 64), T(64, 8), T(16, 64, 3, 3)]
    program = capture(both, inputs, accept=writable)
    regions = [s.region for s in program.steps if isinstance(s, RegionCall)]
    assert len(regions) == 2
    streamed = Genome(tuple((r.name, Choices(stream=1, samples=1)) for r in regions))
    for apart_, calls in ((dict.fromkeys((r.name for r in regions), 1), 0), ({}, 1)):
        _, chains = chained(program, {}, apart_)
        text = emit_source(regions[:1], streamed, chains)
        assert text.count("epx::put_stream(") == calls


def test_samples_run_apart_only_where_much_of_one_reads_a_weight():
    x, w, v = torch.randn(8, 16, 16, 16), torch.randn(8, 16, 3, 3), torch.randn(256, 512)
    found = {}
    for name, function, inputs in (
        ("pixels", lambda x, w: F.conv2d(x, w, None, 1, 1), [x, w]),
        ("rows", lambda y, v: F.linear(y, v), [torch.randn(8, 512), v]),
    ):
        (step,) = capture(function, inputs, accept=writable).steps
        found[name] = one_sample(replace(step.region, weights=(1,)))
    assert apart(found, GENEROUS.replace(cores=2)) == {"pixels"}


def test_samples_that_fill_the_lanes_of_a_transform_together_are_not_run_apart():
    (step,) = capture(
        lambda x, w: F.conv2d(x, w, None, 1, 1),
        [torch.randn(8, 16, 8, 8), torch.randn(32, 16, 3, 3)],
        accept=writable,
    ).steps
    found = {"pixels": one_sample(replace(step.region, weights=(1,)))}
    wide = GENEROUS.replace(cores=2, vector_bytes=64, vector_registers=32)
    assert apart(found, wide) == frozenset()
    assert apart(found, wide.replace(vector_bytes=32, vector_registers=16)) == {"pixels"}


@pytest.fixture
def apart_files(monkeypatch):
    """A network of few regions in several files, as larger ones are."""
    monkeypatch.setattr(emit, "TOGETHER", 1)


def test_a_change_of_one_region_leaves_the_other_files_alone(net, apart_files):
    _, captured, _ = net
    first = captured.candidate(captured.start, "", ()).files
    names = [name for name, _ in captured.start.regions]
    parts = {f"part{number}.cpp" for number in range(len(names))}
    assert {*parts, "kernel.cpp", "forward.py"} == {n for n in first if not n.endswith(".h")}
    assert {"simd.h", "kernel.h", "conv.h"} <= set(first)
    changed = captured.start.with_choice(names[1], unroll=captured.start.of(names[1]).unroll + 1)
    other = captured.candidate(changed, "", ()).files
    assert [name for name in first if first[name] != other[name]] == ["part1.cpp"]


def test_many_regions_are_shared_out_in_their_order(net, monkeypatch):
    _, captured, _ = net
    monkeypatch.setattr(emit, "TOGETHER", 2)
    files = captured.candidate(captured.start, "", ()).files
    begins = [x for n, t in files.items() if n.startswith("part") for x in t.splitlines()]
    found = [x.split()[1] for x in begins if x.startswith("// region") and " replaces " in x]
    assert found == [name for name, _ in captured.start.regions]
    monkeypatch.setattr(emit, "TOGETHER", 99)
    assert set(captured.candidate(captured.start, "", ()).files) == {"kernel.cpp", "forward.py"}


def test_an_export_of_several_files_is_built_again_where_its_library_is_missing(
    net, apart_files, tmp_path, monkeypatch
):
    monkeypatch.setenv("EPITAXY_HOME", str(tmp_path / "home"))
    problem, captured, folder = net
    candidate = captured.candidate(captured.start, "first guess", ())
    build = plugin().build(candidate, problem, folder / "cache")
    assert build.ok, build.log
    place = tmp_path / "exported"
    path = export(candidate, None, problem, place, build)
    for number, (name, _) in enumerate(captured.start.regions):
        text = (place / f"part{number}.cpp").read_text()
        assert f"What: {name}: " in text
        assert text.count("// What: ") == 1
        assert "written in the library that it includes" in text
    (library,) = place.glob("kernel-*.so")
    library.unlink()
    reference, ours = pair(path)
    inputs = open_reference(problem).inputs(5)
    with torch.no_grad():
        for x, y in zip(ours(*inputs), reference(*inputs), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_an_export_of_one_file_takes_the_files_of_several_away(net, monkeypatch, tmp_path):
    problem, captured, _ = net
    for together in (1, 99):
        monkeypatch.setattr(emit, "TOGETHER", together)
        export(captured.candidate(captured.start, "", ()), None, problem, tmp_path)
        for name in ("part7.cpp", "mine.h"):
            (tmp_path / name).write_text("// the user's own\n")
    found = {path.name for path in tmp_path.glob("*.[ch]*")}
    assert found == {"kernel.cpp", "part7.cpp", "mine.h"}
