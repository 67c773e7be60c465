"""What Python decides in an optimized module: attributes, parts, modes, names of arguments."""

import copy
import functools
import io
import pickle
import warnings

import pytest
import torch

from epitaxy.errors import BadInput
from epitaxy.optimized import optimize


class Block(torch.nn.Module):
    """A scale of its own, a part with an eps, a part that trains, an optional argument."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        self.drop = torch.nn.Dropout(0.5)
        self.scale = 2.0
        self.more = torch.nn.Sequential()
        self.shifts = [0.0, (1, [2])]

    def forward(self, x, skip=None):
        y = self.more(self.drop(self.norm(x)) * self.scale + self.shifts[0])
        return y if skip is None else y + skip


class Kernel:
    """Computes what was captured, and counts."""

    calls = 0

    def __call__(self, weight, bias, x):
        self.calls += 1
        return (torch.nn.functional.layer_norm(x, (8,), weight, bias) * 2.0,)


@pytest.fixture
def optimized(monkeypatch):
    """(the original, the optimized module, its kernel, inputs)"""
    kernel = Kernel()
    monkeypatch.setattr("epitaxy.optimized._searched", lambda *_: kernel)
    model, x = Block().eval(), torch.randn(4, 8)
    new = optimize(model, x)
    assert new is not model
    kernel.calls = 0
    return model, new, kernel, x


def rescaled(new):
    new.scale = 3.0


def less_exact(new):
    new.norm.eps = 1.0


def other_part(new):
    new.norm = torch.nn.Sequential(torch.nn.LayerNorm(8))


def other_item(new):
    new.shifts[0] = 4.0


def inner_list(new):
    new.shifts[1][1].append(3)


def first_part(new):
    new.more.append(torch.nn.ReLU())


def training_part(new):
    new.drop.train()


def without_bias(new):
    new.norm.bias = None


def hooked_part(new):
    new.norm.register_forward_hook(lambda part, args, result: result + 1.0)


def prepared_part(new):
    new.norm.register_forward_pre_hook(lambda part, args: (args[0] + 1.0,))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (rescaled, "scale is 3.0, optimized for 2.0"),
        (less_exact, "norm.eps is 1.0, optimized for 1e-05"),
        (other_part, "norm is a Sequential, optimized as a LayerNorm"),
        (other_item, r"shifts is \[4.0, .*optimized for \[0.0, "),
        (inner_list, r"shifts is .*\[2, 3\]"),
        (first_part, "more.0 is new"),
        (training_part, "drop.training is True"),
        (hooked_part, r"norm.forward_hooks is .*hooked_part.*, optimized for None"),
        (prepared_part, "norm.forward_pre_hooks is .*prepared_part"),
        (without_bias, "a parameter or buffer is gone"),
    ],
)
def test_what_was_changed_runs_the_original_aloud(optimized, changed, reason):
    _, new, kernel, x = optimized
    with torch.no_grad():
        new(x)
        assert kernel.calls == 1
        changed(new)
        torch.manual_seed(1)
        with pytest.warns(RuntimeWarning, match=reason):
            found = new(x)
        torch.manual_seed(1)
        assert torch.equal(found, Block.forward(new, x))
        assert kernel.calls == 1


def test_what_is_changed_back_has_its_kernel_again(optimized):
    model, new, kernel, x = optimized
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new.scale = 3.0
        new(x)
        new.scale = 2.0
        new.train()
        new.eval()
        torch.testing.assert_close(new(x), model(x))
    assert kernel.calls == 1


def test_hooks_of_parts_run_and_the_whole_ones_run_around_the_kernel(optimized):
    model, new, kernel, x = optimized
    seen = []
    new.register_forward_hook(lambda *_: seen.append("whole"))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = new.norm.register_forward_hook(lambda *_: seen.append("part"))
        new(x)
        assert (seen, kernel.calls) == (["part", "whole"], 0)
        handle.remove()
        torch.testing.assert_close(new(x), Block.forward(model, x))
    assert (seen, kernel.calls) == (["part", "whole", "whole"], 1)


def test_a_copy_of_a_module_whose_part_refers_to_it_is_whole(optimized):
    model, new, _, x = optimized
    new.norm.whole = [new]
    own = copy.deepcopy(new)
    assert own.norm.whole[0] is own
    assert own.norm is not new.norm
    with torch.no_grad():
        torch.testing.assert_close(own(x), model(x))


def scaled(by):
    return lambda *args: args[-1] * by


class Called(Block):
    """An activation and a hook that are functions."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.handle = self.norm.register_forward_hook(scaled(1.0))

    def forward(self, x):
        return self.act(self.norm(x))


