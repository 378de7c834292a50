"""The one thing a mathematical answer claims: its box, its formula, or what follows "the answer is".

Reasoning may surround a claim but never replaces it. Where different values are claimed the answer is ambiguous, and a
number that merely occurs in the text is no claim at all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from seethink.rewards.maths.parse import parse
from seethink.rewards.maths.tokens import FUNCTIONS, GREEK, NotMath, Unreadable
from seethink.rewards.maths.tree import Node
from seethink.rewards.maths.units import split_unit
from seethink.rewards.numerals import replace_number_words
from seethink.rewards.text import closing_brace, unwrap


class Ambiguous(Unreadable):
    """More than one claim."""


class Claim(NamedTuple):
    """What is claimed, its unit ("" for none), and the tree of it; `problem` says why there is no tree."""

    text: str
    unit: str = ""
    node: Node | None = None
    problem: Unreadable | None = None


PHRASES = {
    **dict.fromkeys(("all real numbers", "all reals"), "\\mathbb{R}"),
    **dict.fromkeys(("no solution", "no solutions", "empty set", "the empty set"), "\\emptyset"),
}
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mbox)\s*\{([^{}]*)\}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:align|aligned|equation|gather|gathered|split)\*?\}|\\\\(?=\s*&\s*=)")
_RECORD = re.compile(r"(?i)\{\s*[\"'](?:final_)?(?:answer|result|value)[\"']\s*:\s*[\"']?([^\"'{}]*)[\"']?\s*\}")
_FINAL = re.compile(r"(?i)\bfinal answer\b(?:\s+is)?\s*:?")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_MATH = re.compile(
    r"(?s)\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(?:[pb]?matrix)\}.+?\\end\{[pb]?matrix\}"
)
_DELIMITERS = re.compile(r"\\?\$|\\[()\[\]]|(?<![\w)}])\*\*|\*\*(?![\w({\\])|[¥€£]")
_LEADING_EQUALS = re.compile(r"^\s*(?:=|≈|\\approx)\s*")
_SENTENCE = re.compile(r"(?<=[.!?。])\s+|\n{2,}")
_CUE = re.compile(
    r"(?i)\b(?:is|are|was|equals|be|get|gets|gives|give|obtain|have|therefore|thus|hence|so|ans|answers?)\b\s*[:,]?|:|=>"
)
_STRONG = re.compile(r"(?i)\b(?:ans|answers?|results?|solutions?|solution set)\b")
_NAMED = re.compile(r"^\s*[A-Za-z][A-Za-z .]{2,60}=\s*([^=]+)$")
_ANSWER_FIRST = re.compile(
    r"(?is)^(?:(?:therefore|thus|hence|so),?\s)?(.{1,200}?)\s+is (?:the|our|my) (?:\w+ )?(?:answer|solution|result)\W*$"
)
_LABELLED_TEXT = re.compile(r"(?is)^(?:.*\b)?(?:answer|result|solution)\s*(?:is|:|=)+\s*(.+)$")


def read_claim(text: str) -> Claim:
    """The claim of a normalised answer or gold."""
    claimed = text
    try:
        claimed = _claimed(text)
        return _read(claimed)
    except Unreadable as problem:
        return Claim(claimed, problem=problem)


def with_glued_unit(claim: Claim) -> Claim:
    """The claim with a one-letter unit taken off its number, for comparison with a claim that carries that unit."""
    text, unit = split_unit(claim.text, glued=True)
    return Claim(text, unit, parse(text)) if unit else claim


def same_words(gold: str, answer: str) -> bool:
    """Free-text golds: equal words, case, brackets and punctuation aside; "the answer is" may come before."""
    labelled = _LABELLED_TEXT.match(answer)
    return bool(_words(gold)) and _words(gold) in (_words(answer), _words(labelled[1]) if labelled else None)


def squeeze(text: str) -> str:
    """Text without what does not change its meaning in LaTeX: for equality at first sight."""
    text = _DELIMITERS.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\%", "%")
    text = re.sub(r"\\(?:left|right|qquad|quad|[,;:!])|\{,\}", "", text)
    text = re.sub(r"(?<![0-9])\\?\s+|\\?\s+(?![0-9])", "", text)  # `3 6` is not 36
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
    text = _ENVIRONMENT.sub(" ", text).replace("&=", "=") if "\\begin" in text else text
    final = [part.strip() for part in _FINAL.split(text)[1:]]
    said = {squeeze(claim): claim for part in final if (claim := _one_claim(part))}
    if len(said) > 1:
        raise Ambiguous("different final answers")
    if final:
        return next(iter(said.values()), final[-1])
    record = _RECORD.fullmatch(text)
    if record:
        return record[1]
    found = boxes(text)
    if not found:
        return text
    if any(_BOX.search(inner) for inner in found):
        return _claimed(found[0]) if len(found) == 1 else ", ".join(_claimed(inner) for inner in found)
    return ", ".join(dict.fromkeys(inner.rstrip(" .,") for inner in found))


def _one_claim(text: str) -> str:
    """Text of the claim, or '' where nothing can be read."""
    try:
        return _read(_claimed(text)).text
    except NotMath:
        return ""


def _read(text: str) -> Claim:
    bare = _DELIMITERS.sub(" ", text).strip()
    while (shorter := unwrap(bare)) != bare:
        bare = shorter
    bare = PHRASES.get(bare.lower(), bare)
    if re.fullmatch(r"[A-Za-z]{3,}", bare) and bare not in FUNCTIONS and bare not in GREEK:
        bare = replace_number_words(bare)
        if bare.isalpha():
            raise NotMath("a word")
    for reading in (bare, ", ".join(bare.split("\n"))) if "\n" in bare else (bare,):
        try:
            return _formula(reading)
        except NotMath:
            continue
    return _formula(_in_prose(_TEXT.sub(r"\1", text)))


def _formula(text: str) -> Claim:
    text, unit = split_unit(_LEADING_EQUALS.sub("", text))
    return Claim(text, unit, parse(text))


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
    if re.search(r"[0-9\\=^]", sentence) and (whole := _readable(sentence)):
        return whole
    named = _NAMED.match(_DELIMITERS.sub(" ", sentence))
    if named and (claim := _readable(named[1])):
        return claim
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
    except Unreadable as problem:
        return "" if isinstance(problem, NotMath) else bare
    return bare


def _words(text: str) -> str:
    text = re.sub(r"\\(?:text|textbf|mathrm|mbox|textnormal|boxed)\s*(?=\{)", "", text)
    return re.sub(r"[\s{}$()\[\].,;:!?*\"'_\\-]+", " ", text).strip().casefold()
