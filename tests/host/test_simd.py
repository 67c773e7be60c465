"""The vector header against float64: accuracy in ulps, special values, tails, conversions."""

from __future__ import annotations

import ctypes
import mmap
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simd_case import F32, LANES, UNARY, build, pointer, run, spread, ulps

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


@pytest.fixture(scope="session")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The probe, built once."""
    return build(tmp_path_factory.mktemp("simd"))


ODD = ("expm1", "expm1_low", "log1p", "tanh", "erf", "atan", "sinh", "sqrt", "floor", "trunc")


@pytest.mark.parametrize("name", UNARY)
def test_unary_within_its_bound(lib: ctypes.CDLL, name: str) -> None:
    fn, bound, (lo, hi), flush = UNARY[name]
    bound += 0 if lib.has_fma() else 0.25
    x = spread(lo, hi)
    with np.errstate(all="ignore"):
        want = fn(x.astype(np.float64))
    for lanes in LANES:
        error = ulps(run(lib, f"{name}_{lanes}", x), want, flush)
        worst = int(np.argmax(error))
        assert error[worst] <= bound, f"lanes {lanes}: {error[worst]:.2f} ulp at {x[worst]!r}"


@pytest.mark.parametrize("name", ODD)
def test_negative_zero_is_kept(lib: ctypes.CDLL, name: str) -> None:
    for lanes in LANES:
        y = run(lib, f"{name}_{lanes}", np.full(16, -0.0, F32))
        assert np.all(y == 0)
        assert np.all(np.signbit(y)), lanes


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Every pair of specials, then random pairs of like and unlike size."""
    rng = np.random.default_rng(3)
    s = [0.0, 1, 2, 3, 0.5, 1.5, 7, 1e-40, 1e30, 3e38, np.inf]
    special = np.array([*s, *(-v for v in s), np.nan, 16777217], F32)
    a, b = (g.ravel() for g in np.meshgrid(special, special))
    n = 1 << 15
    ra = (rng.normal(0, 1, n) * 10.0 ** rng.integers(-3, 5, n)).astype(F32)
    rb = (rng.normal(0, 1, n) * 10.0 ** rng.integers(-2, 3, n)).astype(F32)
    ints = rng.integers(-40, 40, (2, n)).astype(F32)
    near_one = (1 + rng.normal(0, 1e-3, n)).astype(F32)
    a = np.concatenate([a, ra, ints[0], np.abs(ra), near_one])
    b = np.concatenate([b, rb, ints[1], rb, rb * F32(1000)])
    keep = a.size // 16 * 16
    return np.ascontiguousarray(a[:keep]), np.ascontiguousarray(b[:keep])


def floor_divide(a: np.ndarray, b: np.ndarray) -> Any:
    """PyTorch's, in float32."""
    torch = pytest.importorskip("torch")
    out = torch.floor_divide(torch.from_numpy(a.astype(F32)), torch.from_numpy(b.astype(F32)))
    return out.numpy().astype(np.float64)


def remainder(a: np.ndarray, b: np.ndarray) -> Any:
    """PyTorch's scalar rule in float32 (its vector path gives NaN where a / b overflows)."""
    r, d = np.fmod(a, b).astype(F32), b.astype(F32)
    return np.where((r != 0) & ((r < 0) != (d < 0)), r + d, r).astype(np.float64)


