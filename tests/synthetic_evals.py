"""Folders of evaluations as `seethink eval` leaves them, with SYNTHETIC numbers: no model answered. For tests of pages."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from seethink.core.nouns import Score
from seethink.core.store import write_json, write_jsonl
from seethink.core.tables import write_table
from seethink.evals.metrics import figures, right_share, summarise

TITLES = {
    "mathvista": "MathVista testmini", "mathvision": "MathVision test", "mathverse": "MathVerse Vision Only",
    "dynamath": "DynaMath", "wemath": "We-Math testmini", "logicvista": "LogicVista",
}  # fmt: skip
SETTINGS = {
    "profile": "leaderboard", "quirks": ["an English article counts as option A"], "prompt": "leaderboard",
    "dataset_hash": "d1", "prompt_hash": "p1", "system_hash": "s1", "images": "own", "min_pixels": None,
    "max_pixels": 262144, "max_tokens": 800, "temperature": 0.0, "samples": 1, "judge": "gpt-4o-mini", "complete": True,
}  # fmt: skip


def score(number: int, right: bool | None, **changes) -> Score:
    """Answer `number`, decided by a rule, or unparsed."""
    state = {True: "right", False: "wrong", None: "unparsed"}[right]
    one = Score(
        "board", "algebra" if number % 2 else "geometry", str(number), "choice", right, None, state, "A", f"It is {number}.",
        "stop", 12, 0.1, "" if right is not None else "invalid_response_format", "last_letter", level=str(number % 3 + 1),
    )  # fmt: skip
    return replace(one, **changes)


def scores(n: int = 60, right: float = 0.5, seed: int = 0, unparsed: float = 0.05, size: int = 1) -> list[Score]:
    """Answers by the dice; every `size` of them are one cluster."""
    rng, found = random.Random(seed), []
    for i in range(n):
        ok = None if rng.random() < unparsed else rng.random() < right
        found.append(score(i, ok, cluster=f"q{i // size}" if size > 1 else ""))
    return found


def folder(path: Path, rows: list[Score], task: str = "mathvision", model: str = "tiny", **changes) -> Path:
    """An evaluation; `changes` go into the summary of done.json."""
    path.mkdir(parents=True, exist_ok=True)
    found = {**summarise(rows), **right_share(rows), "failed": 0}
    if task == "dynamath":
        clusters: dict[str, list[bool]] = {}
        for row in rows:
            clusters.setdefault(row.cluster, []).append(row.ok is True)
        found |= {"average": found["score"], "average_interval": found["score_interval"]}
        found |= figures("score", [float(all(c)) for c in clusters.values()])
    if found["judge_failed"]:
        found |= {"score": None, "score_interval": None}
    board = {"board": TITLES.get(task, task), "task": task, "model": model}
    config = {
        "task": task,
        "data": str(path / "gone.json"),
        "model": model,
        "predictions": changes.pop("predictions", None),
    }
    write_json(path / "config.json", config)
    write_json(
        path / "manifest.json", {"seethink": "0", "git": "abc", "versions": {"numpy": "2"}, "inputs": {"model": "m1"}}
    )
    write_json(path / "done.json", {"key": "k", "summary": {**board, **SETTINGS, **found, "left_out": {}, **changes}})
    write_jsonl(path / "alarms.jsonl", [{"alarm": "a", "text": text} for text in changes.get("alarms", [])])
    write_table(path / "scores.parquet", rows)
    return path
