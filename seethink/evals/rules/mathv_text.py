"""From a response to the answer that MATH-V's scorer takes from it, and when it calls two answers equal.

The steps are those of the authors' evaluate.py and utils.py, oddities included, since published numbers carry them. Every step
is a search or a replacement of fixed strings, linear in the length of the response.
"""

from __future__ import annotations

from seethink.evals.rules.mathv_numbers import NoNumber, OverBudget
from seethink.evals.rules.mathv_value import value

ELEMENTS = 300
"""Of a tuple, at most."""
_PHRASES = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
_LETTERS = "ABCDE"
_BOX = "oxed{"
_DEGREES = (("^{\\circ}", ""), ("^\\circ", ""))
_CLEANED = (
    (" ", ""), ("\\,", ""), ("∞", "\\infty"), ("+\\infty", "\\infty"), ("\\\\", "\\"), ("\n", ""), ("\\text", ""), ("\\mbox", ""),
    ("bmatrix", "pmatrix"), ("\\left", ""), ("\\right", ""), *_DEGREES, ("{m}^3", ""), ("m^3", ""), ("{units}", ""), ("units", ""),
    ("{km}", ""), ("km", ""),
)  # fmt: skip
_STRIPPED = (
    ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""), *_DEGREES,
    ("\\$", ""), ("$", ""),
)  # fmt: skip
_BRACKETED = tuple((f"({c})", c) for c in "abcde") + tuple((f"{{{c}}}", c) for c in "abcde")


def answer_in(response: str) -> str:
    """The answer, cleaned and in lower case; "" where nothing is left."""
    text = response.strip()
    for letter in _LETTERS:
        starts = (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if text.endswith((f" {letter}.", f" ({letter}).")) or text.startswith(starts):
            text = letter
    tail = text.rpartition("is ")[2].rstrip(".")
    if _is_float(tail):
        text = tail
    if _BOX not in text:
        for phrase in _PHRASES:
            for said in (phrase, phrase.replace("the", "The")):
                _, found, after = text.rpartition(said)
                text = after.strip()
                if found:
                    text = text.partition("\n")[0].partition(". ")[0]
    elif text.count(_BOX) > 1:
        text = "\\boxed{" + text.rpartition(_BOX)[2]
    return _replaced(cleaned(text), _BRACKETED).rstrip(".").lstrip(":").strip()


def cleaned(text: str) -> str:
    """What is in the box, or all of it, without spaces, units, signs of degree and currency; the right side of an equation."""
    text = text.lower().replace("{}", "")
    start, end = text.find(_BOX) + len(_BOX), text.rfind("}")
    if len(_BOX) <= start <= end:
        text = text[start:end]
    closing, opening = text.find("}"), text.find("{")
    if closing != -1 and (opening == -1 or closing < opening):
        text = text[:closing]
    text = text.rpartition("=")[2].rpartition("\\approx")[2]
    return _plain(_replaced(text, _CLEANED))


def _plain(text: str) -> str:
    """The second half of the cleaning, which knows fractions and roots."""
    text = (
        _replaced(text, _STRIPPED).partition("\\text{ ")[0].replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    )
    if not text:
        return text
    text = "0" + text if text[0] == "." else text
    for sign in ("=", "\\approx"):
        after = text.partition(sign)[2]
        text = after if text.count(sign) == 1 else text
    root = "sqrt" in text
    text = _braced_roots(text).replace(" ", "")
    if root:
        text = _braced_fractions(text)
    return "\\frac{1}{2}" if text == "0.5" else _fraction_of_slash(text)


def _braced_roots(text: str) -> str:
    """\\sqrt3 as \\sqrt{3}."""
    first, *rest = text.split("\\sqrt")
    return first + "".join("\\sqrt" + (part if part[:1] in ("{", "") else f"{{{part[0]}}}{part[1:]}") for part in rest)


def _braced_fractions(text: str) -> str:
    """\\frac12 as \\frac{1}{2}; the text as it is where a fraction has less than two signs."""
    first, *rest = text.split("\\frac")
    found = [first]
    for part in rest:
        if part[:1] != "{":
            if len(part) < 2:
                return text
            below = part[1] if part[1] == "{" else f"{{{part[1]}}}"
            part = f"{{{part[0]}}}{below}{part[2:]}"
        found.append(part)
    return "\\frac".join(found)


def _fraction_of_slash(text: str) -> str:
    """3/4 of two plain integers as \\frac{3}{4}."""
    above, slash, below = text.partition("/")
    try:
        plain = slash and f"{int(above)}/{int(below)}" == text
    except ValueError:
        return text
    return f"\\frac{{{above}}}{{{below}}}" if plain else text


def same(answer: str, gold: str) -> bool:
    """Whether the scorer takes an answer for the gold: equal texts whatever their case, equal tuples after rounding, or equal
    numbers after rounding to two decimals. Raises OverBudget."""
    answer, gold = answer.lower(), gold.lower()
    if not answer.replace(" ", "") or not gold.replace(" ", ""):
        return False
    if answer.strip() == gold.strip():
        return True
    gold, answer = rounded(gold), rounded(answer)
    if gold == answer:
        return True
    try:
        return value(gold) == value(answer)
    except NoNumber:
        return False


def rounded(text: str) -> str:
    """A tuple or list with every element worked out to two decimals; any other text as it is. Raises OverBudget."""
    elements = text[1:-1].split(",")
    if len(elements) < 2 or (text[0], text[-1]) not in (("(", ")"), ("[", "]")):
        return text
    if len(elements) > ELEMENTS:
        raise OverBudget
    try:
        parts = [e if "infty" in e or e in ("a", "-a") else str(value(e)) for e in elements]
    except (NoNumber, ValueError):  # ValueError: more digits than Python prints
        return text
    return text[0] + ",".join(parts) + text[-1]


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
