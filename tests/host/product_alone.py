"""Run in a fresh process without epitaxy: `python product_alone.py FOLDER`. Prints "fine"."""

import copy
import io
import pickle
import sys
import threading
import warnings

sys.modules["epitaxy"] = None  # importing it raises
sys.path.insert(0, sys.argv[1])
import model_new as m  # noqa: E402
import torch  # noqa: E402

warnings.simplefilter("error", RuntimeWarning)  # the product's own kind
ref, new = m.Model().eval(), m.ModelNew().eval()
assert list(new.state_dict()) == list(ref.state_dict())
new.load_state_dict(ref.state_dict())
(x,) = m.get_inputs()


def said(module, *args, **kwargs):
    """What a call gives (a tensor or an error's text) and the warnings it says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = module(*args, **kwargs)
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    return result, [str(w.message) for w in caught]


def count_calls():
    """Every entry into the C function adds one: what shows that the kernel itself ran."""
    calls = []
    inner = m._epitaxy_symbol("region0")

    def counted(given, made):
        calls.append(threading.get_ident())
        inner(given, made)

    region = m._region0.__closure__
    call = next(
        c.cell_contents for c in region if getattr(c.cell_contents, "__name__", "") == "made"
    )
    call.__globals__["entry"][:] = [counted]
    return calls


with torch.no_grad():
    want = ref(x)
    torch.testing.assert_close(new(x), want)
    calls = count_calls()

    def runs(module, *args, **kwargs):
        before = len(calls)
        torch.testing.assert_close(module(*args, **kwargs), want)
        return len(calls) == before + 1

    assert runs(new, x)
    assert runs(new, x=x)
    assert runs(new, x.t().contiguous().t()), "a strided input is made contiguous"
    assert runs(copy.deepcopy(new), x)
    assert runs(pickle.loads(pickle.dumps(new)), x)
    assert runs(new.train(), x), "training changes nothing in this module"
    new.eval()
    stored = io.BytesIO()
    torch.save(new.state_dict(), stored)
    stored.seek(0)
    m.ModelNew().load_state_dict(torch.load(stored))
    with torch.inference_mode():
        assert runs(new, x)

    # live weights
    other = m.Model().eval()
    other.bias += 1.5
    changed = m.ModelNew().eval()
    changed.load_state_dict(other.state_dict())
    torch.testing.assert_close(changed(x), other(x))

    # torch.compile, whole graph
    before = len(calls)
    compiled = torch.compile(new, fullgraph=True)
    torch.testing.assert_close(compiled(x), want)
    assert len(calls) == before + 1
    torch.testing.assert_close(compiled(x[:3]), ref(x[:3]))

    # threads, and other sizes of the pool
    wrong = []

    def work():
        with torch.no_grad():
            for _ in range(50):
                wrong.append(float((new(x) - want).abs().max()))

    for size in (1, 3, 2):
        torch.set_num_threads(size)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(wrong) == 600
    assert max(wrong) < 1e-6

    # outside the guards: the reference's own answer or error, one warning for each reason
    for kind, bad in {
        "shape": x[:3],
        "dtype": x.half(),
        "device": x.to("meta"),
        "type": [1.0],
    }.items():
        expected, _ = said(ref, bad)
        for turn in range(2):
            got, messages = said(new, bad)
            if isinstance(expected, torch.Tensor) and not expected.is_meta:
                torch.testing.assert_close(got, expected)
            else:
                assert str(got) == str(expected), (kind, got, expected)
            assert len(messages) == (turn == 0), (kind, turn, messages)
    assert said(new)[0] == said(ref)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, messages = said(new, x)
        assert got.dtype == ref(x).dtype
        assert "autocast" in messages[0]
    half = copy.deepcopy(new).half()
    assert said(half, x)[0] == said(copy.deepcopy(ref).half(), x)[0]
    double = copy.deepcopy(new).double()
    torch.testing.assert_close(said(double, x.double())[0].float(), want)
    mapped = said(torch.vmap(new), x.repeat(2, 1, 1))[0]
    torch.testing.assert_close(mapped, torch.stack([want, want]))
    traced = torch.jit.trace(new, (x,), check_trace=False) if sys.version_info < (3, 14) else new
    torch.testing.assert_close(said(traced, x + 1)[0], ref(x + 1))
    exported = torch.export.export(new, (x,))
    assert "epitaxy" not in str(exported.graph)
    assert runs(new, x), "the kernel is back after all that"

# gradients
got, messages = said(new, x)
assert "requires a gradient" in messages[0], messages
got.sum().backward()
assert new.inner.weight.grad is not None
frozen = copy.deepcopy(new).requires_grad_(False)
assert not said(frozen, x)[1]
assert said(frozen, x.clone().requires_grad_())[0].requires_grad

with open("/proc/self/maps") as maps:
    mapped_files = {line.split()[-1] for line in maps if ".so" in line}
pools = [f for f in mapped_files if "gomp" in f or "omp.so" in f]
assert len(pools) == 1, pools
print("fine", *(f for f in mapped_files if "kernel-" in f))
