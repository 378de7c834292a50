"""Restating the question: a formula that is handed back earns nothing, one that is worked out does."""

from __future__ import annotations

import pytest

from seethink.core.nouns import Sample
from seethink.core.tags import compose
from seethink.rewards import score

# question, gold, answer, reward
CASES = [
    ('Find $\\sum_{k=1}^{100} k$.', '5050', '\\sum_{k=1}^{100} k', 0),
    ('Find $\\sum_{k=1}^{100} k$.', '5050', '5050', 1),
    ('Compute 55×1212 - 15×1212.', '48480', '55\\times1212-15\\times1212', 0),
    ('Compute 55×1212 - 15×1212.', '48480', '55*1212-15*1212', 0),
    ('Compute 55×1212 - 15×1212 = ?', '48480', '-15*1212+55*1212', 0),
    ('Compute 55×1212 - 15×1212.', '48480', '40*1212', 1),
    ('What is 12 + 30?', '42', '12+30', 0),
    ('What is 12 + 30?', '42', '12+30=42', 1),
    ('What is 12 + 30?', '42', '42', 1),
    ('Solve $3x-7=2x+5$.', 'x=12', '3x-7=2x+5', 0),
    ('Solve $3x-7=2x+5$.', '12', '3x-7=2x+5', 0),
    ('Solve $3x-7=2x+5$.', 'x=12', 'x-12=0', 0),
    ('Solve $3x-7=2x+5$.', 'x=12', '2x+5=3x-7', 0),
    ('Solve $3x-7=2x+5$.', 'x=12', '3x-2x=5+7', 0),
    ('Solve $3x-7=2x+5$.', 'x=12', 'x=12', 1),
    ('Solve $3x-7=2x+5$.', 'x=12', '12', 1),
    ('Solve $3x-7=2x+5$.', 'x=12', '12=x', 1),
    ('Solve $2x+4>8$.', 'x>2', '2x+4>8', 0),
    ('Solve $2x+4>8$.', 'x>2', '2x>4', 0),
    ('Solve $2x+4>8$.', 'x>2', '(2,\\infty)', 1),
    ('Solve $2x+4>8$.', 'x>2', '2<x', 1),
    ('Solve $2x+4>8$.', '(2,\\infty)', '2x+4>8', 0),
    ('Solve $|x-3|<2$.', '1<x<5', '|x-3|<2', 0),
    ('Simplify $\\frac{x^2-1}{x-1}$.', 'x+1', '\\frac{x^2-1}{x-1}', 0),
    ('Simplify $\\frac{x^2-1}{x-1}$.', 'x+1', '(x^2-1)/(x-1)', 0),
    ('Simplify $\\frac{x^2-1}{x-1}$.', 'x+1', '1+x', 1),
    ('Factor $x^2-5x+6$.', '(x-2)(x-3)', 'x^2-5x+6', 0),
    ('Factor $x^2-5x+6$.', '(x-2)(x-3)', '(x-3)(x-2)', 1),
    ('Find y: the graph of $y=2x$ moves up by one.', 'y=2x+1', '2x+1', 1),
    ('Find y: the graph of $y=2x$ moves up by one.', 'y=2x+1', '1+2x', 1),
    ('Is $y=x^2$ or $y=x^3$ the curve shown?', 'y=x^2', 'y=x^2', 1),
    ('Is $y=x^2$ or $y=x^3$ the curve shown?', 'y=x^2', 'x^2', 1),
    ('Is $y=x^2$ or $y=x^3$ the curve shown?', 'y=x^2', 'y = x*x', 1),
    ('x+3=6. What is x?', 'x=3', '3', 1),
    ('x+3=6. What is x?', '3', '3', 1),
    ('Evaluate \\(\\int_0^1 2x dx\\)', '1', '\\int_0^1 2x dx', 0),
    ('Evaluate \\(\\int_0^1 2x dx\\)', '1', '\\int_0^1 2x\\,dx', 0),
    ('What percentage passed?', '25', '25%', 1),
    ('How many passed?', '25', '25%', 0),
    ('What percentage passed?', '0.25', '25%', 1),
    ('What percentage passed?', '30', '25%', 0),
    ('A line through (0,1) with slope 2. Its equation?', 'y=2x+1', '2x-y+1=0', 1),
    ('如图,求 $3+4\\times 5$ 的值', '23', '3+4\\times5', 0),
    ('如图,求3+4×5的值', '23', '3+4×5', 0),
    ('Solve x+y=3, x-y=-1.', 'x=1, y=2', 'x+y=3, x-y=-1', 0),
    ('Write \\frac{6}{8} in lowest terms.', '\\frac{3}{4}', '\\frac{6}{8}', 0),
    ('Write 6/8 in lowest terms.', '\\frac{3}{4}', '\\frac{6}{8}', 0),
    ('Write 6/8 in lowest terms.', '\\frac{3}{4}', '3/4', 1),
    ('Which is larger, 3/4 or 2/3?', '\\frac{3}{4}', '3/4', 1),
    ('Which is larger, 3/4 or 2/3?', '0.75', '3/4', 0),
    ('Simplify $\\sqrt{50}$', '5\\sqrt{2}', '\\sqrt{50}', 0),
    ('Simplify √50', '5\\sqrt{2}', '\\sqrt{50}', 0),
    ('Find \\sin 30^\\circ.', '\\frac12', '\\sin 30^\\circ', 0),
    ('Find m+n if ...', '293', 'm+n=293', 1),
    ('Evaluate 2^10.', '1024', '2^{10}', 0),
    ('Evaluate (3+4)(5).', '35', '(3+4)5', 0),
    ('Compute 17*23', '391', '17 \\cdot 23', 0),
    ('Compute $17 \\times 23 = \\_\\_$', '391', '17 \\cdot 23', 0),
    ('Compute 17·23=____', '391', '17*23', 0),
    ('The circle x^2+y^2=25 has radius?', '5', '\\sqrt{25}', 1),
]  # fmt: skip


@pytest.mark.parametrize(("question", "gold", "answer", "expected"), CASES)
def test_only_work_is_paid(question, gold, answer, expected):
    assert score(Sample("a", "", (), question, gold, "math"), compose("", answer)).value == expected


@pytest.mark.parametrize("answer", ["3x-7=2x+5", "x-12=0"])
def test_without_a_question_nothing_is_restated(answer):
    assert score(Sample("a", "", (), "", "x=12", "math"), compose("", answer)).value == 1
