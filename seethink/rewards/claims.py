"""The one thing a mathematical answer claims: its box, its formula, or what follows "the answer is".

Reasoning may surround a claim but never replaces it. Where different values are claimed the answer is ambiguous, and a
number that merely occurs in the text is no claim at all.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from seethink.rewards.expression import Node, parse
from seethink.rewards.extract import closing_brace, unwrap
from seethink.rewards.latex import FUNCTIONS, GREEK, NotMath, Unreadable
from seethink.rewards.numbers import replace_number_words


class Ambiguous(Unreadable):
    """More than one claim."""


class Claim(NamedTuple):
    """What is claimed, its unit ("" for none), and the tree of it; `problem` says why there is no tree."""

    text: str
    unit: str = ""
    node: Node | None = None
    problem: Unreadable | None = None


_FINAL = re.compile(r"\bfinal answer\b(?:\s+is)?\s*:?", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_MATH = re.compile(
    r"\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(?:[pb]?matrix)\}.+?\\end\{[pb]?matrix\}", re.DOTALL
)
_DELIMITERS = re.compile(r"\\?\$|\\[()\[\]]|(?<![\w)}])\*\*|\*\*(?![\w({\\])|[¥€£]")
_SENTENCE = re.compile(r"(?<=[.!?。])\s+|\n{2,}")
_CUE = re.compile(
    r"\b(?:is|are|was|equals|be|get|gets|gives|give|obtain|have|therefore|thus|hence|so|answers?)\b\s*[:,]?|:|=>",
    re.IGNORECASE,
)
_STRONG = re.compile(r"\b(?:answers?|results?|solutions?|solution set)\b", re.IGNORECASE)
_ANSWER_FIRST = re.compile(r"^(.{1,200}?)\s+is the (?:\w+ )?answer\W*$", re.IGNORECASE | re.DOTALL)
_LABELLED_TEXT = re.compile(r"^(?:.*\b)?(?:answer|result|solution)\s*(?:is|:|=)+\s*(.+)$", re.IGNORECASE | re.DOTALL)


def read_claim(text: str) -> Claim:
    """The claim of a normalised answer or gold."""
    try:
        return _read(_claimed(text))
    except Unreadable as problem:
        return Claim(text, problem=problem)


def same_words(gold: str, answer: str) -> bool:
    """Free-text golds: equal words, case, brackets and punctuation aside; "the answer is" may come before."""
    labelled = _LABELLED_TEXT.match(answer)
    return bool(_words(gold)) and _words(gold) in (_words(answer), _words(labelled[1]) if labelled else None)


def squeeze(text: str) -> str:
    """Text without what does not change its meaning in LaTeX: for equality at first sight."""
    text = _DELIMITERS.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\%", "%")
    text = re.sub(r"\\(?:left|right|qquad|quad|[,;:!])|\\?\s|\{,\}", "", text)
    return text.rstrip(".。")


def boxes(text: str) -> list[str]:
    """Contents of every complete box; a percent sign behind it belongs to it. Raises NotMath for one left open."""
    found, at = [], 0
    while match := _BOX.search(text, at):
        end = closing_brace(text, match.end())
        if end < 0:
            raise NotMath("an unclosed box")
        inner = text[match.end() + 1 : end].strip()
        at = end + 1
        sign = re.match(r"\s*(\\?%)", text[at:])
        found.append(inner + (sign[1] if sign else ""))
    return found


def _claimed(text: str) -> str:
    """Where the claim stands: behind a final marker, in boxes, or the whole text."""
    marker = _FINAL.search(text)
    if marker:
        text = text[marker.end() :].strip()
    found = boxes(text)
    if not found:
        return text
    if any(_BOX.search(inner) for inner in found):
        return _claimed(found[0]) if len(found) == 1 else ", ".join(_claimed(inner) for inner in found)
    return ", ".join(dict.fromkeys(inner.rstrip(" .,") for inner in found))


def _read(text: str) -> Claim:
    bare = _DELIMITERS.sub(" ", text).strip()
    while (shorter := unwrap(bare)) != bare:
        bare = shorter
    if re.fullmatch(r"[A-Za-z]{3,}", bare) and bare not in FUNCTIONS and bare not in GREEK:
        bare = replace_number_words(bare)
        if bare.isalpha():
            raise NotMath("a word")
    try:
        return _formula(bare)
    except NotMath:
        return _formula(_in_prose(text))


def _formula(text: str) -> Claim:
    text, unit = split_unit(text)
    return Claim(text, unit, parse(text))


# ------------------------------------------------------------------------------------------------------------------ prose


def _in_prose(text: str) -> str:
    """The claim of sentences: what the marked ones say, else what all of them say; it must be one thing."""
    if not re.search(r"[a-zA-Z]{2}|[\u4e00-\u9fff]", text):
        raise NotMath("neither a formula nor a sentence")
    marked: dict[str, str] = {}
    other: dict[str, str] = {}
    for sentence in _SENTENCE.split(text):
        strong = bool(_STRONG.search(sentence))
        claim = _sentence_claim(sentence.strip(), strong)
        if claim:
            (marked if strong else other)[squeeze(claim)] = claim
    found = marked or other
    if not found:
        raise NotMath("no claim in the text")
    if len(found) > 1:
        raise Ambiguous(f"{len(found)} different claims")
    return next(iter(found.values()))


def _sentence_claim(sentence: str, strong: bool) -> str:
    """The formula at the end of a sentence, behind its last verb or colon, or its only formula; '' if it has none."""
    first = _ANSWER_FIRST.match(sentence)
    if first:
        return _readable(first[1])
    masked = _MATH.sub(lambda m: "0" * len(m[0]), sentence)
    cues = list(_CUE.finditer(masked))
    if cues and (strong or cues[-1][0] != ":" or _MATH.match(sentence, cues[-1].end() + 1)):
        claim = _readable(sentence[cues[-1].end() :])
        if claim:
            return claim
    formulas = [m[0] for m in _MATH.finditer(sentence)]
    return _readable(formulas[0]) if len(formulas) == 1 and not cues else ""


def _readable(text: str) -> str:
    bare = unwrap(_DELIMITERS.sub(" ", text).strip(" ,:"))
    try:
        _formula(bare)
    except NotMath:
        return ""
    except Unreadable:
        return bare
    return bare


def _words(text: str) -> str:
    text = re.sub(r"\\(?:text|textbf|mathrm|mbox|textnormal|boxed)\s*(?=\{)", "", text)
    return re.sub(r"[\s{}$()\[\].,;:!?*\"'_\\-]+", " ", text).strip().casefold()


# ------------------------------------------------------------------------------------------------------------------ units

_UNIT_WORD = (
    r"(?:square\s+|cubic\s+|sq\.?\s+|cu\.?\s+)?[a-zA-Z]+\.?(?:\s+(?:squared|cubed))?(?:\s*\^\s*\{?\s*[0-9]\s*\}?)?"
)
_UNIT = rf"{_UNIT_WORD}(?:\s*(?:/|per)\s*{_UNIT_WORD})?"
_IN_TEXT = re.compile(
    r"^(.*?[^\s\\])[\s~]*(?:\\[,;: ]\s*)*\\(?:text|textbf|textnormal|mathrm|mbox|rm)\s*\{([^{}]*)\}\s*(\^\s*\{?\s*[0-9]\s*\}?)?$",
    re.DOTALL,
)
_PLAIN_UNIT = re.compile(rf"^(.*[0-9}})\]!])(\s*)({_UNIT})$", re.DOTALL)
_NUMBER_AND_WORDS = re.compile(
    r"^(\\?\$?\s*[-+]?[0-9][0-9.,/]*|[-+]?\\frac\{[0-9]+\}\{[0-9]+\})\s+((?:[a-zA-Z]{2,}[\s-]*){1,4})$"
)
_NO_UNIT = {
    "or",
    "and",
    "e",
    "i",
    "pi",
    "is",
    "not",
    "to",
    "by",
    "if",
    "times",
    "mod",
    "plus",
    "minus",
    "wrong",
    "incorrect",
}
_SCALES = {"hundred": "*100", "thousand": "*1000", "million": "*1000000", "billion": "*1000000000"}


def split_unit(text: str) -> tuple[str, str]:
    """Expression and canonical unit. Percent words become a percent sign, scale words a factor, other nouns vanish."""
    text = replace_number_words(text) if re.search(r"[a-z]{3}", text) else text
    found = _IN_TEXT.match(text)
    head, words, gap = (found[1], found[2].strip() + (found[3] or ""), True) if found else (text, "", False)
    if not found:
        found = _PLAIN_UNIT.match(text)
        head, words, gap = (found[1], found[3], bool(found[2])) if found else (text, "", False)
    if words.strip("%. \\") in ("", "percent", "pct") and re.search(r"percent|pct|%", words):
        return f"{head}%", ""
    if words in _SCALES:
        return f"({head}){_SCALES[words]}", ""
    unit = canonical_unit(words) if words and words not in _NO_UNIT else ""
    if unit and (gap or len(words) > 1):
        return head.rstrip(" \\,;"), unit
    if _IN_TEXT.match(text) and re.fullmatch(r"[a-zA-Z ./-]{2,}", words) and not set(words.split()) & _NO_UNIT:
        return head.rstrip(" \\,;"), ""
    noun = _NUMBER_AND_WORDS.match(text)
    if noun and not set(noun[2].lower().split()) & (_NO_UNIT | set(FUNCTIONS)):
        return noun[1], ""
    return text, ""


def canonical_unit(words: str) -> str:
    """`square centimetres`, `cm^2` and `cm squared` as `cm^2`; '' for a word that is no known unit."""
    parts = []
    for part in re.split(r"\s*(?:/|\bper\b)\s*", words.strip()):
        power = re.search(r"\^\s*\{?\s*([0-9])", part)
        exponent = (
            power[1]
            if power
            else "2"
            if re.search(r"\bsq|squared", part)
            else "3"
            if re.search(r"\bcu|cubed", part)
            else ""
        )
        name = re.sub(r"\^.*|\b(?:square|squared|sq\.?|cubic|cubed|cu\.?)(?![a-z])", "", part).strip(" .")
        if name not in _units():
            return ""
        parts.append(_units()[name] + (f"^{exponent}" if exponent else ""))
    return "/".join(parts)


@cache
def _units() -> dict[str, str]:
    lines = (Path(__file__).parent / "units.txt").read_text(encoding="utf-8").splitlines()
    return {name: line.split()[0] for line in lines if line and not line.startswith("#") for name in line.split()}
