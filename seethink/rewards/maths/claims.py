"""The one thing a mathematical answer claims: its box, its formula, or what follows "the answer is".

Reasoning may surround a claim but never replaces it. Where different values are claimed the answer is ambiguous, and a
number that merely occurs in the text is no claim at all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from seethink.rewards.maths.evaluate import free_symbols
from seethink.rewards.maths.parse import parse
from seethink.rewards.maths.tokens import DOUBT, FUNCTIONS, GREEK, OPERATIONS, SCALES, NotMath, Unreadable
from seethink.rewards.maths.tree import Node
from seethink.rewards.maths.units import canonical_unit, is_noun, split_unit, with_letter_scale
from seethink.rewards.numerals import replace_number_words
from seethink.rewards.text import EAST, closing_brace, rewritten, unwrap
from seethink.rewards.wording import REJECTED_BEFORE


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
    **dict.fromkeys(("infinity", "infinite", "positive infinity"), "\\infty"),
    "negative infinity": "-\\infty",
    "half": "1/2",
    **dict.fromkeys(("no solution", "no solutions", "empty set", "the empty set"), "\\emptyset"),
}
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mbox)\s*\{([^{}]*)\}")
_ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\{(?:align|aligned|cases|equation|gather|gathered|split)\*?\}|\\\\(?=\s*&\s*=)"
)
_RECORD = re.compile(r"(?i)\{\s*[\"'](?:final_)?(?:answer|result|value)[\"']\s*:\s*[\"']?([^\"'{}]*)[\"']?\s*\}")
_FINAL = re.compile(r"(?i)\bfinal answer\b(?:\s+is)?\s*:?")
_ARROW = re.compile(
    r"\\(?:therefore|because|implies|iff|(?:Long)?(?:left)?[rR]ightarrow)(?![a-zA-Z])|[∴⇒⟹⇔]|(?<![<=>])=>|^\s*(?:\\to(?![a-zA-Z])|→|->)"
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_MATH = re.compile(
    r"(?s)\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]|\\begin\{(?:[pb]?matrix)\}.+?\\end\{[pb]?matrix\}"
)
_DELIMITERS = re.compile(r"\\?\$|\\[()\[\]]|(?<![\w)}])\*\*|\*\*(?![\w({\\])")
CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound_sterling", "₩": "won", "₹": "rupee"}
_SIGN = re.compile("[¥€£₩₹₽฿₺₫]")
_CURRENCY = re.compile(r"^[^$€£₩₹]*?\\?([$€£₩₹])(?=\s*[0-9])[^$]*$")  # a pair of dollars is mathematics
_LABEL = re.compile(r"\s*([^\W\d_][^\W\d_'\u2019 ]{1,40}?(?: [^\W\d_'\u2019 ]{1,20}){0,6})\s*:\s*(?=\S)")
_SHORT_NAME = re.compile(r"(?!ANS|SUM)[A-Z]{1,4}|[a-z]{1,2}")
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\(?[0-9]{1,2}[.)]\s+(?=\S))")
_BLANK_LINES = re.compile(r"\n\s*\n")
_BLANKS = re.compile(r"[^\S\n]{2,}|(?<=\${2})\$+")  # long runs only cost time
_TAKEN_BACK = re.compile(
    rf"(?:{REJECTED_BEFORE}|\b(?:wrong|incorrect|false|impossible|previous|could|may|might|perhaps|possibly|maybe|than)\b)"
)
_DENIED = re.compile(rf"{_TAKEN_BACK.pattern}(?:\s+\w+){{0,2}}\s*$")
_ONE_NUMBER = re.compile(
    r"(?P<before>[a-zA-Z][a-zA-Z,'\u2019 -]{0,80}?):? ?(?P<number>[-+]?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?%?)(?P<after>(?: [^0-9\\=<>]{0,60})?)[.!]?$"
)
_EAST_RUN = re.compile(rf"[{EAST}]+")
_EAST_DOUBT = re.compile(
    "[不非没沒無无否未别別错錯误誤半余十]|至少|至多|最多|最少|超过|超過|以上|以下|以内|少于|多于|大于|小于|左右|아니|않|없|이상|이하|ない|でなく|以外|如果|假如|假设|可能|也许"
)
_SENTENCE = re.compile(r"(?<=[.!?。])\s+|\n{2,}")
_CUE = re.compile(
    r"(?i)\b(?:is|are|was|equals?(?:\s+to)?|be|get|gets|gives|give|obtain|have|therefore|thus|hence|so|ans|answers?)\b\s*[:,]?|(?<![0-9]):|:(?![0-9])|=>"
)
_STRONG = re.compile(r"(?i)\b(?:ans|answers?|results?|solutions?|solution set)\b")
_NAMED = re.compile(r"^\s*[A-Za-z][A-Za-z .]{2,60}=\s*([^=]+)$")
_ANSWER_FIRST = re.compile(
    r"(?is)^(?:(?:therefore|thus|hence|so),?\s)?(.{1,200}?)\s+is (?:the|our|my) (?:\w+ )?(?:answer|solution|result)\W*$"
)
_OTHERWISE = {
    "yes": re.compile(r"\b(?:no|not|[a-z]+n t|never|none|nothing|neither|cannot|maybe|perhaps|sure|unclear|wrong)\b"),
    "no": re.compile(
        r"\b(?:yes|maybe|perhaps|sure|unclear|information|wrong)\b|^(?:idea|answer|solution|one)\b"
        r"|^(?:it|they|there|he|she|this|that) (?:is|are|was|were|do|does|did|can|has|have)$"
    ),
    "true": re.compile(r"\b(?:false|not|[a-z]+n t|maybe|perhaps|wrong|incorrect)\b"),
    "false": re.compile(r"\b(?:true|maybe|perhaps|wrong|incorrect)\b"),
}
_IT_IS = re.compile(
    r"(?is)^(?:(?:so|therefore|thus|hence),?\s+)?(?:(?:it|this|that|they|these|those|he|she)(?: [a-z]+)?|(?:the|my|its|their|his|her) [a-z]+(?: [a-z]+){0,5}?)"
    r"(?:'s|\s+(?:is|are|was|were))\s+(.+)$"
)
_EAST_LABELLED = re.compile(
    r"(?s)^(?:所以|因此|故|综上|よって|따라서)?[,，\s]*(?:最终|最終|正确|正しい|최종)?\s*(?:答案|答え?|结果|結果|정답|답)(?:应该|应)?[是为為はがに은는이:\s]*(.+?)(?:です|である|입니다|이다)?[.。]?$"
)
_LABELLED_TEXT = re.compile(r"(?is)^(?:.*\b)?(?:answer|result|solution)\s*(?:is|:|=)+\s*(.+)$")


def read_claim(text: str) -> Claim:
    """The claim of a normalised answer or gold."""
    claimed = text = _BLANK_LINES.sub("\n\n", _BLANKS.sub(" ", text))
    try:
        claimed = _claimed(text)
        return _read(claimed)
    except Unreadable as problem:
        return Claim(claimed, problem=problem)


def with_glued_unit(claim: Claim) -> Claim:
    """The claim with a one-letter unit taken off its number, for comparison with a claim that carries that unit."""
    text, unit = split_unit(claim.text, glued=True)
    return Claim(text, unit, parse(text)) if unit else claim


def in_full(claim: Claim, other: Claim) -> Claim:
    """The claim with the thousands of `9.5K` written out, where the other one knows no such symbol."""
    text = with_letter_scale(claim.text)
    names_it = other.node is not None and free_symbols(other.node)
    return claim if text == claim.text or names_it else Claim(text, claim.unit, parse(text))


def same_words(gold: str, answer: str) -> bool:
    """Free-text golds: equal words, case, articles and punctuation aside, bare, as `It is ...` or behind "the answer is".

    `Yes` and `No` may have a sentence behind them that says no other thing.
    """
    wanted = _words(gold)
    if "?" in answer and "?" not in gold:
        return False
    labelled = (pattern.match(answer) for pattern in (_LABELLED_TEXT, _IT_IS, _EAST_LABELLED))
    said = [answer, *(m[1] for m in labelled if m and not _TAKEN_BACK.search(answer[: m.start(1)].lower()))]
    if wanted in _OTHERWISE:
        opening, _, rest = _words(said[-1]).partition(" ")
        return opening == wanted and not _OTHERWISE[wanted].search(rest)
    return bool(wanted) and wanted in map(_words, said)


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
    if "\\begin" in text and not ("{cases}" in text and "&" in text.replace("&=", "")):  # of cases, only plain systems
        text = _ENVIRONMENT.sub(" ", text).replace("&=", "=")
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
        return _ARROW.split(text)[-1].strip() or text
    if not all(found):
        raise NotMath("an empty box")
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
    currency, text = _CURRENCY.search(text), _SIGN.sub("", text)
    bare = _DELIMITERS.sub(" ", text).strip()
    for _ in range(8):
        bare = unwrap(bare)
    bare = PHRASES.get(bare.lower(), bare)
    if re.fullmatch(r"[A-Za-z]{3,}", bare) and bare not in FUNCTIONS and bare not in GREEK:
        bare = replace_number_words(bare)
        if bare.isalpha():
            raise NotMath("a word")
    label = _LABEL.match(bare)
    labelled = (
        [bare[label.end() :]]
        if label and is_noun(label[1]) and not _SHORT_NAME.fullmatch(label[1]) and label[1] not in GREEK
        else []
    )
    for reading in (*labelled, *([", ".join(_lines(bare))] if "\n" in bare else []), bare):
        try:
            claim = _formula(reading)
        except NotMath:
            continue
        return claim if claim.unit or not currency else claim._replace(unit=CURRENCIES[currency[1]])
    return _formula(_in_prose(_TEXT.sub(r"\1", text)))


def _lines(text: str) -> list[str]:
    """One claim a line, bullets and numbers of a list aside."""
    return [line.rstrip(" ,;.") for line in (_BULLET.sub("", line) for line in text.split("\n")) if line.strip()]


def _formula(text: str) -> Claim:
    text, unit = split_unit(rewritten(text, "claim"))
    return Claim(text, unit, parse(text))


def _in_prose(text: str) -> str:
    """The claim of sentences: what the marked ones say, else what all of them say; it must be one thing."""
    if _EAST_RUN.search(text):
        return _among_east_words(_DELIMITERS.sub(" ", text))
    if not re.search(r"[a-zA-Z]{2}", text):
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
    if re.match(r"(?i)(?:let|suppose|assume|assuming|if|when|given)\b", sentence):
        return ""
    if re.search(r"[0-9\\=^]", sentence) and (whole := _readable(sentence)):
        return whole
    named = _NAMED.match(_DELIMITERS.sub(" ", sentence))
    if named and (claim := _readable(named[1])):
        return claim
    first = _ANSWER_FIRST.match(sentence)
    if first:
        return "" if _TAKEN_BACK.search(sentence[first.end(1) :].lower()) else _readable(first[1])
    masked = _MATH.sub(lambda m: "0" * len(m[0]), sentence)
    cues = list(_CUE.finditer(masked))
    if cues and _DENIED.search(sentence[: cues[-1].start()].lower()):
        return ""
    if cues and (strong or cues[-1][0] != ":" or _MATH.match(sentence, cues[-1].end() + 1)):
        claim = _readable(sentence[cues[-1].end() :])
        if claim:
            return claim
    formulas = [m[0] for m in _MATH.finditer(sentence)]
    if len(formulas) == 1 and not cues:
        return _readable(formulas[0])
    return _only_number(_DELIMITERS.sub(" ", sentence))


def _only_number(sentence: str) -> str:
    """The number of `It takes 12 minutes`: the only one of a short sentence that neither bounds nor doubts nor denies it."""
    found = _ONE_NUMBER.match(sentence)
    words = [set(re.findall(r"[a-z]+", found[part].lower())) for part in ("before", "after")] if found else []
    if not found or words[0] & (DOUBT | OPERATIONS) or words[1] & (DOUBT | SCALES.keys() | {"or", "and"}):
        return ""
    unit = found["after"].split()[:1]
    return found["number"] + (f" {unit[0]}" if unit and canonical_unit(unit[0]) else "")


def _among_east_words(text: str) -> str:
    """The only formula among Chinese, Japanese or Korean words that neither bound nor deny it; its unit stays with it."""
    text = rewritten(replace_number_words(text), "east")
    words, parts = _EAST_RUN.findall(text), [part.strip(" ,.:;!?。、()") for part in _EAST_RUN.split(text)]
    if sum(map(bool, parts)) != 1 or any(_EAST_DOUBT.search(word) for word in words):
        raise NotMath("no one claim among the words")
    at = next(i for i, part in enumerate(parts) if part)
    behind = words[at] if at < len(words) else ""
    known = next(
        (behind[:n] for n in range(len(behind), 0, -1) if behind[:n] in SCALES or canonical_unit(behind[:n])), ""
    )
    return parts[at] + known


def _readable(text: str) -> str:
    bare = unwrap(_DELIMITERS.sub(" ", text).strip(" ,:"))
    try:
        _formula(bare)
    except Unreadable as problem:
        return "" if isinstance(problem, NotMath) else bare
    return bare


def _words(text: str) -> str:
    text = re.sub(r"\\(?:text|textbf|mathrm|mbox|textnormal|boxed)\s*(?=\{)", "", text)
    words = re.sub(r"[\s{}$()\[\].,;:!?*\"'_\\\u2013\u2014-]+", " ", text).strip().casefold()
    return re.sub(r"^(?:the|an?) (?=\S)", "", words)
