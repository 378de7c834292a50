"""What is in a set, source by source: kinds, letters, commonest golds, pictures, words of thinking, hesitation, difficulty.

Written as balance.json by `data`, `split` and `curate`, printed as a table, and looked at for what a model could learn in the
place of the task: one answer that is mostly right, one letter that is right more often than chance has it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from scipy import special

from seethink.core.images import image_hash
from seethink.core.nouns import Example, Sample
from seethink.core.run import Run
from seethink.core.stats import p_text
from seethink.core.store import write_json
from seethink.core.terminal import console
from seethink.data.attempts import DIFFICULTY
from seethink.rewards.choice import letters_of, options_of
from seethink.traces.analyse import count_words, split
from seethink.traces.lexicon import count_trace, load

FEW = 20  # rows below which nothing is said of shares
MOSTLY = 0.5  # share of one gold from which on a constant answer wins
RARE, EFFECT = 1e-3, 0.3
"""Letters are skewed where chance makes them so less often than this, and by so much (Cohen's w, .3: medium)."""
BALANCE = "balance.json"


def balance(sets: Mapping[str, Sequence[Example]], hesitation: str = "word") -> list[dict[str, Any]]:
    """A row per set and source, in their order. Completions may be empty; what was not looked at is None."""
    rows = []
    for name, examples in sets.items():
        groups: dict[str, list[Example]] = {}
        for example in examples:
            groups.setdefault(example.sample.source, []).append(example)
        for source, group in groups.items():
            samples = [example.sample for example in group]
            counts = {
                "rows": len(group),
                "kinds": dict(Counter(sample.kind for sample in samples).most_common()),
                "pictures": len({image_hash(path) for sample in samples for path in sample.images}),
            }
            known = [d for sample in samples if isinstance(d := sample.meta.get(DIFFICULTY), int | float)]
            difficulty = {"known": len(known), "mean": float(np.mean(known))} if known else None
            rows.append(
                {"set": name, "source": source, **counts, "golds": _golds(samples), "letters": _letters(samples)}
                | _thinking(group, hesitation)
                | {"difficulty": difficulty}
            )
    return rows


def _golds(samples: Iterable[Sample]) -> dict[str, dict[str, Any]]:
    """kind -> its commonest gold, of how many rows that is the gold, and its share."""
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        by_kind[sample.kind][_letter(sample) or " ".join(sample.gold.lower().split())] += 1
    found = {}
    for kind, golds in by_kind.items():
        (gold, rows), n = golds.most_common(1)[0], golds.total()
        found[kind] = {"gold": gold[:100], "rows": rows, "share": rows / n}
    return found


def _letters(samples: Iterable[Sample]) -> dict[str, Any] | None:
    """How often each letter is right against chance, which has as many options as each question; None without choices."""
    seen: Counter[str] = Counter()
    chance: defaultdict[str, float] = defaultdict(float)
    for sample in samples:
        if letter := _letter(sample):
            options = options_of(sample)
            seen[letter] += 1
            for each in options:
                chance[each] += 1 / len(options)
    if not seen:
        return None
    order = sorted(chance)
    p, effect = chi_square([seen[each] for each in order], [chance[each] for each in order])
    return {"right": {each: seen[each] for each in order}, "chance": dict(sorted(chance.items())), "p": p, "w": effect}


def _letter(sample: Sample) -> str:
    """The one letter that is right; '' of other kinds, and of golds that name several or none."""
    letters = letters_of(sample.gold, options_of(sample)) if sample.kind == "choice" else set()
    return letters.pop() if len(letters) == 1 else ""


def chi_square(seen: Sequence[float], expected: Sequence[float]) -> tuple[float, float]:
    """(p, Cohen's w) of counts against those expected of the same total."""
    statistic = sum((a - b) ** 2 / b for a, b in zip(seen, expected, strict=True))
    p = float(special.chdtrc(len(seen) - 1, statistic)) if len(seen) > 1 else 1.0
    return p, (statistic / sum(seen)) ** 0.5


def _thinking(examples: Iterable[Example], hesitation: str) -> dict[str, Any]:
    """Words of thinking and markers of hesitation of the traces; None where there are none."""
    traces = [split(example.completion) for example in examples if example.completion]
    if not traces:
        return {"words": None, "hesitation": None}
    lexicon = load(hesitation)
    lengths = [count_words(think) for think, _ in traces]
    markers = [sum(count_trace(think, answer or "", lexicon).values()) for think, answer in traces]
    words = {"p50": float(np.percentile(lengths, 50)), "p90": float(np.percentile(lengths, 90))}
    return {"words": words, "hesitation": {"lexicon": hesitation, "traces": sum(map(bool, markers)) / len(traces)}}


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
            why = f"by chance {letters['chance'][off]:.0f} ({p_text(letters['p'])}, w = {letters['w']:.2f})"
            found.append(("letters", f"{what}, {why}"))
    return found


def show(rows: Iterable[Mapping[str, Any]]) -> None:
    """The table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("set", "source", "rows", "kinds", "pictures", "commonest gold", "letters", "words", "hesitating"):
        table.add_column(heading, justify="right" if heading in ("rows", "pictures", "words", "hesitating") else "left")
    for row in rows:
        tops = ", ".join(f"{top['gold'][:16]} {top['share']:.0%}" for top in row["golds"].values())
        letters = " ".join(f"{a}{n}" for a, n in row["letters"]["right"].items()) if row["letters"] else ""
        words = f"{row['words']['p50']:.0f} / {row['words']['p90']:.0f}" if row["words"] else ""
        doubt = f"{row['hesitation']['traces']:.0%}" if row["hesitation"] else ""
        kinds = ", ".join(f"{kind} {n}" for kind, n in row["kinds"].items())
        table.add_row(
            row["set"], row["source"], str(row["rows"]), kinds, str(row["pictures"]), tops, letters, words, doubt
        )
    console(width=140).print(table)


def report(folder: Run, sets: Mapping[str, Sequence[Example]], hesitation: str = "word") -> None:
    """Print it, write it, and say what is skewed."""
    rows = balance(sets, hesitation)
    write_json(folder.path(BALANCE), rows)
    show(rows)
    for name, text in skewed(rows):
        folder.alarm(name, text)
