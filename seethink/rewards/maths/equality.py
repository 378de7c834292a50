"""Whether two trees make the same claim: values, equations, sets, tuples, regions, ratios, matrices.

Sets and lists are unordered, tuples are not; a name on the left of an equation may be missing on one side; an inequality and
its interval are the same claim. What remains are values and functions, which `values` compares.
"""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from typing import Any

from seethink.rewards.maths.evaluate import Undefined, evaluate, free_symbols
from seethink.rewards.maths.regions import FLIPPED, REALS, is_region, region, subject
from seethink.rewards.maths.tokens import TooBig, Unsupported
from seethink.rewards.maths.tree import Node, number, walk
from seethink.rewards.maths.values import proportional, same_value

MAX_ITEMS = 60
EITHER_WAY = {"parallel", "perp", "cong", "sim"}
STATED = EITHER_WAY | {"subset", "subseteq"}
"""Relations that are stated of lines, figures and sets: compared as they are written, the first four from either side."""


def same(gold: Node, answer: Node) -> bool:
    """True if the answer claims what the gold claims. Raises Unsupported, Undefined or TooBig where that is unknown."""
    gold, answer = _unpacked(gold), _unpacked(answer)
    gold, answer = _unnamed(gold, answer), _unnamed(answer, gold)
    if is_region(gold) or is_region(answer):
        return _same_region(gold, answer)
    gold, answer = _as_point(gold, answer), _as_point(answer, gold)
    golds, answers = alternatives(gold), alternatives(answer)
    if len(golds) == len(answers) == 1:
        return _same_item(golds[0], answers[0])
    return _same_collection(golds, answers)


def alternatives(node: Node) -> list[Node]:
    """The values that a list, a set or a plus-minus sign stands for."""
    if node.op == "list" and node.args[0] == ";" and any(item.op == "list" for item in node.args[1:]):
        return [_as_tuple(item) for item in node.args[1:]]
    if node.op == "list" or (node.op == "bracket" and node.args[0] == "{}"):
        return [value for item in node.args[1:] for value in alternatives(item)]
    if any(n.op in ("pm", "mp") for n in walk(node)):
        return [_signed(node, 1), _signed(node, -1)]
    return [node]


def _unpacked(node: Node) -> Node:
    """`x \\in S` as S, and `(x, y) = (2, 3)` as x = 2, y = 3."""
    if node.op == "+" and node.args[0] == REALS and node.args[1].op == "neg":
        return Node("setminus", (REALS, node.args[1].args[0]))  # `\\mathbb{R} - \\{2\\}`
    if node.op != "relation" or node.args[0] not in (("in",), ("=",)):
        return node
    (operator,), left, right = node.args
    if operator == "in":
        return right
    if left.op == right.op == "bracket" and left.args[0] == right.args[0] == "()" and len(left.args) == len(right.args):
        pairs = zip(left.args[1:], right.args[1:], strict=True)
        return Node("list", (",", *(Node("relation", (("=",), *pair)) for pair in pairs)))
    return node


def _unnamed(node: Node, other: Node) -> Node:
    """The set of `S = \\{1, 2\\}`, unless the other side has a name too."""
    if node.op != "relation" or node.args[0] != ("=",) or other.op == "relation" or node.args[1].op != "symbol":
        return node
    value = node.args[2]
    return value if value.op == "bracket" or is_region(value) else node


def _as_point(node: Node, other: Node) -> Node:
    """`x = 2, y = -1` where the other side is a point."""
    if node.op != "list" or other.op != "bracket" or other.args[0] != "()":
        return node
    items = node.args[1:]
    names = [item.args[1] for item in items if _named([item])]
    return _as_tuple(node) if len(names) == len(items) == len(set(names)) else node


def _as_tuple(node: Node) -> Node:
    """`p=5, q=2` as the point (5, 2)."""
    items = node.args[1:] if node.op == "list" else (node,)
    return Node("bracket", ("()", *(item.args[-1] if item.op == "relation" else item for item in items)))


def _signed(node: Node, sign: int) -> Node:
    """The tree with every plus-minus read as one sign and every minus-plus as the other."""
    args = tuple(_signed(a, sign) if isinstance(a, Node) else a for a in node.args)
    if node.op not in ("pm", "mp"):
        return Node(node.op, args)
    left, right = args
    return Node("+", (left, right if (sign > 0) == (node.op == "pm") else Node("neg", (right,))))


def _same_collection(golds: list[Node], answers: list[Node]) -> bool:
    """Equal as sets: every item of each side has its like on the other. Names count only where both sides give them."""
    if max(len(golds), len(answers)) > MAX_ITEMS:
        raise TooBig(f"a list of over {MAX_ITEMS} items")
    if not (_named(golds) and _named(answers)) or _one_unknown(golds, answers) or _one_unknown(answers, golds):
        golds, answers = ([item.args[-1] if _named([item]) else item for item in items] for items in (golds, answers))
    golds, free = _distinct(golds), _distinct(answers)
    if len(golds) != len(free):
        return False
    for gold in golds:
        like = next((item for item in free if _same_item(gold, item)), None)
        if like is None:
            return False
        free.remove(like)
    return True


