"""Fields golds made checkable by rules: letters, counts, worked solutions, votes, boxes. What fits no rule is Unusable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from seethink.core.fields import MAX_SHOWN
from seethink.data.sources.source import Picture, Unusable
from seethink.rewards.numerals import plain_number, replace_number_words

FRAME_SLACK = 0.01  # of the picture; boxes are published with three decimals

LETTER = re.compile(r"\s*[(\[]?([A-Za-z])(?:[)\].:](?:\s.*)?|)\s*", re.DOTALL)
_ANSWER = re.compile(r"answer\s*[:：]\s*", re.IGNORECASE)
_FUNCTION = re.compile(r"(?<![\w])(?:y|f\(x\))\s*=\s*[^\n,;]+")
_ASKS_FUNCTION = re.compile(r"\b(?:equation|function|expression|formula)\b", re.IGNORECASE)
_SOLVED = re.compile(r"([a-xz])\s*=\s*(\S.*)")
_NUMBER = r"\s*(-?(?:\d+\.?\d*|\.\d+))\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


def letter(given: Any, choices: Sequence[str] = ()) -> str:
    """The letter of `B`, `B)`, `(b)`, `[B]`, `B. It falls`, or of the text of an option. Raises Unusable for any other."""
    text = str(given).strip()
    if match := LETTER.fullmatch(text):
        return match[1].upper()
    same = [i for i, choice in enumerate(choices) if choice.strip().casefold() == text.casefold()]
    if len(same) != 1:
        raise Unusable("gold", f"{text[:MAX_SHOWN]!r} is no letter of an option")
    return chr(ord("A") + same[0])


def count(given: Any) -> str:
    """A whole number, from digits or from words. Raises Unusable for any other."""
    number = None if isinstance(given, bool) else plain_number(replace_number_words(str(given).strip().rstrip(".")))
    if number is None or number.value.denominator != 1 or number.value < 0:
        raise Unusable("gold", f"{str(given)[:MAX_SHOWN]!r} is no count")
    return str(number.value)


def last_answer(text: str) -> str:
    """The line after the last `Answer:`. Raises Unusable where there is none."""
    marks = list(_ANSWER.finditer(text))
    final = _line(text[marks[-1].end() :]) if marks else ""
    if not final:
        raise Unusable("gold", "the reply names no answer")
    return final


def worked_answer(solution: str, question: str, context: str) -> str:
    """Final answer of a worked solution; the whole function where the question asks for it.

    Some solutions end with the unknown alone (`a = -5`). Then the function stands in an earlier line, or follows from
    putting the unknown into the function of the textual problem.
    """
    marks = list(_ANSWER.finditer(solution))
    final = _line(solution[marks[-1].end() :] if marks else (solution.splitlines() or [""])[-1])
    if not _ASKS_FUNCTION.search(question) or _FUNCTION.match(final):
        return final
    solved = _SOLVED.fullmatch(final)
    earlier = [_line(m[0]) for m in _FUNCTION.finditer(solution)]
    if earlier and (not solved or not re.search(rf"\b{solved[1]}\b", earlier[-1])):
        return earlier[-1]
    asked = _FUNCTION.search(context)
    if solved and asked:
        template = re.split(r"\s+(?:goes|passes|and|is|has|with|where|through)\b", asked[0])[0]
        return re.sub(rf"\b{solved[1]}\b", lambda _: f"({solved[2]})", template).strip()
    return final


def whole_answer(solution: str, question: str, context: str) -> str:
    """The same. Raises Unusable where the question asks for a function and only a value could be had."""
    final = worked_answer(solution, question, context)
    if _ASKS_FUNCTION.search(question) and (_SOLVED.fullmatch(final) or plain_number(final)):
        raise Unusable("gold", f"the question asks for a function, the solution gives {final[:MAX_SHOWN]!r}")
    return final


def answers(given: Any, key: str = "") -> list[str]:
    """Texts of a list of answers, or of objects that hold them under `key`; empty ones left out. Raises Unusable for none."""
    listed = given if isinstance(given, list) else []
    texts = [a.get(key) if key and isinstance(a, dict) else a for a in listed]
    found = [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
    if not found:
        raise Unusable("gold", "no answer" if isinstance(given, list) else "answers are not a list")
    return found


def majority(said: list[str]) -> tuple[list[str], int]:
    """(the answers that most people gave, more than one in a tie, in the order given; how many gave each).

    Raises Unusable where no two people agree.
    """
    votes = Counter(answer.lower() for answer in said)
    most = max(votes.values())
    if most == 1 and len(votes) > 1:
        raise Unusable("gold", f"{len(votes)} answers, no two the same")
    return [answer for answer in votes if votes[answer] == most], most


def one_box(text: str) -> str | None:
    """The box that is named in a text, `[x1, y1, x2, y2]`, or None. Raises Unusable for several different ones."""
    found = {match[0] for match in _BOX.finditer(text)}
    if len(found) > 1:
        raise Unusable("gold", f"{len(found)} different boxes")
    return found.pop() if found else None


def out_of_square(text: str, picture: Picture) -> str:
    """The text with its boxes, given in fractions of the picture padded to a square, in fractions of the picture.

    Raises Unusable for a box that lies in the padding, which tells that it was not given so.
    """
    if not _BOX.search(text):
        return text
    sides = picture.size()

    def place(match: re.Match[str]) -> str:
        found = []
        for i in range(4):
            side = sides[i % 2]
            at = (float(match[i + 1]) * max(sides) - (max(sides) - side) / 2) / side
            if not -FRAME_SLACK <= at <= 1 + FRAME_SLACK:
                raise Unusable("frame", f"{match[0]} lies outside the picture in its square")
            found.append(round(min(1.0, max(0.0, at)), 3))
        return str(found)

    return _BOX.sub(place, text)


def _line(text: str) -> str:
    first = text.strip().splitlines()[0].strip() if text.strip() else ""
    return first[:-1].rstrip() if first.endswith(".") else first
