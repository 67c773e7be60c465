"""Random products and convolutions under random decisions, against float64.

`RANDOM_KERNELS=100:200` picks other seeds than the two that are run each time.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from grown_case import Together, oracles, regions_of
from test_contractions import WIDE

from epitaxy.proposers.grower import space
from epitaxy.proposers.grower.capture import capture
from epitaxy.proposers.grower.emit import Unsupported, emit_files
from epitaxy.proposers.grower.genome import Genome
from epitaxy.proposers.grower.growth import writable
from epitaxy.proposers.grower.program import RegionCall

CASES, GENOMES = 8, 3
FIRST, LAST = map(int, os.environ.get("RANDOM_KERNELS", "6:8").split(":"))
KINDS = {1: (F.conv1d, F.conv_transpose1d), 2: (F.conv2d, F.conv_transpose2d),
         3: (F.conv3d, F.conv_transpose3d)}  # fmt: skip


def product(rng):
    """A product of matrices, lone or many, either of them turned, with what may follow."""
    m, k, n = (rng.choice((1, 3, 16, 17, 31, 48, 64, 95, 130)) for _ in range(3))
    batch = [rng.choice((2, 5))] if rng.random() < 0.4 else []
    left, right = rng.random() < 0.4, rng.random() < 0.4
    after = rng.choice((torch.relu, torch.sigmoid, lambda y: y, lambda y: y.sum(-1)))

    def function(a, b):
        a, b = (a.mT if left else a), (b.mT if right else b)
        return after(a @ b)

    a = torch.randn(*batch, *((k, m) if left else (m, k)))
    b = torch.randn(*batch, *((n, k) if right else (k, n)))
    return f"{batch} {m} x {k} x {n} {left} {right}", function, [a, b]


def convolution(rng):
    """A convolution of one to three dimensions, plain or transposed, in groups or not."""
    dims, transposed = rng.choice((1, 2, 2, 2, 3)), rng.random() < 0.4
    groups = rng.choice((1, 1, 1, 2, 4))
    into, out = groups * rng.choice((1, 3, 8, 17)), groups * rng.choice((1, 4, 8, 16, 35))
    taps = [rng.choice((1, 2, 3, 3, 5)) for _ in range(dims)]
    options = {
        "stride": [rng.choice((1, 1, 2, 3)) for _ in taps],
        "padding": [rng.randrange(t) for t in taps],
        "dilation": [rng.choice((1, 1, 2)) for _ in taps],
        "groups": groups,
    }
    if transposed:
        room = zip(options["stride"], options["dilation"], strict=True)
        options["output_padding"] = [rng.randrange(max(pair)) for pair in room]
    sizes = [rng.choice((11, 14, 18, 33) if dims < 3 else (9, 12)) for _ in taps]
    weights = (into, out // groups, *taps) if transposed else (out, into // groups, *taps)
    call = KINDS[dims][transposed]
    inputs = [torch.randn(rng.choice((1, 3)), into, *sizes), torch.randn(weights)]
    inputs += [torch.randn(out)] if rng.random() < 0.5 else []

    def function(x, w, bias=None):
        return torch.relu(call(x, w, bias, **options))

    return f"{weights} on {list(inputs[0].shape)} {options} {len(inputs)}", function, inputs


def decisions(rng, region):
    """The first guess with some decisions drawn anew; None where no kernel is written for them."""
    guess = space.first_guess(region, WIDE)
    options = space.space(region, WIDE)
    picked = rng.sample(sorted(options), min(len(options), rng.randrange(6)))
    chosen = replace(guess, **{name: rng.choice(options[name]) for name in picked})
    try:
        emit_files([region], Genome(((region.name, chosen),)), {})
    except Unsupported:
        return None
    return chosen


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_random_kernels_compute_what_float64_does(seed, tmp_path):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    drawn, kernels, left = {}, Together(), []
    while len(drawn) < CASES:
        name, function, inputs = rng.choice((product, convolution))(rng)
        program = capture(function, inputs, accept=writable)
        regions = regions_of(program)
        if len(regions) != 1 or not all(isinstance(s, RegionCall) for s in program.steps):
            left.append(name)
            continue
        found = {d for _ in range(GENOMES) if (d := decisions(rng, regions[0]))}
        drawn[name] = (function, inputs, list(found))
        kernels.add(name, function, inputs, *found)
    print(f"{len(left)} are not one region and were drawn again: {left}")
    kernels.build(tmp_path)
    for name, (function, inputs, found) in drawn.items():
        for given, wanted in oracles(function, inputs):
            scale = wanted.nan_to_num().abs().max().clamp(min=1)
            for number, chosen in enumerate(found):
                if chosen.winograd and given[0].isnan().any():
                    continue  # a transform spreads it over its square
                (got,) = kernels.outputs(name, number, given)
                near = 1e-3 if chosen.winograd else 2e-5
                close = torch.allclose(got / scale, (wanted / scale).float(), 0, near, True)
                assert close, f"{name} under {chosen}"
