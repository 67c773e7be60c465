"""A small model of an H100's SM, and what Nsight Compute would print of a kernel on it.

The model knows nothing of rules: it takes what a kernel does (instructions of each kind, sectors
for each request, ways of conflict, registers ...) and works out how long each unit is busy, what
bounds the kernel, and where its warps wait. Throughputs by SM and cycle: NVIDIA, H100 architecture
whitepaper; 128 fp32 lanes, 64 fp64 lanes, 16 special function lanes, 32 load/store lanes, 128 B of
shared memory; memory at 3.35 TB/s, L2 near 5.5 TB/s, clock 1.755 GHz.
"""

from __future__ import annotations

import dataclasses
import math

SMS, CLOCK_HZ = 132, 1.755e9
DRAM_BYTES_PER_CYCLE = 3.35e12 / CLOCK_HZ / SMS
L2_BYTES_PER_CYCLE = 5.5e12 / CLOCK_HZ / SMS
LATENCY = {"l1": 33, "l2": 270, "dram": 650, "shared": 29, "alu": 4.5, "fp64": 8, "xu": 18}
STALLS = (
    "barrier", "branch_resolving", "dispatch_stall", "drain",
    "gmma", "imc_miss", "lg_throttle", "long_scoreboard",
    "math_pipe_throttle", "membar", "mio_throttle", "misc",
    "no_instruction", "not_selected", "selected", "short_scoreboard",
    "sleeping", "tex_throttle", "wait",
)  # fmt: skip
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What one warp does, in warp instructions, and how the kernel is launched."""

    name: str
    grid: int
    block: int
    registers: int = 32
    shared_bytes: int = 0
    fma: float = 0.0
    add: float = 0.0
    mul: float = 0.0
    integer: float = 0.0
    fp64: float = 0.0
    special: float = 0.0
    loads: float = 0.0
    stores: float = 0.0
    load_sectors: float = 4.0
    store_sectors: float = 4.0
    ideal_sectors: float = 4.0
    shared_loads: float = 0.0
    shared_stores: float = 0.0
    load_ways: float = 1.0
    store_ways: float = 1.0
    spill_loads: float = 0.0
    spill_stores: float = 0.0
    barriers: float = 0.0
    branches: float = 4.0
    threads: float = 32.0
    l1_hit: float = 0.0
    l2_hit: float = 0.4
    in_flight: float = 4.0
    """Independent loads that a warp has on its way at once."""
    uneven: float = 1.0
    """How much longer the SM with most work takes than the average."""
    from_host: float = 0.0
    """The share of what misses the L2 that lies in the host's memory."""
    chains: float = 2.0
    """Independent chains of arithmetic in a warp."""


