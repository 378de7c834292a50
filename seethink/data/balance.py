"""What is in a set, source by source: kinds, letters, commonest golds, pictures, words of thinking, hesitation, difficulty.

Written as balance.json by `data`, `split` and `curate`, printed as a table, and looked at for what a model could learn in the
place of the task: one answer that is mostly right, one letter that is right more often than chance has it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from seethink.core.images import image_hash
from seethink.core.nouns import Example, Sample
from seethink.core.run import Run
from seethink.core.stats import p_text
from seethink.core.store import write_json
from seethink.core.terminal import print_table
from seethink.data.attempts import DIFFICULTY
from seethink.rewards.choice import letters_of, options_of
from seethink.traces.analyse import count_words, split, thinking_of
from seethink.traces.lexicon import Lexicon, count_trace, load

FEW = 20  # rows below which nothing is said of shares
MOSTLY = 0.5  # share of one gold from which on a constant answer wins
RARE, EFFECT = 1e-3, 0.3
"""Letters are skewed where chance makes them so less often than this, and by so much (Cohen's w, .3: medium)."""
BALANCE = "balance.json"
HESITATION = "word"
"""The lexicon of its markers, where nothing else is said."""


@dataclass(slots=True)
class Tally:
    """Counts over the rows of one set and source, without their texts."""

    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    golds: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """kind -> gold -> rows; of choices by letter."""
    right: Counter[str] = field(default_factory=Counter)
    """Letter -> choices of which it is right."""
    chance: Counter[str] = field(default_factory=Counter)
    """Letter -> the same if any of the options were as likely: 1 / options of each question."""
    pictures: set[str] = field(default_factory=set)
    words: list[int] = field(default_factory=list)
    """Of the thinking of each trace."""
    hesitating: int = 0
    difficulties: list[float] = field(default_factory=list)

    def add(self, example: Example, lexicon: Lexicon, hesitates: bool | None) -> None:
        sample = example.sample
        self.rows, letter = self.rows + 1, _letter(sample)
        self.kinds[sample.kind] += 1
        self.golds[sample.kind][letter or " ".join(sample.gold.lower().split())[:100]] += 1
        self.pictures.update(map(image_hash, sample.images))
        if letter:
            options = options_of(sample)
            self.right[letter] += 1
            self.chance.update(dict.fromkeys(options, 1 / len(options)))
        if example.completion:
            self.words.append(count_words(thinking_of(example.completion)))
            if hesitates is None:
                think, answer = split(example.completion)
                hesitates = bool(count_trace(think, answer or "", lexicon))
            self.hesitating += hesitates
        if isinstance(difficulty := sample.meta.get(DIFFICULTY), int | float):
            self.difficulties.append(difficulty)

    def row(self) -> dict[str, Any]:
        """What balance.json says; None of what was not there to look at."""
        tops = {kind: golds.most_common(1)[0] for kind, golds in self.golds.items()}
        order, letters, words = sorted(self.chance), None, None
        if order:
            seen, chance = {each: self.right[each] for each in order}, {each: self.chance[each] for each in order}
            p, effect = chi_square(list(seen.values()), list(chance.values()))
            letters = {"right": seen, "chance": chance, "p": p, "w": effect}
        if self.words:
            words = {"p50": float(np.percentile(self.words, 50)), "p90": float(np.percentile(self.words, 90))}
        known = self.difficulties
        return {
            "rows": self.rows,
            "kinds": dict(self.kinds.most_common()),
            "pictures": len(self.pictures),
            "golds": {k: {"gold": gold, "rows": n, "share": n / self.kinds[k]} for k, (gold, n) in tops.items()},
            "letters": letters,
            "words": words,
            "hesitating": self.hesitating / len(self.words) if self.words else None,
            "difficulty": {"known": len(known), "mean": float(np.mean(known))} if known else None,
        }


class Balance:
    """Tallies by set and source, in the order in which they come. `hesitation` is the lexicon of its markers."""

    def __init__(self, hesitation: str = HESITATION):
        self.lexicon = load(hesitation)
        self.tallies: dict[tuple[str, str], Tally] = {}

    def add(self, name: str, example: Example, hesitates: bool | None = None) -> None:
        """One row of a set; its completion may be empty. `hesitates`: where the lexicon has been asked before."""
        self.tallies.setdefault((name, example.sample.source), Tally()).add(example, self.lexicon, hesitates)

    def rows(self) -> list[dict[str, Any]]:
        """A row per set and source."""
        return [{"set": name, "source": source, **tally.row()} for (name, source), tally in self.tallies.items()]

    def report(self, folder: Run) -> None:
        """Print it, write it, and say what is skewed."""
        rows = self.rows()
        write_json(folder.path(BALANCE), rows)
        show(rows)
        for name, text in skewed(rows):
            folder.alarm(name, text)


def _letter(sample: Sample) -> str:
    """The one letter that is right; '' of other kinds, and of golds that name several or none."""
    letters = letters_of(sample.gold, options_of(sample)) if sample.kind == "choice" else set()
    return letters.pop() if len(letters) == 1 else ""


def chi_square(seen: Sequence[float], expected: Sequence[float]) -> tuple[float, float]:
    """(p, Cohen's w) of counts against those expected of the same total."""
    statistic = sum((a - b) ** 2 / b for a, b in zip(seen, expected, strict=True))
    p = float(special.chdtrc(len(seen) - 1, statistic)) if len(seen) > 1 else 1.0
    return p, (statistic / sum(seen)) ** 0.5


def skewed(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(alarm, sentence) for each set and source in which a constant answer wins or letters are skewed."""
    found = []
    for row in rows:
        where = f"{row['source'] or 'no source'} in {row['set']}"
        for kind, top in row["golds"].items():
            n, chance = row["kinds"][kind], 0.0
            if kind == "choice" and row["letters"]:
                chance = max(row["letters"]["chance"].values()) / sum(row["letters"]["right"].values())
            if n >= FEW and top["share"] > max(MOSTLY, 1.5 * chance):
                what = f"{top['gold']!r} is the gold of {top['rows']} of {n} {kind} rows of {where}"
                found.append(("constant_answer", f"{what}: always saying it would be right in {top['share']:.0%}"))
        if not (letters := row["letters"]) or (n := sum(letters["right"].values())) < FEW:
            continue
        if letters["p"] < RARE and letters["w"] >= EFFECT:
            off = max(letters["right"], key=lambda each: letters["right"][each] - letters["chance"][each])
            what = f"{off} is right in {letters['right'][off]} of {n} choice rows of {where}"
            why = f"by chance {letters['chance'][off]:.0f} (p {p_text(letters['p'])}, w = {letters['w']:.2f})"
            found.append(("letters", f"{what}, {why}"))
    return found


def show(rows: Iterable[Mapping[str, Any]]) -> None:
    """The table."""
    cells = []
    for row in rows:
        tops = ", ".join(f"{top['gold'][:16]} {top['share']:.0%}" for top in row["golds"].values())
        letters = " ".join(f"{a}{n}" for a, n in row["letters"]["right"].items()) if row["letters"] else ""
        words = f"{row['words']['p50']:.0f} / {row['words']['p90']:.0f}" if row["words"] else ""
        doubt = "" if row["hesitating"] is None else f"{row['hesitating']:.0%}"
        kinds = ", ".join(f"{kind} {n}" for kind, n in row["kinds"].items())
        cells.append((row["set"], row["source"], kinds, letters, tops, row["rows"], row["pictures"], words, doubt))
    headings = ("set", "source", "kinds", "letters", "commonest gold", "rows", "pictures", "words", "hesitating")
    print_table(headings, cells, texts=5)
