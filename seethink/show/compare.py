"""`seethink eval compare`: two evaluations of one board, item by item.

    seethink eval compare runs/eval-grpo runs/eval-base --out runs/compare

compare.html (the items in the viewer, flips first), compare.md, compare.json and pairs.parquet. The difference is that of B
against A. Two runs over the very same responses are two ways to score them: then the page lists what they decide differently,
by the rungs of both sides. Where only one of them saw the pictures, it says what the score owes to the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.guard import refuse_foreign
from seethink.core.nouns import Sample
from seethink.core.stats import Comparison, holm, verdict
from seethink.core.store import write_json, write_text
from seethink.core.tables import write_table
from seethink.evals.boards import BOARDS
from seethink.evals.config import CompareConfig
from seethink.evals.evaluated import Evaluated, samples_of
from seethink.evals.evaluated import read_evaluation as read
from seethink.evals.pairs import (
    Disagreement,
    ScorePair,
    board_difference,
    difference,
    disagreements,
    flips,
    pair,
    same_responses,
    table_row,
)
from seethink.show.items import Item, attempt
from seethink.show.pages import asset, environment
from seethink.show.view import write_pages

SETTINGS = (
    "model", "profile", "prompt", "images", "min_pixels", "max_pixels", "max_tokens", "temperature", "samples", "judge",
    "system_hash", "prompt_hash",
)  # fmt: skip
"""What two runs of one board may differ in."""
OUTCOMES = {
    "better": "B is right more often than A",
    "worse": "A is right more often than B",
    "same": "right, or wrong, on both sides",
    "undecided on A": "B is decided, A is not",
    "undecided on B": "A is decided, B is not",
    "undecided on both": "neither is decided",
}
ORDER = ("worse", "better", "undecided on B", "undecided on A", "undecided on both", "same")
CONTROLS = {"blank": "a blank one in its place", "shuffled": "another item's in its place"}


def run(config: CompareConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; what compare.json holds. Raises UserError for folders that cannot be compared."""
    a, b = read(config.input), read(config.other)
    pairs = pair(a, b)
    if dry_run:
        print(f"{len(pairs)} items of {a.title} -> {config.out / 'compare.html'}")
        return None
    refuse_foreign(config.out, "compare.json")
    found = measured(a, b, pairs, config.seed)
    page = {**found, "notes": notes(a, b, pairs), "control": control(a, b, found), "outcome_words": OUTCOMES}
    samples, gone = board_of(a, b)
    labels = [f"{side} {found[side.lower()]['name']}" for side in "AB"]
    items = _items(pairs, samples, labels)
    style = {"more_css": [asset("eval.css"), asset("compare.css")], "gone": gone}
    write_pages(config.out, f"{a.title}: A and B", items, False, "", "compare", {**page, **style})
    text = environment(markdown=True).get_template("compare.md.j2").render(page)
    write_text(config.out / "compare.md", text.encode("utf-8", "replace").decode())
    write_table(config.out / "pairs.parquet", [table_row(p) for p in pairs])
    write_json(config.out / "compare.json", found)
    print(f"compare: {in_words(found)}, {config.out / 'compare.html'}")
    return found


def measured(a: Evaluated, b: Evaluated, pairs: Sequence[ScorePair], seed: int) -> dict[str, Any]:
    """Every number of the comparison, in percent and points."""
    same = same_responses(pairs)
    clusters, draws = len({p.unit for p in pairs}), max(len(p.a) for p in pairs)
    exact = clusters == len(pairs) and draws == 1 == max(len(p.b) for p in pairs)
    names = _names(a, b)
    return {
        "board": a.title,
        "task": a.task,
        "a": _side(a, names[0]),
        "b": _side(b, names[1]),
        "changed": {
            key: [a.summary.get(key), b.summary.get(key)]
            for key in SETTINGS
            if a.summary.get(key) != b.summary.get(key)
        },
        "items": len(pairs),
        "decided": sum(p.decided for p in pairs),
        "flips": flips(pairs),
        "test": "McNemar's exact test" if exact else f"bootstrap over {clusters} clusters",
        **_shares(pairs),
        **_numbers(difference(pairs, seed)),
        "board_score": _numbers(board_difference(pairs, BOARDS[a.task].metric, seed)) if a.task in BOARDS else None,
        "by_part": _groups(pairs, "part", seed),
        "by_level": _groups(pairs, "level", seed),
        "same_responses": same,
        "disagreements": [_group(d) for d in disagreements(pairs)] if same else [],
    }


