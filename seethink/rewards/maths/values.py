"""Equal values and functions.

Rational values are compared exactly, other constants to 18 of 30 digits. Functions are compared at fixed pseudo-random points:
one difference settles the wrong answers, which are what a symbolic proof spends its time on. There is no relative tolerance
that a wrong integer could slip through; decimals are read as rounded only where no decimal could be exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from seethink.rewards.maths.evaluate import Undefined, evaluate, finite, free_symbols, real, to_float
from seethink.rewards.maths.tokens import TooBig, Unreadable
from seethink.rewards.maths.tree import Node, walk

POINTS = 8
ENOUGH_POINTS = 3
RELATIVE, ABSOLUTE = Fraction(1, 10**9), Fraction(1, 10**25)
MAX_FAR = Fraction(10**6)
PIECEWISE = {"abs", "floor", "ceil", "sgn", "root"}


def same_value(gold: Node, answer: Node) -> bool:
    """Equal as constants or as functions of the same unknowns, decimals read as rounded where they must be."""
    if gold.op == "percent" and answer.op != "percent" and _equal_or_rounded(gold.args[0], answer):
        return True  # `25` for a gold of 25 %
    return _equal_or_rounded(_without_degrees(gold), _without_degrees(answer))


def _equal_or_rounded(gold: Node, answer: Node) -> bool:
    bare_log = any(n.op == "log" and n.args[0] is None for n in (*walk(gold), *walk(answer)))
    bases: Sequence[int | None] = (10, None) if bare_log else (None,)
    if free_symbols(gold) or free_symbols(answer):
        return any(all(_close(*pair, 1) for pair in _sampled(gold, answer, base)) for base in bases)
    return any(_same_constant(gold, answer, base) for base in bases)


def _without_degrees(node: Node) -> Node:
    """Degrees as plain numbers, except inside sin, cos and their like where they mean radians."""
    if node.op == "degree":
        return node.args[0]
    if node.op not in ("+", "*", "neg", "/", "reciprocal"):
        return node
    return Node(node.op, tuple(_without_degrees(a) if isinstance(a, Node) else a for a in node.args))


def _same_constant(gold: Node, answer: Node, log_base: int | None) -> bool:
    one, other = evaluate(gold, {}, log_base), evaluate(answer, {}, log_base)
    if not finite(one) or not finite(other):
        return bool(one == other)
    return _close(one, other, 2) or _rounds_to(gold, one, answer, other)


def _close(one: Any, other: Any, power: int) -> bool:
    """Exact for fractions; otherwise 9 digits times `power`, or both so small that only rounding errors are left."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    one, other = to_float(one), to_float(other)
    gap = abs(one - other)
    return gap <= to_float(RELATIVE) ** power * max(abs(one), abs(other)) or gap <= to_float(ABSOLUTE)


def _rounds_to(gold: Node, one: Any, answer: Node, other: Any) -> bool:
    """A decimal for a value that no decimal ends: the answer needs 4 significant digits, a gold of 2 places is rounded."""
    given, written = _decimal_literal(gold), _decimal_literal(answer)
    if written and not given and not _has_decimals(gold):
        return _significant(written) >= 4 and not _terminates(one) and _within(one, other, written[1])
    if not given or given[1] < 2:
        return False
    if written:
        return written[1] > given[1] and _significant(given) >= 3 and _within(one, other, given[1])
    return not _has_decimals(answer) and not _terminates(other) and _within(one, other, given[1])


def _decimal_literal(node: Node) -> tuple[Fraction, int] | None:
    node = node.args[0] if node.op == "neg" else node
    if node.op == "percent" and node.args[0].op == "number":
        value, places = node.args[0].args
        return value / 100, (places or 0) + 2
    return node.args if node.op == "number" and node.args[1] else None


def _has_decimals(node: Node) -> bool:
    return any(n.op == "number" and n.args[1] for n in walk(node))