class Model:
    """One launch of a kernel, worked out."""

    def __init__(self, k: Kernel) -> None:
        self.k = k
        self.warps = math.ceil(k.block / 32)
        self.limits = self._limits()
        self.blocks = min(self.limits.values())
        self.resident = self.blocks * self.warps
        self.waves = k.grid / (self.blocks * SMS)
        self.instructions = (
            k.fma + k.add + k.mul + k.integer + k.fp64 + k.special + k.loads + k.stores
            + k.shared_loads + k.shared_stores + k.spill_loads + k.spill_stores + k.barriers
            + k.branches
        )  # fmt: skip
        self.busy = self._busy()
        self._time()

    def _limits(self) -> dict[str, int]:
        """Blocks that an SM holds, by what would be used up."""
        k = self.k
        registers = math.ceil(k.registers * 32 / 256) * 256 * self.warps
        shared = math.ceil((k.shared_bytes + 1024) / 128) * 128
        return {
            "registers": 65536 // registers,
            "shared_mem": 233472 // shared,
            "warps": 64 // self.warps,
            "blocks": 32,
        }

    def _busy(self) -> dict[str, float]:
        """Cycles of an SM's units that one warp takes."""
        k = self.k
        local = k.spill_loads + k.spill_stores
        missed = 1 - k.l1_hit
        spilled = 4 * local * 0.15  # spills mostly hit the L1
        to_l2 = 32 * (k.loads * k.load_sectors * missed + k.stores * k.store_sectors + spilled)
        memory = k.loads + k.stores + local + k.shared_loads + k.shared_stores
        data = (
            (k.loads * k.load_sectors + k.stores * k.store_sectors + 4 * local) / 4
            + k.shared_loads * k.load_ways + k.shared_stores * k.store_ways
        )  # fmt: skip
        return {
            "issue": self.instructions / 4,
            "fma": (k.fma + k.add + k.mul) / 4,
            "alu": (k.integer + k.branches) / 2,
            "fp64": k.fp64 / 2,
            "xu": k.special * 2,
            "lsu": memory,
            "l1": data,
            "l2": to_l2 / L2_BYTES_PER_CYCLE,
            "dram": to_l2 * (1 - k.l2_hit) / DRAM_BYTES_PER_CYCLE,
        }

    def _serial(self) -> dict[str, float]:
        """Cycles that a warp alone would take, by what it waits for."""
        k = self.k
        far = LATENCY["dram"] * (1 - k.l2_hit) + LATENCY["l2"] * k.l2_hit
        load = LATENCY["l1"] * k.l1_hit + far * (1 - k.l1_hit)
        reuse = (k.spill_loads * LATENCY["l1"]) / 2
        plain = k.fma + k.add + k.mul + k.integer
        return {
            "long_scoreboard": k.loads * load / k.in_flight + reuse,
            "short_scoreboard": (k.shared_loads * LATENCY["shared"] + k.special * LATENCY["xu"])
            / 4,
            "wait": (plain * LATENCY["alu"] + k.fp64 * LATENCY["fp64"]) / k.chains,
            "barrier": k.barriers * 30,
            "branch_resolving": k.branches * 6,
        }

    def _time(self) -> None:
        """Elapsed and active cycles: full waves, then what is left, each by what bounds it."""
        serial = sum(self._serial().values())
        most = max(self.busy.values())

        def round_(warps: float) -> float:
            return max(warps * most, serial)

        whole = math.floor(self.waves)
        rest = self.k.grid - whole * self.blocks * SMS
        tail = round_(math.ceil(rest / SMS) * self.warps) if rest else 0.0
        launch = 1500.0
        full = whole * round_(self.resident)
        self.longest = launch / 2 + (full + tail) * self.k.uneven
        self.elapsed = launch / 2 + self.longest
        # An SM without a block is not active: an average over all of them.
        self.active = launch / 2 + full + tail * min(1.0, rest / SMS)
        self.total_warps = self.k.grid * self.warps / SMS  # of one SM, on average
        self.tail_share = tail / self.elapsed

    def use(self, unit: str) -> float:
        """How much of the elapsed time a unit is busy, 0 to 1."""
        return min(0.99, self.busy[unit] * self.total_warps / self.elapsed)

    def achieved(self) -> float:
        """Warps resident on average, in cycles in which an SM has any."""
        if self.waves <= 1:
            return min(self.resident, math.ceil(self.k.grid / SMS) * self.warps) * 0.97
        rest = self.k.grid / SMS / self.blocks - math.floor(self.waves)
        return self.resident * (1 - self.tail_share * (1 - min(1.0, rest))) * 0.97

    def issued(self) -> float:
        """Instructions of a scheduler and active cycle."""
        return min(0.98, self.instructions * self.total_warps / 4 / self.active)

    def stalls(self) -> dict[str, float]:
        """Cycles between two instructions of a warp, by what it waits for."""
        between = max(1.0, self.achieved() / 4 / self.issued())
        found = dict.fromkeys(STALLS, between * 0.004)
        found["selected"] = 1.0
        weights = dict(self._serial())
        queue = max(0.0, self.achieved() * max(self.busy.values()) - sum(weights.values()))
        unit = max(self.busy, key=lambda u: self.busy[u])
        for name, share in QUEUES[unit].items():
            weights[name] = weights.get(name, 0.0) + queue * share
        left = max(0.0, between - sum(found.values()))
        total = sum(weights.values())
        for name, weight in weights.items():
            found[name] += left * weight / total
        return found


QUEUES = {
    "issue": {"not_selected": 1.0},
    "fma": {"math_pipe_throttle": 0.5, "not_selected": 0.5},
    "alu": {"math_pipe_throttle": 0.5, "not_selected": 0.5},
    "fp64": {"math_pipe_throttle": 0.9, "not_selected": 0.1},
    "xu": {"math_pipe_throttle": 0.4, "mio_throttle": 0.4, "short_scoreboard": 0.2},
    "lsu": {"lg_throttle": 0.5, "mio_throttle": 0.5},
    "l1": {"mio_throttle": 0.5, "short_scoreboard": 0.3, "lg_throttle": 0.2},
    "l2": {"long_scoreboard": 0.7, "lg_throttle": 0.3},
    "dram": {"long_scoreboard": 0.9, "lg_throttle": 0.1},
}
"""Where warps wait when they queue for a unit."""