def notes(a: Evaluated, b: Evaluated, pairs: Sequence[ScorePair]) -> list[str]:
    """What a reader should know before believing the difference."""
    found = []
    for side, one in (("A", a), ("B", b)):
        if one.summary.get("score") is None:
            found.append(f"{side} has no score of its own: judgements or answers are missing there")
    undecided = sum(not p.decided for p in pairs)
    if undecided:
        found.append(f"{undecided} items are undecided on a side; they are in no difference, and wrong on neither side")
    scores = [run.summary["score"] for run in (a, b) if run.summary.get("score") is not None]
    only = sum(p.outcome in ("undecided on A", "undecided on B") for p in pairs)
    if only and len(scores) == 2:
        found.append(
            f"The scores themselves lie {scores[1] - scores[0]:+.1f} points apart: they count what is undecided as not right, and "
            f"{only} items are undecided on one side alone"
        )
    if len(a.scores) != len(b.scores) and not any(s.draw for s in a.scores + b.scores):
        found.append("one side holds items that the other lacks; they are left out")
    return found


def control(a: Evaluated, b: Evaluated, found: dict[str, Any]) -> str:
    """What the score owes to the picture, where one side saw the pictures and the other did not; else empty."""
    seen = [run.summary.get("images", "own") for run in (a, b)]
    if seen.count("own") != 1 or found["difference"] is None:
        return ""
    sign = 1 if seen[1] == "own" else -1
    what = CONTROLS.get(seen[0] if sign > 0 else seen[1], "another in its place")
    own, other = (found["right_b"], found["right_a"]) if sign > 0 else (found["right_a"], found["right_b"])
    low, high = sorted(sign * limit for limit in found["interval"])
    text = f"With the picture {own:.1f} % of the items are right, with {what} {other:.1f} %: "
    if found["word"] == "not distinguishable":
        return (
            text
            + f"the picture makes no difference that can be told ({sign * found['difference'] + 0.0:+.1f} points [{low:.1f}, {high:.1f}])"
        )
    return (
        text
        + f"{sign * found['difference'] + 0.0:+.1f} points [{low:.1f}, {high:.1f}] are owed to the picture, the rest needs none"
    )


def board_of(a: Evaluated, b: Evaluated) -> tuple[dict[str, Sample], str]:
    """(samples by id, why there are none)."""
    why = ""
    for one in (a, b):
        try:
            return samples_of(one), ""
        except UserError as error:
            why = error.what
    return {}, why


def in_words(found: dict[str, Any]) -> str:
    """The comparison in one line."""
    f = found["flips"]
    if found["difference"] is None:
        return f"no item is decided on both sides, {found['board']}"
    low, high = found["interval"]
    return (
        f"B - A {round(found['difference'], 1) + 0.0:+.1f} points [{low:.1f}, {high:.1f}], p {found['p']:.3g}, {found['board']}: "
        f"{f['better']} better, {f['worse']} worse of {found['decided']} decided on both sides"
    )


def _side(run: Evaluated, name: str) -> dict[str, Any]:
    keys = (
        "profile",
        "prompt",
        "images",
        "judge",
        "score",
        "score_interval",
        *(s for s in ("average",) if s in run.summary),
    )
    return {"name": name, "folder": str(run.folder), "model": run.model, **{key: run.summary.get(key) for key in keys}}


