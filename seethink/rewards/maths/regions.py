"""Subsets of the real line: an interval, an inequality and a union of both are the same claim in different words."""

from __future__ import annotations

from typing import Any, NamedTuple

from seethink.rewards.maths.evaluate import evaluate, free_symbols, real, to_float
from seethink.rewards.maths.tokens import TooBig, Unsupported
from seethink.rewards.maths.tree import Node

MAX_PIECES = 30

INFINITY = Node("constant", ("inf",))
MINUS_INFINITY = Node("neg", (INFINITY,))
REALS = Node("symbol", ("mathbb R",))
INEQUALITIES = {"<", ">", "<=", ">=", "!="}
FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}


class Bound(NamedTuple):
    """An end of an interval: its value for ordering, its tree for comparison, and whether it belongs to the interval."""

    value: Any
    node: Node
    closed: bool


Span = tuple[Bound, Bound]


def is_region(node: Node) -> bool:
    """True where only a region can be meant: (1, 2) may also be a point of the plane, so it is not."""
    if node.op == "bracket":
        return node.args[0] in ("(]", "[)") or any(a in (INFINITY, MINUS_INFINITY) for a in node.args[1:])
    if node.op == "relation":
        return bool(INEQUALITIES & set(node.args[0])) or (node.args[0] == ("in",) and is_region(node.args[2]))
    if node.op == "list":
        return any(is_region(item) for item in node.args[1:])
    return node.op in ("cup", "cap", "setminus") or node == REALS


def region(node: Node) -> list[Span]:
    """Disjoint intervals in ascending order. Raises Unsupported for what is no region of one unknown."""
    if node.op == "bracket" and node.args[0] == "{}":
        return _merged([_interval(item, True, item, True) for item in node.args[1:]])
    if node.op == "bracket" and len(node.args) == 3:
        shape, low, high = node.args
        return _nonempty([_interval(low, shape[0] == "[", high, shape[1] == "]")])
    if node.op == "cup":
        return _merged([interval for part in node.args for interval in region(part)])
    if node.op == "cap":
        return _common(region(node.args[0]), region(node.args[1]))
    if node.op == "setminus":
        without = node.args[1]
        single = without.op in (
            "number",
            "neg",
            "/",
            "root",
            "*",
            "constant",
        )  # braces that only group, as in `\\setminus {2}`
        return _common(
            region(node.args[0]), _complement(region(Node("bracket", ("{}", without)) if single else without))
        )
    if node in (REALS, Node("symbol", ("R",))):
        return [_interval(MINUS_INFINITY, False, INFINITY, False)]
    if node.op == "relation":
        return region(node.args[2]) if node.args[0] == ("in",) else _inequality(node)
    if node.op == "list":
        return _listed(node)
    raise Unsupported("not a region")


def _listed(node: Node) -> list[Span]:
    separator, items = node.args[0], node.args[1:]
    if len({subject(item) for item in items}) > 1:
        raise Unsupported("inequalities about different things")
    parts = [region(item) for item in items]
    if separator != "or":
        common = parts[0]
        for part in parts[1:]:
            common = _common(common, part)
        if common or separator == "and":
            return common
    return _merged([interval for part in parts for interval in part])


def subject(node: Node) -> Node | None:
    """What a relation is about: its only side that is not a number. A list of relations is about that of the first."""
    if node.op == "list":
        return subject(node.args[1])
    if node.op != "relation":
        return None
    sides = [side for side in node.args[1:] if free_symbols(side)]
    if node.args[0] == ("in",):
        return node.args[1]
    if len(sides) != 1 or sides[0].op not in ("symbol", "call"):
        raise Unsupported("an inequality that is not solved")
    return sides[0]


def _inequality(node: Node) -> list[Span]:
    """`a < x <= b`, `x > a`, `x != a` or `x = a`."""
    operators, sides = node.args[0], node.args[1:]
    unknown = subject(node)
    found = [_interval(MINUS_INFINITY, False, INFINITY, False)]
    for operator, left, right in zip(operators, sides, sides[1:], strict=False):
        if unknown not in (left, right):
            raise Unsupported("a chain of inequalities")
        bound = right if left == unknown else left
        found = _common(found, _half_line(operator if left == unknown else FLIPPED.get(operator, ""), bound))
    return found


def _half_line(operator: str, bound: Node) -> list[Span]:
    below = _interval(MINUS_INFINITY, False, bound, operator == "<=")
    above = _interval(bound, operator == ">=", INFINITY, False)
    if operator == "=":
        return [_interval(bound, True, bound, True)]
    return {"<": [below], "<=": [below], ">": [above], ">=": [above], "!=": [below, above]}[operator]


def _interval(low: Node, low_closed: bool, high: Node, high_closed: bool) -> Span:
    return Bound(_value(low), low, low_closed), Bound(_value(high), high, high_closed)


def _value(node: Node) -> Any:
    if free_symbols(node):
        raise Unsupported("a bound with an unknown")
    value = evaluate(node, {})
    if not real(value):
        raise Unsupported("a complex bound")
    return to_float(value)


def _nonempty(intervals: list[Span]) -> list[Span]:
    return [(a, b) for a, b in intervals if a.value < b.value or (a.value == b.value and a.closed and b.closed)]


def _merged(intervals: list[Span]) -> list[Span]:
    """Union as disjoint intervals."""
    if len(intervals) > MAX_PIECES:
        raise TooBig(f"a region of over {MAX_PIECES} pieces")
    done: list[Span] = []
    for low, high in sorted(_nonempty(intervals), key=lambda i: (i[0].value, not i[0].closed)):
        if done and (
            low.value < done[-1][1].value or (low.value == done[-1][1].value and (low.closed or done[-1][1].closed))
        ):
            last_low, last_high = done[-1]
            done[-1] = (last_low, max(last_high, high, key=lambda bound: (bound.value, bound.closed)))
        else:
            done.append((low, high))
    return done


def _complement(intervals: list[Span]) -> list[Span]:
    """What is left of the real line."""
    everything = _interval(MINUS_INFINITY, False, INFINITY, False)
    left = [everything]
    for low, high in intervals:
        sides = [
            (everything[0], low._replace(closed=not low.closed)),
            (high._replace(closed=not high.closed), everything[1]),
        ]
        left = _common(left, _nonempty(sides))
    return left


def _common(one: list[Span], other: list[Span]) -> list[Span]:
    """Intersection as disjoint intervals."""
    pairs = [
        (
            max(a[0], b[0], key=lambda bound: (bound.value, not bound.closed)),
            min(a[1], b[1], key=lambda bound: (bound.value, bound.closed)),
        )
        for a in one
        for b in other
    ]
    return _merged(pairs)