def metrics(k: Kernel) -> dict[str, tuple[float, str]]:
    """Nsight Compute's metrics of a kernel, (value, unit) by name."""
    m = Model(k)
    all_warps = k.grid * m.warps
    sm = max(m.use(u) for u in ("issue", "fma", "alu", "fp64", "xu", "lsu"))
    memory = max(m.use(u) for u in ("l1", "l2", "dram"))
    rate = m.total_warps * SMS / m.elapsed
    sectors = all_warps * (k.loads * k.load_sectors + k.stores * k.store_sectors)
    ideal = all_warps * (k.loads + k.stores) * k.ideal_sectors
    to_l2 = m.busy["l2"] * L2_BYTES_PER_CYCLE * all_warps
    local = k.spill_loads + k.spill_stores
    return {
        "gpu__time_duration.sum": (m.elapsed / CLOCK_HZ * 1e6, "us"),
        "gpc__cycles_elapsed.max": (m.elapsed, "cycle"),
        "gpc__cycles_elapsed.avg.per_second": (CLOCK_HZ / 1e9, "Ghz"),
        "sm__cycles_active.avg": (m.active, "cycle"),
        "sm__cycles_active.max": (m.longest, "cycle"),
        "sm__cycles_active.sum": (SMS * m.active, "cycle"),
        "sm__cycles_elapsed.sum": (SMS * m.elapsed, "cycle"),
        **{f"{n}.avg.pct_of_peak_sustained_elapsed": (100 * v, "%") for n, v in {
            "sm__throughput": sm, "gpu__compute_memory_throughput": memory,
            "gpu__dram_throughput": m.use("dram"), "dram__throughput": m.use("dram"),
            "lts__throughput": m.use("l2"), "l1tex__throughput": m.use("l1"),
            "sm__instruction_throughput": sm, "sm__memory_throughput": m.use("lsu"),
            "sm__pipe_fma_cycles_active": m.use("fma"), "sm__pipe_alu_cycles_active": m.use("alu"),
            "sm__pipe_fp64_cycles_active": m.use("fp64"), "sm__pipe_tensor_cycles_active": 0.0,
            "sm__pipe_tensor_op_hmma_cycles_active": 0.0,
            "sm__inst_executed_pipe_fma": m.use("fma"), "sm__inst_executed_pipe_alu": m.use("alu"),
            "sm__inst_executed_pipe_fp64": m.use("fp64"), "sm__inst_executed_pipe_xu": m.use("xu"),
            "sm__inst_executed_pipe_lsu": m.use("lsu"),
            "sm__inst_issued": m.instructions * m.total_warps / 4 / m.elapsed,
        }.items()},
        "l1tex__throughput.avg.pct_of_peak_sustained_active": (
            100 * min(0.99, m.use("l1") * m.elapsed / m.active), "%"),
        "smsp__issue_active.avg.per_cycle_active": (m.issued(), "inst/cycle"),
        "sm__inst_executed.avg.per_cycle_active": (4 * m.issued(), "inst/cycle"),
        "smsp__inst_executed.sum": (m.instructions * all_warps, "inst"),
        "smsp__average_warp_latency_per_inst_issued.ratio": (sum(m.stalls().values()), "cycle"),
        "smsp__warps_active.avg.per_cycle_active": (m.achieved() / 4, "warp"),
        "smsp__thread_inst_executed_per_inst_executed.ratio": (k.threads, ""),
        "smsp__thread_inst_executed_pred_on_per_inst_executed.ratio": (k.threads * 0.96, ""),
        **{STALL.format(name): (value, "inst") for name, value in m.stalls().items()},
        "sm__maximum_warps_per_active_cycle_pct": (100 * m.resident / 64, "%"),
        "sm__warps_active.avg.pct_of_peak_sustained_active": (100 * m.achieved() / 64, "%"),
        "launch__grid_size": (k.grid, ""), "launch__block_size": (k.block, ""),
        "launch__registers_per_thread": (k.registers, "register/thread"),
        "launch__waves_per_multiprocessor": (m.waves, ""), "launch__sm_count": (SMS, "SM"),
        "launch__thread_count": (k.grid * k.block, "thread"),
        "launch__shared_mem_per_block_dynamic": (k.shared_bytes / 1e3, "Kbyte/block"),
        **{f"launch__occupancy_limit_{n}": (v, "block") for n, v in m.limits.items()},
        "launch__occupancy_limit_barriers": (32, "block"),
        "device__attribute_multiprocessor_count": (SMS, ""),
        "dram__bytes.sum.per_second": (
            to_l2 * (1 - k.l2_hit) * (1 - k.from_host) * CLOCK_HZ / m.elapsed / 1e9, "Gbyte/s"),
        "pcie__read_bytes.sum.per_second": (
            to_l2 * (1 - k.l2_hit) * k.from_host * CLOCK_HZ / m.elapsed / 1e9 + 0.05, "Gbyte/s"),
        "pcie__write_bytes.sum.per_second": (0.04, "Gbyte/s"),
        "dram__bytes.sum": (to_l2 * (1 - k.l2_hit) / 1e6, "Mbyte"),
        "dram__bytes_read.sum": (to_l2 * (1 - k.l2_hit) * 0.7 / 1e6, "Mbyte"),
        "dram__bytes_write.sum": (to_l2 * (1 - k.l2_hit) * 0.3 / 1e6, "Mbyte"),
        "lts__t_sectors.sum": (to_l2 / 32, "sector"),
        "lts__t_sector_hit_rate.pct": (100 * k.l2_hit, "%"),
        "lts__cycles_active.sum": (96 * m.elapsed * min(0.99, 1.15 * m.use("l2") + 0.02), "cycle"),
        "lts__cycles_active.avg": (m.elapsed * min(0.99, 1.15 * m.use("l2") + 0.02), "cycle"),
        "lts__cycles_active.max": (m.elapsed * min(0.99, 1.17 * m.use("l2") + 0.02), "cycle"),
        "lts__t_sectors_srcunit_tex.avg.pct_of_peak_sustained_elapsed": (95 * m.use("l2"), "%"),
        "lts__t_sectors_srcunit_tex_lookup_miss.sum": (to_l2 * (1 - k.l2_hit) / 32, "sector"),
        "lts__t_sectors_srcunit_tex_aperture_peer_lookup_miss.sum": (0.0, "sector"),
        "lts__t_sectors_srcunit_tex_aperture_sysmem_lookup_miss.sum": (
            to_l2 * (1 - k.l2_hit) / 32 * k.from_host, "sector"),
        "lts__cycles_elapsed.sum": (96 * m.elapsed, "cycle"),
        "l1tex__t_sector_hit_rate.pct": (100 * k.l1_hit, "%"),
        "l1tex__t_sectors.sum": (sectors + 4 * local * all_warps, "sector"),
        "l1tex__t_sectors_pipe_lsu_mem_local_op_ld.sum": (4 * k.spill_loads * all_warps, "sector"),
        "l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum": (4 * k.spill_stores * all_warps, "sector"),
        "sass__inst_executed_register_spilling": (local * all_warps, "inst"),
        "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.ratio": (
            32 * k.ideal_sectors / k.load_sectors, "byte/sector"),
        "smsp__sass_average_data_bytes_per_sector_mem_global_op_st.ratio": (
            32 * k.ideal_sectors / k.store_sectors, "byte/sector"),
        "memory_l2_theoretical_sectors_global": (sectors, "sector"),
        "memory_l2_theoretical_sectors_global_ideal": (min(sectors, ideal), "sector"),
        "derived__memory_l2_theoretical_sectors_global_excessive": (
            max(0.0, sectors - ideal), "sector"),
        **_shared("ld", k.shared_loads, k.load_ways, all_warps),
        **_shared("st", k.shared_stores, k.store_ways, all_warps),
        **{
            f"smsp__sass_thread_inst_executed_op_{n}_pred_on.sum.per_cycle_elapsed": (
                v * k.threads * rate, "inst/cycle")
            for n, v in {
                "fadd": k.add, "fmul": k.mul, "ffma": k.fma,
                "dadd": k.fp64 * 0.3, "dmul": k.fp64 * 0.1, "dfma": k.fp64 * 0.6,
            }.items()
        },
        "sm__sass_thread_inst_executed_op_ffma_pred_on.sum.peak_sustained": (
            128 * SMS, "inst/cycle"),
        "sm__sass_thread_inst_executed_op_dfma_pred_on.sum.peak_sustained": (
            64 * SMS, "inst/cycle"),
    }  # fmt: skip


