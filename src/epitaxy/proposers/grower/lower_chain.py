"""Products of products: which are captured as one region, so that algebra may reorder them."""

from __future__ import annotations

from torch.fx import Node

from epitaxy.proposers.grower.lower_core import shape_of

PRODUCTS = ("aten.mm.default", "aten.matmul.default", "aten.linear.default")
WORTH = 2
"""How many times fewer multiply-adds the other order must have: regions that are apart are tuned
apart."""


def reorders(node: Node) -> bool:
    """Whether `node` is (A B) C or A (B C), and costs less than half from the other end."""
    sizes = _sizes(node)
    if sizes is None:
        return False
    m, k, n = sizes
    left, right = node.args[0], node.args[1]
    turned = str(node.target) == "aten.linear.default"
    now = other = 0
    if (inner := _inner(left)) is not None:
        l = inner[1]  # noqa: E741  (m l)(l k)(k n)
        now, other = m * l * k + m * k * n, l * k * n + m * l * n
    elif (inner := _inner(right)) is not None and not turned:
        l = inner[1]  # noqa: E741  (m k)(k l)(l n)
        now, other = k * l * n + m * k * n, m * k * l + m * l * n
    return now > WORTH * other > 0


def _inner(node: object) -> tuple[int, int, int] | None:
    """The sizes of a product without a bias that nobody else reads."""
    if not isinstance(node, Node) or len(node.users) != 1:
        return None
    plain = len(node.args) < 3 or node.args[2] is None
    return _sizes(node) if plain and not node.kwargs else None


def _sizes(node: Node) -> tuple[int, int, int] | None:
    """(rows, contracted, columns) of a product of two matrices."""
    if node.op != "call_function" or str(node.target) not in PRODUCTS:
        return None
    a, b = shape_of(node.args[0]), shape_of(node.args[1])
    if len(a) != 2 or len(b) != 2:
        return None
    return a[0], a[1], b[0] if str(node.target) == "aten.linear.default" else b[1]
