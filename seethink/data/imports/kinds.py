"""Which reward a gold asks for, where nothing else says so: by the rules that will read it, and never by a guess."""

from __future__ import annotations

import re
import string
from typing import Any

from seethink.core.errors import UserError
from seethink.core.fields import is_box
from seethink.rewards.box import number_groups
from seethink.rewards.maths.decide import gold_problem, read_gold

_LETTER = re.compile(r"\s*[(\[]?([A-Za-z])[)\].:]?\s*")
_LABELLED = re.compile(r"\s*[(\[]?([A-Za-z])[)\].:]\s*(\S.*)", re.DOTALL)
_DATE = re.compile(r"\s*[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,4}\s*")  # no difference of three numbers
_FORMULA = re.compile(r"[0-9\\=π√∞]")


def letter_of(gold: str, choices: list[str]) -> str:
    """The letter of the option that a gold names by letter, text or both; '' for none, or for several."""
    letters = string.ascii_uppercase[: len(choices) or 26]
    if (match := _LETTER.fullmatch(gold)) and match[1].upper() in letters:
        return match[1].upper()
    options = list(zip(letters, map(_plain, choices), strict=False))
    found = [letter for letter, option in options if option == _plain(gold)]
    if not found and (labelled := _LABELLED.fullmatch(gold)):
        found = [letter for letter, option in options if (letter, option) == (labelled[1].upper(), _plain(labelled[2]))]
    return found[0] if len(found) == 1 else ""


def refuse_numbered(golds: list[Any], choices: list[str], where: str) -> None:
    """Raises UserError for a number that is the text of one option and may be the number of another, counted from 0 or 1."""
    for gold in golds:
        said = letter_of(str(gold), choices) if type(gold) is int else ""
        numbered = {letter for at, letter in enumerate(string.ascii_uppercase[: len(choices)]) if gold in (at, at + 1)}
        if said and numbered - {said}:
            what = f"gold {gold} is the text of option {said}, and may be the number of {' or '.join(sorted(numbered))}"
            raise UserError(what, where=where, remedy=f'Write the letter, or the text as one: "{gold}"')


def kind_of_gold(row: dict[str, Any], choices: list[str], where: str) -> str:
    """choice, box, digit or math. Raises UserError for a gold that could be of several kinds, or is plain text."""
    boxed = isinstance(row["gold"], list) and is_box(row["gold"])  # one answer, and no four alternatives
    golds = [str(gold) for gold in (row["gold"] if isinstance(row["gold"], list) and not boxed else [row["gold"]])]
    if choices and all(letter_of(gold, choices) for gold in golds):
        return "choice"
    shown = f"gold {golds[0][:60]!r}"
    if row["choices"]:
        what = f"{shown} is neither a letter nor a text of the {len(choices)} options"
        raise UserError(what, where=where, remedy="Write the letter (a number may count from 0 or 1), or give --kind")
    if all(len(group) == 4 for gold in golds for _, group in number_groups(gold)) and any(map(number_groups, golds)):
        if row["meta"].get("coords"):
            return "box"
        what = f"{shown} looks like a box, and nothing says in which frame"
        remedy = f"Give a column coords (norm1, norm1000, pixel), or --kind {'box' if boxed else 'math'}"
        raise UserError(what, where=where, remedy=remedy)
    if all(gold.strip().isdecimal() for gold in golds):
        return "digit"
    if all(map(_mathematical, golds)):
        return "math"
    what = f"its kind cannot be told from its {shown}"
    raise UserError(what, where=where, remedy="Give --kind open (or another), or a column `kind`")


def _mathematical(gold: str) -> bool:
    claim = read_gold(gold)
    return (
        not _DATE.fullmatch(gold)
        and bool(_FORMULA.search(gold))
        and claim.node is not None
        and not claim.problem
        and not gold_problem(gold)
    )


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
