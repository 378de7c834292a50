"""Words around a claim that take it back, bound it or make another value of it: wording.toml as patterns.

Chinese, Japanese, Korean and Thai are written without blanks: `spaced` sets letters and numbers apart from them, and the
border of a word never depends on them.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from seethink.rewards.text import EAST, closing_brace

MAX_READ = 10_000
"""Characters of an answer that can name a count or a letter; longer ones are not looked at."""
CJK = f"{EAST}\u0e00-\u0e7f"
_TABLES = tomllib.loads(Path(__file__).with_name("wording.toml").read_text(encoding="utf-8"))
_BORDER = re.compile(rf"(?<=[{CJK}])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[{CJK}])")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{[\s$]*(\}?)")
_RUN = re.compile(r"\s{2,}")
_LETTER = rf"[^\W\d_{CJK}]"
BREAK = "[^.;,:!?\u3002\uff0c\uff1b\uff1a\uff01\uff1f\n]"
"""A character within a clause."""


def spaced(text: str) -> str:
    """Text with a blank between writing without blanks and Latin letters or digits; runs of white space are one."""
    text = _RUN.sub(
        lambda run: "\n" if "\n" in run[0] else " ", text
    )  # or every pattern would need care to stay linear
    return text if text.isascii() else _BORDER.sub(" ", text)


def hollow_box(text: str) -> bool:
    """Whether a box is empty, or is never closed: nothing is claimed then, whatever stands before it."""
    at = 0
    while box := _BOX.search(text, at):
        at = 0 if box[1] else closing_brace(text, text.index("{", box.start())) + 1
        if not at:
            return True
    return False


def words(*lists: str) -> str:
    """Pattern of any entry of these lists, such as `bound.after`, as whole words."""
    places = [name.split(".") for name in lists]
    entries = [entry for table, place in places for entry in _TABLES[table][place]]
    found = "|".join(entries).replace(" ", r"\s+").replace("CJK", CJK)
    return rf"(?:(?<!{_LETTER})(?:{found})(?!{_LETTER}))"


_SAYS = rf"(?:\s*[{CJK} ]{{0,8}}?|(?:\s*,{BREAK}{{1,20}},)?(?:\s*{words('reject.verbs')})*(?:\s+{words('reject.adverbs')}){{0,4}})\s*"
REJECTED_BEFORE = words("reject.before")
REJECTED_AFTER = rf"(?:{_SAYS}{words('reject.plain', 'reject.wrong')}|,?\s*(?:which|that|it){_SAYS}{words('reject.wrong')}|\s*(?:[✗✘❌]|\((?:wrong|incorrect)\)))"
"""Directly behind a claim."""
