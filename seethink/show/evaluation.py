"""The report of an evaluation: report.html and report.md in its folder, rendered from that folder alone.

The score with its interval, or in words why there is none; counts by state, reason and rung; parts; the paper's column beside
it, with what is known not to match; everything the number depends on; items of every state. What was not recorded says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.ask.ledger import Ledger
from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.prompt import options_text
from seethink.core.stats import Interval
from seethink.core.store import write_text
from seethink.core.terminal import clean
from seethink.evals.evaluated import Evaluated, read_evaluation, samples_of
from seethink.evals.metrics import right_share
from seethink.evals.published import mismatches, published
from seethink.evals.verdicts import STATES
from seethink.show.pages import asset, environment, picture_uri

SHOWN = 4  # items of every state
LONGEST = 1_500  # characters of a response on the page
LABELS = {
    "average": "Average over all answers", "best": "Best case", "score_loose": "Score, loose", "rm_rate": "Rote memorisation rate",
    "rm_rate_loose": "Rote memorisation rate, loose", "S1": "Right in one step", "S2": "Right in two steps", "S3": "Right in three steps",
    "four_dimensions": "Kinds of problems, by what was mastered", "worst_by_part": "Worst case by part", "worst_by_level": "Worst case by level",
}  # fmt: skip
"""Second numbers of a board by their key in the summary; others are called by their key."""
TABLE_NOTES = {
    LABELS["four_dimensions"]: "IK: neither the steps nor the whole. IG: the steps, not the whole. CM: both. RM: the whole without its "
    "steps. Strict asks for every step, loose for one. The RM rate is among problems right as a whole.",
    LABELS["worst_by_part"]: "Percent of questions right in every variant, beside the average over all answers.",
}  # fmt: skip
NATS = {"entropy": "Entropy", "kl": "KL to the other model"}
"""Numbers of a summary in nats per token."""
COUNTS = ("items", "draws", "questions", "problems", "incomplete", "undecided_answers")
"""Numbers of a summary that are no percent."""
STATE_WORDS = {
    "right": "decided, and right",
    "wrong": "decided, and not right",
    "unparsed": "no rule (and no judge, where one was asked) could read an answer; counts as not right",
    "judge_failed": "a judge was asked and gave no usable reply; no score while there are any",
}
DESCRIBED = {
    "board", "task", "model", "profile", "quirks", "prompt", "dataset_hash", "prompt_hash", "system_hash", "images", "min_pixels",
    "max_pixels", "max_tokens", "temperature", "samples", "judge", "judge_version", "n", *STATES, "coverage", "decided", "accuracy", "mean_reward",
    "cut", "length", "reasons", "decided_by", "by_kind", "by_part", "by_level", "failed", "left_out", "dropped", "complete", "score",
    "score_interval", "spending", "no_score", *NATS,
}  # fmt: skip
"""What of a summary has a place of its own on the page; whatever else stands there is shown by its key."""
CONTENTS = {
    "numbers": "Numbers", "states": "States", "parts": "Parts", "published": "Published", "depends": "Depends on",
    "samples": "Items", "cost": "Time and cost",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Answers of one part, level or kind."""

    name: str
    n: int
    counts: dict[str, int]
    """state -> answers"""
    share: Interval | None
    """Right among all; None while the judge failed on any of them."""


def write(folder: Path, samples: dict[str, Sample] | None = None) -> None:
    """From done.json, scores.parquet, config.json, manifest.json, alarms.jsonl (and the board, where it still is).

    `samples` are the items by id where the caller has them: a folder by itself runs no code of a board that its user wrote.
    """
    page = assemble(read_evaluation(folder), samples)
    for name, markdown in (("eval.html", False), ("eval.md", True)):
        text = environment(markdown).get_template(f"{name}.j2").render(page)
        write_text(folder / name.replace("eval", "report"), text.encode("utf-8", "replace").decode())


