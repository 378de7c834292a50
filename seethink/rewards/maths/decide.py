"""Mathematical answers: a ladder of checks, each bounded, that stops at the first decision.

    1  the same text                      3  one bounded parser for gold and answer
    2  the same plain number, exactly     4  equal as values, functions, sets, regions (see `equality`)
    5  math-verify, in a process that can be killed, for what the parser does not read (see `workers`)

Rungs 1 to 4 (`decide`) take well under a millisecond and never leave the calling thread; `by_algebra` is rung 5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from seethink.core.nouns import Sample
from seethink.rewards.config import RewardConfig
from seethink.rewards.decision import RIGHT, WRONG, AnswerText, Decision, ambiguous, gold_error, malformed
from seethink.rewards.maths.claims import Ambiguous, Claim, in_full, read_claim, same_words, squeeze, with_glued_unit
from seethink.rewards.maths.equality import alternatives, same
from seethink.rewards.maths.evaluate import Undefined, new_budget
from seethink.rewards.maths.measures import same_measure
from seethink.rewards.maths.parse import parse
from seethink.rewards.maths.restated import restates, unsolved
from seethink.rewards.maths.tokens import DOUBT, PROSE, NotMath, TooBig, Unreadable, Unsupported
from seethink.rewards.maths.workers import shared_pool
from seethink.rewards.numerals import plain_number
from seethink.rewards.text import normalise_known

_THOUSANDS = re.compile(r"[0-9],[0-9]{3}")
_AS_WRITTEN = re.compile(r"[0-9]{1,4}(?:-[0-9]{1,4}){1,2}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{2,4}")
_ASKS_PERCENT = re.compile(r"(?i)\bpercent|\bper cent\b|\bwhat %|how many %|百分")
_RANGE = re.compile(r"^from (?=[0-9])|(?<=[0-9]) ?(?:to|until|through|[-–—~]) ?(?=[0-9])")
MAX_SYMBOLIC_CHARS = 400
"""Longer texts are not worth a symbolic comparison: sympy's cost grows much faster than its use."""


TEXT_ONLY = "the gold can only be compared as text, and this is another text"
RESTATED = Decision(0.0, detail="a formula of the question, handed back")
UNSOLVED = Decision(0.0, detail="not solved for its unknown, as the gold is")
ALGEBRA = {
    "equal": Decision(1.0, detail="by math-verify"),
    "different": Decision(0.0, detail="by math-verify"),
    "answer": malformed("not readable"),
    "gold": Decision(0.0, detail=TEXT_ONLY),
    "timeout": Decision(0.0, "timeout", "symbolic comparison over its budget"),
}


MARKS = {"degree": "deg", "percent": "%"}
"""Signs behind a number that are units of their own."""


@lru_cache(maxsize=10_000)
def read_gold(gold: str) -> Claim:
    return read_claim(normalise_known(gold))


@lru_cache(maxsize=20_000)
def decide(gold: str, said: str, question: str = "") -> Decision | None:
    """Decision about a normalised answer, or None if only a symbolic comparison can tell.

    With the question at hand, a formula of it earns nothing unless it is the gold's, and the gold of a solved equation wants
    a solved one.
    """
    reference = normalise_known(gold)
    if not re.search(r"\w|[∞∅]", reference):
        return gold_error("empty gold")
    if squeeze(said) == squeeze(reference):
        return RIGHT
    measured = same_measure(reference, said)
    if measured is not None:
        return RIGHT if measured else WRONG
    if _AS_WRITTEN.fullmatch(reference) or (said.isalpha() and _is_word(reference)):
        # a score, years, a date, a word: no difference and no product
        return RIGHT if same_words(reference, _RANGE.sub("-", said)) else WRONG
    one, other = plain_number(reference), plain_number(said)
    if one and other and one.decimals is None:
        return RIGHT if one.value == other.value else WRONG
    target, claim = read_gold(gold), read_claim(said)
    decision = _compare(target, claim, reference, said)
    shared = claim.node if claim.node and claim.node.op == "percent" and _ASKS_PERCENT.search(question) else None
    if shared and decision and decision.value == 0:  # `25%` for a percentage of 25
        return _compare(target, claim._replace(node=shared.args[0]), reference, said)
    if decision is not RIGHT or not question:
        return decision
    if restates(question, target.node, claim.node, (target.text, claim.text)):
        return RESTATED
    return UNSOLVED if target.node and claim.node and unsolved(target.node, claim.node) else RIGHT


def gold_problem(gold: str) -> str:
    """Why a gold cannot be compared with anything but its own text, or ''."""
    claim, text = read_gold(gold), normalise_known(gold)
    if isinstance(claim.problem, NotMath):
        return "not readable as mathematics" if _looks_like_latex(text) or not re.search(r"\w", text) else ""
    if isinstance(claim.problem, TooBig | Ambiguous):
        return str(claim.problem)
    if claim.node is None:
        return ""  # left to the symbolic comparison
    try:
        new_budget()
        return "" if same(claim.node, claim.node) else "not equal to itself"
    except Unsupported:
        return ""
    except (Unreadable, RecursionError) as problem:
        return str(problem)


