"""Values of expression trees: exact fractions for as long as possible, then 30-digit real or complex numbers.

Every operation is bounded before it is carried out (exponents, factorials, sums, sizes of fractions), and a comparison has a
budget of work in all, so a power tower or a sum of sums costs milliseconds and not a machine. Odd roots of negative numbers are real, as at school.
"""

from __future__ import annotations

import math
import operator
import threading
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache, reduce
from typing import Any

from mpmath import MPContext

from seethink.rewards.maths.tokens import TooBig, Unreadable, Unsupported
from seethink.rewards.maths.tree import Node

DIGITS = 30
MAX_EXPONENT = 20_000
MAX_FACTORIAL = 2100
MAX_TERMS = 200
MAX_BITS = 30_000
"""Fractions beyond this go on as 30-digit numbers (10^4000 has 13,288 bits, 2100! 20,110)."""
WORK = 5_000
"""Steps of one comparison; a step on numbers of many digits counts for more."""
WORK_BITS = 100
MAX_LOG = 1e6
"""Powers whose natural logarithm is larger are not computed."""


class _Work(threading.local):
    """Steps that the comparison of this thread may still take."""

    left = WORK

    def spend(self, bits: int = 0) -> None:
        self.left -= 1 + bits // WORK_BITS
        if self.left < 0:
            raise TooBig("too much to compute")


_work = _Work()


def new_budget() -> None:
    """To be called before a comparison."""
    _work.left = WORK


class Undefined(Unreadable):
    """No finite value here: division by zero, logarithm of zero, overflow."""


@cache
def context() -> MPContext:
    """A private mpmath context: the precision of the global one belongs to whoever else runs in this process."""
    own = MPContext()
    own.dps = DIGITS
    return own


def evaluate(node: Node, symbols: Mapping[str, Fraction], log_base: int | None = None) -> Any:
    """Fraction, mpf or mpc. `symbols` gives a value to every free name; `log_base` is what a bare `log` means (None: e).

    Raises Undefined, Unsupported (structures, unknown functions) or TooBig.
    """
    _work.spend()
    op, args = node
    if op == "number":
        return args[0]
    if op == "symbol":
        return symbols[args[0]]
    if op == "+":
        return _sum([evaluate(a, symbols, log_base) for a in args])
    if op == "*":
        return _product([evaluate(a, symbols, log_base) for a in args])
    if op in ("sum", "prod"):
        return _series(op, args, symbols, log_base)
    if op == "constant":
        return CONSTANTS[args[0]](context())
    if op == "call":
        return Fraction(zlib.crc32(opaque_name(node).encode()) % 10**6 + 3, 2**14)
    if op == "function":
        return _function(args[0], evaluate(args[1], symbols, log_base))
    if op == "log":
        base = evaluate(args[0], symbols, log_base) if args[0] is not None else (log_base or context().e)
        return _log(base, evaluate(args[1], symbols, log_base))
    if op == "matrix":
        raise Unsupported(op)
    if op not in OPERATIONS:
        raise Undefined(f"{op} is no number")
    return OPERATIONS[op](*(evaluate(a, symbols, log_base) for a in args))


def free_symbols(node: Node) -> set[str]:
    """Names that need a value, bound variables of sums left out."""
    if node.op == "symbol":
        return {node.args[0]}
    if node.op in ("sum", "prod"):
        return set().union(*(free_symbols(a) for a in node.args[1:])) - {node.args[0]}
    if node.op == "call":
        return {opaque_name(node)}
    return set().union(*(free_symbols(a) for a in node.args if isinstance(a, Node)))


def finite(value: Any) -> bool:
    return isinstance(value, Fraction) or bool(context().isfinite(value))


def real(value: Any) -> bool:
    return isinstance(value, (Fraction, context().mpf))


def to_float(value: Any) -> Any:
    """Fraction as a 30-digit number, other values as they are."""
    return context().mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def opaque_name(node: Node) -> str:
    """`f(2)` as a name: an unknown function is only known to equal itself."""
    return repr(node)


def _sum(values: list[Any]) -> Any:
    return reduce(lambda a, b: _exact_or_float(operator.add, a, b), values)


def _product(values: list[Any]) -> Any:
    return reduce(lambda a, b: _exact_or_float(operator.mul, a, b), values)


