"""The number that MATH-V's scorer sees in a piece of LaTeX, without sympy and without evaluation of text.

MATH-V turns LaTeX into a sympy expression (latex2sympy2 1.9.1), prints it and has Python evaluate the print. What survives
that is arithmetic on real numbers: a letter, an absolute value, a set, a natural logarithm end in an error, so the answer counts
as no number. So this is a reader of arithmetic alone, with the same grammar (facts read from the tables of that parser):

* it reads the longest leading part that it understands and stops at a sign that cannot follow there (a closing bracket without
  its opening one, a full stop, an underscore after a number, the words `tr`, `ones`, `rows` ... which are names of functions);
* `a:b`, `a/b`, `a \\div b` bind alike, from the left; neighbours multiply; `-2^2` is -4; `2\\frac{1}{2}` is one, not two and a half;
* integers stay integers and a quotient is a float, which tells `2` from `2.0` in tuples;
* (n)_{k} is the falling factorial n!/(n-k)!; e alone is no number, e^2 is; \\log has base 10, \\ln is no number.

`\\gcd`, `\\lcm` and `\\operatorname`, which the original works out too, are no numbers here. Text is lower case; lengths, nesting and
numbers are bounded.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

from seethink.evals.rules.mathv_numbers import (
    ERRORS,
    NoNumber,
    Number,
    OverBudget,
    binomial,
    bounded,
    factorial,
    power,
)

TOKENS = 1_000
"""Of a text, at most."""
DEPTH = 40
"""Brackets within brackets, at most."""
DIGITS = 4_300
"""Of a number, as Python itself allows."""

_INVERSE: dict[str, Callable[[Number], Number]] = {
    "sin": math.asin, "cos": math.acos, "tan": math.atan, "sinh": math.asinh, "cosh": math.acosh, "tanh": math.atanh,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    **{f"arc{name}": function for name, function in _INVERSE.items()},
    "arsinh": math.asinh, "arcosh": math.acosh, "artanh": math.atanh, "floor": math.floor,
}  # fmt: skip
_CLOSING = {
    "(": ")", "{": "}", "[": "]", "\\{": "\\}", "\\lbrace": "\\rbrace", "\\lbrack": "\\rbrack", "\\lgroup": "\\rgroup",
    "\\lfloor": "\\rfloor", "\\llcorner": "\\lrcorner",
}  # fmt: skip
_SIDES = {"\\left": "\\right", "\\mleft": "\\mright"}
_TIMES = ("*", "\\times", "\\cdot")
_OVER = ("/", ":", "\\div", "\\over")
_LESS, _LESS_OR_EQUAL, _MORE = ("<",), ("\\le", "\\leq", "\\leqslant"), (">",)
_MORE_OR_EQUAL = ("\\ge", "\\geq", "\\geqslant")
_COMPARED = {
    **dict.fromkeys(_LESS, operator.lt), **dict.fromkeys(_LESS_OR_EQUAL, operator.le),
    **dict.fromkeys(_MORE, operator.gt), **dict.fromkeys(_MORE_OR_EQUAL, operator.ge),
}  # fmt: skip
_CHOICES = ("\\binom", "\\tbinom", "\\dbinom")
_FACTORS = {"number", "\\pi", "\\frac", *_CHOICES, *_CLOSING, *_SIDES}
"""Signs that begin a factor anywhere; those of functions do after a function with brackets only."""
_CALLS = {"e", "\\sqrt", "\\log", "\\exp", *(f"\\{name}" for name in _FUNCTIONS)}
_NAMES = """
    arsinh arcsinh arcosh arccosh artanh arctanh gcd lcm floor ceil eye zeros ones cols rows diag norm rank trace tr rref hstack
    vstack orth ortho orthogonal orthogonalize nullspace eig eigen diagonalize eigenvals eigenvalues eigenvects eigenvectors svd
    matrix pmatrix bmatrix vmatrix
"""
_AFTER = r"""
    \rvert \rceil \urcorner \to \rightarrow \longrightarrow \leftrightarrow \xrightarrow \choose . _ & \\ <-> <=>
