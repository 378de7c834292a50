"""Option letters: read as one claim (of one letter, or of a set where the gold is one) or not at all.

Every letter that an answer names is collected. None is `malformed`, two different ones are `ambiguous`, and neither is ever
settled by taking the first, the last or a default: that is what a policy under training would learn.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping

from seethink.core.nouns import Sample
from seethink.rewards.decision import NOTHING, RIGHT, WRONG, Decision, ambiguous, gold_error, malformed
from seethink.rewards.numerals import plain_number
from seethink.rewards.text import normalise, normalise_known

_OPTION_IN_QUESTION = re.compile(r"(?:^|\s)\(?([A-Z])[).:]\s*(.+?)(?=\s+\(?[A-Z][).:]\s|\n|$)")
_JSON_OBJECT = re.compile(r"\{[^{}]*\}")
_JSON_CHOICE = re.compile(r"(?i)[\"'](?:answer|final_answer|choice|option|letter)[\"']\s*:\s*[\"']([^\"']*)[\"']")
_WHOLE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_BRACKETED = re.compile(r"[(\[{]\s*([A-Za-z])\s*[)\]}]")
_LEADING = re.compile(r"(?m)^\s*([A-Za-z])\s?[).:](?=\s|$)")
_MARKER = r"\b(?:answer|option|choice|choose|select|pick|letter)(?:\s+(?:is|would be|should be))?\s*[:=]?\s*[\"'*(\[]*"
_MARKED_UPPER = re.compile(rf"(?i:{_MARKER})([A-Z])(?![\w'\u2019]|\s+[a-z])")
_MARKED_LOWER = re.compile(rf"(?i:{_MARKER})([a-z])(?=[\"'*)\].,:;!?]|\s*$|\s+(?:because|since|as)\b)")
_CAPITAL = re.compile(r"(?<![\w.\u2019'])([A-HJ-Z])(?![\w\u2019'])")
_ARTICLE = re.compile(r"A\s+(?!(?:is|was|because|since|as|and|or|but|seems|matches|would|must|are|looks|fits)\b)[a-z]")
_NEGATED_BEFORE = re.compile(
    r"(?i)(?:\b(?:not|never|(?:all|any|anything|everything) but|except|neither|nor|exclud\w+|eliminat\w+|rule[sd]? out)|n't)\b[^.;,:!?]{0,30}$"
)
_NEGATED_AFTER = re.compile(
    r"(?i)[\"'*)\].]*\s*(?:(?:is|was|seems|looks|can|could|would)(?:\s+not|n't|not)|(?:is |was )?(?:in)?(?:wrong|incorrect|false|eliminated|ruled out))\b"
)
_PREAMBLE = re.compile(
    r"(?i)^(?:the\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|option|choice)(?:\s+is|\s+would be)?\s*[:=]?\s*"
)


def choice(gold: str, said: str, options: Mapping[str, str]) -> Decision:
    """1 if the normalised answer names exactly the gold letters. `options` maps each letter to its text or ""."""
    target = letters_of(gold, options)
    text = _JSON_OBJECT.sub(_json_claim, said)
    spans = _letter_spans(text, several=len(target) > 1)
    letters = {letter for letter, _, _ in spans}
    if not letters:
        letters = _letters_of_text(_PREAMBLE.sub("", text), options)
        if len(letters) != 1:
            return ambiguous("text of several options") if letters else malformed("no option named")
    elif not letters & set(options):
        return malformed("a letter that is no option")
    elif any(_negated(text, start, end) for _, start, end in spans):
        return malformed("a negated letter")
    elif len(letters) == 1 and _names_another(text, spans, options):
        return ambiguous("letter of one option, text of another")
    if not target:
        return gold_error(f"{gold[:80]!r} names none of the options {', '.join(options)}")
    if letters == target:
        return RIGHT
    return WRONG if len(target) > 1 or len(letters) == 1 else ambiguous("different letters")


def options_of(sample: Sample) -> dict[str, str]:
    """Letter -> option text. From `meta.options`, else from `choices` (texts, or bare letters), else from the question."""
    if isinstance(sample.meta.get("options"), dict):
        return {str(letter): str(text) for letter, text in sample.meta["options"].items()}
    if sample.choices and "".join(sample.choices) == string.ascii_uppercase[: len(sample.choices)]:
        return dict.fromkeys(sample.choices, "")
    if sample.choices:
        lettered = zip(string.ascii_uppercase, sample.choices, strict=False)
        return {letter: re.sub(rf"^\(?{letter}[).:]\s*", "", text) for letter, text in lettered}
    found = dict(_OPTION_IN_QUESTION.findall(sample.question[:10_000]))
    return found if set(found) >= {"A", "B"} else dict.fromkeys("ABCD", "")


def letters_of(text: str, options: Mapping[str, str]) -> set[str]:
    """Letters a gold (or any text) such as `C`, `(c)`, `A) 36°`, `A, C` or `AC` stands for; empty if it names no option."""
    text = normalise_known(text)
    letters = {letter for letter, _, _ in _letter_spans(text, several=True)} or _letters_of_text(text, options)
    return letters if letters <= set(options) else set()


def choice_problem(sample: Sample) -> str:
    """Why no letter can be right, or ''."""
    options = options_of(sample)
    return "" if letters_of(sample.gold, options) else f"names none of the options {', '.join(options)}"


def wrong_letters(sample: Sample, _: random.Random) -> list[str]:
    """Canaries: other letters, and all of them at once."""
    options = options_of(sample)
    right = letters_of(sample.gold, options)
    others = [letter for letter in options if letter not in right]
    return [*others[:3], ", ".join(options), " or ".join(options), *NOTHING[:4]] if right else []


def _letters_of_text(piece: str, options: Mapping[str, str]) -> set[str]:
    """Letters of the options whose text this is: the same words, or the same plain number."""
    said = _words(normalise(piece))  # what is left of an answer without its preamble may be wrapped once more
    return {letter for letter, text in options.items() if text and _same_text(said, _words(normalise_known(text)))}


def _words(text: str) -> str:
    """Case, blanks and final punctuation aside."""
    return re.sub(r"[\s_]+", " ", text).strip(" .,;:!").casefold()


def _same_text(one: str, other: str) -> bool:
    if one == other:
        return bool(one)
    a, b = plain_number(one.rstrip("° ")), plain_number(other.rstrip("° "))
    return a is not None and b is not None and a.value == b.value


def _json_claim(match: re.Match[str]) -> str:
    values = [value.strip() for value in _JSON_CHOICE.findall(match[0])]
    return " ; ".join(f"({value})" if len(value) == 1 else value for value in values) or match[0]


def _letter_spans(text: str, several: bool) -> list[tuple[str, int, int]]:
    """(letter, start, end) of every option letter the text names; `several` also reads `AC` as A and C."""
    whole = _WHOLE.fullmatch(text)
    if whole:
        return [(whole[1].upper(), whole.start(1), whole.end(1))]
    if several and re.fullmatch(r"[A-Z]{2,}", text):
        return [(letter, i, i + 1) for i, letter in enumerate(text)]
    matches = [m for pattern in (_BRACKETED, _LEADING, _MARKED_UPPER, _MARKED_LOWER) for m in pattern.finditer(text)]
    matches += [m for m in _CAPITAL.finditer(text) if not _ARTICLE.match(text, m.start(1))]
    return [(m[1].upper(), m.start(1), m.end(1)) for m in matches]


def _negated(text: str, start: int, end: int) -> bool:
    return bool(
        _NEGATED_BEFORE.search(text[max(0, start - 40) : start].rstrip(" ([\"'*") + " ")
        or _NEGATED_AFTER.match(text, end)
    )


def _names_another(text: str, spans: list[tuple[str, int, int]], options: Mapping[str, str]) -> bool:
    """True for `(C) 15` where C reads 12 and another option reads 15."""
    for _, start, end in sorted(spans, key=lambda span: -span[1]):
        text = text[:start] + text[end:]
    rest = re.sub(r"^[\W_]+", "", _PREAMBLE.sub("", text)) or " "
    equal = _letters_of_text(rest, options)
    return bool(equal) and spans[0][0] not in equal
