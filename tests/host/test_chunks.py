"""Long reductions in chunks, staged and online, and calls that a region refuses."""

import ctypes

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together, build

from epitaxy.proposers.grower.algebra import Load, walk
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import Unsupported, emit_region
from epitaxy.proposers.grower.genome import Choices
from epitaxy.proposers.grower.rewrite import coalesce
from epitaxy.proposers.grower.schedule import plan

T = torch.randn
LOW = torch.full((3, 3000), float("-inf"))
CASES = {
    "softmax": (lambda x: torch.softmax(x, 1), [T(3, 5003)], 1),
    "softmax_columns": (lambda x: torch.softmax(x, 0), [T(5003, 40)], 1),
    "first_chunks_masked": (lambda x: torch.softmax(x, 1), [torch.cat([LOW, T(3, 2003)], 1)], 1),
    "last_chunks_masked": (
        lambda x: torch.logsumexp(x, 1),
        [torch.cat([T(3, 2003), LOW], 1)],
        1,
    ),
    "large_logits": (lambda x: torch.logsumexp(x * 300, 1), [T(3, 5000)], 1),
    "layer_norm": (lambda x: F.layer_norm(x, (4999,)), [T(3, 4999) + 1000], 1),
    "variance": (lambda x: x.var(1), [T(3, 5003) * 0.01 + 10], 1),
    "cross_entropy": (F.cross_entropy, [T(12, 4001), torch.randint(0, 4001, (12,))], 1),
    "count": (lambda x: (x > 0).sum(1), [T(3, 5003)], 1),
    "weighted": (lambda x, w: (torch.softmax(x, 1) * w).sum(1), [T(3, 5003), T(5003)], 3),
}


def captured(function, inputs):
    program = capture(function, inputs)
    (step,) = program.steps
    given = dict(zip(program.inputs, inputs, strict=True))
    return step.region, [given[a] for a in step.args]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """All cases, their chunks staged and online."""
    together = Together()
    staged, online = (Choices(split=16, online=n, width=8 * (n + 1)) for n in (0, 1))
    for name, (function, inputs, _) in CASES.items():
        together.add(name, function, inputs, staged, online)
    return together.build(tmp_path_factory.mktemp("chunks"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("online", [0, 1])
def test_chunks_give_what_float64_gives(name, online, grown):
    function, inputs, _ = CASES[name]
    (got,) = grown.outputs(name, online, inputs)
    exact = function(*[x.double() if x.is_floating_point() else x for x in inputs]).double()
    honest = (function(*inputs).double() - exact).abs().max()
    limit = max(8 * float(honest), 2e-6 * float(exact.abs().max()))
    assert float((got.double() - exact).abs().max()) <= limit


@pytest.mark.parametrize("name", CASES)
def test_online_chunks_read_their_input_once(name):
    """Before the last kernel, which writes the result, only one reads the large input."""
    function, inputs, expected = CASES[name]
    region, _ = captured(function, inputs)
    large = max(range(len(region.inputs)), key=lambda k: region.inputs[k].numel)

    def readers(online):
        kernels = plan(coalesce(region), Choices(split=16, online=online)).kernels
        reads = [
            k
            for k in kernels
            if k.numel > 5000 and k.inner and all(t.buffer.startswith("t") for t in k.targets)
            if any(
                isinstance(v, Load) and v.buffer == large
                for v in walk(tuple(t.value for t in k.targets))
            )
        ]
        return len(reads)

    assert readers(1) == expected
    assert readers(0) >= readers(1)


def test_an_index_outside_its_dimension_is_refused(tmp_path):
    x, at = T(8, 40), torch.randint(0, 40, (8, 25))
    region, args = captured(lambda x, at: torch.gather(x, 1, at), [x, at])
    library = build([region], Choices(), tmp_path)
    call = getattr(library, region.name)
    assert region.refuses
    pack = lambda ts: (ctypes.c_void_p * len(ts))(*[t.data_ptr() for t in ts])  # noqa: E731
    out = torch.zeros(8, 25)
    assert call(pack(args), pack([out])) == 0
    assert torch.equal(out, torch.gather(x, 1, at))
    before = out.clone()
    for bad in (40, -1, 2**32 + 1):
        at[3, 7] = bad
        assert call(pack(args), pack([out])) == 1, bad
        assert torch.equal(out, before), "a refused call writes nothing"


def test_integers_that_may_leave_their_lanes_are_not_grown():
    many = torch.randint(0, 1000, (64, 1000))
    for function in (lambda x: x.sum(1), lambda x: x * x, lambda x: x + 2**31):
        region, _ = captured(function, [many])
        with pytest.raises(Unsupported, match="32 bits"):
            emit_region(region, Choices())
    region, _ = captured(lambda x: (x > 5).sum(1), [many])
    emit_region(region, Choices())
