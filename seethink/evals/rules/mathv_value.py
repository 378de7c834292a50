"""The number that MATH-V's scorer sees in a piece of LaTeX, without sympy and without evaluation of text.

MATH-V turns LaTeX into a sympy expression (latex2sympy2 1.9.1), prints it and has Python evaluate the print. What survives
that is arithmetic on real numbers: a letter, an absolute value, a set, a natural logarithm end in an error, so the answer counts
as no number. So this is a reader of arithmetic alone, with the same grammar (facts read from the tables of that parser):

* it reads the longest leading part that it understands and stops at a sign that cannot follow there (a closing bracket without
  its opening one, a full stop, an underscore after a number, the words `tr`, `ones`, `rows` ... which are names of functions);
* `a:b`, `a/b`, `a \\div b` bind alike, from the left; neighbours multiply; `-2^2` is -4; `2\\frac{1}{2}` is one, not two and a half;
* integers stay integers and a quotient is a float, which tells `2` from `2.0` in tuples;
* (n)_{k} is the falling factorial n!/(n-k)!; e alone is no number, e^2 is; \\log has base 10, \\ln is no number.

Text is lower case. Lengths, nesting and numbers are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

TOKENS = 1_000
DEPTH = 40
BITS = 200_000
FACTORIAL = 5_000
DIGITS = 4_300  # of an integer, as Python itself allows


class NoNumber(Exception):
    """The text is no number to MATH-V's scorer."""


class OverBudget(Exception):
    """It may be one, but too large or too deep to be worked out."""


Number = int | float | Fraction

ERRORS = (ValueError, TypeError, ZeroDivisionError, OverflowError)
_FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    name: function
    for names, function in {
        "sin": math.sin, "cos": math.cos, "tan": math.tan,
        "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan,
        "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
        "arsinh arcsinh": math.asinh, "arcosh arccosh": math.acosh, "artanh arctanh": math.atanh,
        "floor": math.floor,
    }.items()
    for name in names.split()
}  # fmt: skip
_INVERSE = {"sin": math.asin, "cos": math.acos, "tan": math.atan}
_INVERSE |= {"sinh": math.asinh, "cosh": math.acosh, "tanh": math.atanh}
_CLOSING = {
    "(": ")", "{": "}", "[": "]", "\\{": "\\}", "\\lbrace": "\\rbrace", "\\lbrack": "\\rbrack", "\\lgroup": "\\rgroup",
    "\\lfloor": "\\rfloor", "\\llcorner": "\\lrcorner",
}  # fmt: skip
_SIDES = {"\\left": "\\right", "\\mleft": "\\mright"}
_OPERATORS = "* / : \\over \\times \\cdot \\div".split()
_RELATIONS = "< > \\le \\leq \\leqslant \\ge \\geq \\geqslant".split()
_NAMES = (  # of functions; without a command before them they can follow nothing
    "arsinh arcsinh arcosh arccosh artanh arctanh gcd lcm floor ceil eye zeros ones cols rows diag norm rank trace tr rref hstack "
    "vstack orth ortho orthogonal orthogonalize nullspace eig eigen diagonalize eigenvals eigenvalues eigenvects eigenvectors svd "
    "matrix pmatrix bmatrix vmatrix"
).split()
_ENDS = (  # signs that can follow no complete expression
    *_CLOSING.values(), *_SIDES.values(), *_NAMES, *"\\rvert \\rceil \\urcorner \\to \\rightarrow \\longrightarrow".split(),
    *"\\leftrightarrow \\xrightarrow \\choose . _ & \\\\ <-> <=>".split(),
)  # fmt: skip
_REFUSED = "\\overline \\overrightarrow == != !== \\begin \\equiv".split()  # longer than a sign that they begin with
_SIGNS = sorted(
    {
        *_ENDS, *_CLOSING, *_SIDES, *_OPERATORS, *_RELATIONS, *_REFUSED, *(f"\\{name}" for name in _FUNCTIONS),
        *"+ - ^ ! ' = e \\pi \\frac \\binom \\tbinom \\dbinom \\sqrt \\log \\exp".split(),
    },
    key=len,
    reverse=True,
)  # fmt: skip
_NUMBER = r"[0-9]*(?:,[0-9]{3})*\.[0-9]+|[0-9]+(?:,[0-9]{3})*"
_TOKEN = re.compile(rf"(?:[ \t\r\n]+|\\\$)*(?:(?P<number>(?:{_NUMBER})(?:\\%)?)|(?P<sign>{'|'.join(map(re.escape, _SIGNS))})|(?P<end>\Z))")
_LETTER = re.compile(r"[ \t\r\n]*[a-df-z](?:_(?:[a-z0-9]|\{[a-z0-9, ]*\}))?[ \t\r\n]*=(?!=)")
_FALLING = re.compile(r"\(([a-z0-9+\-*/\\ ]+)\)_\{([a-z0-9+\-*/\\ ]+)\}")
_BLANKS = ("\\displaystyle", "\\quad", "\\qquad", "~", "\\,", "$")


