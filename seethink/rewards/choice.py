"""Option letters: read as one claim (of one letter, or of a set where the gold is one) or not at all.

What the whole text says comes first: a bare letter, a list of letters, the text of an option, a letter with its own text.
Among other words every option that is named is collected, by its letter or by a text with letters in it. None is
`malformed`, two different ones are `ambiguous`, and neither is ever settled by taking the first, the last or a default:
that is what a policy under training would learn.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

from seethink.core.nouns import Sample
from seethink.rewards.decision import NOTHING, RIGHT, WRONG, Decision, ambiguous, gold_error, malformed
from seethink.rewards.maths.claims import same_words, squeeze
from seethink.rewards.maths.decide import decide
from seethink.rewards.numerals import WORDS, replace_number_words
from seethink.rewards.text import normalise, normalise_known, rewritten
from seethink.rewards.wording import BREAK, CJK, MAX_READ, REJECTED_AFTER, REJECTED_BEFORE, hollow_box, spaced, words

Mention = tuple[str, int, int]
"""An option that a text names: letter, start, end."""
MAX_NAMED = 40
"""Times that an answer names options."""
MAX_COMPARED = 100
"""Characters of what is compared with the options by its mathematical value."""

_OPTION_IN_QUESTION = re.compile(r"(?:^|\s)\(?([A-Z])[).:]\s*(.+?)(?=\s+\(?[A-Z][).:]\s|\n|$)")
_JSON_OBJECT = re.compile(r"\{[^{}]*\}")
_JSON_CHOICE = re.compile(r"(?i)[\"'](?:answer|final_answer|choice|option|letter)[\"']\s*:\s*[\"']([^\"']*)[\"']")
_WHOLE = re.compile(r"[\W_]*([A-Za-z])(?:(?![✗✘❌])[\W_])*")
_LABEL = re.compile(
    r"[\s\"'*]*(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])\s?[).:]|([A-Z])(?=\s))(?:[\s:.=]|[\u2013-](?=\s))*"
)
_BRACKETED = re.compile(r"[(\[{]\s*([A-Za-z])\s*[)\]}]")
_LEADING = re.compile(r"(?m)^[ \t]*([A-Za-z])\s?[).:](?=\s|$)")
_SAID = (
    r"(?:\b(?:respuesta|réponse|antwort|risposta|resposta|ответ)(?: correcta| corretta)?\b(?:\s+(?:es|est|ist|è|é)\b)?"
    r"|(?:正[确確])?(?:答案|选项|选择?|選擇?|正解|答え|정답|답)\s?[是为為は은는이]?)"
)
_MARKER = (
    r"(?:\b(?:answers?|options?|choices?|choose|select|pick|letters?)\b(?:\s+(?:is|are|would be|should be))?"
    rf"|{_SAID})\s*(?:[:=]\s*)?[\"'*(\[]*"
)
_MARKED_UPPER = re.compile(rf"(?i:{_MARKER})([A-Z])(?![\w'\u2019]|\s+[a-z])")
_MARKED_LOWER = re.compile(rf"(?i:{_MARKER})([a-z])(?=[\"'*)\].,:;!?]|\s*$|\s+(?:because|since|as)\b|\s?[{CJK}])")
_CAPITAL = re.compile(r"(?<![\w.\u2019'])(?<![A-Za-z]-)([A-HJ-Z])(?![\w\u2019']|-[A-Za-z]|\.[A-Za-z])")
_ARTICLE = re.compile(
    r"A\s+(?!(?:is|was|because|since|as|and|or|but|oder|ou?|und|y|et?|seems|matches|would|must|are|looks|fits)\b)[a-z]"
)
_LISTED = re.compile(r"(?i)(?:\b(?:or|and)|[,/&])\s?$|^\s?(?:(?:or|and)\b|[,/&])")
_LIST = re.compile(r"(?i)\b(?:both|and|und|y|et|e|и)\b|[,;&+、\s\[\](){}\"'*]|[和与與及跟と와과]|그리고|以及")
_EITHER = re.compile(rf"{words('either.between')}")
_NEGATED_BEFORE = re.compile(rf"{REJECTED_BEFORE}{BREAK}{{0,30}}$")
_NEGATED_AFTER = re.compile(rf"[~\"'*)\].]*{REJECTED_AFTER}")
_NEW_CLAUSE = re.compile(
    r"(?i).*(?:\b(?:so|therefore|thus|hence)\b|\b(?:that|which|who)\s+(?:\w+\s+)?(?:does|do|is|are|was|can|has)(?:n't|\s*not)\b.*\bis(?=\W*$))"
)
_PREAMBLE = re.compile(
    r"(?i)^(?:(?:so|thus|hence|therefore|所以|因此|故)\b[\s,]*)?(?:(?:the|my|our|la|die|a)\s+)?(?:(?:final|correct|right|best|bonne|richtige)\s+)?"
    r"(?:(?:answer|option|choice)s?\b(?:\s+(?:is|are|would be|should be|must be|seems to be)\b)?"
    rf"|{_SAID})\s*(?:[:=]\s*)?"
)
_FORMULA = re.compile(r"[0-9\\=<>√π∞∅]")
_EXPLAINED = re.compile(r"\s*(?:[,;:.!(\n\u2013\u2014]|-\s|\b(?:because|since|as)\b)")
_UNSURE = re.compile(
    r"(?i)\b(?:or|maybe|perhaps|unsure|not sure|can(?:no|['\u2019])t (?:tell|say|determine)|don['\u2019]t know)\b"
)
_POLAR = ("yes", "no", "true", "false")
_IT_IS = re.compile(r"\W*(?:it|they|s?he|there|that|this)\s+(?:is|are|was|were|do|does|did|can|has|have|will)\W*$")


def choice(gold: str, said: str, options: Mapping[str, str]) -> Decision:
    """1 if the normalised answer names exactly the gold letters. `options` maps each letter to its text or ""."""
    if not normalise_known(gold):
        return gold_error("empty gold")
    target = letters_of(gold, options)
    letters = _named(spaced(_JSON_OBJECT.sub(_json_claim, said)), options, several=len(target) > 1)
    if isinstance(letters, Decision):
        return letters
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
    letters = _named(spaced(normalise_known(text)), options, several=True)
    return letters if isinstance(letters, set) and letters <= set(options) else set()


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


def _json_claim(match: re.Match[str]) -> str:
    values = [value.strip() for value in _JSON_CHOICE.findall(match[0])]
    return " ; ".join(f"({value})" if len(value) == 1 else value for value in values) or match[0]


def _named(text: str, options: Mapping[str, str], several: bool) -> set[str] | Decision:
    """The letters of the one claim that a text makes, or what is wrong with it; `several` also reads `AC` as A and C."""
    if len(text) > MAX_READ or hollow_box(text):
        return malformed("an empty box" if len(text) <= MAX_READ else "too long for a letter")
    claim = _PREAMBLE.sub("", text)
    if whole := _WHOLE.fullmatch(text) or _WHOLE.fullmatch(claim):
        letter = whole[1].upper()
        same = {letter} if letter in options else _with_text(claim, options)
        return same if len(same) == 1 else malformed("a letter that is no option")
    if several and len(claim) < MAX_COMPARED and not _EITHER.search(claim.lower()):
        listed = set(_LIST.sub("", claim).upper())
        if listed and listed <= set(options):
            return listed
    same = _with_text(claim, options)
    if same:
        return same if len(same) == 1 else ambiguous("text of several options")
    label = _LABEL.match(claim)
    if label and (same := _with_text(claim[label.end() :], options)):
        letter = (label[1] or label[2] or label[3]).upper()
        return {letter} if letter in same else ambiguous("letter of one option, text of another")
    return _in_prose(text, options, several)


def _in_prose(text: str, options: Mapping[str, str], several: bool) -> set[str] | Decision:
    """Options among other words; rejected ones, alternatives and contradictions are no claim."""
    masked, spans = _mask(text, options)
    spans = sorted({*spans, *_letter_spans(masked, options)}, key=lambda span: span[1])
    letters = {letter for letter, _, _ in spans}
    if not letters & set(options):
        claim = rewritten(_PREAMBLE.sub("", text), "article")
        said = _with_value(claim, options) or _explained(claim, options)
        if len(said) == 1:
            return said
        return ambiguous("text of several options") if said else malformed("no option named")
    if len(letters) > 1 and not several or len(spans) > MAX_NAMED:
        return ambiguous("different letters" if len(letters) > 1 else "too many letters")
    if any(_negated(masked, start, end) for _, start, end in spans):
        return malformed("a negated letter")
    if several and any(_EITHER.search(masked[one[2] : other[1]][:40].lower()) for one, other in pairwise(spans)):
        return ambiguous("one letter or another")
    if len(letters) == 1 and any(options.values()) and _names_another(masked, spans, options):
        return ambiguous("letter of one option, text of another")
    return letters


def _mask(text: str, options: Mapping[str, str]) -> tuple[str, list[Mention]]:
    """Text with `~` for what options say beside their own letter, and for texts that hold letters, which are spans."""
    spans: list[Mention] = []
    for letter, _, beside, within in _patterns(tuple(options.items())):
        text = beside.sub(lambda m: m[1] + "~" * len(m[2]) if m[1] else "~" * len(m[3]) + m[4], text)
        if within:
            spans += [(letter, m.start(), m.end()) for m in within.finditer(text)]
            text = within.sub(lambda m: "~" * len(m[0]), text)
    return text, spans


@lru_cache(maxsize=1000)
def _patterns(
    options: tuple[tuple[str, str], ...],
) -> list[tuple[str, re.Pattern[str], re.Pattern[str], re.Pattern[str] | None]]:
    """Per option that has a text, longest first: letter, its text, the text beside the letter, the text if letters stand in it."""
    found = []
    for letter, own in sorted(options, key=lambda option: -len(option[1])):
        bare = rewritten(spaced(normalise_known(own))[:2000], "article")
        if not bare:
            continue
        said = r"\s*".join(map(re.escape, bare.split()))
        said = rf"(?i:(?<![a-z0-9])(?:(?:an?|the)\s+)?{said}(?![a-z0-9]))"
        letter_ = re.escape(letter)
        either = f"(?:{letter_}|{letter_.lower()})"
        alone = len(bare) == 1  # `C (A)` may mean both
        blank, after = ("", "(?!)") if alone else (rf"|(?<![\w.]){letter_}[\"'*]*\s", "")
        bracketed = rf"[(\[]\s*{either}\s*[)\]]"
        label = rf"(?:{bracketed}|(?<![\w.]){either}\s?[).:]{blank})(?:[\s:=*\"'(\[]|[\u2013-](?=\s))*"
        beside = rf"({label})({said})|{after}({said})(\s*{bracketed})"
        lettered = any(not _ARTICLE.match(bare, m.start()) for m in _CAPITAL.finditer(bare)) and not alone
        found.append((letter, re.compile(said), re.compile(beside), re.compile(said) if lettered else None))
    return found


def _letter_spans(text: str, options: Mapping[str, str]) -> list[Mention]:
    """Every option letter that the text names. Articles and initials are none, nor other letters that are not listed with one."""
    strong = [m for p in (_BRACKETED, _LEADING, _MARKED_UPPER, _MARKED_LOWER) for m in p.finditer(text)]
    weak = [m for m in _CAPITAL.finditer(text) if not _ARTICLE.match(text, m.start(1))]
    if len(strong) + len(weak) > 1:
        weak = [
            m
            for m in weak
            if m[1] in options or any(map(_LISTED.search, (text[: m.start(1)][-6:], text[m.end(1) :][:6])))
        ]
    return [(m[1].upper(), m.start(1), m.end(1)) for m in [*strong, *weak]]


def _negated(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 40) : start].rstrip(" ([\"'*").lower()
    if _NEGATED_BEFORE.search(before + " ") and _NEGATED_BEFORE.search(_NEW_CLAUSE.sub("", before) + " "):
        return True
    return bool(_NEGATED_AFTER.match(text[end : end + 100].lower()))


def _names_another(text: str, spans: list[Mention], options: Mapping[str, str]) -> bool:
    """True for `(C) 15` where C reads 12 and another option reads 15."""
    for _, start, end in reversed(spans):
        text = text[:start].rstrip("([{\"'*<$ ") + " " + text[end:].lstrip(")]}.:,;\"'*>=$ ")
    rest = re.sub(r"^[-\u2013]\s", "", _PREAMBLE.sub("", text.strip()).strip())
    rest = re.sub(r"^[(\[{]([^()\[\]{}]*)[)\]}]\.?$", r"\1", rest)  # `C (20 m)`
    head = re.split(r"[,;\n]|[.]\s|(?:^|\s)(?:because|since|as)\b", rest, maxsplit=1)[0]
    equal = (_with_text(part, options) or _with_value(part, options) for part in (rest, head) if head)
    return any(letters and spans[0][0] not in letters for letters in equal)


def _with_text(said: str, options: Mapping[str, str]) -> set[str]:
    """Letters of the options whose text this is, case, blanks, articles and final punctuation aside."""
    if not any(options.values()):
        return set()
    bare = _words(normalise(said))
    return {letter for letter, own in options.items() if own and bare and bare == _known_words(own)}


def _with_value(said: str, options: Mapping[str, str]) -> set[str]:
    """Letters of the options that are mathematically equal to this."""
    if len(said) > MAX_COMPARED or not _FORMULA.search(said):
        return set()
    formulas = {letter: own for letter, own in options.items() if len(own) <= MAX_COMPARED and _FORMULA.search(own)}
    return {letter for letter, own in formulas.items() if decide(own, normalise(said)) == RIGHT}


def _explained(claim: str, options: Mapping[str, str]) -> set[str]:
    """The option in words whose text begins the claim, where only an explanation follows."""
    said, patterns = set(), _patterns(tuple(options.items()))
    for letter, own, _, _ in patterns:
        found = own.match(claim)
        if not found or not re.search(rf"[^\W\d_]{{2}}|[{CJK}]", found[0]) or not _EXPLAINED.match(claim, found.end()):
            continue
        rest = claim[found.end() :]
        others = any(other.search(rest) for name, other, _, _ in patterns if name != letter)
        word = options[letter].casefold()
        denied = word in _POLAR and not same_words(word, claim) or word == "no" and _IT_IS.match(rest.lower())
        if not (others or denied or _UNSURE.search(rest) or _NEGATED_AFTER.match(rest[:100].lower())):
            said.add(letter)
    return said


def _words(text: str) -> str:
    text = replace_number_words(text) if WORDS.keys() & text.casefold().split() else text
    return squeeze(rewritten(rewritten(text.strip(" .,;:!"), "article"), "option")).strip(".,;:!").casefold()


@lru_cache(maxsize=10_000)
def _known_words(text: str) -> str:
    return _words(normalise_known(text))
