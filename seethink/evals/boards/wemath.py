"""We-Math testmini: 525 problems of two or three steps, asked whole and step by step, 1,740 items (arXiv 2407.01284).

A problem is mastered (CM) when all its steps and the whole are right, rote (RM) when the whole is right without the steps,
not generalised (IG) when the steps are right without the whole, and a lack of knowledge (IK) otherwise. Strict wants every step
right, loose for CM one. The leaderboard's number is the strict score, (CM + IG / 2) / problems. Sources: We-Math,
evaluation/four_dimensional_metrics.py and accuracy.py; VLMEvalKit, vlmeval/dataset/utils/wemath.py.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score, Verdict
from seethink.core.store import DataRow
from seethink.evals.board import Board, Profile, Reading, asked_as, per_item
from seethink.evals.files.records import Record, column, data_row, in_groups, read_records
from seethink.evals.judge.questions import ask_letter
from seethink.evals.metrics import figures
from seethink.evals.rules.options import NONE, can_infer
from seethink.evals.strict import STRICT
from seethink.evals.verdicts import REFUSAL, UNREADABLE

LETTERS = "ABCDEFGH"
_KEY = re.compile(r"([23])steps_(multi|[123])")
_LABEL = re.compile(r"(?:^|[;；\s])\s*([A-H])[.．:：](?=\s*[^\s;；.])")  # no label is what has nothing behind it
_SEPARATORS = " ;；\t\n"


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    """Items problem by problem. Raises UserError naming file and row."""
    yield from in_groups(_rows(path, pictures))


def _rows(path: Path, pictures: Path | None) -> Iterator[DataRow]:
    for record in read_records(path, pictures, ("image", "image_path")):
        name = f"{record.row.get('ID', record.row.get('id', ''))}/{record.row.get('key', '')}"
        yield data_row(record, name, partial(_sample, record))


def _sample(record: Record) -> Sample:
    row, where = record.row, record.where
    problem, key, gold = column(row, where, "ID", "id"), column(row, where, "key"), column(row, where, "answer").strip()
    found = _KEY.fullmatch(key)
    if not found or found[2] > found[1] and found[2] != "multi":
        raise UserError(
            f"key {key[:40]!r} names no step", where=where, remedy="Keys are like 2steps_1 and 3steps_multi"
        )
    options = _options(row)
    if gold not in LETTERS or len(gold) != 1 or options and gold not in options:
        remedy = "Repair or remove the row"
        raise UserError(f"answer {gold[:40]!r} is none of the options {', '.join(options)}", where=where, remedy=remedy)
    whole = found[2] == "multi"
    return Sample(
        id=f"{problem}/{key}",
        source="wemath",
        images=record.pictures,
        question=column(row, where, "question"),
        gold=gold,
        kind="choice",
        choices=tuple(options.values()) if "".join(options) == LETTERS[: len(options)] else (),
        meta={
            "part": "whole problems" if whole else column(row, where, "knowledge concept", default="steps"),
            "level": f"{found[1]} steps" if whole else "1 step",
            "cluster": problem,
            "options": options,
            "hint": column(row, where, "hint", default=""),
        },
    )


def _options(row: dict[str, Any]) -> dict[str, str]:
    """letter -> text, of the columns A, B, ... or of the one text that lists them."""
    if text := str(row.get("option") or ""):
        return split_options(text)
    return {letter: str(row[letter]) for letter in LETTERS if row.get(letter) not in (None, "")}


def split_options(text: str) -> dict[str, str]:
    """letter -> text of "A. 300, 400;B. 400, 300; ...". Letters rise, so that a point C within a text is no option.

    Pieces of the published texts that lost their place (";C.;" for "C.") stay with the text before them.
    """
    labels: list[re.Match[str]] = []
    for label in _LABEL.finditer(text):
        if not labels or label[1] > labels[-1][1]:
            labels.append(label)
    ends = [label.start() for label in labels[1:]] + [len(text)]
    return {m[1]: text[m.end() : end].strip(_SEPARATORS) for m, end in zip(labels, ends, strict=False)}


def read_leaderboard(sample: Sample, text: str) -> Reading | None:
    letter = can_infer(text, sample.meta["options"])
    return Reading(letter, "letter") if letter else None


def score_leaderboard(sample: Sample, answer: str) -> Verdict:
    """Of a letter, or of a judge's words for one; Z is none of the options, and wrong."""
    letter = can_infer(answer, sample.meta["options"])
    if not letter:
        return Verdict(None, "", UNREADABLE)
    return Verdict(letter == sample.gold, "", REFUSAL if letter == NONE else "")


def last_letter(text: str) -> str:
    """The authors' rule: the letter with which the text after the last "Answer" begins; '' where it begins otherwise."""
    tail = text.rpartition("Answer")[2].strip().translate(dict.fromkeys(map(ord, "<>:."))).strip()
    return tail[0] if tail and tail[0] in LETTERS else ""


