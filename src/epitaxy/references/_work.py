"""The work that a computation implies: contraction flops, and input bytes that it really reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

_LOOK_UPS = ("embedding", "index", "index_select", "gather", "take", "_unsafe_index")
_BAGS = ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_PICKS = ("nll_loss_forward", "nll_loss2d_forward")


def work(
    function: Callable[..., Any], given: Sequence[Any], state: Sequence[torch.Tensor]
) -> tuple[float, float, str]:
    """(flops of contractions, bytes of inputs and parameters read, dtype of most flops) of a call.

    Flops are two per multiply-add, as PyTorch's counter sees them; their dtype is what is
    multiplied, for whole numbers of any width the fastest, int8 ("": none). Bytes count once what
    operators read of each tensor: a slice counts as itself, a table as the rows that are looked
    up, what is never read as nothing. Raises whatever the function raises.
    """
    counter = _Counter([x for x in (*given, *state) if isinstance(x, torch.Tensor)])
    with torch.no_grad(), counter:
        function(*given)
    dtype = max(counter.flops, key=counter.flops.__getitem__, default="")
    return float(sum(counter.flops.values())), float(counter.total()), dtype


def _attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], dropout_p: float = 0.0,
    is_causal: bool = False, **_: Any,
) -> int:  # fmt: skip
    """Both products of attention, from shapes (..., rows, depth); ahead of a row nothing counts."""
    rows, keys = query[-2], key[-2]
    pairs = sum(min(i + 1, keys) for i in range(rows)) if is_causal else rows * keys
    return 2 * math.prod(query[:-2]) * pairs * (query[-1] + value[-1])


def _recurrent(
    steps: Sequence[int], inward: Sequence[int], own: Sequence[int], *_: Any, **__: Any
) -> int:
    """A layer over (steps, batch, width), its weights (gates, width) and (gates, hidden)."""
    return 2 * steps[0] * steps[1] * (math.prod(inward) + math.prod(own))


def _whole_numbers(left: Sequence[int], right: Sequence[int], **_: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


_UNCOUNTED = {
    torch.ops.aten._int_mm: _whole_numbers,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
}
"""Operators of the CPU that PyTorch's counter passes over, and their flops from shapes."""


class _Counter(TorchDispatchMode):
    """Adds up the flops of operators, by PyTorch's formulas, and what they read of some storages.

    PyTorch's own FlopCounterMode imports its compiler, which takes longer than all else.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes = {_key(t): t.numel() * t.element_size() for t in tensors}
        self._read = dict.fromkeys(self._sizes, 0)
        self._formulas = {
            **flop_registry,
            **{p: shape_wrapper(f) for p, f in _UNCOUNTED.items()},  # type: ignore[no-untyped-call]
        }
        self.flops: dict[str, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to be told so PyTorch's compiler would be imported, and nothing is compiled here."""
        return False

    def total(self) -> int:
        """Bytes read, each byte of a tensor at most once."""
        return sum(min(read, self._sizes[key]) for key, read in self._read.items())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
        result = func(*args, **kwargs)
        if (formula := self._formulas.get(func._overloadpacket)) is not None:
            dtype = _multiplied(tree_leaves((args, kwargs)))
            count = formula(*args, **kwargs, out_val=result)
            self.flops[dtype] = self.flops.get(dtype, 0) + count
        aliases = [a.alias_info for a in func._schema.arguments if a.alias_info is not None]
        if any(not a.is_write for a in aliases):
            return result  # a view reads nothing
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        for place, tensor in enumerate(tensors):
            if _key(tensor) in self._read:
                whole = place or not _partial(func)
                part = _bytes(tensor) if whole else _part(func, tensors, result)
                self._read[_key(tensor)] += part
        return result


def _multiplied(arguments: Sequence[Any]) -> str:
    """The dtype of the first tensor's numbers; int8 for all that no peak is measured for."""
    first = next(x for x in arguments if isinstance(x, torch.Tensor))
    name = str(first.dtype.to_real()).removeprefix("torch.")
    return name if name in _FLOATS else "int8"


def _partial(func: Any) -> bool:
    return func._overloadpacket.__name__ in (*_LOOK_UPS, *_BAGS, *_PICKS)


def _part(func: Any, tensors: Sequence[torch.Tensor], result: Any) -> int:
    """Bytes that a look-up reads of its first tensor."""
    name = func._overloadpacket.__name__
    if name in _LOOK_UPS:
        return _bytes(result)
    count = tensors[1].numel()
    row = tensors[0][0].numel() if name in _BAGS and tensors[0].dim() else 1
    return count * row * tensors[0].element_size()


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())