"""
_ENDS = {*_CLOSING.values(), *_SIDES.values(), *_NAMES.split(), *_AFTER.split()}
"""Signs that can follow no complete expression: there the part that is read ends."""
_LONGER = r"\overline \overrightarrow \begin \equiv == != !=="
"""Signs that make a text no number, and begin with one that does not."""
_SIGNS = {*_ENDS, *_FACTORS, *_CALLS, *_TIMES, *_OVER, *_COMPARED, *_LONGER.split(), "+", "-", "^", "!", "'", "="} - {
    "number"
}
_NUMBER = r"(?:[0-9]*(?:,[0-9]{3})*\.[0-9]+|[0-9]+(?:,[0-9]{3})*)(?:\\%)?"
_SIGN = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
_TOKEN = re.compile(rf"(?:[ \t\r\n]|\\\$)*(?:(?P<number>{_NUMBER})|(?P<sign>{_SIGN})|(?P<end>\Z))")
_LETTER = re.compile(r"[ \t\r\n]*[a-df-z](?:_(?:[a-z0-9]|\{[a-z0-9, ]*\}))?[ \t\r\n]*=(?!=)")
_FALLING = re.compile(r"\(([a-z0-9+\-*/\\ ]+)\)_\{([a-z0-9+\-*/\\ ]+)\}")
_REPLACED = (
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\mathrm{d}", "d"), ("{\\rm d}", "d"),
)  # fmt: skip
_BLANKS = ("\\displaystyle", "\\quad", "\\qquad", "~", "\\,", "$")


def value(text: str) -> Number:
    """The number, rounded to two decimals. Raises NoNumber or OverBudget."""
    for old, new in _REPLACED:
        text = text.replace(old, new)
    text = _FALLING.sub(r"\\frac{(\1)!}{((\1)-(\2))!}", text)
    for blank in _BLANKS:
        text = text.replace(blank, " ")
    while letter := _LETTER.match(text):  # what a letter is set to
        text = text[letter.end() :]
    try:
        return round(LatexReader(text).relation(), 2)
    except ERRORS:
        raise NoNumber from None


class LatexReader:
    """Recursive descent over tokens that are made one ahead, so that nothing behind the part that is read matters."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.count, self.depth = text, 0, 0, 0
        self.sign, self.digits = "", ""
        self.next()

    def next(self) -> None:
        """The next token: its sign, or "number" with the digits, or "end"."""
        self.count += 1
        if self.count > TOKENS:
            raise OverBudget
        found = _TOKEN.match(self.text, self.at)
        if not found:
            raise NoNumber
        self.at = found.end()
        kind = str(found.lastgroup)
        self.sign = found[kind] if kind == "sign" else kind
        self.digits = found[kind] if kind == "number" else ""

    def take(self, sign: str) -> None:
        if self.sign != sign:
            raise NoNumber
        self.next()

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEPTH:
            raise OverBudget

    # -- sums and products

    def relation(self) -> Number:
        """A sum, or a comparison of two, which is 1 or 0."""
        left = self.sum()
        if compared := _COMPARED.get(self.sign):
            self.next()
            left = int(compared(left, self.sum()))
        if self.sign not in _ENDS and self.sign not in ("^", "end"):  # a power after 5! cannot follow
            raise NoNumber
        return left

    def sum(self) -> Number:
        found = self.product()
        while self.sign in ("+", "-"):
            sign = self.sign
            self.next()
            right = self.product()
            found = bounded(self.plus(found, right if sign == "+" else -right))
        return found

    def product(self, functions: bool = True) -> Number:
        found = self.signed(functions)
        while self.sign in _TIMES or self.sign in _OVER:
            combined = self.times if self.sign in _TIMES else self.over
            self.next()
            found = bounded(combined(found, self.signed(functions)))
        return found

    def signed(self, functions: bool = True) -> Number:
        """Signs and the neighbours after them, which multiply; after a function without brackets only the first may be another."""
        negative = False
        while self.sign in ("+", "-"):
            negative ^= self.sign == "-"
            self.next()
        factors = [self.postfix()]
        while self.sign in _FACTORS or (functions and self.sign in _CALLS):
            factors.append(self.postfix())
        found = self.together(factors)
        return -found if negative else found

    # -- what another reader may see otherwise

    def literal(self, digits: str, whole: str, decimals: str) -> Number:
        """2.0 is an integer, since sympy has fractions for decimals."""
        return float(digits) if decimals.strip("0") else int(whole or "0")

    def named(self, number: Number) -> Number:
        """The value of a function or a constant."""
        return number

    def plus(self, left: Number, right: Number) -> Number:
        return left + right

    def times(self, left: Number, right: Number) -> Number:
        return left * right

    def over(self, above: Number, below: Number) -> Number:
        return above / below

    def raised(self, base: Number, exponent: Number) -> Number:
        return power(base, exponent)

    def together(self, factors: list[Number]) -> Number:
        """Neighbours without a sign between them."""
        found = factors[0]
        for factor in factors[1:]:
            found = bounded(found * factor)
        return found

    # -- factors

    def postfix(self) -> Number:
        found = self.atom()
        while self.sign == "^":
            self.next()
            found = self.raised(found, self.exponent())
            if self.sign == "_":  # read and ignored
                self.next()
                self.exponent()
        while self.sign in ("!", "'"):
            found = self.named(factorial(found)) if self.sign == "!" else found
            self.next()
        return found

    def exponent(self) -> Number:
        """What stands raised or lowered: a number, pi or a braced sum."""
        if self.sign == "{":
            return self.group()
        if self.sign not in ("number", "\\pi"):
            raise NoNumber
        return self.atom()

    def atom(self) -> Number:
        sign = self.sign
        if sign == "number":
            return self.number()
        if sign in _CLOSING or sign in _SIDES:
            return self.group()
        if sign in _CALLS:
            return self.named(self.function())
        if sign not in _FACTORS:
            raise NoNumber
        self.next()
        if sign == "\\pi":
            return self.named(math.pi)
        above, below = self.braced(), self.braced()
        return binomial(above, below) if sign in _CHOICES else bounded(self.over(above, below))

    def number(self) -> Number:
        digits = self.digits.replace(",", "")
        self.next()
        bare = digits.removesuffix("\\%")
        whole, _, decimals = bare.partition(".")
        if len(bare) > DIGITS:
            raise NoNumber
        found = self.literal(bare, whole, decimals)
        if found == math.inf:
            raise NoNumber
        return found if bare == digits else found / 100

    def braced(self) -> Number:
        if self.sign != "{":
            raise NoNumber
        return self.group()

    def group(self) -> Number:
        """A bracketed sum; with \\left before, \\right behind; in floor signs the integer below; {n \\choose k}."""
        self.deeper()
        side = _SIDES.get(self.sign)
        if side:
            self.next()
        opening = self.sign
        closing = _CLOSING.get(opening)
        if not closing:
            raise NoNumber
        self.next()
        found = self.sum()
        if opening == "{" and self.sign == "\\choose":
            self.next()
            found = binomial(found, self.sum())
        if side:
            self.take(side)
        self.take(closing)
        self.depth -= 1
        return math.floor(found) if opening in ("\\lfloor", "\\llcorner") else found

    # -- functions

    def function(self) -> Number:
        name = self.sign.removeprefix("\\")
        if name == "sqrt":
            return self.root()
        if name == "e":
            self.next()
            self.take("^")
            exponent = self.exponent()
            if self.sign == "_":  # belongs to the power of a bare e
                raise NoNumber
            return self.exponential(exponent)
        self.next()
        base, raised = None, None
        for _ in range(2):
            if self.sign == "_" and base is None:
                self.next()
                base = self.exponent()
            elif self.sign == "^" and raised is None:
                self.next()
                raised = self.exponent()
        argument = self.argument()
        if name == "log":
            found = math.log(argument, 10 if base is None else base)
        elif name == "exp":
            found = self.exponential(argument)
        elif raised == -1 and name in _INVERSE:
            return _INVERSE[name](argument)
        else:
            found = _FUNCTIONS[name](argument)
        return power(found, raised) if raised else found

    def argument(self) -> Number:
        """In brackets, or the product that follows."""
        if self.sign == "(" or self.sign in _SIDES:
            return self.group()
        self.deeper()
        found = self.product(functions=False)
        self.depth -= 1
        return found

    def exponential(self, exponent: Number) -> Number:
        """e ** exponent; e itself is printed as a name that the scorer does not know."""
        if exponent == 1:
            raise NoNumber
        return 1 if exponent == 0 else math.exp(exponent)

    def root(self) -> Number:
        self.next()
        degree: Number = 2
        if self.sign == "[":
            degree = self.group()
        found = self.braced()
        return math.sqrt(found) if degree == 2 else power(found, 1 / degree)