BINARY: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], float]] = {
    "pow": (np.power, 1.0),
    "fmod": (np.fmod, 0),
    "remainder": (remainder, 0),
    "floordiv": (floor_divide, 0),
    "maximum": (np.maximum, 0),
    "minimum": (np.minimum, 0),
    "max_fast": (lambda a, b: np.where(a > b, a, b), 0),
    "min_fast": (lambda a, b: np.where(a < b, a, b), 0),
    "copysign": (np.copysign, 0),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_within_its_bound(lib: ctypes.CDLL, name: str) -> None:
    fn, bound = BINARY[name]
    a, b = pairs()
    with np.errstate(all="ignore"):
        want = fn(a.astype(np.float64), b.astype(np.float64))
    for lanes in LANES:
        error = ulps(run(lib, f"{name}_{lanes}", a, b), want)
        worst = int(np.argmax(error))
        text = f"lanes {lanes}: {error[worst]:.2f} ulp at {a[worst]!r}, {b[worst]!r}"
        assert error[worst] <= bound, text


@pytest.mark.parametrize("lanes", LANES)
def test_terms_of_a_divergence(lib: ctypes.CDLL, lanes: int) -> None:
    t, x = pairs()
    t[t > 1e37] = np.inf  # t log(t) alone is beyond float
    with np.errstate(all="ignore"):
        wide, other = t.astype(np.float64), x.astype(np.float64)
        own = np.where(wide == 0, 0.0, wide * np.log(wide))
        want = own - wide * np.log(other)
        size = np.abs(own) + np.abs(wide * np.log(other)) + np.abs(wide)
    got = run(lib, f"kl_term_{lanes}", t, x)
    finite = np.isfinite(want)
    assert np.all(np.abs(got[finite] - want[finite]) <= 2e-7 * size[finite] + 1e-44)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    one = np.full(16, 0.25, F32)
    assert np.all(run(lib, f"kl_term_{lanes}", one, one) == 0)
    # Nearly equal distributions: what is left of the sum is 1e-7 of its terms.
    near = one * np.float32(4.9e-4) * (1 + np.arange(one.size, dtype=np.float32) % 7 * 1e-6)
    far = np.roll(near, 1)
    exact = near.astype(np.float64) * np.log(near.astype(np.float64) / far.astype(np.float64))
    near_sum = run(lib, f"kl_term_{lanes}", near, far).astype(np.float64).sum()
    assert near_sum == pytest.approx(exact.sum(), rel=0.02)


@pytest.mark.parametrize("lanes", LANES)
def test_folds_and_scans(lib: ctypes.CDLL, lanes: int) -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0.5, 1.5, 64 * 16).astype(F32) * rng.choice([-1, 1], 64 * 16).astype(F32)
    groups = x.reshape(-1, lanes).astype(np.float64)
    folds = {"hsum": groups.sum(1), "hprod": groups.prod(1), "hmax": groups.max(1)}
    folds["hmin"] = groups.min(1)
    for name, want in folds.items():
        got = run(lib, f"{name}_{lanes}", x)[: len(want)]
        np.testing.assert_allclose(got, want, rtol=3e-6, atol=3e-6, err_msg=name)
    shape = {"scan_add": np.cumsum(groups, 1), "scan_mul": np.cumprod(groups, 1)}
    shape["scan_max"] = np.maximum.accumulate(groups, 1)
    shape["scan_min"] = np.minimum.accumulate(groups, 1)
    shape["reverse"] = groups[:, ::-1]
    shape["last"] = np.repeat(groups[:, -1:], lanes, 1)
    for name, want in shape.items():
        got = run(lib, f"{name}_{lanes}", x).reshape(-1, lanes)
        np.testing.assert_allclose(got, want, rtol=3e-6, atol=3e-6, err_msg=name)