def _shared(op: str, requests: float, ways: float, warps: float) -> dict[str, tuple[float, str]]:
    name = f"lsu_mem_shared_op_{op}"
    return {
        f"smsp__sass_inst_executed_op_shared_{op}.sum": (requests * warps, "inst"),
        f"l1tex__data_pipe_{name.replace('lsu_', 'lsu_wavefronts_', 1)}.sum": (
            requests * ways * warps, ""),
        f"l1tex__data_bank_conflicts_pipe_{name}.sum": (requests * (ways - 1) * warps, ""),
    }  # fmt: skip


ABOUT = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream",
         "Block Size", "Grid Size", "Device", "CC")  # fmt: skip


def raw_page(*kernels: Kernel, cc: str = "9.0") -> str:
    """What `ncu --set full --csv --page raw` prints of launches."""
    found = [metrics(k) for k in kernels]
    names = sorted(found[0])
    quoted = [[*ABOUT, *names], ["" for _ in ABOUT] + [found[0][n][1] for n in names]]
    for number, (k, values) in enumerate(zip(kernels, found, strict=True)):
        about = (number, 4711, "python3", "host", k.name, 1, 7, f"({k.block}, 1, 1)",
                 f"({k.grid}, 1, 1)", 0, cc)  # fmt: skip
        quoted.append([*map(str, about), *(f"{values[n][0]:,.6f}" for n in names)])
    lines = [",".join(f'"{cell}"' for cell in row) for row in quoted]
    return "\n".join(["==PROF== Connected to process 4711 (/usr/bin/python3)", *lines, ""])


