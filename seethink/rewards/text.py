"""From the answer inside the tags to plain text: one spelling for what people type in twenty ways.

Superscripts and vulgar fractions are rewritten before Unicode's NFKC folding, which would read `7²` as 72 and `½` as two
numbers. Look-alike letters of other alphabets are not folded: a Cyrillic С is not a C.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from html import unescape
from pathlib import Path

from seethink.core.tags import clean

EAST = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Chinese, Japanese and Korean characters, for use inside a regular expression's brackets."""
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ", "0123456789+-()nx")
_SPELLING = tomllib.loads(Path(__file__).with_name("spelling.toml").read_text(encoding="utf-8"))
_BEFORE_FOLDING, _AFTER_FOLDING = (str.maketrans(_SPELLING[table]) for table in ("before_folding", "after_folding"))
_REWRITES = {name: [(re.compile(p), r) for p, r in pairs] for name, pairs in _SPELLING["rewrite"].items()}
_ANY = {name: re.compile("|".join(f"(?:{p})" for p, _ in pairs)) for name, pairs in _SPELLING["rewrite"].items()}
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₐₑₒₓₙₘₖₚₛₜ", "0123456789+-()aeoxnmkpst")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₐₑₒₓₙₘₖₚₛₜ]+")
_VULGAR = re.compile("([0-9]?)([\u00bc-\u00be\u2150-\u215e\u2189])")
_QUOTES = {"`": "`", '"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u300c": "\u300d"}
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("__", "__"), ("*", "*"))
_COMMAND = re.compile(r"\\(?:boxed|fbox|text|textbf|textrm|textit|textnormal|mathrm|mathbf|mbox)\s*\{")
_SCRIPT = re.compile(r"<su([pb])>([^<>]{0,40})</su[pb]>")
_HTML = re.compile(r"<(/?)\s*([a-zA-Z][a-zA-Z0-9_-]{0,30})(?:\s[^<>]{0,200})?(/?)>")
_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>")
_ENTITY = re.compile(r"&(?:#[0-9]{1,6}|#x[0-9a-fA-F]{1,5}|[a-zA-Z]{2,8});")
_HEADING = re.compile(r"\s*(?:\\?#){1,6}\s+(?=\S)")
_ESCAPED = re.compile(r"\\\\(?=[a-zA-Z{}(\[])")  # LaTeX that went through JSON once too often
_FENCE = re.compile(r"^```[a-zA-Z]*\n?(.*?)\n?```$", re.DOTALL)


def normalise(answer: str) -> str:
    """Folded and unwrapped answer. Every wrapper must enclose the whole text; what it says is never changed."""
    text = fold(unmarked(clean(answer)))
    if "\\\\" in text and "\\begin" not in text:
        text = _ESCAPED.sub(r"\\", text)
    if "\\" in text or not text.isascii():
        text = rewritten(text, "markup")
    for _ in range(8):
        bare = unwrap(text)
        if bare == text:
            break
        text = bare
    return text


@lru_cache(maxsize=10_000)
def normalise_known(text: str) -> str:
    """The same, remembered: golds and options come again with every completion of their question."""
    return normalise(text)


def rewritten(text: str, table: str) -> str:
    """Text after every pair of a table of spelling.toml, in order."""
    for pattern, replacement in _REWRITES[table] if _ANY[table].search(text) else ():
        text = pattern.sub(replacement, text)
    return text


def unmarked(text: str) -> str:
    """Text without HTML tags that are closed, entities, and the special tokens of chat models; `a<b` is left alone."""
    if "&" in text:
        text = _ENTITY.sub(lambda entity: unescape(entity[0]), text)
    if "<" not in text:
        return text
    text = _SCRIPT.sub(lambda m: ("^" if m[1] == "p" else "_") + "{" + m[2] + "}", _SPECIAL.sub("", text))
    closed = {"br", "hr", *(tag[2].lower() for tag in _HTML.finditer(text) if tag[1])}
    return _HTML.sub(lambda tag: "" if tag[2].lower() in closed or tag[3] else tag[0], text)


def fold(text: str) -> str:
    """Compatibility characters to ASCII where that keeps the meaning: minus, digits, superscripts, fractions, widths."""
    if text.isascii():
        return text
    text = _SUPERSCRIPT_RUN.sub(lambda m: "^{" + m[0].translate(SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda m: "_{" + m[0].translate(_SUBSCRIPTS) + "}", text)
    text = re.sub(_VULGAR, _fraction, text.translate(_BEFORE_FOLDING))
    text = unicodedata.normalize("NFKC", text).translate(_AFTER_FOLDING)
    text = re.sub(r"^(\s*)[\u2013\u2014]\s?(?=[\d.])", r"\1-", text)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def unwrap(text: str) -> str:
    """One layer of markup removed: quotes, emphasis, math delimiters, box, text command, fence, final full stop."""
    text = text.strip()
    if heading := _HEADING.match(text):
        text = text[heading.end() :]
    if text.endswith((".", "\u3002")) and not text.endswith(".."):
        text = text[:-1].rstrip()
    if text.startswith("```") and (fence := _FENCE.match(text)):
        return fence[1].strip()
    if len(text) >= 2 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    for opening, closing in _DELIMITERS:
        inner = text[len(opening) : -len(closing)]
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            return text if opening in inner or closing in inner else inner.strip()
    command = _COMMAND.match(text)
    if command and closing_brace(text, command.end() - 1) == len(text) - 1:
        return text[command.end() : -1].strip()
    return text


def closing_brace(text: str, start: int) -> int:
    """Index of the brace that closes the one at `start`, or -1. Escaped braces are text."""
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return -1


def lines_of(path: Path) -> list[str]:
    """Lines of a list that is kept as text, without comments."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def repeated_ngrams(words: Sequence[str], n: int = 4) -> float:
    """Share of word n-grams that occurred before, in [0, 1]; 0 for fewer than n words."""
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _fraction(match: re.Match[str]) -> str:
    """`x^½` as `x^(1/2)`, but `1½` as the mixed number `1 1/2`."""
    digits = unicodedata.normalize("NFKC", match[2]).replace("\u2044", "/")
    return f"{match[1]} {digits}" if match[1] else f"({digits})"