@pytest.mark.parametrize("lanes", LANES)
def test_nan_wins_wherever_it_stands(lib: ctypes.CDLL, lanes: int) -> None:
    for place in range(lanes):
        x = np.ones(16, F32)
        x[place] = np.nan
        assert np.isnan(run(lib, f"hmax_{lanes}", x)[0])
        assert np.isnan(run(lib, f"hmin_{lanes}", x)[0])
        for name in ("scan_max", "scan_min"):
            got = run(lib, f"{name}_{lanes}", x)[:lanes]
            assert np.array_equal(np.isnan(got), np.arange(lanes) >= place), (name, place)
        classes = run(lib, f"classes_{lanes}", x, out=np.int32)[:lanes]
        assert np.array_equal(classes, 4 + np.isnan(x[:lanes]))
    x = np.array([np.inf, -np.inf] * 8, F32)
    assert np.all(run(lib, f"classes_{lanes}", x, out=np.int32) == 8 + 2)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("copy_tail", np.float32), ("bf16_tail", np.uint16), ("int64_tail", np.int64)],
)
def test_tails_touch_only_their_elements(
    lib: ctypes.CDLL, name: str, dtype: type, lanes: int
) -> None:
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    ends: list[tuple[mmap.mmap, np.ndarray]] = []
    for _ in range(2):  # a page to use and, after it, a page that may not be touched
        area = mmap.mmap(-1, 2 * page)
        base = ctypes.addressof(ctypes.c_char.from_buffer(area))
        assert libc.mprotect(ctypes.c_void_p(base + page), ctypes.c_size_t(page), 0) == 0
        ends.append((area, np.frombuffer(area, dtype, page // np.dtype(dtype).itemsize)))
    source, sink = ends[0][1], ends[1][1]
    for n in range(lanes + 1):
        x, y = source[source.size - n :], sink[sink.size - n :]
        source[:] = np.arange(source.size) % 1000 + 1
        sink[:] = 9
        address = [
            ctypes.c_void_p(a.ctypes.data + (a.size - n) * a.itemsize) for a in (source, sink)
        ]
        getattr(lib, f"{name}_{lanes}")(*address, ctypes.c_int32(n))
        assert np.array_equal(x, y), n
        assert np.all(sink[: sink.size - n] == 9), n


@pytest.mark.parametrize("lanes", LANES)
def test_missing_lanes_read_the_fill(lib: ctypes.CDLL, lanes: int) -> None:
    x = np.arange(1, 17, dtype=F32)
    for n in range(-1, lanes + 2):
        y = np.zeros(16, F32)
        getattr(lib, f"load_tail_{lanes}")(pointer(x), pointer(y), ctypes.c_int32(n))
        want = np.where(np.arange(lanes) < n, x[:lanes], 7)
        assert np.array_equal(y[:lanes], want), n


def bf16_of(x: np.ndarray) -> Any:
    """PyTorch's conversion, as bits."""
    torch = pytest.importorskip("torch")
    return torch.from_numpy(x).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize("lanes", LANES)
def test_half_formats_round_as_elsewhere(lib: ctypes.CDLL, lanes: int) -> None:
    x = spread()
    not_nan = ~np.isnan(x)
    got = run(lib, f"float_to_bf16_{lanes}", x, out=np.uint16)
    assert np.array_equal(got[not_nan], bf16_of(x)[not_nan])
    assert np.all(np.isnan((got[~not_nan].astype(np.uint32) << 16).view(F32)))
    with np.errstate(all="ignore"):
        half = x.astype(np.float16)
    got = run(lib, f"float_to_f16_{lanes}", x, out=np.uint16)
    assert np.array_equal(got[not_nan], half.view(np.uint16)[not_nan])
    assert np.all(np.isnan(got[~not_nan].view(np.float16)))
    every = np.arange(65536, dtype=np.uint16)
    wide = (every.astype(np.uint32) << 16).view(F32)
    np.testing.assert_array_equal(run(lib, f"bf16_to_float_{lanes}", every), wide)
    np.testing.assert_array_equal(
        run(lib, f"f16_to_float_{lanes}", every), every.view(np.float16).astype(F32)
    )


CONVERSIONS = ("uint8_to_float", "int8_to_float", "bool_to_int", "float_to_bool", "int64_to_int32",
               "int32_to_int64", "int64_to_float", "float_to_int64", "int32_to_float",
               "float_to_int32", "float_to_double", "double_to_float")  # fmt: skip
DTYPES = {"float": np.float32, "double": np.float64, "int": np.int32, "bool": np.bool_}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions(lib: ctypes.CDLL, name: str) -> None:
    source, target = (np.dtype(DTYPES.get(t, t)) for t in name.split("_to_"))
    rng = np.random.default_rng(2)
    top = 255 if source == np.uint8 else 120 if source.itemsize == 1 else 16_000_000
    if source == np.bool_:
        x = rng.integers(0, 2, 256).astype(np.bool_)
    else:
        x = rng.integers(0 if source == np.uint8 else -top, top + 1, 256).astype(source)
        x[::5] = 0
        if source.kind == "f":
            x = x / source.type(7)
    for lanes in LANES:
        got = run(lib, f"{name}_{lanes}", x, out=target.type)
        np.testing.assert_array_equal(got, x.astype(target), err_msg=str(lanes))


@pytest.mark.parametrize("lanes", LANES)
def test_streams_gathers_strides_integers(lib: ctypes.CDLL, lanes: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=512).astype(F32)
    room = np.zeros(512 + 16, F32)
    y = room[(-room.ctypes.data % 64) // 4 :][:512]
    getattr(lib, f"streamed_{lanes}")(pointer(x), pointer(y), ctypes.c_int64(512))
    assert np.array_equal(x, y)
    at = rng.integers(0, 512, 512)
    got = run(lib, f"gathered_{lanes}", x, at)
    assert np.array_equal(got, x[at])
    got = np.zeros(160, F32)
    fn = getattr(lib, f"strided_{lanes}")
    fn(pointer(x), ctypes.c_int64(3), pointer(got), ctypes.c_int64(160))
    assert np.array_equal(got, x[: 160 * 3 : 3])
    a = rng.integers(-50, 50, 512).astype(np.int32)
    b = rng.choice(np.array([-7, -3, -1, 1, 2, 5], np.int32), 512)
    ints = np.zeros((7, 512), np.int32)
    getattr(lib, f"int_ops_{lanes}")(pointer(a), pointer(b), pointer(ints), ctypes.c_int64(512))
    sums = np.cumsum(a.reshape(-1, lanes), 1).ravel()
    want = [a % b, a // b, np.maximum(a, b), np.abs(a), np.sign(a), np.fmod(a, b), sums]
    np.testing.assert_array_equal(ints, np.stack(want))


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sqrt", "floor"])
def test_double_lanes(lib: ctypes.CDLL, name: str) -> None:
    x = np.random.default_rng(1).uniform(0.01, 9, 64)
    got = run(lib, f"double_{name}", x, out=np.float64)
    np.testing.assert_allclose(got, getattr(np, name)(x), rtol=4e-16)
    got = run(lib, "double_scan_add", x, out=np.float64)
    np.testing.assert_allclose(got, np.cumsum(x.reshape(-1, 8), 1).ravel(), rtol=1e-14)
    got = run(lib, "double_reverse", x, out=np.float64)
    np.testing.assert_array_equal(got, x.reshape(-1, 8)[:, ::-1].ravel())