def text_only(golds: Sequence[str], config: RewardConfig) -> list[str]:
    """Those golds that neither the parser nor math-verify reads: only the identical text is right."""
    unread = {gold: read_gold(gold).text for gold in golds if isinstance(read_gold(gold).problem, Unsupported)}
    short = list(dict.fromkeys(text for text in unread.values() if len(text) <= MAX_SYMBOLIC_CHARS))
    limits = config.symbolic
    asked = [(text, text) for text in short] if limits.on else []
    verdicts = shared_pool(limits.workers).compare(asked, limits.item_seconds, limits.batch_seconds) if asked else []
    read = {text for (text, _), verdict in zip(asked, verdicts, strict=True) if verdict != "gold"}
    return [gold for gold, text in unread.items() if text not in read]


def by_algebra(pairs: Sequence[tuple[Sample, AnswerText]], config: RewardConfig, _: object = None) -> list[Decision]:
    """Rung 5, for all of a batch that the others left. Raises UserError where math-verify cannot be started."""
    limits = config.symbolic
    if not limits.on:
        return [ALGEBRA["answer"]] * len(pairs)
    texts = [(read_gold(sample.gold).text, read_claim(answer.text).text) for sample, answer in pairs]
    asked = list(dict.fromkeys(t for t in texts if max(map(len, t)) <= MAX_SYMBOLIC_CHARS))
    pool = shared_pool(limits.workers)
    verdicts = pool.compare(asked, limits.item_seconds, limits.batch_seconds) if asked else []
    known = dict(zip(asked, verdicts, strict=True))
    decisions = []
    for (sample, _), text in zip(pairs, texts, strict=True):
        verdict = known.get(text, "answer")
        if verdict == "gold" and read_gold(sample.gold).node:
            verdict = "answer"  # a gold that our own parser reads is never the reason for having no verdict
        copied = verdict == "equal" and sample.question and restates(sample.question, None, None, text)
        decisions.append(RESTATED if copied else ALGEBRA[verdict])
    return decisions


def _compare(gold: Claim, answer: Claim, reference: str, said: str) -> Decision | None:
    if isinstance(gold.problem, NotMath) and not _looks_like_latex(reference):
        return RIGHT if same_words(gold.text, said) or same_words(gold.text, answer.text) else WRONG
    if isinstance(gold.problem, TooBig | Ambiguous):
        return gold_error(str(gold.problem))
    problem = answer.problem
    if isinstance(problem, Ambiguous):
        return ambiguous(str(problem))
    if isinstance(problem, NotMath | TooBig):
        return malformed(str(problem))
    if problem or gold.problem or gold.node is None or answer.node is None:
        return None
    if gold.unit and not answer.unit:
        answer = with_glued_unit(answer)
    elif answer.unit and not gold.unit:
        gold = with_glued_unit(gold)
    gold, answer = in_full(gold, answer), in_full(answer, gold)
    units = [claim.unit or MARKS.get(claim.node.op, "") if claim.node else "" for claim in (gold, answer)]
    if all(units) and units[0] != units[1]:
        return Decision(0.0, detail=f"unit {units[1]} instead of {units[0]}")
    try:
        new_budget()
        assert gold.node is not None and answer.node is not None
        if same(gold.node, answer.node) or _same_with_commas(gold, answer):
            return RIGHT
        several = len(alternatives(answer.node)) > 1 and len(alternatives(gold.node)) == 1
        return ambiguous("several values for one") if several else WRONG
    except Unsupported:
        return None
    except (TooBig, Undefined, RecursionError) as error:
        return gold_error(str(error)) if gold_problem(reference) else malformed(str(error))


def _is_word(text: str) -> bool:
    """True for two or more capitals, and for a word that could also be a product: `ON`, `up`."""
    return text.isalpha() and len(text) > 1 and (text.isupper() or text.lower() in PROSE | DOUBT)


def _same_with_commas(gold: Claim, answer: Claim) -> bool:
    """`100,200,300` is one number, unless the other side is a list."""
    if not any(_THOUSANDS.search(claim.text) for claim in (gold, answer)):
        return False
    try:
        nodes = [parse(claim.text, "list") for claim in (gold, answer)]
    except Unreadable:
        return False
    return all(node.op == "list" for node in nodes) and same(nodes[0], nodes[1])


def _looks_like_latex(text: str) -> bool:
    return bool(re.search(r"\\(?!text|mathrm|mbox|textbf|textnormal)[a-zA-Z]|[\^=]", text))