def value(text: str) -> Number:
    """The number, rounded to two decimals. Raises NoNumber or OverBudget."""
    for old, new in (("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\mathrm{d}", "d"), ("{\\rm d}", "d")):
        text = text.replace(old, new)
    text = _FALLING.sub(r"\\frac{(\1)!}{((\1)-(\2))!}", text)
    for blank in _BLANKS:
        text = text.replace(blank, " ")
    try:
        return round(Reader(text).relation(), 2)
    except ERRORS:
        raise NoNumber from None


def bounded(number: Number | complex) -> Number:
    """The number itself. Raises NoNumber for complex ones, OverBudget for integers that are too long."""
    if isinstance(number, complex):
        raise NoNumber
    if isinstance(number, int) and number.bit_length() > BITS:
        raise OverBudget
    return number


def power(base: Number, exponent: Number) -> Number:
    """base ** exponent; an integer that would be too long is not worked out. Raises OverBudget."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > BITS and abs(base) > 1:
        raise OverBudget
    return bounded(base**exponent)


def factorial(number: Number) -> int:
    """number!, of integers alone. Raises OverBudget."""
    if isinstance(number, int) and number > FACTORIAL:
        raise OverBudget
    return math.factorial(number)  # type: ignore[arg-type]


def binomial(n: Number, k: Number) -> Number:
    """n over k by the falling factorial, as sympy has it for an integer k."""
    if not isinstance(k, int):
        raise NoNumber
    if abs(k) > FACTORIAL:
        raise OverBudget
    if isinstance(n, int) and n >= 0:
        return math.comb(n, k) if k >= 0 else 0
    found = math.prod(n - i for i in range(k)) if k >= 0 else 0
    return bounded(found / math.factorial(max(k, 0)) if isinstance(n, float) else found // math.factorial(max(k, 0)))


class Reader:
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

    # -- sums and products

    def relation(self) -> Number:
        """A sum, or a comparison of two, which is 1 or 0; what a letter is set to."""
        start = 0
        while letter := _LETTER.match(self.text, start):
            start = letter.end()
        if start:
            self.at = start
            self.next()
        left = self.sum()
        if self.sign in _RELATIONS:
            sign = self.sign
            self.next()
            right = self.sum()
            less, or_equal = sign[0] == "<" or sign[1:2] == "l", len(sign) > 1
            left = int(left == right and or_equal or (left < right if less else left > right))
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
        while self.sign in _OPERATORS:
            combined = self.times if self.sign in ("*", "\\times", "\\cdot") else self.over
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
        while self.starts(functions):
            factors.append(self.postfix())
        found = self.together(factors)
        return -found if negative else found

    def starts(self, functions: bool) -> bool:
        """Whether the sign can begin a factor."""
        if self.sign in ("number", "\\pi", "\\frac") or self.sign in _CLOSING or self.sign in _SIDES or "binom" in self.sign:
            return True
        return self.sign in ("e", "\\sqrt", "\\log", "\\exp") or self.sign[1:] in _FUNCTIONS if functions else False

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
        found = self.atom(functions=True)
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
        return self.group() if self.sign == "{" else self.atom(functions=False, groups=False)

    def atom(self, functions: bool, groups: bool = True) -> Number:
        sign = self.sign
        if sign == "number":
            return self.number()
        if sign == "\\pi":
            self.next()
            return self.named(math.pi)
        if groups and (sign in _CLOSING or sign in _SIDES):
            return self.group()
        if groups and (sign == "\\frac" or "binom" in sign):
            self.next()
            above, below = self.braced(), self.braced()
            return bounded(self.over(above, below)) if sign == "\\frac" else binomial(above, below)
        if functions:
            return self.named(self.function())
        raise NoNumber

    def number(self) -> Number:
        digits = self.digits.replace(",", "")
        self.next()
        bare = digits.removesuffix("\\%")
        whole, _, decimals = bare.partition(".")
        if len(bare) > DIGITS:
            raise NoNumber
        found = self.literal(bare, whole, decimals)
        return found if bare == digits else found / 100

    def braced(self) -> Number:
        if self.sign != "{":
            raise NoNumber
        return self.group()

    def group(self) -> Number:
        """A bracketed sum; with \\left before, \\right behind; in floor signs the integer below; {n \\choose k}."""
        self.depth += 1
        if self.depth > DEPTH:
            raise OverBudget
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
            return self.exponential(self.exponent())
        if name not in _FUNCTIONS and name not in ("log", "exp"):
            raise NoNumber
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
        return self.nested(lambda: self.product(functions=False))

    def nested(self, read: Callable[[], Number]) -> Number:
        self.depth += 1
        if self.depth > DEPTH:
            raise OverBudget
        found = read()
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