def _names(a: Evaluated, b: Evaluated) -> tuple[str, str]:
    """What tells the two apart, in few words: the first settings that differ, else the folders."""
    for keys in (
        ("model",),
        ("profile", "prompt", "images", "judge"),
        ("max_pixels", "max_tokens", "temperature", "samples"),
    ):
        if changed := [key for key in keys if a.summary.get(key) != b.summary.get(key)]:
            return tuple(", ".join(_named(run, key) for key in changed) for run in (a, b))  # type: ignore[return-value]
    return a.folder.name, b.folder.name


def _named(run: Evaluated, key: str) -> str:
    value = run.summary.get(key)
    if key == "model":
        return "/".join(Path(run.model).parts[-2:])
    if key == "images":
        return f"{value} pictures"
    return f"{key.replace('_', ' ')} {'none' if value in (None, '') else value}"


def _numbers(c: Comparison | None) -> dict[str, Any]:
    """Difference B - A in points, its limits, p and a word."""
    if c is None:
        return dict.fromkeys(("difference", "interval", "p", "word", "detectable"))
    word = verdict(c.interval, c.p)
    return {
        "difference": 100 * c.interval.estimate, "interval": [100 * c.interval.low, 100 * c.interval.high], "p": c.p, "word": word,
        "detectable": 100 * c.detectable(),
    }  # fmt: skip


def _groups(pairs: Sequence[ScorePair], column: str, seed: int) -> dict[str, dict[str, Any]]:
    """The difference in every part or level, p adjusted for their number (Holm); {} where there is one alone."""
    groups: dict[str, list[ScorePair]] = {}
    for p in pairs:
        groups.setdefault(getattr(p.a[0], column), []).append(p)
    if len(groups) < 2:
        return {}
    compared = {name: (rows, difference(rows, seed, draws=1_000)) for name, rows in sorted(groups.items())}
    known = [name for name, (_, c) in compared.items() if c]
    adjusted = dict(zip(known, holm([c.p for _, c in compared.values() if c]), strict=True))
    return {
        name or "–": {
            "items": len(rows),
            **_shares(rows),
            **_numbers(c),
            "p_holm": adjusted.get(name),
            "flips": flips(rows),
        }
        for name, (rows, c) in compared.items()
    }


def _shares(pairs: Sequence[ScorePair]) -> dict[str, float | None]:
    """Percent right on either side, over items decided on both."""
    values = [p.values for p in pairs if p.decided]
    if not values:
        return {"right_a": None, "right_b": None}
    return {f"right_{side}": 100 * sum(v[i] or 0 for v in values) / len(values) for i, side in enumerate("ab")}


def _group(d: Disagreement) -> dict[str, Any]:
    keys = ("sample_id", "answer", "reason")
    shown = [
        {"id": a.sample_id, "a": {k: getattr(a, k) for k in keys[1:]}, "b": {k: getattr(b, k) for k in keys[1:]}}
        for a, b in d.examples
    ]
    return {
        "rung_a": d.rung_a, "rung_b": d.rung_b, "state_a": d.states[0], "state_b": d.states[1], "n": len(d.ids), "ids": d.ids,
        "examples": shown,
    }  # fmt: skip


def _items(pairs: Sequence[ScorePair], samples: dict[str, Sample], labels: Sequence[str]) -> list[Item]:
    """One item per pair with the answers of both sides, those that differ first."""
    items = []
    for p in sorted(pairs, key=lambda p: ORDER.index(p.outcome)):
        first = p.a[0]
        bare = Sample(p.id, first.board, (), "(question not at hand)", "(not at hand)", first.kind or "open")  # type: ignore[arg-type]
        item = Item(samples.get(p.id, bare), first.part, [])
        if p.outcome not in ("same", "undecided on both"):
            item.tags.append(p.outcome)
        elif first.status != p.b[0].status:
            item.tags.append("otherwise undecided")
        for label, scores in zip(labels, (p.a, p.b), strict=True):
            for s in scores:
                name = label if len(scores) == 1 else f"{label} #{s.draw + 1}"
                row = {
                    key: getattr(s, key)
                    for key in ("text", "ok", "stop", "status", "reason", "decided_by", "answer", "tokens")
                }
                item.attempts.append(attempt(name, row, item.sample, None))
        items.append(item)
    return items