PLANTED = {
    "tail_wave": Kernel(
        name="gemm_tiles_256x128", grid=132 + 20, block=256, registers=224, shared_bytes=98_304,
        fma=40_000, integer=1_500, loads=700, stores=64, shared_loads=9_000, shared_stores=700,
        barriers=250, branches=260, l2_hit=0.8, in_flight=8, chains=16,
    ),
    "bank_conflicts_loads": Kernel(
        name="transpose_tile_32x32", grid=16_384, block=256, registers=24, shared_bytes=4_096,
        integer=40, loads=4, stores=4, shared_loads=4, shared_stores=4, load_ways=32, barriers=1,
        l2_hit=0.5,
    ),
    "uncoalesced": Kernel(
        name="copy_columns_of_rows", grid=8_192, block=256, registers=20, integer=30, loads=8,
        stores=8, load_sectors=32, store_sectors=4, l2_hit=0.3,
    ),
    "spills": Kernel(
        name="winograd_4x4_unrolled", grid=2_640, block=128, registers=255, shared_bytes=16_384,
        fma=2_600, integer=400, add=300, loads=90, stores=40, shared_loads=400,
        shared_stores=100, spill_loads=900, spill_stores=700, barriers=12, l2_hit=0.7,
    ),
    "occupancy_registers": Kernel(
        name="rope_and_norm_rows", grid=13_200, block=512, registers=128, fma=120, integer=260,
        loads=24, stores=6, barriers=4, l2_hit=0.2, in_flight=1.5,
    ),
    "divergence": Kernel(
        name="ragged_rows_by_thread", grid=10_560, block=256, registers=40, integer=3_000,
        fma=900, loads=60, stores=4, branches=500, threads=7.5, l1_hit=0.6, l2_hit=0.7,
    ),
    "imbalance_sms": Kernel(
        name="csr_rows_one_block_each_range", grid=132 * 8, block=256, registers=32, integer=1_400,
        fma=1_600, loads=160, stores=8, branches=60, l1_hit=0.8, l2_hit=0.8, uneven=3.1,
        in_flight=10, chains=4,
    ),
    "fp64": Kernel(
        name="softmax_with_double_sums", grid=10_560, block=256, registers=48, fma=40,
        integer=200, fp64=900, special=30, loads=16, stores=16, l2_hit=0.5, barriers=4,
    ),
    "small_grid": Kernel(
        name="attention_decode_one_block_each_head", grid=32, block=256, registers=96,
        shared_bytes=65_536, fma=9_000, integer=2_500, special=300, loads=1_400, stores=16,
        shared_loads=2_000, shared_stores=400, barriers=120, l2_hit=0.5, in_flight=8,
    ),
}  # fmt: skip
"""Kernels by the cause that was planted: the rule that should name it."""
