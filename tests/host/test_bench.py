"""`epitaxy bench` on a small folder: a table whatever happens in a problem, and resume."""

import contextlib
import io
import json

import pytest
from test_docs import CHIP

from epitaxy.commands.bench import Suite, bench
from epitaxy.commands.run import Options
from epitaxy.machines.local import LocalMachine
from epitaxy.probe.store import save

GOOD = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.cumsum(torch.tanh(x), 1)
N = 512
def get_inputs():
    return [torch.randn(N, N)]
def get_init_inputs():
    return []
"""
UNGROWN = GOOD.replace("torch.cumsum(torch.tanh(x), 1)", "torch.fft.fft(x, dim=1).real")
BROKEN = "import torch\nraise RuntimeError('not today')\n"


pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    for name, text in {"1_broken": BROKEN, "2_fourier": UNGROWN, "10_scan": GOOD}.items():
        path = folder / "kb" / "KernelBench" / "level1" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def run(folder):
    """(exit code, the JSON document, stderr) with the baselines that cost no compilation."""
    out, err = io.StringIO(), io.StringIO()
    suite = Suite(["kb"], folder / "out", "0.5")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EPITAXY_HOME", str(folder / "home"))
        patch.setattr(LocalMachine, "baselines", lambda _: ["eager", "eager+mkl"])
        save(CHIP)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = bench(suite, Options(budget="1", ledger=folder / "ledger.sqlite"), True)
    return code, json.loads(out.getvalue()), err.getvalue()


@pytest.fixture(scope="module")
def first(place):
    return run(place)


def test_one_broken_problem_stops_nobody(place, first):
    code, table, err = first
    rows = table["rows"]
    assert code == (0 if rows[2]["speedup"] else 1), err
    assert [r["problem"] for r in rows] == ["1_broken", "2_fourier", "10_scan"]
    assert [r["status"] for r in rows][:2] == ["error", "left to the framework"]
    assert "not today" in rows[0]["reason"]
    assert "fft" in rows[1]["reason"]
    if rows[2]["speedup"]:  # a busy machine may refuse what it cannot time
        assert set(rows[2]["ratios"]) == {"eager", "eager+mkl"}
    assert rows[2]["scale"] == ["N: 512 to 256"]
    assert min(rows[2]["seconds"][p] for p in ("capture", "baselines", "search", "final")) > 0
    assert "Spent" in err


def test_table_page_and_products_are_left(place, first):
    out = place / "out"
    assert "<svg" in (out / "table.html").read_text()
    assert "10_scan" in (out / "table.md").read_text()
    assert json.loads((out / "table.json").read_text()) == first[1]
    row = first[1]["rows"][2]
    folder = out / "level1" / "10_scan"
    product = (folder / "export" / "model_new.py").read_text()
    if row["status"] == "faster":
        assert "_epitaxy_kernel" in product
    else:  # the kernel lies beside the original, which is what is handed back
        assert "_epitaxy_kernel" not in product
        assert row["speedup"] is None or (folder / "candidate" / "model_new.py").exists()
    assert "N = 256" in (out / "scaled" / "level1" / "10_scan.py").read_text()


def test_the_same_command_resumes(place, first):
    _, table, err = run(place)
    assert ("already done" in err) == (first[1]["rows"][2]["speedup"] is not None)
    if "already done" in err:
        assert table["rows"][2] == first[1]["rows"][2]
