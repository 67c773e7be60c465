"""Our model of NKI against what AWS's documentation says, and its limits by name."""

from __future__ import annotations

import numpy as np
import pytest

from epitaxy.chip import find_chip
from epitaxy.errors import BadInput
from epitaxy.predict import predicted_cost
from epitaxy.problem import Work
from epitaxy.roofline import floor
from epitaxy.toolchains import _nki_model as nki
from epitaxy.toolchains.nki_trainium import LIMITS, plugin

CHIP = find_chip("trainium2")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _limits(monkeypatch):
    monkeypatch.setattr(nki, "LIMITS", plugin().job(CHIP)["limits"])


def tiled_matmul(left, right):
    """The tutorial's shape: contraction across partitions, accumulated in PSUM."""
    depth, rows = left.shape
    columns = right.shape[1]
    result = nki.ndarray((rows, columns), buffer="hbm")
    for m in range(0, rows, 128):
        sums = nki.ndarray((128, columns), buffer="psum")
        for k in range(0, depth, 128):
            stationary, moving = nki.ndarray((128, 128)), nki.ndarray((128, columns))
            nki.dma_copy(dst=stationary, src=left[k : k + 128, m : m + 128])
            nki.dma_copy(dst=moving, src=right[k : k + 128, :])
            nki.nc_matmul(sums, stationary, moving)
        out = nki.ndarray((128, columns))
        nki.tensor_copy(dst=out, src=sums)
        nki.dma_copy(dst=result[m : m + 128, :], src=out)
    return result


def test_products_accumulate_in_psum():
    left, right = (RNG.standard_normal(s).astype(np.float32) for s in ((256, 256), (256, 512)))
    made = nki.simulate(tiled_matmul)(left, right)
    assert np.allclose(made, left.T @ right, rtol=1e-4, atol=1e-3)


def test_a_scan_goes_along_the_row_from_its_initial_value():
    data = RNG.standard_normal((4, 6)).astype(np.float32)
    decay = np.full((4, 6), 0.5, np.float32)
    dst, left, right, first = (nki.ndarray(s) for s in ((4, 6), (4, 6), (4, 6), (4, 1)))
    left.data[...], right.data[...], first.data[...] = decay, data, 3.0
    for initial in (3.0, first):
        nki.tensor_tensor_scan(dst, left, right, initial, np.multiply, np.add)
        held = np.full(4, 3.0)
        for i in range(6):
            held = 0.5 * held + data[:, i]
            assert np.allclose(dst.data[:, i], held, rtol=1e-6)
    wide = nki.ndarray((4, 2, 3))
    with pytest.raises(nki.Illegal, match="more than one free dimension"):
        nki.tensor_tensor_scan(wide, wide, wide, 0.0, np.multiply, np.add)


def test_a_transpose_goes_by_the_tensor_engine_into_psum():
    data, turned = nki.ndarray((6, 2, 4)), nki.ndarray((8, 6), buffer="psum")
    data.data[...] = RNG.standard_normal((6, 2, 4))
    nki.nc_transpose(turned, data)
    assert np.array_equal(turned.data, data.data.reshape(6, 8).T)
    with pytest.raises(nki.Illegal, match="from SBUF to PSUM"):
        nki.nc_transpose(nki.ndarray((8, 6)), data)


def test_a_selection_looks_at_partition_and_place():
    dst, data = nki.ndarray((4, 2, 3)), nki.ndarray((4, 2, 3))
    data.data[...] = RNG.standard_normal((4, 2, 3))
    nki.affine_select(dst, [[3, 2], [1, 3]], -2, -1, data, -np.inf, np.less)
    lane, far, near = np.ogrid[:4, :2, :3]
    seen = 3 * far + near - lane - 2 < 0
    assert np.array_equal(dst.data, np.where(seen, data.data, -np.inf))
    with pytest.raises(nki.Illegal, match="pattern"):
        nki.affine_select(dst, [[1, 5]], 0, 0, data, 0.0)


