"""Equality of two free answers as VLMEvalKit's MathVision rules have it, without evaluation of text.

Equal texts; else both as Python arithmetic, and closer than a millionth; else both as LaTeX (there latex2sympy2_extended,
printed and evaluated where no name is known), and closer than a millionth. So `\\frac{4}{5}` equals 0.8, and `2\\sqrt{3}` equals
nothing but itself, since `sqrt` and `pi` are names. Unlike in MATH-V's own scorer all of a text must be understood, a degree
sign is dropped, a percent is a hundredth, and neighbours that are plain numbers add up: `2\\frac{1}{2}` is two and a half.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import islice

from seethink.evals.rules.mathv_numbers import ERRORS, NoNumber, Number, bounded, power
from seethink.evals.rules.mathv_value import LatexReader
from seethink.rewards.text import closing_brace

CLOSE = 1e-6
LONGEST = 300
"""Characters of an answer that may be arithmetic."""
_ARITHMETIC = re.compile(r"[0-9 \t.+\-*/()e_]+\Z")
_OPERATIONS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Pow: power,
}  # fmt: skip
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
BOXES, BOXED = 10, 20_000
"""Boxes in a text, and characters of a text in which boxes are looked for."""
_DROPPED = re.compile(
    r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\[()]|\\?\$|\\m?(?:left|right)(?![a-z])"
    r"|\\(?:text|mathrm|mathbf|mathit|textbf|textit)(?=\{[0-9.]+\})"
    r"|(?<=[0-9])_(?:[0-9]|\{[0-9]+\})"
)
_PERCENT = re.compile(r"\\?%")


def is_equal(answer: str, gold: str) -> bool:
    """Whether the texts are equal, or the numbers that they say. Raises OverBudget where these are too large."""
    answer, gold = answer.lower().strip(), gold.lower().strip()
    if answer == gold:
        return True
    return any(_close(read, answer, gold) for read in (arithmetic, latex))


def _close(read: Callable[[str], Number], answer: str, gold: str) -> bool:
    try:
        return abs(read(gold) - read(answer)) < CLOSE
    except (NoNumber, *ERRORS):
        return False


def arithmetic(text: str) -> Number:
    """What Python makes of numbers, + - * / // ** and brackets. Raises NoNumber or OverBudget, or an arithmetic error."""
    if len(text) > LONGEST or not _ARITHMETIC.match(text):
        raise NoNumber
    try:
        tree = ast.parse(text, mode="eval")  # the tree alone: nothing of it is run
    except (SyntaxError, MemoryError, RecursionError):
        raise NoNumber from None
    return _worked_out(tree.body)


def _worked_out(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            return -_worked_out(operand) if isinstance(sign, ast.USub) else _worked_out(operand)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
            return bounded(_OPERATIONS[type(sign)](_worked_out(left), _worked_out(right)))
    raise NoNumber


def latex(text: str) -> Number:
    """The number in a piece of LaTeX, in its box where it has one, that names no function and no constant. Raises as `arithmetic`."""
    text = _boxed(text)
    if len(text) > LONGEST or text.lstrip("$ ").startswith("{"):  # a brace opens a set
        raise NoNumber
    text = _DROPPED.sub("", text)
    return _Whole(_PERCENT.sub("*(1/100)", text)).whole()


def _boxed(text: str) -> str:
    """What the boxes hold, if all hold the same; the text where there is none."""
    boxes = [box.end() for box in islice(_BOX.finditer(text), BOXES + 1)] if len(text) <= BOXED else []
    if len(boxes) > BOXES:
        raise NoNumber
    ends = [closing_brace(text, start) for start in boxes]
    held = {text[start + 1 : end].strip() for start, end in zip(boxes, ends, strict=True)}
    if len(held) > 1 or -1 in ends:
        raise NoNumber
    return held.pop() if held else text


class _Whole(LatexReader):
    """Knows numbers, signs, fractions and powers, and wants all of the text. A Fraction here is what sympy holds as one number: a
    whole number or a quotient of two, which adds up with a whole number before it; sums and products are int or float."""

    def whole(self) -> Number:
        found = _plain(self.sum())
        if self.sign != "end":
            raise NoNumber
        return found

    def literal(self, digits: str, whole: str, decimals: str) -> Number:
        return float(digits) if "." in digits else Fraction(int(digits))

    def named(self, number: Number) -> Number:
        raise NoNumber

    def plus(self, left: Number, right: Number) -> Number:
        return _plain(left) + _plain(right)

    def times(self, left: Number, right: Number) -> Number:
        return _plain(left) * _plain(right)

    def over(self, above: Number, below: Number) -> Number:
        if isinstance(above, Fraction) and isinstance(below, Fraction) and above.denominator == below.denominator == 1:
            return above / below
        return _plain(above) / _plain(below)

    def raised(self, base: Number, exponent: Number) -> Number:
        return power(_plain(base), _plain(exponent))

    def together(self, factors: list[Number]) -> Number:
        found = factors[-1]
        for factor in reversed(factors[:-1]):
            if isinstance(factor, Fraction) and factor.denominator == 1 and isinstance(found, Fraction) and found > 0:
                found = factor - found if factor < 0 else factor + found
            else:
                found = bounded(self.times(factor, found))
        return found


def _plain(number: Number) -> Number:
    """As Python evaluates what sympy prints."""
    if not isinstance(number, Fraction):
        return number
    return number.numerator if number.denominator == 1 else number.numerator / number.denominator