def read_official(sample: Sample, text: str) -> Reading | None:
    letter = last_letter(text)
    return Reading(letter, "after Answer") if letter else None


def score_official(sample: Sample, answer: str) -> Verdict:
    letter = last_letter(answer)
    return Verdict(letter == sample.gold, "") if letter else Verdict(None, "", UNREADABLE)


def metric(scores: list[Score]) -> dict[str, Any]:
    """Strict score as `score`, `score_loose`, the four kinds of problems under both, and the shares of right answers S1 to S3.

    Problems that lack an item, or have one twice, count nowhere but in `incomplete`. What is undecided is not right.
    """
    problems = [problem for problem in _problems(scores) if problem is not None]
    kinds = {name: [_kind(steps, whole, name) for steps, whole in problems] for name in ("strict", "loose")}
    credit = {"CM": 1.0, "IG": 0.5}
    table = {name: _table(found) for name, found in kinds.items()}
    incomplete = len({s.cluster for s in scores}) - len(problems)
    return {
        **figures("score", [credit.get(kind, 0.0) for kind in kinds["strict"]]),
        **figures("score_loose", [credit.get(kind, 0.0) for kind in kinds["loose"]]),
        **({} if problems else {"no_score": "no problem has all its items"}),
        "problems": len(problems),
        "incomplete": incomplete,
        "rm_rate": table["strict"]["RM rate"],
        "rm_rate_loose": table["loose"]["RM rate"],
        "four_dimensions": table,
        **{f"S{n}": _share_right(scores, level) for n, level in enumerate(("1 step", "2 steps", "3 steps"), 1)},
    }


def _problems(scores: Sequence[Score]) -> Iterator[tuple[list[bool], bool] | None]:
    """(steps, whole problem) right or not; None for a problem without just one score for each of its items."""
    problems: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
    for score in scores:
        problems[score.cluster].append((score.sample_id.rpartition("/")[2], score.ok is True))
    for items in problems.values():
        right, steps = dict(items), int(items[0][0][0])
        keys = [f"{steps}steps_{i}" for i in range(1, steps + 1)]
        complete = right.keys() == {*keys, f"{steps}steps_multi"} and len(items) == len(right)
        yield ([right[key] for key in keys], right[f"{steps}steps_multi"]) if complete else None


def _kind(steps: list[bool], whole: bool, name: str) -> str:
    if not whole:
        return "IG" if all(steps) else "IK"
    return "CM" if (all if name == "strict" else any)(steps) else "RM"


def _table(kinds: list[str]) -> dict[str, Any]:
    """Counts and percent of the four kinds; the RM rate is among problems right as a whole, None where there are none."""
    counts = Counter(kinds)
    whole = counts["CM"] + counts["RM"]
    shares = {
        kind: {"n": counts[kind], "percent": _percent(counts[kind], len(kinds))} for kind in ("IK", "IG", "CM", "RM")
    }
    return {**shares, "RM rate": _percent(counts["RM"], whole)}


def _share_right(scores: Sequence[Score], level: str) -> float | None:
    right = [s.ok is True for s in scores if s.level == level]
    return _percent(sum(right), len(right))


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _listed(sample: Sample) -> str:
    """Hint where there is one, question, options."""
    hint = f"Hint: {sample.meta['hint']}\n" if sample.meta["hint"] else ""
    options = "".join(f"\n{letter}. {text}" for letter, text in sample.meta["options"].items())
    return f"{hint}Question: {sample.question}\nOptions:{options}" if options else f"{hint}Question: {sample.question}"


def ask_official(sample: Sample) -> str:
    return (
        f"{_listed(sample)}\nFirst write how you come to the answer, then the letter of the right option, both in double "
        "angle brackets, in this form:\n<Thought process>: <<steps>> <Answer>: <<letter>>"
    )


BOARD = Board(
    title="We-Math testmini",
    load=load,
    profiles={
        "leaderboard": Profile(
            read_leaderboard,
            per_item(score_leaderboard),
            extract=ask_letter,
            rules_first=True,
            quirks=("the English article A counts as option A where it is the only letter near the end",),
        ),
        "official": Profile(
            read_official,
            per_item(score_official),
            whole=True,
            quirks=(
                "only a letter right after the last word Answer, or at the very start, is read; in parentheses it is not",
                "answer tags are not understood",
            ),
        ),
        "strict": STRICT,
    },
    prompts={
        "leaderboard": asked_as(_listed),
        "official": asked_as(ask_official),
        "direct": asked_as(lambda sample: f"{_listed(sample)}\nAnswer with the letter of the right option alone."),
        "reasoning": asked_as(
            lambda sample: f"{_listed(sample)}\nThink step by step, then give the letter of the right option."
        ),
    },
    metric=metric,
    sizes=(1740,),
)
