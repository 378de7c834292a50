"""LaTeX and plain-text mathematics to one flat list of tokens.

Both spellings meet here: `\\dfrac12`, `1/2` and `½`, `\\sin x` and `sin(x)`, `x**2` and `x^{2}`. Words that are not mathematics
end the attempt (`NotMath`): prose is never read as a product of its letters.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from seethink.rewards.numerals import DECIMAL, THOUSANDS
from seethink.rewards.text import rewritten


class Unreadable(Exception):
    """The text is not an expression this parser reads."""


class NotMath(Unreadable):
    """It is prose, or broken."""


class Unsupported(Unreadable):
    """It is mathematics, but of a kind left to the symbolic checker (integrals, limits, symbolic sums)."""


class TooBig(Unreadable):
    """It is over a limit of depth, size or value: nobody evaluates a power tower to find out."""


class Token(NamedTuple):
    """kind: number name function constant operator word begin end stop. `text` is its canonical spelling."""

    kind: str
    text: str


MAX_DIGITS = 200
MAX_TOKENS = 2500

_NOTATION = tomllib.loads(Path(__file__).with_name("notation.toml").read_text(encoding="utf-8"))
FUNCTIONS, CONSTANTS, OPERATORS = (_NOTATION[table] for table in ("function", "constant", "operator"))
GREEK, OPAQUE, PROSE, VERBS, DOUBT, OPERATIONS = (
    set(_NOTATION[names]) for names in ("greek", "opaque", "prose", "verbs", "doubt", "operation")
)
SCALES, LETTER_SCALES, FAMILIES, _PARTS = (_NOTATION[table] for table in ("scale", "letter_scale", "family", "part"))
PARTS = _PARTS | {f"{word}s": n for word, n in _PARTS.items() if word != "half"}
SCALES |= {word: f"/{n}" for word, n in PARTS.items()}
"""What a word makes of the number before it; a third and its like are PARTS."""
_UNICODE = str.maketrans(_NOTATION["unicode"])

_MIXED = re.compile(
    r"(?<![\w.^/\\}])([0-9]{1,9})\s*(?:\\frac\s*\{\s*([0-9]{1,9})\s*\}\s*\{\s*([0-9]{1,9})\s*\}|\s([0-9]{1,9})/([0-9]{1,9})(?![\w.^]))"
)
_REPEATING = re.compile(r"(?<![0-9])([0-9]*)\.([0-9]*)\\(?:overline|dot|bar)\s*\{?([0-9]+)\}?")
_TOKEN = re.compile(
    rf"""(?P<number>(?<![\w.]){THOUSANDS}(?:\.[0-9]+)?(?![\w.]) | {DECIMAL}(?:[eE][-+]?[0-9]{{1,5}}(?![\w.(^]))?)
    | \\(?:text|textbf|textrm|textit|textnormal|mathrm|mathbf|mathit|mbox|operatorname|rm)\*?\s*\{{(?P<text>[^{{}}]*)\}}
    | \\begin\s*\{{(?P<begin>[a-zA-Z*]+)\}}(?:\s*\{{[clr|\s]*\}})? | \\end\s*\{{(?P<end>[a-zA-Z*]+)\}}
    | \\(?P<command>[a-zA-Z]+) | (?P<name>[a-zA-Z]+) | (?P<space>\s+|~|\\,|\\\ )
    | (?P<operator>\*\*|<=|>=|!=|==|\\\\|\\[{{}}|%]|[-+*/^_()\[\]{{}}|,;:=<>!%°'&])""",
    re.VERBOSE,
)
_NAMES = re.compile("|".join(sorted(FUNCTIONS, key=len, reverse=True)) + "|pi|infty|inf|oo|[a-zA-Z]")
_DECIMAL = re.compile(DECIMAL)
_SAME = {"**": "^", "==": "=", "\\%": "%", "\\|": "|"}


def tokens(text: str, commas: str = "thousands") -> list[Token]:
    """Tokens ending in a stop token. `commas="list"` reads `1,000` as two items.

    Raises NotMath for words and unknown characters, Unsupported for other commands, TooBig for long literals.
    """
    text = _MIXED.sub(lambda m: _mixed(m[0], m[1], m[2] or m[4], m[3] or m[5]), rewritten(text, "latex"))
    text = _REPEATING.sub(lambda m: _repeating(m[1], m[2], m[3]), text)
    if not text.isascii():
        text = text.translate(_UNICODE)
    found: list[Token] = []
    position, depth = 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise NotMath(f"character {text[position]!r}")
        piece = match[match.lastgroup] if match.lastgroup else ""
        if match.lastgroup == "number" and "," in piece and (depth or commas == "list"):
            match = _DECIMAL.match(text, position) or match  # inside brackets a comma separates
            piece = match[0]
            found.append(_number(piece))
        else:
            found.extend(_read(match.lastgroup or "", piece))
        if len(found) > MAX_TOKENS:
            raise TooBig(f"over {MAX_TOKENS} tokens")
        depth += (piece in ("(", "[", "\\{", "{")) - (piece in (")", "]", "\\}", "}"))
        position = match.end()
    return [*found, Token("stop", "")]


def _read(kind: str, piece: str) -> list[Token]:
    if kind == "number":
        return [_number(piece)]
    if kind == "operator":
        return [Token("operator", _SAME.get(piece, piece))]
    if kind == "name":
        return _names(piece)
    if kind == "text":
        return _names(piece.strip()) if re.fullmatch(r"[a-zA-Z]+", piece.strip()) else tokens(piece)[:-1]
    if kind == "command":
        return [_command(piece)]
    return [Token(kind, piece)] if kind in ("begin", "end") else []


def _number(piece: str) -> Token:
    if len(piece) > MAX_DIGITS:
        raise TooBig("a number of over 200 digits")
    return Token("number", piece)


def _command(name: str) -> Token:
    for kind, names in (("function", FUNCTIONS), ("constant", CONSTANTS), ("operator", OPERATORS)):
        if name in names:
            return Token(kind, names[name])
    if name not in GREEK | OPAQUE:
        raise Unsupported(f"\\{name}")
    return Token("name" if name in GREEK else "opaque", name)


def _names(run: str) -> list[Token]:
    """A run of letters: a known name, else functions and one-letter variables side by side (`xsinx`)."""
    if run in ("or", "and"):
        return [Token("operator", run)]
    if run in GREEK:
        return [Token("name", run)]
    if run.lower() in ("infinity", "infty"):
        return [Token("constant", "inf")]
    if run.lower() in PROSE and not run.isupper():
        raise NotMath(f"the word {run!r}")
    if len(run) >= 4 and run.isupper():
        return [Token("name", run)]  # a polygon's corners
    pieces = _NAMES.findall(run)
    if re.search(r"[a-zA-Z]{4,}", "".join(p if len(p) == 1 else " " for p in pieces)):
        raise NotMath(f"the word {run!r}")
    known = {p: Token("constant", CONSTANTS[p]) for p in pieces if p in CONSTANTS}
    known |= {p: Token("function", FUNCTIONS[p]) for p in pieces if p in FUNCTIONS}
    return [known.get(piece, Token("name", piece)) for piece in pieces]


def _mixed(written: str, whole: str, numerator: str, denominator: str) -> str:
    """`2 1/3` as a sum; `2 5/3` is no mixed number."""
    return f"({whole}+{numerator}/{denominator})" if int(numerator) < int(denominator) else written


def _repeating(whole: str, fixed: str, period: str) -> str:
    """`0.1\\overline{6}` as a fraction."""
    if len(whole + fixed + period) > MAX_DIGITS:
        raise TooBig("a number of over 200 digits")
    nines = "9" * len(period) + "0" * len(fixed)
    return f"({int(whole or 0)}+({int(fixed + period)}-{int(fixed or 0)})/{nines})"
