"""Reports in the formats that profilers document: what is read of them, and what is refused."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import sys
import types
from pathlib import Path

import pytest
from fake_records import candidate, problem

from epitaxy import reports
from epitaxy.chip import find_chip
from epitaxy.diagnose import diagnose
from epitaxy.errors import BadEnvironment, BadInput, UnknownName
from epitaxy.plugin import plugins
from epitaxy.reader import Report
from epitaxy.readers import _numbers
from epitaxy.record import FrozenDict
from epitaxy.verdict import Verdict

SAMPLES = Path(__file__).parents[1] / "data" / "reports"
TPU = SAMPLES / "tpu"


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "42_results.db"
    with sqlite3.connect(path) as made:
        made.executescript((SAMPLES / "rocpd.sql").read_text())
    made.close()
    return path


def sample(name: str, tmp_path: Path) -> Path:
    """A sample by name; those that are no text are made of the texts that stand for them."""
    if name == "results.db":
        path = tmp_path / name
        with sqlite3.connect(path) as made:
            made.executescript((SAMPLES / "rocpd.sql").read_text())
        made.close()
        return path
    if name == "trace.json.gz":
        path = tmp_path / name
        path.write_bytes(gzip.compress((SAMPLES / "trace.json").read_bytes()))
        return path
    return SAMPLES / name


GOLDEN = {
    "ncu_details.csv": (
        "ncu", "layer_norm_kernel(float const*, float*, int)", "GH100", 12.51e-6,
        {
            "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": 31.44,
            "dram__bytes.sum.per_second": 948.2e9, "launch__sm_count": 132,
            "dram__cycles_elapsed.avg.per_second": 2.61e9, "gpc__cycles_elapsed.max": 21480,
        },
        "small_grid",
    ),
    "ncu_raw.csv": (
        "ncu", "gemm(float*, float*)", "GH100", 3.3e-3,
        {"dram__bytes_read.sum": 12.5e6, "smsp__cycles_active.avg": 220_000},
        "tail_wave",
    ),
    "counter_collection.csv": (
        "rocprofv3_csv", "transpose_tiles(float const*, float*, int)", "", 200e-6,
        {"SQ_LDS_BANK_CONFLICT": 66e6, "Grid_Size": 4194304, "VGPR_Count": 24},
        "amd_lds_conflicts",
    ),
    "results.json": (
        "rocprofv3_json", "decode(float*)", "gfx942", 150e-6,
        {"SQ_WAVES": 256, "Grid_Size": 16384, "Workgroup_Size": 256, "agent.num_xcc": 8},
        "amd_small_grid",
    ),
    "results.db": (
        "rocpd", "conv(float*)", "gfx942", 400e-6,
        {"Grid_Size": 1048576, "Scratch_Size": 176, "VGPR_Count": 128, "agent.cu_count": 304},
        "amd_scratch",
    ),
    "perf_stat.json": (
        "perf_json", "perf_stat", "", 2.016,
        {"cycles": 24183e6, "task-clock": 8.041281449, "tma_false_sharing": 34.4},
        "tma_false_sharing",
    ),
    "perf_stat.csv": (
        "perf_csv", "perf_stat", "", 4.014,
        {"branch-misses": 171e6, "user_time": 3.99, "bad_speculation_from_mispredicts": 39.9},
        "zen_mispredicts",
    ),
    "trace.json": (
        "kineto", "(whole trace)", "GH100", 200.8e-6,
        {"trace.kernels": 12, "trace.busy_share": (4 * 9 + 8 * 2.1 + 4) / 200.8},
        "launch_bound",
    ),
    "trace.json.gz": ("kineto", "(whole trace)", "GH100", 200.8e-6, {}, "launch_bound"),
    "tpu": (
        "tpu_bundles", "fused_rows", "", None,
        {"static.bundles": 60, "static.capacity_vload": 3, "static.spills": 15,
         "static.matrix_instructions": 9},
        "tpu_spills",
    ),
    "neuron_summary.json": (
        "neuron_json", "summary", "", 0.0021, {"model_flops": 2**32}, "neuron_spills",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_a_sample_is_read_and_diagnosed(name, tmp_path):
    reader, kernel, chip, time_s, values, first = GOLDEN[name]
    path = sample(name, tmp_path)
    assert reports.recognised(Report(path)).name == reader
    profiles = reports.load(path)
    assert profiles[0].kernel == kernel
    assert profiles[0].chip == chip
    assert profiles[0].time_s == (None if time_s is None else pytest.approx(time_s))
    for metric, value in values.items():
        assert profiles[0].values[metric] == pytest.approx(value), metric
    assert diagnose(profiles).first.rule == first


def test_what_has_no_number_and_what_nobody_knows_is_listed(database):
    details = reports.load(SAMPLES / "ncu_details.csv")[0]
    assert details.unreadable == {"L2 Compression Ratio": "ncu says n/a"}
    assert details.unknown == ("Branch Efficiency",)
    said = "ncu's own rule SOLBottleneck: This kernel grid is too small"
    assert details.notes[0].startswith(said)
    assert details.notes[0].endswith("(it estimates a gain of 27.3 %)")
    perf = reports.load(SAMPLES / "perf_stat.json")[0]
    assert perf.unreadable == {"LLC-load-misses": "not supported"}
    assert perf.unknown == ("TOPDOWN.SLOTS",)
    assert "instructions was counted 40 % of the time" in perf.notes[0]
    assert reports.load(database)[0].unknown == ("MY_OWN_COUNTER",)
    neuron = reports.load(SAMPLES / "neuron_summary.json")[0]
    assert neuron.unreadable == {"sbuf_read_bytes": "empty"}


def test_launches_of_one_kernel_are_joined():
    gemm, add = reports.load(SAMPLES / "ncu_raw.csv")
    assert (gemm.calls, add.calls) == (3, 1)
    assert "3 launches" in gemm.notes[0]
    trace = reports.load(SAMPLES / "trace.json")
    assert [p.calls for p in trace] == [1, 4, 8]
    shares = [k.share for k in diagnose(trace).kernels]
    assert shares[0] == 1
    assert sum(shares[1:]) == pytest.approx((4 * 9 + 8 * 2.1) / 200.8)


def test_the_chip_fills_in_what_a_report_does_not_say():
    profiles = reports.load(SAMPLES / "counter_collection.csv")
    mi300x = find_chip("mi300x")
    placed = reports.on_chip(profiles, mi300x)
    assert placed[0].chip == "gfx942"
    kernel = diagnose(placed, mi300x).kernels[0]
    assert "amd_small_grid" in kernel.passed
    assert "amd_small_grid" not in diagnose(profiles).kernels[0].passed
    with pytest.raises(BadInput, match="taken on GH100"):
        reports.on_chip(reports.load(SAMPLES / "ncu_raw.csv"), find_chip("b200"))
    with pytest.raises(BadInput, match="no chip that ncu reports on"):
        reports.on_chip(reports.load(SAMPLES / "ncu_raw.csv"), mi300x)


def test_a_packed_report_needs_nvidias_module(tmp_path, monkeypatch):
    path = tmp_path / "run.ncu-rep"
    path.write_bytes(b"NVR\0" + bytes(64))
    monkeypatch.setitem(sys.modules, "ncu_report", None)
    with pytest.raises(BadEnvironment, match="ncu_report is not installed") as caught:
        reports.load(path)
    assert "ncu --import" in caught.value.mend
    assert "--csv --page raw" in caught.value.mend

    class Value:
        def __init__(self, value, unit=""):
            self.value, self.unit = (lambda: value), (lambda: unit)

    found = {
        "gpu__time_duration.sum": Value(2_000_000, "nsecond"),
        "launch__waves_per_multiprocessor": Value(1.2),
        "launch__grid_size": Value(160), "launch__sm_count": Value(132),
        "device__attribute_display_name": Value("NVIDIA H100"),
        "device__attribute_compute_capability_major": Value(9),
        "device__attribute_compute_capability_minor": Value(0),
    }  # fmt: skip
    action = type("A", (), {
        "name": lambda s: "gemm", "metric_names": lambda s: list(found),
        "__getitem__": lambda s, n: found[n],
    })()  # fmt: skip
    part = types.SimpleNamespace(num_actions=lambda: 1, action_by_idx=lambda n: action)
    context = types.SimpleNamespace(num_ranges=lambda: 1, range_by_idx=lambda n: part)
    module = types.SimpleNamespace(load_report=lambda p: context)
    monkeypatch.setitem(sys.modules, "ncu_report", module)
    profile = reports.load(path)[0]
    assert (profile.kernel, profile.chip, profile.time_s) == ("gemm", "GH100", 2e-3)
    assert diagnose([profile]).first.rule == "tail_wave"


def test_parquet_is_read_where_pyarrow_is(tmp_path, monkeypatch):
    folder = tmp_path / "run@latest"
    folder.mkdir()
    row = json.loads((SAMPLES / "neuron_summary.json").read_text())["summary"][0]
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([row]), folder / "Summary.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([{"pc": 1}]), folder / "Instruction.parquet")
    for path in (folder, folder / "Summary.parquet"):
        assert diagnose(reports.load(path)).first.rule == "neuron_spills"
    with pytest.raises(BadInput, match="no table Summary"):
        reports.load(folder / "Instruction.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadEnvironment, match="pyarrow is not installed"):
        reports.load(folder)


def test_our_own_evidence_is_a_report(tmp_path):
    given = problem()
    tried = candidate(given, 1)
    found = Verdict(
        candidate=tried.digest, problem=given.digest, machine="m", plan="full", status="refused",
        reason="r", metrics=FrozenDict(vector_bits=512.0, vector_spills=3.0),
    )  # fmt: skip
    path = tmp_path / "evidence.json"
    digests = {"problem": given.digest}
    facts = {"problem": given.to_dict(), "candidate": tried.to_dict(), "verdict": found.to_dict()}
    path.write_text(json.dumps(facts | {"digests": digests}, sort_keys=True))
    profile = reports.load(path)[0]
    assert (profile.family, profile.values["static.vector_spills"]) == ("cpu", 3.0)
    gpu = tried.replace(toolchain="triton_nvidia")
    static = FrozenDict(spill_bytes=96.0, occupancy=0.2, blocks_by_registers=1.0, launches=1.0)
    slow = found.replace(metrics=static, candidate=gpu.digest)
    of_gpu = {"candidate": gpu.to_dict(), "verdict": slow.to_dict()}
    path.write_text(json.dumps(facts | of_gpu | {"digests": digests}, sort_keys=True))
    said = [f.rule for f in diagnose(reports.load(path)).bottlenecks]
    assert said == ["static_spills", "static_occupancy_registers"]
    saved = tmp_path / "profile.json"
    saved.write_text(json.dumps(profile.to_dict()))
    assert reports.load(saved)[0].metrics == profile.metrics
    path.write_text(json.dumps(facts | {"verdict": None, "digests": digests}, sort_keys=True))
    with pytest.raises(BadInput, match="holds no verdict"):
        reports.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("   \n\n", "is empty"),
        ("hello\n", "no report that a reader knows"),
        ("\0\1\2\3" * 99, "no report that a reader knows"),
        ('{"a": 1}', "no report that a reader knows"),
        ('{"traceEvents": [', "no whole JSON"),
        ('{"traceEvents": 3}', "holds no traceEvents"),
        ('{"traceEvents": []}', "no GPU kernel"),
        (
            '{"traceEvents": [{"ph": "X", "cat": "kernel", "dur": "x", "ts": 1}]}',
            "not as its profiler writes it",
        ),
        ('{"rocprofiler-sdk-tool": [{}]}', "not as its profiler writes it"),
        ('{"counter-value" : "1.0", "event" : "cyc', "no whole JSON object"),
        ('{"counter-value" : "<not counted>", "event" : "cycles"}', "1 names, none with a number"),
        ('{"mm_arithmetic_intensity": 3}', "holds no summary"),
    ],
)
def test_what_is_no_report_is_one_line(text, said, tmp_path):
    path = tmp_path / "report"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        reports.load(path)
    assert said in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.mend


@pytest.mark.parametrize("name", [n for n in GOLDEN if n not in ("tpu", "results.db")])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_report_that_is_cut_off_is_refused_or_read_in_part(name, share, tmp_path):
    """Never a traceback: an error with its mend, or the whole launches before the cut."""
    data = sample(name, tmp_path).read_bytes()
    path = tmp_path / f"cut_{name}"
    path.write_bytes(data[: int(len(data) * share)])
    with contextlib.suppress(BadInput, BadEnvironment):
        diagnose(reports.load(path))


def test_a_cut_table_and_a_cut_database_are_refused(tmp_path, database):
    text = (SAMPLES / "ncu_raw.csv").read_text()
    cut = tmp_path / "cut.csv"
    cut.write_text(text[:-60])
    with pytest.raises(BadInput, match="of 18 columns"):
        reports.load(cut)
    broken = tmp_path / "broken.db"
    broken.write_bytes(database.read_bytes()[:9000])
    with pytest.raises(BadInput, match="cannot be read"):
        reports.load(broken)
    plain = tmp_path / "plain.db"
    with sqlite3.connect(plain) as made:
        made.execute("CREATE TABLE rocpd_metadata (tag TEXT)")
    made.close()
    with pytest.raises(BadInput, match="no view of counters"):
        reports.load(plain)


def test_names_that_do_not_exist_are_said(tmp_path):
    with pytest.raises(BadInput, match="there is no"):
        reports.load(tmp_path / "nothing.csv")
    with pytest.raises(UnknownName, match="reader"):
        reports.load(SAMPLES / "ncu_raw.csv", "ncv")
    with pytest.raises(UnknownName, match="kernel 'gemn'"):
        reports.only(reports.load(SAMPLES / "ncu_raw.csv"), "gemn")
    with pytest.raises(BadInput, match="no report that a reader knows"):
        reports.load(tmp_path)


@pytest.mark.parametrize("name", plugins("readers").names())
def test_every_reader_says_what_writes_its_format(name):
    reader = plugins("readers").get(name)
    assert reader.name == name
    assert reader.what


@pytest.mark.parametrize(
    ("value", "unit", "base"),
    [
        (3.0, "usecond", (3e-6, "s")), (2.0, "Gbyte/s", (2e9, "byte/s")), (7.0, "", (7.0, "")),
        (1.5, "Ghz", (1.5e9, "cycle/s")), (4.0, "Kbyte/block", (4e3, "byte/block")),
        (5.0, "cycle/nsecond", (5e9, "cycle/s")), (8.0, "ms", (8e-3, "s")),
        (6.0, "register/thread", (6.0, "register/thread")),
    ],
)  # fmt: skip
def test_units_become_base_units(value, unit, base):
    found = _numbers.base(value, unit)
    assert found[0] == pytest.approx(base[0])
    assert found[1] == base[1]