def _named(items: list[Node]) -> bool:
    """True for `a_3 = 2, a_37 = 19` and `x = 1, x = 2`."""
    return all(item.op == "relation" and item.args[0] == ("=",) and _is_label(item.args[1]) for item in items)


def _one_unknown(items: list[Node], others: list[Node]) -> bool:
    """True for `x = 1 or x = 2` beside `x_1 = 1, x_2 = 2`."""
    names, numbered = ({str(item.args[1].args[0]) for item in side} for side in (items, others))
    return len(names) == 1 and names == {name.partition("_")[0] for name in numbered}


def _distinct(items: list[Node]) -> list[Node]:
    """Rational constants are told apart by their value, everything else as it is written."""
    seen: dict[Any, Node] = {}
    for item in items:
        value: Any = item
        if item.op not in ("bracket", "relation", "matrix", "ratio") and not free_symbols(item):
            value = evaluate(item, {})
        seen.setdefault(value if isinstance(value, Fraction) else item, item)
    return list(seen.values())


def _same_item(gold: Node, answer: Node) -> bool:
    if "relation" in (gold.op, answer.op):
        return _same_relation(gold, answer)
    if "bracket" in (gold.op, answer.op):
        if gold.op != answer.op or gold.args[0] != answer.args[0] or len(gold.args) != len(answer.args):
            return False
        return all(same(g, a) for g, a in zip(gold.args[1:], answer.args[1:], strict=True))
    if any(n.op == "matrix" for n in walk(gold)) or any(n.op == "matrix" for n in walk(answer)):
        return _same_rows(_matrix(gold), _matrix(answer))
    if "ratio" in (gold.op, answer.op):
        return _same_ratio(gold, answer)
    return same_value(gold, answer)


def _same_ratio(gold: Node, answer: Node) -> bool:
    """`6:8` is `3:4`, and a ratio of two is also their quotient."""
    one, other = (node.args if node.op == "ratio" else (node, number(1)) for node in (gold, answer))
    if len(one) != len(other):
        return False
    if number(0) in (*one, *other):  # a time of day
        return all(same_value(a, b) for a, b in zip(one, other, strict=True))
    return all(
        same_value(Node("*", (a, other[0])), Node("*", (b, one[0]))) for a, b in zip(one[1:], other[1:], strict=True)
    )


