"""A live module: its graph as a problem, `torch.compile(backend="epitaxy")`, `epitaxy.optimize`."""

import tomllib
import warnings
from pathlib import Path

import pytest
import torch
from test_docs import CHIP

import epitaxy
from epitaxy.backend import backend
from epitaxy.errors import BadInput, BadProblem
from epitaxy.graphs import transcribe
from epitaxy.ledger import Ledger
from epitaxy.machines.local import LocalMachine
from epitaxy.optimized import captured, optimize
from epitaxy.probe.store import save
from epitaxy.problem import load
from epitaxy.proposers.grower import Grower
from epitaxy.report import Run
from epitaxy.study import Study, View
from epitaxy.verdict import Comparison, Verdict


class Net(torch.nn.Module):
    """Parameters, a buffer that is a mask, running statistics, an index, two outputs."""

    def __init__(self, width=64):
        super().__init__()
        self.table = torch.nn.Embedding(50, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.scale = torch.nn.Parameter(torch.ones(width))
        self.register_buffer("mask", torch.ones(width, width).tril())

    def forward(self, x, index):
        y = torch.tanh(x @ self.mask) * self.scale + self.table(index)
        return self.norm(y), y.sum(-1)


def net(seed=0):
    torch.manual_seed(seed)
    return Net().eval()


def given():
    return torch.randn(32, 64), torch.randint(0, 50, (32,))


def graph_of(model, inputs):
    return transcribe(*captured(model, inputs))


def test_the_text_is_a_problem_that_computes_the_same(tmp_path):
    model, inputs = net(), given()
    module, arguments = captured(model, inputs)
    graph = transcribe(module, arguments)
    problem = load(graph.write(tmp_path))
    assert problem.name == graph.name
    assert [s.shape for s in problem.inputs] == [(32, 64), (32,)]
    space = {}
    exec(graph.source, space)
    copy = space["Model"]().eval()
    copy.load_state_dict({n: arguments[i].detach() for n, i in graph.state})
    with torch.no_grad():
        ours, theirs = copy(*[arguments[i] for i in graph.inputs]), model(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert int(space["get_inputs"]()[1].max()) < 50


def test_the_text_depends_on_graph_and_shapes_alone():
    assert graph_of(net(1), given()).source == graph_of(net(2), given()).source
    x, index = given()
    assert graph_of(net(), (x[:8], index[:8])).name != graph_of(net(), (x, index)).name


def test_what_cannot_be_captured_says_why():
    class Branch(torch.nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(BadProblem, match="one graph"):
        captured(Branch(), (torch.ones(4),))
    with pytest.raises(BadInput, match="no module"):
        optimize(lambda x: x, [torch.ones(4)])
    patched = net()
    patched.forward = lambda x, index: x
    with pytest.raises(BadInput, match="a forward of its own"):
        optimize(patched, given())


def test_torch_finds_the_backend_by_its_name():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    points = tomllib.loads(text)["project"]["entry-points"]["torch_dynamo_backends"]
    module, _, name = points["epitaxy"].partition(":")
    assert getattr(__import__(module, fromlist=[name]), name) is backend


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPITAXY_HOME", str(folder))
        yield folder


def compiled(model, **options):
    torch._dynamo.reset()
    return torch.compile(model, backend=backend, options={"fallback": "eager", **options})


def test_an_unknown_graph_goes_to_the_framework_aloud(home):
    model, inputs = net(), given()
    with torch.no_grad(), pytest.warns(RuntimeWarning, match="nothing is known of graph_"):
        found = compiled(model)(*inputs)
    assert torch.equal(found[0], model(*inputs)[0])
    assert not (home / "ledger.sqlite").exists(), "looking writes nothing"
    with pytest.warns(RuntimeWarning, match="gradients are on"):
        compiled(model)(*inputs)
    with pytest.raises(Exception, match="unknown fallback"):
        compiled(model, fallback="soon")(*inputs)


def three_times(candidate, machine):
    """A verdict that nobody reached: how fast a kernel is matters to none of these tests."""
    row = Comparison(baseline="eager", time_s=3e-3, speedup=3.0, low=2.9, high=3.1,
                     outcome="faster", detectable=0.01, pairs=60)  # fmt: skip
    return Verdict(candidate=candidate.digest, problem=candidate.problem, machine=machine,
                   plan="full", status="accepted", time_s=1e-3, comparisons=(row,))  # fmt: skip


@pytest.fixture(scope="module")
def won(home):
    """The module, with a real candidate in the ledger that is said to be three times as fast."""
    save(CHIP)
    model, inputs = net(), given()
    problem = load(graph_of(model, inputs).write(home / "graphs"))
    with Ledger() as ledger:
        study = Study(problem, LocalMachine(), Grower(), ledger, epitaxy.Budget(candidates=1))
        (candidate,) = study.proposer.propose(View(study), 1)
        study.tell(candidate, three_times(candidate, study.machine_digest))
    return model, inputs


def test_what_the_ledger_knows_is_used(won):
    model, inputs = won
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        new = compiled(model)
        for _ in range(2):
            for ours, theirs in zip(new(*inputs), model(*inputs), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        other = net(5)  # the same graph with other weights
        for ours, theirs in zip(compiled(other)(*inputs), other(*inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def found_by_a_search(problem, options):
    """What a search that ended well leaves; nothing is timed."""
    machine = LocalMachine()
    with Ledger(options.ledger) as ledger:
        study = Study(problem, machine, Grower(), ledger, epitaxy.Budget(candidates=1))
        (candidate,) = study.proposer.propose(View(study), 1)
        best = (candidate, three_times(candidate, study.machine_digest))
    return Run(problem=problem, judged=(best,), best=best, chip=machine.chip()), False


def test_a_module_shown_to_be_faster_is_returned_and_is_the_module_otherwise(home, monkeypatch):
    save(CHIP)
    monkeypatch.setattr("epitaxy.commands.run.search", found_by_a_search)
    model, inputs = net(), given()
    new = optimize(model, inputs, budget="1")
    assert new is not model
    assert isinstance(new, Net)
    assert new.scale is model.scale
    assert new.state_dict().keys() == model.state_dict().keys()

    def same():
        for ours, theirs in zip(new(*inputs), model(*inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        same()
        model.scale.mul_(2)  # parameters are shared, not copied
        same()
    with torch.no_grad(), pytest.warns(RuntimeWarning, match="optimized for torch.float32"):
        assert new(inputs[0][:7], inputs[1][:7])[0].shape == (7, 64)
    with pytest.warns(RuntimeWarning, match="a gradient is asked for"):
        assert new(*inputs)[0].requires_grad


def test_a_module_given_again_has_kernels_for_both_shapes(home, monkeypatch):
    save(CHIP)
    monkeypatch.setattr("epitaxy.commands.run.search", found_by_a_search)
    model, inputs = net(), given()
    short = tuple(x[:8] for x in inputs)
    first = optimize(model, inputs, budget="1")
    both = optimize(first, short, budget="1")
    assert isinstance(both, Net)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for shape in (inputs, short, inputs):
            for ours, theirs in zip(both(*shape), model(*shape), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        with pytest.warns(
            RuntimeWarning, match=r"input 0 is .*\[8, 64\], optimized for .*\[32, 64\]"
        ):
            first(*short)
        with pytest.warns(RuntimeWarning, match=r"\[7, 64\], optimized for .*and 1 more"):
            both(*(x[:7] for x in inputs))


def test_an_example_given_twice_is_two_inputs(home, monkeypatch):
    class Product(torch.nn.Module):
        def forward(self, a, b):
            return torch.tanh(a) * b

    save(CHIP)
    monkeypatch.setattr("epitaxy.commands.run.search", found_by_a_search)
    x, y = torch.randn(64, 64), torch.randn(64, 64)
    model = Product().eval()
    new = optimize(model, [x, x], budget="1")
    assert new is not model
    with torch.no_grad():
        torch.testing.assert_close(new(x, y), model(x, y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("returned", ["(y, y)", "(x, y)", "{'y': y, 'n': 3}"])
def test_what_is_no_tensor_of_the_graph_is_refused_before_the_search(returned, monkeypatch):
    class Odd(torch.nn.Module):
        def forward(self, x):
            y = torch.tanh(x)
            return {"(y, y)": (y, y), "(x, y)": (x, y)}.get(returned, {"y": y, "n": 3})

    monkeypatch.setattr("epitaxy.commands.run.search", None)
    with pytest.raises(BadProblem, match="computed tensors"):
        optimize(Odd().eval(), torch.randn(8))


def test_a_kernel_put_together_wrongly_is_not_returned(home, monkeypatch, capsys):
    save(CHIP)
    monkeypatch.setattr("epitaxy.commands.run.search", found_by_a_search)
    monkeypatch.setattr("epitaxy.optimized._error", lambda ours, theirs: float("nan"))
    model = net()
    assert optimize(model, given(), budget="1") is model
    assert "the original is returned" in capsys.readouterr().err


@pytest.mark.parametrize("training", [False, True])
def test_a_module_in_training_mode_is_proven_too(training, monkeypatch, capsys):
    class Two(torch.nn.Module):
        def forward(self, x):
            return {"y": torch.tanh(x), "z": x * 2}

    wrong = []
    monkeypatch.setattr(
        "epitaxy.optimized._searched",
        lambda *_: lambda x: (torch.tanh(x), x * (3 if wrong else 2)),
    )
    model, x = Two().train(training), torch.randn(8)
    new = optimize(model, x)
    assert (new is not model, new.training, model.training) == (True, training, training)
    assert new.eval()(x).keys() == {"y", "z"}
    wrong.append(True)
    assert optimize(model, x) is model
    assert "the whole module's outputs are off" in capsys.readouterr().err


def test_kernels_for_other_numbers_of_inputs_stand_side_by_side(monkeypatch):
    class Either(torch.nn.Module):
        def forward(self, x, y=None, z=None):
            return torch.tanh(x) if y is None else x * y

    kernels = [lambda x: (torch.tanh(x),), lambda x, y: (x * y,)]
    monkeypatch.setattr("epitaxy.optimized._searched", lambda *_: kernels.pop(0))
    model, x = Either().eval(), torch.randn(8)
    new = optimize(optimize(model, [x]), [x, x])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert torch.equal(new(x), model(x))
        assert torch.equal(new(x, x), model(x, x))
    with pytest.warns(RuntimeWarning, match="for 1 or 2 positional") as caught:
        new(x, x, x)
    assert caught[0].filename == __file__, "it points to who called"


@pytest.mark.parametrize(
    ("wrong", "accepted"),
    [(1.0, True), (1.01, False), (float("nan"), False), (float("inf"), False)],
)
def test_special_numbers_are_compared_as_they_are(wrong, accepted, monkeypatch):
    class Masked(torch.nn.Module):
        def forward(self, x):
            return torch.log(x), x * 2

    monkeypatch.setattr(
        "epitaxy.optimized._searched", lambda *_: lambda x: (torch.log(x), x * 2 * wrong)
    )
    model, x = Masked().eval(), torch.tensor([-1.0, 0.0, 1.0, 3.0])
    assert (optimize(model, x) is not model) is accepted