@pytest.mark.parametrize("make", [scaled, lambda by: functools.partial(torch.mul, other=by)])
def test_another_function_of_the_same_name_is_seen(optimized, monkeypatch, make):
    _, _, kernel, x = optimized
    model = Called(make(2.0)).eval()
    arguments = lambda self, module, args: [module.norm.weight, module.norm.bias, *args]  # noqa: E731
    monkeypatch.setattr("epitaxy.optimized._Kernel.arguments", arguments)
    new = optimize(model, x)
    assert new is not model
    kernel.calls = 0
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(new)(x), model(x))
        assert kernel.calls == 1
        new.act = make(3.0)
        with pytest.warns(RuntimeWarning, match="act is .*, optimized for"):
            torch.testing.assert_close(new(x), Called.forward(new, x))
        new.act = model.act
        new(x)
        assert kernel.calls == 2
        new.handle.remove()
        new.norm.register_forward_hook(scaled(5.0))
        with pytest.warns(RuntimeWarning, match="norm.forward_hooks is another .*scaled"):
            torch.testing.assert_close(new(x), Called.forward(new, x))
    assert kernel.calls == 2


def test_arguments_may_be_named_and_defaults_given(optimized):
    model, new, kernel, x = optimized
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for found in (new(x=x), new(x, None), new(x, skip=None), new(skip=None, x=x)):
            torch.testing.assert_close(found, model(x))
    assert kernel.calls == 4
    with torch.no_grad(), pytest.warns(RuntimeWarning, match="for 1 positional"):
        torch.testing.assert_close(new(x, skip=x), model(x, x))
    with (
        pytest.raises(TypeError, match="unexpected keyword"),
        pytest.warns(RuntimeWarning, match="arguments have no position"),
    ):
        new(x, other=x)
    assert kernel.calls == 4


def test_copies_keep_kernels_and_files_hold_the_original(optimized):
    model, new, kernel, x = optimized
    own = copy.deepcopy(new)
    assert own.norm is not new.norm
    with torch.no_grad():
        torch.testing.assert_close(own(x), model(x))
        assert kernel.calls == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            same = copy.copy(new)
        assert same.norm is new.norm
        torch.testing.assert_close(same(x), model(x))
        assert kernel.calls == 2
        file = io.BytesIO()
        with pytest.warns(RuntimeWarning, match="the original is saved"):
            torch.save(new, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        assert type(again) is Block
        assert torch.equal(again(x), model(x))
        with pytest.warns(RuntimeWarning, match="the original is saved"):
            assert type(pickle.loads(pickle.dumps(new))) is Block


def test_kernels_of_what_a_module_was_are_not_kept(optimized):
    _, new, kernel, x = optimized
    new.scale = 3.0
    with pytest.MonkeyPatch.context() as patch:
        other = lambda w, b, x: (torch.nn.functional.layer_norm(x, (8,), w, b) * 3.0,)  # noqa: E731
        patch.setattr("epitaxy.optimized._searched", lambda *_: other)
        both = optimize(new, x[:2])
    with torch.no_grad(), pytest.warns(RuntimeWarning, match="optimized for"):
        torch.testing.assert_close(both(x), Block.forward(new, x))
    assert kernel.calls == 0


def test_bad_modules_and_inputs_are_told_as_they_are():
    with pytest.raises(BadInput, match="a compiled one"):
        optimize(torch.compile(Block()), torch.ones(2, 8))
    with pytest.raises(BadInput, match="fails on the example inputs: Given normalized_shape"):
        optimize(Block(), torch.ones(2, 7))
