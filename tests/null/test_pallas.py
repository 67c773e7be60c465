"""Pallas without JAX: what is written for a TPU, and what the checks let through."""

from __future__ import annotations

import pytest

from epitaxy.candidate import Candidate
from epitaxy.checks.libraries import plugin as libraries
from epitaxy.checks.sources import plugin as sources
from epitaxy.chip import find_chip
from epitaxy.errors import BadInput
from epitaxy.proposers._genomes import Choices, neighbours, parse, text
from epitaxy.testing import PROBLEM
from epitaxy.toolchains._bundles import slots
from epitaxy.toolchains.pallas_tpu import plugin

KERNELS = """import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl


def _kernel(x_ref, y_ref):
    y_ref[...] = jnp.maximum(x_ref[...], 0)


@_epitaxy_arrays
def _relu(x):
    return [{call}]
"""
CALL = "pl.pallas_call(_kernel, out_shape=jax.ShapeDtypeStruct((8, 16), jnp.float32))(x)"


def findings(check, call, head=""):
    files = {"kernels.py": head + KERNELS.format(call=call)}
    made = Candidate(
        problem=PROBLEM.digest, toolchain="pallas_tpu", files=files, entry="kernels.py",
        proposer="test",
    )  # fmt: skip
    return [f.message for f in check().check(made, PROBLEM)]


def test_a_kernels_own_operations_are_no_library():
    assert findings(sources, CALL) == []
    assert findings(libraries, CALL) == []


def test_xla_outside_a_kernel_is_a_library():
    assert "jnp.maximum of jax" in findings(libraries, "jnp.maximum(x, 0)")[0]


def test_which_block_is_next_is_the_kernels_own_business():
    spec = "in_specs=[pl.BlockSpec((8, 16), lambda i: (jnp.minimum(i, 3), 0))],"
    assert findings(libraries, CALL.replace("(_kernel,", f"(_kernel, {spec}")) == []
    outside = f"{CALL[:-3]}(jnp.minimum(x, 3))"
    assert "jnp.minimum of jax" in findings(libraries, outside)[0]


@pytest.mark.parametrize(
    "head", ["from jax import debug\n", "import jax.experimental.io_callback\n"]
)
def test_other_parts_of_jax_are_refused(head):
    assert "imports" in findings(sources, CALL, head)[0]
    assert "reaches for jax.pure_callback" in findings(sources, "jax.pure_callback(f, x)")[0]


def test_a_genome_reads_as_it_prints():
    genome = (("region0", Choices(rows=8, columns=128)),)
    assert parse(text(genome), ("rows", "columns")) == genome
    with pytest.raises(BadInput, match="unknown decision"):
        parse(text(genome), ("rows",))
    import random

    others = neighbours(genome, {"region0": {"rows": (8, 16, 64)}}, random.Random(0))
    assert [dict(g)["region0"]["rows"] for g in others] == [16, 64]


def test_a_chip_whose_file_does_not_know_a_limit_is_refused():
    tpu = find_chip("tpu_v6e")
    assert plugin().targets(tpu)
    assert not plugin().targets(find_chip("h100_sxm"))
    less = {k: v for k, v in tpu.facts.items() if k != "vmem_mib"}
    with pytest.raises(BadInput, match="vmem_mib"):
        plugin().aim(tpu.replace(facts=less))


@pytest.mark.parametrize(
    ("wanted", "size", "block"), [(512, 768, 384), (512, 100, 100), (128, 256, 128)]
)
def test_steps_along_a_contracted_axis_divide_it(wanted, size, block):
    from epitaxy.proposers.pallas.products import divisor

    assert divisor(wanted, size, 128) == block


def test_slots_are_read_from_libtpus_table():
    table = "x\nVALU, VSTORE:SPILL\n4 1\nUTILIZATION\n2 0\n4 1\n"
    assert slots(table) == {"slots_valu": 6.0, "slots_vstore_spill": 1.0, "spills": 1.0, "fills": 0}
    assert slots("") == {}