def assemble(run: Evaluated, samples: dict[str, Sample] | None = None) -> dict[str, Any]:
    """Everything the templates print."""
    summary, task = run.summary, run.task
    board = published()
    return {
        "css": [asset(name) for name in ("base.css", "report.css", "eval.css")],
        "contents": [(key, word) for key, word in CONTENTS.items() if key != "published" or task in board.columns],
        "run": run,
        "summary": {**dict.fromkeys(DESCRIBED), "right": 0, "n": len(run.scores), **summary},
        "score": headline(summary),
        "why": why_none(summary),
        "counted": counted(summary),
        "second": second_numbers(summary),
        "tables": tables(summary),
        "table_notes": TABLE_NOTES,
        "states": [(state, summary.get(state, 0), STATE_WORDS[state]) for state in STATES],
        "reasons": ordered(summary.get("reasons", {})),
        "rungs": ordered(summary.get("decided_by", {})),
        "groups": {
            title: rows
            for column, title in (("part", "Part"), ("level", "Level"), ("kind", "Kind"))
            if len(rows := groups(run.scores, column)) > 1
        },
        "column": board.columns.get(task),
        "number_meant": board.numbers.get(task),
        "published": sorted(((row.model, row.scores[task]) for row in board.rows), key=lambda r: -r[1])
        if task in board.columns
        else [],
        "mismatches": mismatches(run),
        "differs": board.differs.get(task, []),
        "depends": depends(run),
        "quirks": summary.get("quirks", []),
        **shown_items(run, samples),
        "spending": (summary.get("spending") or {}).get("steps", spending(run.folder)),
        "tokens": sum(s.tokens for s in run.scores),
        "seconds": sum(s.seconds for s in run.scores),
        "manifest": {key: run.manifest.get(key) for key in ("seethink", "git", "python", "platform")},
        "versions": run.manifest.get("versions") or {},
    }


def headline(summary: dict[str, Any], name: str = "score") -> Interval | None:
    """A number of the summary with its limits, as fractions; None where none is given."""
    value, limits = summary.get(name), summary.get(f"{name}_interval")
    if value is None:
        return None
    low, high = limits or (value, value)
    return Interval(value / 100, low / 100, high / 100)


def why_none(summary: dict[str, Any]) -> str:
    """Why there is no score; empty where there is one."""
    if summary.get("score") is not None:
        return ""
    why = []
    if n := summary.get("judge_failed"):
        why.append(f"the judge gave no usable reply on {answers(n)}")
    if n := summary.get("failed"):
        why.append(f"{answers(n)} never came")
    if reason := summary.get("no_score"):
        why.append(str(reason))
    return " and ".join(why) or "the board gave none"


def counted(summary: dict[str, Any]) -> str:
    """What stands in the score although it is not known; empty where nothing does."""
    missing = (summary.get("judge_failed") or 0) + (summary.get("failed") or 0)
    if summary.get("score") is None or not missing:
        return ""
    return f"{answers(missing)} without a verdict of their own count as not right, because that was asked for"


def answers(n: int) -> str:
    return "1 answer" if n == 1 else f"{n} answers"


def second_numbers(summary: dict[str, Any]) -> list[tuple[str, Interval]]:
    """(what it is, its value) of every other number with a place beside the score."""
    names = [key for key, value in summary.items() if key not in (*DESCRIBED, *COUNTS) and _is_number(value)]
    found = [(LABELS.get(name, name.replace("_", " ")), headline(summary, name)) for name in names]
    if summary.get("accuracy") is not None and summary.get("unparsed"):
        found.append(("Right among decided answers alone", Interval(*[summary["accuracy"]] * 3)))
    return [(name, value) for name, value in found if value is not None]


