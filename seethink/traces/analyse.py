"""What one trace looks like: hesitation, length, repetition, and, where a checker knows the domain, truth.

One analyser for teacher data, rollouts and evaluations. It asks the question of the paper (sec. 1): is a pause for
thought a *revision* that changes what was said, or a pseudo-aha that changes nothing?
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seethink.core.nouns import Sample
from seethink.core.tags import ANSWER, THINK, THINK_END, extract
from seethink.rewards.text import repeated_ngrams
from seethink.traces import lexicon
from seethink.traces.conclusions import Conclusion, agree, conclusions
from seethink.traces.steps import Checker, Step, check_steps, locate

HESITATION = "word"  # the lexicon whose markers open a hesitation
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
_WORD = re.compile(r"\w[\w'’-]*")
_KINDS = "".join("a" if re.match(r"\w", c) else "-" if c in "'-" else " " for c in map(chr, range(128)))
"""Of each ASCII character: a of a word, - within one, or neither."""


@dataclass(frozen=True, slots=True)
class TraceStats:
    """Measurements of one trace. None means undecided or not asked for, never zero."""

    words: int
    """Words of the thinking."""
    tokens: int
    """Tokens of the whole completion as the sampler counted them; 0 where it did not."""
    markers: dict[str, int]
    """Lexicon -> markers in the part of the trace it looks at."""
    marked_words: dict[str, int]
    """Lexicon -> words of that part, the denominator of a rate."""
    repeated: float
    """Share of word 4-grams that occurred before in the same thinking."""
    hesitations: int
    """Sentences that hold a hesitation marker (runs of markers in one sentence count once)."""
    revisions: int | None
    """Hesitations after which something already stated was stated differently; None where no statement can be read."""
    truncated: bool
    """Cut by the token limit, or thinking that never ends."""
    claim: str | None
    """The last result the thinking states."""
    agrees: bool | None
    """Whether that result is the answer given."""
    ok: bool | None
    """Whether the answer is right, as its grader said."""
    steps: int | None = None
    """Statements a checker found; None without a checker."""
    true_steps: int | None = None
    false_steps: int | None = None
    repaired: int | None = None
    """False statements whose slot is stated truthfully later."""
    first_wrong: int | None = None
    """Index of the first false statement, from 0."""
    before_wrong: float | None = None
    """Share of the thinking, in characters, that stands before it; None where the checker did not keep its words."""

    @property
    def pseudo_ahas(self) -> int | None:
        """Hesitations that changed nothing."""
        return None if self.revisions is None else self.hesitations - self.revisions

    @property
    def checked(self) -> int:
        """Statements that are true or false."""
        return (self.true_steps or 0) + (self.false_steps or 0)

    @property
    def true_share(self) -> float | None:
        """True statements among those that can be checked."""
        return (self.true_steps or 0) / self.checked if self.checked else None

    @property
    def undecidable_share(self) -> float | None:
        """Statements that cannot be checked among all."""
        return 1 - self.checked / self.steps if self.steps else None

    @property
    def lucky(self) -> bool | None:
        """Right answer although a false statement was never repaired."""
        if self.ok is None or not self.checked:
            return None
        return self.ok and (self.false_steps or 0) > (self.repaired or 0)

    def per_100_words(self, name: str) -> float | None:
        """Markers of a lexicon per 100 words; None for an empty trace."""
        return 100 * self.markers[name] / self.marked_words[name] if self.marked_words[name] else None


def analyse(
    text: str,
    sample: Sample | None = None,
    checker: Checker | None = None,
    *,
    ok: bool | None = None,
    stop: str = "stop",
    tokens: int = 0,
    lexicons: Sequence[str] = lexicon.PRESETS,
) -> TraceStats:
    """Measurements of a completion `text`. Without a sample there are no claims; without a checker no truth."""
    thinking, answer = split(text)
    steps = check_steps(checker, sample, thinking) if checker and sample else None
    said = conclusions(thinking, sample) if sample else []
    hesitations, revisions = _revisions(thinking, said, steps or [])
    whole = f"{thinking}\n{answer or ''}"
    counted = {name: lexicon.load(name) for name in lexicons}
    return TraceStats(
        words=count_words(thinking),
        tokens=tokens,
        markers={n: sum(lexicon.count_trace(thinking, answer or "", lex).values()) for n, lex in counted.items()},
        marked_words={n: count_words(whole if lex.span == "text" else thinking) for n, lex in counted.items()},
        repeated=repeated_ngrams([word.lower() for word in _WORD.findall(thinking)]),
        hesitations=hesitations,
        revisions=revisions,
        truncated=cut_off(text, stop),
        claim=said[-1].value if said else None,
        agrees=agree(said[-1].value, answer, sample) if said and answer and sample else None,
        ok=ok,
        **({} if steps is None else _truth(thinking, steps)),
    )


def agreement(text: str, sample: Sample) -> bool | None:
    """Whether the last result that the thinking states is the answer given; None where one of them cannot be read."""
    thinking, answer = split(text)
    said = conclusions(thinking, sample)
    return agree(said[-1].value, answer, sample) if said and answer else None


def split(text: str) -> tuple[str, str | None]:
    """(thinking, answer) of a completion, however broken: thinking may never end, tags may be missing altogether."""
    return thinking_of(text), extract(text, "lenient").answer


def thinking_of(text: str) -> str:
    """The thinking alone, as `split` finds it."""
    head, end, _ = text.rpartition(THINK_END)
    if end or THINK in text:
        return (head if end else text).partition(THINK)[2].strip() if THINK in text else head.strip()
    return text.partition(ANSWER)[0].strip()


def hesitation_rate(texts: Sequence[str]) -> float:
    """Hesitation markers per 100 words of the thinking, over all of these completions; 0 where nobody thought."""
    thoughts, markers = list(map(thinking_of, texts)), lexicon.load(HESITATION)
    words = sum(map(count_words, thoughts))
    return 100 * sum(len(lexicon.find(thinking, markers)) for thinking in thoughts) / words if words else 0.0


def cut_off(text: str, stop: str) -> bool:
    """Whether a completion hit its limit, or never closed its thinking."""
    return stop == "length" or (THINK in text and THINK_END not in text)


def count_words(text: str) -> int:
    """Runs of word characters, with the apostrophes and hyphens that follow them."""
    plain = text.replace("’", "'")
    if plain.isascii() and " --" not in (kinds := " " + plain.translate(_KINDS)):
        return kinds.count(" a") + kinds.count(" -a")  # a tenth of the time that the pattern takes
    return len(_WORD.findall(text))


def repairs(steps: Sequence[Step]) -> list[bool]:
    """For each step: false now, and its slot is stated truthfully later."""
    true_at = {s.slot: i for i, s in enumerate(steps) if s.slot and s.truth}  # last true statement of a slot
    return [s.truth is False and true_at.get(s.slot, -1) > i for i, s in enumerate(steps)]


def _truth(thinking: str, steps: Sequence[Step]) -> dict[str, Any]:
    """What a checker's steps come to."""
    first = next((i for i, step in enumerate(steps) if step.truth is False), None)
    place = None if first is None else locate(thinking, steps)[first]
    return {
        "steps": len(steps),
        "true_steps": sum(step.truth is True for step in steps),
        "false_steps": sum(step.truth is False for step in steps),
        "repaired": sum(repairs(steps)),
        "first_wrong": first,
        "before_wrong": place[0] / len(thinking) if place else None,
    }


def _revisions(thinking: str, said: Sequence[Conclusion], steps: Sequence[Step]) -> tuple[int, int | None]:
    """(hesitations, those after which a slot that already had a value got another one)."""
    located = zip(locate(thinking, steps), steps, strict=True)
    statements = [(place[0], step.slot, step.text) for place, step in located if place and step.slot]
    if not statements:  # no checker: the answer is the one slot
        statements = [(c.start, "the answer", c.value) for c in said if c.announced]
    statements.sort()
    found = [m.start for m in lexicon.find(thinking, lexicon.load(HESITATION))]
    openings = [at for i, at in enumerate(found) if i == 0 or _SENTENCE_END.search(thinking, found[i - 1], at)]
    if not statements:
        return len(openings), None
    values: dict[str, str] = {}  # slot -> what was stated last
    revised, hesitation = set(), -1
    for start, slot, value in statements:
        while hesitation + 1 < len(openings) and openings[hesitation + 1] <= start:
            hesitation += 1
        if hesitation >= 0 and values.get(slot, value) != value:
            revised.add(hesitation)
        values[slot] = value
    return len(openings), len(revised)