def _significant(literal: tuple[Fraction, int]) -> int:
    return len(str(int(abs(literal[0]) * 10 ** literal[1])))


def _terminates(value: Any) -> bool:
    """True for a fraction whose denominator divides a power of ten."""
    return isinstance(value, Fraction) and pow(10, value.denominator.bit_length(), value.denominator) == 0


def _within(one: Any, other: Any, places: int) -> bool:
    return bool(abs(to_float(one) - to_float(other)) <= to_float(Fraction(1, 2 * 10**places)))


def proportional(gold: Node, answer: Node) -> Any:
    """The constant factor between two functions of the same unknowns; None if there is none."""
    if free_symbols(gold) != free_symbols(answer) or not free_symbols(gold):
        return None
    first: tuple[Any, Any] | None = None
    for one, other in _sampled(gold, answer, None):
        if not one and not other:
            continue
        first = first or (one, other)
        if not one or not other or not _close(one * first[1], other * first[0], 1):
            return None
    return first[0] / first[1] if first else None


def _sampled(gold: Node, answer: Node, log_base: int | None) -> Iterator[tuple[Any, Any]]:
    """Values of both at fixed points, without those where one has none, or no real one unless there are few of these.

    `\\sqrt{1/n}` and `1/\\sqrt n` are one function wherever both are real. Raises what kept it from having enough.
    """
    names = sorted(free_symbols(gold) | free_symbols(answer))
    nodes = [*walk(gold), *walk(answer)]
    numbers = [n.args[0] for n in nodes if n.op == "number"]
    bends = any(n.op in PIECEWISE or (n.op == "function" and n.args[0] in PIECEWISE) for n in nodes)
    far = max((Fraction(1), *(min(abs(n), MAX_FAR) for n in numbers))) if bends else None
    ops = {n.op for n in nodes}
    rooted = len(names) > 1 and "root" in ops and "abs" not in ops  # formulas of several quantities, which are positive
    imaginary = any(n == Node("constant", ("i",)) for n in nodes)
    problem: Unreadable | None = None
    complex_ones: list[tuple[Any, Any]] = []
    usable = 0
    for i in range(2 * POINTS):
        if i >= POINTS and (usable >= ENOUGH_POINTS + 1 or not complex_ones):
            break
        symbols = {name: _coordinate(name, i, far) for name in names}
        if i >= POINTS or rooted:
            symbols = {name: abs(value) for name, value in symbols.items()}
        try:
            one, other = evaluate(gold, symbols, log_base), evaluate(answer, symbols, log_base)
        except (Undefined, TooBig) as error:
            problem = error
            continue
        if not finite(one) or not finite(other):
            continue
        if imaginary or (real(one) and real(other)):
            usable += 1
            yield one, other
        else:
            complex_ones.append((one, other))
    if usable < ENOUGH_POINTS:
        yield from complex_ones
        if usable + len(complex_ones) < ENOUGH_POINTS:
            raise problem or Undefined("hardly any point where both have a value")


def _coordinate(name: str, point: int, far: Fraction | None) -> Fraction:
    """A fraction that no formula singles out, of both signs: near zero at even points, further out at odd ones.

    `far` is the largest literal of a function with bends: |x + 9| and x + 9 differ only beyond it.
    Its denominator is even, so that no power of it is an odd root by accident.
    """
    draw = _draw(name, point)
    negative = (point // 2 + _draw(name, -1)) % 2 if point < POINTS // 2 else draw >> 16 & 1
    size = Fraction(draw % 2**12 * 2 + 9001, 2**13)  # from 1.1 to 2.1
    if point % 2 == 0:
        size /= 1 + point
    else:
        size *= 3 if far is None else far if point < POINTS // 2 else 8 * far
    return -size if negative else size


@lru_cache(maxsize=10_000)
def _draw(name: str, point: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{name} {point}".encode(), digest_size=4).digest(), "big")