def tables(summary: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every table of the board's metric: rows of named cells. A dict of values is a table of one or two columns."""
    found = {}
    for key, value in summary.items():
        if key in DESCRIBED or key.endswith("_interval") or not value:
            continue
        rows = None
        if isinstance(value, dict):
            rows = [{"": name, **(cell if isinstance(cell, dict) else {"value": cell})} for name, cell in value.items()]
        elif isinstance(value, list) and all(isinstance(row, dict) for row in value):
            rows = value
        if rows:
            columns = list(dict.fromkeys(name for row in rows for name in row))
            found[LABELS.get(key, key.replace("_", " "))] = [{name: row.get(name) for name in columns} for row in rows]
    return found


def groups(scores: Sequence[Score], column: str) -> list[GroupRow]:
    """One row per value of a column, with the interval of its share right."""
    rows: dict[str, list[Score]] = {}
    for score in scores:
        rows.setdefault(getattr(score, column), []).append(score)
    found = []
    for name, group in sorted(rows.items()):
        counts = {state: sum(s.status == state for s in group) for state in STATES}
        share = None if counts["judge_failed"] else headline(right_share(group))
        found.append(GroupRow(name or "–", len(group), counts, share))
    return found


def depends(run: Evaluated) -> list[tuple[str, str]]:
    """(setting, its value in words): what the number means nothing without."""
    s, unknown = run.summary, "not known: the answers were made elsewhere"
    pixels = f"least {_number(s.get('min_pixels'))}, most {_number(s.get('max_pixels'))}"
    hashes = run.manifest.get("inputs", {})
    left_out = "; ".join(f"{name}: {why}" for name, why in (s.get("left_out") or {}).items())
    if n := s.get("dropped"):
        left_out = "; ".join(filter(None, (left_out, f"{n} rows that cannot be used, see drops.parquet")))
    judge = s.get("judge") or "none: what only a judge could tell is unparsed"
    rows = {
        "Board": f"{run.title}, {s.get('n', 0)} answers{'' if s.get('complete', True) else ', not the whole set'}",
        "Left out": left_out or "nothing",
        "Data set": f"hash {s.get('dataset_hash') or 'not recorded'}",
        "Answers": f"{run.model}, hash {hashes.get('predictions') or hashes.get('model') or 'not recorded'}",
        "Profile": str(s.get("profile", "not recorded")),
        "Prompt": unknown
        if run.elsewhere and not run.config.get("prompt")
        else f"{s.get('prompt')}, hash {s.get('prompt_hash')}",
        "System prompt": unknown if run.elsewhere else f"hash {s['system_hash']}" if s.get("system_hash") else "none",
        "Pictures": f"{s.get('images', 'own')}, pixels {unknown if run.elsewhere else pixels}",
        "Token cap": unknown if run.elsewhere else _number(s.get("max_tokens")),
        "Cut answers": f"{s.get('cut', 0)}",
        "Temperature": unknown if run.elsewhere else f"{s.get('temperature') or 0:g}",
        "Answers per item": str(s.get("samples", 1)),
        "Judge": judge if not s.get("judge_version") else f"{judge}, questions {s['judge_version']}",
    }
    rows |= {name: f"{s[key]:.4f} nats per token" for key, name in NATS.items() if s.get(key) is not None}
    for key, value in s.items():
        if key in COUNTS or (key not in DESCRIBED and isinstance(value, str) and value):
            rows[key.replace("_", " ").capitalize()] = value if isinstance(value, str) else _number(value)
    return list(rows.items())


def shown_items(run: Evaluated, samples: dict[str, Sample] | None) -> dict[str, Any]:
    """Items of every state, the first ones of every reason and rung in turn, with question and picture where there are any."""
    try:
        samples, gone = samples_of(run) if samples is None else samples, ""
    except UserError as error:
        samples, gone = {}, error.what
    shown = {}
    for state in STATES:
        rows = [s for s in run.scores if s.status == state]
        if rows:
            shown[state] = [_shown(score, samples.get(score.sample_id)) for score in spread(rows, SHOWN)]
    return {"items": shown, "items_gone": gone}


def spread(rows: Sequence[Score], size: int) -> list[Score]:
    """A few scores that differ in reason, rung and part as far as they can, by rule."""
    pools: dict[tuple[str, str, str], list[Score]] = {}
    for row in rows:
        pools.setdefault((row.reason, row.decided_by, row.part), []).append(row)
    taken: list[Score] = []
    depth = 0
    while len(taken) < min(size, len(rows)):
        taken += [pool[depth] for pool in pools.values() if depth < len(pool)]
        depth += 1
    return taken[:size]


def spending(folder: Path) -> list[dict[str, Any]]:
    """What was asked of endpoints and paid, one row per step and model; empty where there was none."""
    path = folder / "ledger.sqlite"
    if not path.is_file():
        return []
    with closing(Ledger(path)) as ledger:
        return ledger.spending()


def ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The largest first."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _shown(score: Score, sample: Sample | None) -> dict[str, Any]:
    text = clean(score.text)
    options = options_text(sample) if sample else ""
    return {
        "score": score,
        "question": clean(sample.question) if sample else None,
        "options": options.strip().splitlines(),
        "golds": [clean(gold) for gold in sample.golds] if sample else [],
        "images": [picture_uri(path) for path in sample.images] if sample else [],
        "answer": None if score.answer is None else clip(clean(score.answer), 200),
        "text": clip(text, LONGEST),
        "length": len(text),
    }


def clip(text: str, longest: int) -> str:
    """Its beginning and end, where it is longer."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} […] {text[-half:]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float | None) -> str:
    return "the model's own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
