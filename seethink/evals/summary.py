"""What an evaluation comes to, as it is written to done.json: what the number is, the number itself, and what keeps it from being one."""

from __future__ import annotations

from typing import Any

from seethink.core.nouns import Score
from seethink.core.store import hash_json
from seethink.core.terminal import between, print_table
from seethink.evals.board import Board
from seethink.evals.config import EvalConfig, model_of
from seethink.evals.items import Items
from seethink.evals.judge.questions import version
from seethink.evals.metrics import summarise
from seethink.evals.samples import over_draws
from seethink.evals.verdicts import NO_RESPONSE, STATES
from seethink.train.model.folder import pixel_budget

SOME = 0.05  # share of answers from which it is worth a word that nobody could read them
INCOMPLETE = "{what}: no score is given (--accept_failures gives one, in which they count as not right)"


def described(board: Board, profile: str, inputs: dict[str, str], config: EvalConfig) -> dict[str, Any]:
    """What a number means nothing without. None stands for what is not known of predictions."""
    elsewhere = config.predictions is not None
    least, most = config.min_pixels, config.max_pixels
    if not elsewhere and not config.base_url:
        least, most = pixel_budget(model_of(config).path, least, most)
    return {
        "board": board.title,
        "task": config.task,
        "model": config.model or str(config.predictions),
        "profile": profile,
        "quirks": list(board.profiles[profile].quirks),
        "prompt": None if elsewhere and not config.prompt else inputs["prompt"],
        "dataset_hash": inputs["data"],
        "prompt_hash": inputs["prompts"],
        "system_hash": hash_json(inputs["system"]) if inputs["system"] else "",
        "images": config.images,
        "min_pixels": least,
        "max_pixels": most,
        "max_tokens": None if elsewhere else config.max_tokens,
        "temperature": None if elsewhere else config.temperature,
        "samples": config.samples,
        **({"against": str(config.against)} if config.against else {}),
        "judge": config.judge.model if config.judge.url else "",
        "judge_version": version() if config.judge.url else "",
    }


def results(board: Board, scores: list[Score], config: EvalConfig) -> dict[str, Any]:
    """Counts of answers, and what the board's metric makes of them. Its numbers are None while answers or verdicts are missing."""
    counts = summarise(scores)
    failed = sum(s.reason == NO_RESPONSE and s.stop == "error" for s in scores)
    found = over_draws(board.metric, scores)
    if (failed or counts["judge_failed"]) and not config.accept_failures:
        found = {name: without_numbers(value) for name, value in found.items()}
    return {**counts, **found, "samples": len({s.draw for s in scores}), "failed": failed}


def without_numbers(value: Any) -> Any:
    """A figure of a metric with None for every share and interval; counts stay."""
    if isinstance(value, dict):
        return {name: without_numbers(part) for name, part in value.items()}
    return None if isinstance(value, float | list) else value


def whole(board: Board, items: Items, summary: dict[str, Any]) -> bool:
    """Whether what was evaluated is the published set: all of its rows, and of the kind that its numbers are about."""
    counted = len(items.samples) + len(summary["left_out"])
    return not board.sizes or (items.rows in board.sizes and counted == items.rows and not summary.get("another_set"))


def missing(summary: dict[str, Any], board: Board, items: Items, config: EvalConfig) -> dict[str, str]:
    """{alarm: sentence} for what keeps a number from being compared."""
    found = {}
    if n := summary["failed"]:
        whose = "have no prediction" if config.predictions else "got no answer from the endpoint"
        again = "" if config.predictions else "; the same command asks for them again"
        found["failed"] = INCOMPLETE.format(what=f"{n} answers {whose}{again}")
    if n := summary["judge_failed"]:
        found["judge_failed"] = INCOMPLETE.format(what=f"the judge gave no usable reply on {n} answers")
    profile = board.profiles[summary["profile"]]
    if (profile.extract or profile.grade) and not config.judge.url and summary["unparsed"] >= SOME * summary["n"]:
        what = f"{summary['unparsed']} of {summary['n']} answers are read by no rule of {summary['profile']}"
        found["no_judge"] = f"{what}, which asks a judge then, and there is none (--judge.url): they count as not right"
    if not summary["complete"]:
        sizes = " or ".join(map(str, board.sizes))
        what = summary.get("another_set") or f"{len(items.samples)} items, {board.title} has {sizes}"
        found["subset"] = f"{what}: this number compares with no published one"
    if summary["images"] != "own":
        found["control"] = f"pictures are {summary['images']}: this number is a control"
    return found


def in_words(summary: dict[str, Any]) -> str:
    """The numbers in one line."""
    score, n, draws = summary.get("score"), summary["n"], summary["samples"]
    said = "no score" if score is None else f"score {score:.2f}"
    if summary.get("score_interval"):
        low, high = summary["score_interval"]
        said += f" [{low:.1f}, {high:.1f}]"
    for name in (f"pass@{draws}", f"majority@{draws}") if draws > 1 else ():
        said += f", {name} {summary[name]:.2f}" if summary.get(name) is not None else ""
    counts = ", ".join(f"{summary[name]} {name}" for name in STATES if summary[name])
    return f"{said}, {summary['board']}: {n} answers ({counts})"


def say(summary: dict[str, Any]) -> None:
    """The numbers as a table: all answers, and those of every part, level and kind where there are several."""
    scored = summary.get("score") is not None
    rows = []
    for title in ("part", "level", "kind"):
        groups = summary.get(f"by_{title}") or {}
        if len(groups) > 1:
            rows += [(f"{title} {name or '(none)'}", *_counts(row, scored)) for name, row in groups.items()]
    whole = {**summary, "score": summary.get("score"), "score_interval": summary.get("score_interval")}
    print_table(
        ("", "answers", "right", "wrong", "undecided", "cut", "score [95 %]"), [("all", *_counts(whole, scored)), *rows]
    )
    undecided = [f"{name} {summary[name]}" for name in ("unparsed", "judge_failed") if summary.get(name)]
    if undecided:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted((summary.get("reasons") or {}).items()))
        counted = "; they count as not right" if scored else ""
        print(f"undecided: {', '.join(undecided)}{f'; why: {reasons}' if reasons else ''}{counted}")


def _counts(row: dict[str, Any], scored: bool) -> tuple[object, ...]:
    """Cells of a row of `say`; nothing where an earlier version has not counted it."""
    n, right, decided = row["n"], row["right"], row["decided"]
    share = between(row["score"], row.get("score_interval"), 2) if scored else "no score"
    return n, right, decided - right, n - decided, row.get("cut", ""), share