def _exact_or_float(operate: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return _bounded(operate(a, b))
    return operate(to_float(a), to_float(b))


def _bounded(value: Fraction) -> Any:
    bits = value.numerator.bit_length() + value.denominator.bit_length()
    _work.spend(bits)
    return value if bits < MAX_BITS else to_float(value)


def _reciprocal(a: Any) -> Any:
    if not a:
        raise Undefined("division by zero")
    return 1 / a


def _power(base: Any, exponent: Any) -> Any:
    if not base:
        if not real(exponent) or exponent <= 0:
            raise Undefined("a power of zero")
        return Fraction(0)
    if isinstance(exponent, Fraction):
        if abs(exponent) > MAX_EXPONENT:
            raise TooBig(f"an exponent over {MAX_EXPONENT}")
        if isinstance(base, Fraction):
            return _rational_power(base, exponent)
    ctx = context()
    if real(base) and base < 0 and isinstance(exponent, Fraction) and exponent.denominator % 2:
        magnitude = _power(-base, exponent)
        return -magnitude if exponent.numerator % 2 else magnitude
    size = abs(ctx.log(abs(to_float(base)))) * abs(to_float(exponent))
    if not size < MAX_LOG:
        raise TooBig("a power too large to compute")
    return ctx.power(to_float(base), to_float(exponent))


def _rational_power(base: Fraction, exponent: Fraction) -> Any:
    """Exact where the root is; real for odd roots of negative numbers."""
    if exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
        if bits < MAX_BITS:
            _work.spend(bits)
            return base**exponent.numerator
        return context().power(to_float(base), exponent.numerator)
    if base < 0:
        if exponent.denominator % 2 == 0:
            return context().power(to_float(base), to_float(exponent))
        magnitude = _rational_power(-base, exponent)
        return -magnitude if exponent.numerator % 2 else magnitude
    above, below = (_exact_root(part, exponent.denominator) for part in (base.numerator, base.denominator))
    if above is not None and below is not None:
        return _rational_power(Fraction(above, below), Fraction(exponent.numerator))
    return context().power(to_float(base), to_float(exponent))


def _exact_root(value: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(value)
    elif value.bit_length() < 1000:
        root = round(value ** (1 / degree))
    else:
        return None
    return root if degree * root.bit_length() < MAX_BITS and root**degree == value else None


def _log(base: Any, value: Any) -> Any:
    if not value or not base:
        raise Undefined("logarithm of zero")
    ctx = context()
    below = ctx.log(to_float(base))
    if not below:
        raise Undefined("logarithm to base one")
    return ctx.log(to_float(value)) / below


def _factorial(value: Any) -> Any:
    if not isinstance(value, Fraction) or value.denominator != 1 or value < 0:
        raise Unsupported("factorial of something that is no natural number")
    if value > MAX_FACTORIAL:
        raise TooBig(f"a factorial over {MAX_FACTORIAL}!")
    _work.spend(10 * value.numerator)
    return Fraction(math.factorial(value.numerator))


def _binomial(n: Any, k: Any) -> Any:
    if not all(isinstance(v, Fraction) and v.denominator == 1 and v >= 0 for v in (n, k)):
        raise Unsupported("binomial of something that is no natural number")
    if n > MAX_FACTORIAL:
        raise TooBig("a binomial of a large number")
    _work.spend(10 * n.numerator)
    return Fraction(math.comb(n.numerator, k.numerator))


def _series(op: str, args: tuple[Any, ...], symbols: Mapping[str, Fraction], log_base: int | None) -> Any:
    variable, low, high, body = args
    first, last = (evaluate(a, symbols, log_base) for a in (low, high))
    if free_symbols(low) | free_symbols(high) or variable in "".join(free_symbols(body) - {variable}):
        raise Unsupported("a sum with symbolic bounds or indices")
    if not all(isinstance(bound, Fraction) and bound.denominator == 1 for bound in (first, last)):
        raise Unsupported("a sum without whole bounds")
    if last - first >= MAX_TERMS:
        raise TooBig(f"a sum of over {MAX_TERMS} terms")
    terms = [evaluate(body, {**symbols, variable: Fraction(k)}, log_base) for k in range(int(first), int(last) + 1)]
    if not terms:
        return Fraction(op == "prod")
    return _sum(terms) if op == "sum" else _product(terms)


def _function(name: str, value: Any) -> Any:
    ctx = context()
    if name in ("floor", "ceil", "sgn"):
        return _step(name, value)
    if name == "abs":
        return abs(value)
    if name == "cbrt":
        return _power(value, Fraction(1, 3))
    number = to_float(value)
    if abs(number) > (MAX_LOG if name in ("exp", "sinh", "cosh", "tanh") else 1e12):
        raise TooBig(f"{name} of a large number")
    if name not in FUNCTIONS:
        raise Unsupported(name)
    return FUNCTIONS[name](ctx, number)


def _step(name: str, value: Any) -> Fraction:
    if not real(value) or not finite(value):
        raise Undefined(f"{name} of a complex number")
    if name == "sgn":
        return Fraction((value > 0) - (value < 0))
    if abs(value) > 1e30:
        raise TooBig(f"{name} of a large number")
    return Fraction(math.floor(value) if name == "floor" else math.ceil(value))


CONSTANTS = {
    "pi": lambda ctx: +ctx.pi,
    "e": lambda ctx: +ctx.e,
    "i": lambda ctx: ctx.mpc(0, 1),
    "inf": lambda ctx: ctx.inf,
}
FUNCTIONS = {
    "sin": lambda ctx, x: ctx.sin(x),
    "cos": lambda ctx, x: ctx.cos(x),
    "tan": lambda ctx, x: ctx.tan(x),
    "cot": lambda ctx, x: _reciprocal(ctx.tan(x)),
    "sec": lambda ctx, x: _reciprocal(ctx.cos(x)),
    "csc": lambda ctx, x: _reciprocal(ctx.sin(x)),
    "sinh": lambda ctx, x: ctx.sinh(x),
    "cosh": lambda ctx, x: ctx.cosh(x),
    "tanh": lambda ctx, x: ctx.tanh(x),
    "arcsin": lambda ctx, x: ctx.asin(x),
    "arccos": lambda ctx, x: ctx.acos(x),
    "arctan": lambda ctx, x: ctx.atan(x),
    "exp": lambda ctx, x: ctx.exp(x),
}
OPERATIONS = {
    "neg": lambda a: -a,
    "/": lambda a, b: _product([a, _reciprocal(b)]),
    "reciprocal": _reciprocal,
    "^": _power,
    "root": lambda degree, value: _power(value, _reciprocal(degree)),
    "abs": abs,
    "factorial": _factorial,
    "binom": _binomial,
    "percent": lambda a: a / 100,
    "degree": lambda a: to_float(a) * context().pi / 180,
}
