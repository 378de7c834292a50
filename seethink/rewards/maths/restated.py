"""The cheapest hack of a mathematical reward: the formula of the question handed back, not worked out.

`55*1212-15*1212` has the value that is asked for, and `3x-7=2x+5` the solution. Nobody should be paid for copying them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from seethink.rewards.maths.parse import parse
from seethink.rewards.maths.regions import INEQUALITIES, is_region
from seethink.rewards.maths.tokens import Unreadable
from seethink.rewards.maths.tree import Node, walk
from seethink.rewards.text import fold

MAX_QUESTION = 4_000
_MARKED = re.compile(r"(?s)\$\$?(.+?)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_APART = re.compile(
    r"(?<![\\a-zA-Z])[a-zA-Z]{2,}(?![a-zA-Z(^_])|[.?!;:,](?=\s|$)|\n|[^\x00-\x7f\u0370-\u03ff\u2070-\u22ff×÷·±]"
)
_ENDS = re.compile(r"^[\s,.;:=?]+|[\s,.;:=?]+$|\\(?:left|right)\b")
_LEAVES = {"number", "symbol", "constant", "neg", "percent", "degree", "bracket", "list", "ratio", "matrix"}


def restates(question: str, gold: Node | None, answer: Node | None, texts: tuple[str, str]) -> bool:
    """True where the answer is a formula of the question and the gold is none. `texts` are those of gold and answer."""
    if answer is not None and all(node.op in _LEAVES for node in walk(answer)):
        return False  # the 3 of `x + 3 = 6` may well be its solution
    asked = _formulas(question[:MAX_QUESTION])
    said, right = (
        {_key(node) if node is not None else "", _bare(text)} - {""}
        for node, text in zip((answer, gold), texts[::-1], strict=True)
    )
    return bool(said & asked) and not right & asked


def unsolved(gold: Node, answer: Node) -> bool:
    """True for an equation or inequality that still has to be solved where the gold has been."""
    return _solved(gold) and any(not _solved(node) for node in _relations(answer))


def _relations(node: Node) -> list[Node]:
    return [n for n in (node.args[1:] if node.op == "list" else (node,)) if n.op == "relation"]


def _solved(node: Node) -> bool:
    """`x = 12`, `2 < x <= 5`, their lists, and intervals: names on one side, known values on the others."""
    if node.op != "relation":
        return is_region(node) or (bool(_relations(node)) and all(map(_solved, _relations(node))))
    if node.args[0] == ("in",):
        return True
    if not set(node.args[0]) <= INEQUALITIES | {"="}:
        return False
    unknown = [side for side in node.args[1:] if any(n.op in ("symbol", "call") for n in walk(side))]
    return len(unknown) == 1 and unknown[0].op in ("symbol", "call", "bracket")


@lru_cache(maxsize=2_000)
def _formulas(question: str) -> set[Any]:
    """Every formula of a question, each also without its sides: trees with the order of sums and products settled, and texts."""
    found: set[Any] = set()
    question = fold(question)
    marked = [next(filter(None, m.groups())) for m in _MARKED.finditer(question)]
    for piece in [*marked, *_APART.split(_MARKED.sub("\n", question))]:
        whole = _ENDS.sub("", piece)
        for text in {whole, *whole.split("="), *whole.split(",")}:
            if text.strip():
                found.add(_bare(text))
                try:
                    found.add(_key(parse(text)))
                except Unreadable:
                    continue
    return found - {""}


def _bare(text: str) -> str:
    return re.sub(r"\\(?:left|right|cdot|times|[,;! ])|[\s$*{}×·]", "", text)


def _key(node: Node) -> Any:
    """The same for `2x+1` and `1+x*2`."""
    if node.op == "/":
        return _key(Node("*", (node.args[0], Node("reciprocal", (node.args[1],)))))
    parts = [_key(a) if isinstance(a, Node) else repr(a) for a in node.args]
    return node.op, *(sorted(parts, key=repr) if node.op in ("+", "*") else parts)