def _matrix(node: Node) -> list[list[Node]]:
    """Cells of a matrix, or of a sum or product of matrices."""
    if node.op == "matrix":
        return [list(row.args[1:]) for row in node.args]
    if node.op == "neg":
        return [[Node("neg", (cell,)) for cell in row] for row in _matrix(node.args[0])]
    if node.op == "+":
        parts = [_matrix(a) for a in node.args]
        if len({(len(part), len(part[0])) for part in parts}) == 1:
            return [[Node("+", cells) for cells in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]
    if node.op == "*":
        matrices = [a for a in node.args if any(n.op == "matrix" for n in walk(a))]
        others = [a for a in node.args if a not in matrices]
        if matrices:
            product = reduce(_matrix_product, map(_matrix, matrices))
            return [[Node("*", (*others, cell)) for cell in row] for row in product]
    raise Unsupported("matrix arithmetic")


def _matrix_product(one: list[list[Node]], other: list[list[Node]]) -> list[list[Node]]:
    if len(one[0]) != len(other):
        raise Undefined("a product of matrices that do not fit")
    columns = list(zip(*other, strict=True))
    return [[Node("+", tuple(Node("*", pair) for pair in zip(row, c, strict=True))) for c in columns] for row in one]


def _same_rows(gold: list[list[Node]], answer: list[list[Node]]) -> bool:
    if [len(row) for row in gold] != [len(row) for row in answer]:
        return False
    return all(same_value(g, a) for rows in zip(gold, answer, strict=True) for g, a in zip(*rows, strict=True))


def _same_region(gold: Node, answer: Node) -> bool:
    if not all(is_region(node) or node.op in ("bracket", "relation") for node in (gold, answer)):
        return False  # a number is no interval
    try:
        golds, answers = region(gold), region(answer)
        named = {subject(node) for node in (gold, answer)} - {None}
    except Unsupported:
        if gold.op == answer.op == "relation":
            return _same_inequality(gold, answer)
        raise
    if len(named) > 1:
        return False
    if len(golds) != len(answers):
        return False
    bounds = [(g, a) for one, other in zip(golds, answers, strict=True) for g, a in zip(one, other, strict=True)]
    return all(g.closed == a.closed and same_value(g.node, a.node) for g, a in bounds)


def _same_relation(gold: Node, answer: Node) -> bool:
    """Equations; the name on the left (`y =`, `f(x) =`, `S_1:S_2 =`) may be missing on one side."""
    stated = {operator for node in (gold, answer) if node.op == "relation" for operator in node.args[0]} & STATED
    if stated:
        if gold.op != answer.op or gold.args[0] != answer.args[0] or len(gold.args) != 3:
            return False
        turned = [answer.args[2:0:-1]] if stated <= EITHER_WAY else []
        return any(all(map(same, gold.args[1:], sides)) for sides in (answer.args[1:], *turned))
    if any(node.op == "relation" and set(node.args[0]) != {"="} for node in (gold, answer)):
        raise Unsupported("a mixed relation")
    if answer.op == "relation" and len(set(answer.args[1:])) == 1:
        return False  # y = y claims nothing
    if gold.op != "relation":
        value = _claimed_value(answer) or _value_of_formula(answer)
        return value is not None and same(gold, value)
    if answer.op != "relation":
        value = _claimed_value(gold)
        return value is not None and same(value, answer)
    if _same_label(gold, answer):
        return same(gold.args[-1], answer.args[-1])
    if proportional(_difference(gold), _difference(answer)) is not None:
        return True
    return _solved_by(gold, answer) or _solved_by(answer, gold)


def _solved_by(explicit: Node, implicit: Node) -> bool:
    """True for `y = 2/x` and `xy = 2`: the second holds on the first, and is linear in y, so it holds nowhere else."""
    name, value = explicit.args[1], explicit.args[-1]
    if name.op != "symbol" or len(explicit.args) != 3 or name.args[0] in _plain_symbols(value):
        return False
    if free_symbols(explicit) != free_symbols(implicit):
        return False
    zero, step, two_steps = (_replaced(_difference(implicit), name, Node("+", (value, number(k)))) for k in (0, 1, 2))
    nothing = number(0)
    linear = same_value(Node("*", (step, number(2))), two_steps)
    return same_value(zero, nothing) and linear and not same_value(step, nothing)


def _replaced(node: Node, name: Node, value: Node) -> Node:
    if node == name:
        return value
    return Node(node.op, tuple(_replaced(a, name, value) if isinstance(a, Node) else a for a in node.args))


def _claimed_value(equation: Node) -> Node | None:
    """What `x = 5`, `5 = x`, `f(x) = x + 1` or `4 + 3 = 7` says; None for an equation that is not solved."""
    first, last = equation.args[1], equation.args[-1]
    if _is_label(first) and not free_symbols(first) & _plain_symbols(last):
        return last
    if first.op == "call" and _is_label(first):
        return last
    if _is_label(last):
        return first
    if not free_symbols(first) and not free_symbols(last) and same_value(first, last):
        return last
    return None


def _value_of_formula(equation: Node) -> Node | None:
    """The 7 of `m + n = 7`, `x^2 = 7` or `f(2) = 7`, which questions ask for; `2x + 4 = 8` is an equation to be solved."""
    formula, value = equation.args[1], equation.args[-1]
    named = len(_plain_symbols(formula)) > 1 or formula.op in ("call", "function", "abs", "^", "root")
    return value if named and not free_symbols(value) and value != number(0) else None


def _plain_symbols(node: Node) -> set[str]:
    return {n.args[0] for n in walk(node) if n.op == "symbol"}


def _is_label(node: Node) -> bool:
    """A name for what follows: y, x_1, f(x), angle ABC, (x, y), or points as in NO/BO and S_1:S_2."""
    if node.op == "symbol":
        return True
    if node.op == "call" or (node.op == "bracket" and node.args[0] == "()"):
        return all(a.op == "symbol" for a in node.args[1:])
    names = [n.args[0] for n in walk(node) if n.op == "symbol"]
    leaves = all(n.op in ("symbol", "*", "/", "reciprocal", "ratio", "bracket", "abs") for n in walk(node))
    return bool(names) and leaves and all(name[0].isupper() for name in names)


def _same_label(gold: Node, answer: Node) -> bool:
    one, other = gold.args[1], answer.args[1]
    if not (_is_label(one) and _is_label(other)):
        return False
    if one == other:
        return True
    used = _plain_symbols(gold.args[-1]) | _plain_symbols(answer.args[-1])
    named = [node.args[0] for node in (one, other) if node.op == "symbol"]
    return "call" in (one.op, other.op) and not used & set(named)


def _difference(equation: Node) -> Node:
    return Node("+", (equation.args[1], Node("neg", (equation.args[-1],))))


def _same_inequality(gold: Node, answer: Node) -> bool:
    """Unsolved inequalities: the same chain from either end, or sides that differ by a positive factor."""
    turned = Node("relation", (tuple(FLIPPED.get(o, o) for o in reversed(answer.args[0])), *reversed(answer.args[1:])))
    for candidate in (answer, turned):
        if gold.args[0] == candidate.args[0] and len(gold.args) == len(candidate.args):
            if all(same_value(g, a) for g, a in zip(gold.args[1:], candidate.args[1:], strict=True)):
                return True
            factor = proportional(_difference(gold), _difference(candidate)) if len(gold.args) == 3 else None
            if factor is not None and (factor > 0 or gold.args[0] == ("!=",)):
                return True
    return False
