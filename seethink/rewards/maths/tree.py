"""The immutable tree of a mathematical statement."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple


class Node(NamedTuple):
    """Operator and its arguments: nodes, or the leaf's value.

    number (Fraction, decimals|None)   symbol name   constant pi|e|i|inf
    + *terms   * *factors   reciprocal a   / a, b   ^ a, b   neg abs factorial percent degree a   pm|mp a, b
    function name, a   log base|None, a   root degree, a   binom n, k   call name, *args   sum|prod variable, low, high, body
    bracket shape ("()" "[)" "{}" ...), *items   matrix *rows   cup *parts   cap|setminus a, b
    list separator, *items   relation operators, *sides   ratio *parts
    """

    op: str
    args: tuple[Any, ...]


def walk(node: Node) -> list[Node]:
    """The node and everything below it."""
    found, todo = [], [node]
    while todo:
        node = todo.pop()
        found.append(node)
        todo.extend(a for a in node.args if isinstance(a, Node))
    return found


def number(value: Fraction | int, decimals: int | None = None) -> Node:
    return Node("number", (Fraction(value), decimals))