def test_a_nan_stays_in_the_sum():
    left, right = np.zeros((256, 128), np.float32), np.ones((256, 512), np.float32)
    left[0, 3] = np.nan
    made = nki.simulate(tiled_matmul)(left, right)
    assert np.isnan(made[3]).all()
    assert np.isnan(made).sum() == 512


def test_a_look_counts_without_computing():
    shapes = ((2048, 2048), (2048, 512))
    found, results = nki.looked_at(tiled_matmul, [np.zeros(s, np.float32) for s in shapes])
    assert results[0].shape == (2048, 512)
    assert found["macs"] == 2048 * 2048 * 512
    assert found["psum_partition_bytes"] == 2 * 2048  # one is declared while the last is held
    assert found["matrix_instructions"] == 16 * 16


def test_what_was_never_written_is_nan():
    def kernel(x):
        tile, out = nki.ndarray((4, 4)), nki.ndarray((4, 4), buffer="hbm")
        nki.dma_copy(dst=tile[:, 0:2], src=x[:, 0:2])
        nki.dma_copy(dst=out, src=tile)
        return out

    made = nki.simulate(kernel)(np.ones((4, 4), np.float32))
    assert np.isnan(made).sum() == 8


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (lambda x: nki.ndarray((129, 1)), "129; the chip has 128 (partitions)"),
        (lambda x: nki.ndarray((1, 57345)), "229380; the chip has 229376 (sbuf_partition_bytes)"),
        (lambda x: nki.ndarray((1, 4097), buffer="psum"), "16388; the chip has 16384"),
        (lambda x: nki.dma_copy(nki.ndarray((4, 4)), x), "shapes"),
        (lambda x: nki.tensor_tensor(x, x, x, np.add), "SBUF and PSUM only"),
        (lambda x: nki.ndarray((4, 4)).permute((1, 0)), "permute of the partition"),
        (lambda x: nki.ndarray((1, 4)).broadcast(0, 4), "broadcast of the partition"),
        (lambda x: x[0:9], "beyond 8"),
        (
            lambda x: nki.tensor_reduce(
                nki.ndarray((4, 1, 4)), np.add, nki.ndarray((4, 4, 4)), (1,)
            ),
            "not the last free ones",
        ),
        (
            lambda x: nki.nc_matmul(
                nki.ndarray((8, 513), buffer="psum"), nki.ndarray((8, 8)), nki.ndarray((8, 513))
            ),
            "513; the chip has 512 (moving_columns)",
        ),
    ],
)
def test_what_the_chip_cannot_do_is_named(kernel, said):
    with pytest.raises(nki.Illegal) as refused:
        kernel(nki.NkiTensor(np.ones((8, 8), np.float32), "hbm"))
    assert said in str(refused.value)


def test_tiles_free_their_room_when_nothing_refers_to_them():
    for _ in range(3):
        nki.ndarray((1, 40000))


def test_a_limit_that_is_not_known_is_not_used(monkeypatch):
    assert "psum_bank_bytes" in LIMITS
    assert "psum_bank_bytes" not in plugin().job(CHIP)["limits"]
    monkeypatch.setattr(nki, "LIMITS", {})
    nki.ndarray((4096, 1))


def test_a_chip_without_the_needed_facts_is_refused():
    less = CHIP.replace(facts={k: v for k, v in CHIP.facts.items() if k != "partitions"})
    assert plugin().targets(CHIP)
    assert not plugin().targets(less)
    with pytest.raises(BadInput, match="partitions"):
        plugin().aim(less)


def test_a_model_is_no_compiler():
    assert not plugin().stand_in().compiled
    assert "not compiled" in plugin().available().detail


def test_more_bytes_and_more_steps_are_predicted_to_cost_more():
    work = Work(bytes_read=1e9, bytes_written=1e9)
    limit = floor(work, CHIP, 1 << 40)
    costs = [
        predicted_cost({"bytes_moved": b, "grid_steps": s}, work, CHIP, limit)
        for b, s in ((2e9, 100.0), (4e9, 100.0), (2e9, 1e5))
    ]
    assert 1.0 < costs[0] < costs[1]
    assert costs[0] < costs[2]
