"""How well each lexicon finds hesitation: measured on traces whose every sentence the simulated teacher can label.

A marker is a word, hesitation is an act. The teacher takes every sentence that is no statement from a section of
prompts/fillers.txt, so it is known which of them doubt, correct or check again. Its words are few and our own: the
figures say what a lexicon overlooks or takes for hesitation here, and nothing of how often real models use its words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from seethink.core.nouns import Example
from seethink.core.stats import Interval, wilson
from seethink.pocket.build import draw_sample, simulated_examples
from seethink.pocket.checker import check
from seethink.pocket.questions import sections
from seethink.pocket.teacher import PERSONAS
from seethink.traces.analyse import analyse, split
from seethink.traces.lexicon import PRESETS, find, load

HESITATES = ("doubt", "fix", "recheck")
"""Sections of the fillers that hesitate; the others and all statements do not."""
STATEMENT = "statement"
QUESTIONS = 200  # drawn for each teacher


@dataclass(frozen=True, slots=True)
class LexiconCheck:
    """What a lexicon found among labelled sentences. A sentence is found where a marker lies in it."""

    name: str
    found: Counter[str]
    """Label -> sentences with a marker."""
    sentences: Counter[str]
    """Label -> sentences."""

    @property
    def precision(self) -> Interval | None:
        """Share of the found sentences that hesitate; None where none was found."""
        right = sum(self.found[label] for label in HESITATES)
        return wilson(right, self.found.total()) if self.found.total() else None

    @property
    def recall(self) -> Interval | None:
        """Share of the hesitating sentences that are found; None where none hesitates."""
        of = sum(self.sentences[label] for label in HESITATES)
        return wilson(sum(self.found[label] for label in HESITATES), of) if of else None


@dataclass(frozen=True, slots=True)
class RevisionCheck:
    """Hesitations of the teacher that revise what was said, and those that change nothing; made and counted."""

    revisions: tuple[int, int]
    pseudo_ahas: tuple[int, int]


def teacher_traces(seed: int = 0, questions: int = QUESTIONS) -> list[Example]:
    """The same questions thought about by every simulated teacher."""
    samples = [draw_sample(f"lexicons-{seed}", index)[0] for index in range(questions)]
    return [example for model in PERSONAS for example in simulated_examples(samples, model, seed)]


def labelled(thinking: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, label) of every sentence of a simulated teacher: its section of the fillers, or STATEMENT."""
    lines = {line: name for name, found in sections("fillers").items() for line in found}
    at = 0
    while at < len(thinking):
        filler = max((line for line in lines if thinking.startswith(line, at)), key=len, default=None)
        stop = thinking.find(" .", at)
        end = at + len(filler) if filler else stop + 2 if stop >= 0 else len(thinking)
        yield at, end, lines[filler] if filler else STATEMENT
        at = end + 1


def check_lexicons(examples: Iterable[Example]) -> list[LexiconCheck]:
    """One row for every preset over the thinking of these traces."""
    checks = [LexiconCheck(name, Counter(), Counter()) for name in PRESETS]
    for thinking in (split(example.completion)[0] for example in examples):
        sentences = list(labelled(thinking))
        for one in checks:
            starts = [marker.start for marker in find(thinking, load(one.name))]
            for start, end, label in sentences:
                one.sentences[label] += 1
                one.found[label] += any(start <= at < end for at in starts)
    return checks


def check_revisions(examples: Iterable[Example]) -> RevisionCheck:
    """Made as the teacher labels them, and as `traces.analyse` counts them with the checker of this world."""
    made: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for example in examples:
        made.update(label for _, _, label in labelled(split(example.completion)[0]))
        stats = analyse(example.completion, example.sample, check, lexicons=())
        counted.update({"revisions": stats.revisions or 0, "pseudo_ahas": stats.pseudo_ahas or 0})
    pseudo = sum(made[label] for label in HESITATES if label != "fix")
    return RevisionCheck((made["fix"], counted["revisions"]), (pseudo, counted["pseudo_ahas"]))
