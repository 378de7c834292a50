"""An evaluation as a log of Inspect: what was asked, what came, how it was scored and why, item by item.

Written in its published format (version 2, JSON), so that nothing of Inspect need be installed here. A model's text stands in
it as it came: the viewer shows it as Markdown without scripts, and with --no-trust-content as plain text, without pictures.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from seethink import __version__
from seethink.core.errors import UserError
from seethink.core.images import portable
from seethink.core.nouns import Sample, Score
from seethink.core.prompt import prompt_parts
from seethink.core.store import hash_text, well_formed
from seethink.evals.board import Board
from seethink.evals.evaluated import Evaluated
from seethink.evals.export.asked import finished_at, model_name

VALUES = {"right": "C", "wrong": "I"}
"""Correct and incorrect; anything else is N, no answer."""
REASONS_OF_INSPECT = {"truncated": "invalid_response_format"}
"""Where its words for why there is no score are fewer than ours; ours stand in the metadata."""
PICTURE_BYTES, LOG_BYTES = 512 << 10, 64 << 20
"""Of one picture, and of all pictures of a log, at most: the viewer loads a log whole."""
STOPS = {"stop": "stop", "length": "max_tokens", "error": "unknown"}


def log_text(found: Evaluated, board: Board, samples: dict[str, Sample]) -> str:
    """The whole log as JSON."""
    pictures = Pictures(found.config.get("images", "own") == "own")
    log = {
        "version": 2,
        "status": "success",
        "eval": _spec(found, board, samples),
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": _sampling(found)},
        "results": _results(found),
        "stats": {
            "started_at": _time(found.manifest["started"]),
            "completed_at": _time(finished_at(found)),
            "model_usage": {model_name(found): _usage(sum(score.tokens for score in found.scores))},
        },
        "samples": [_sample(found, score, samples[score.sample_id], pictures) for score in found.scores],
    }
    return json.dumps(well_formed(log), ensure_ascii=False, default=str) + "\n"


def log_path(found: Evaluated, out: Path) -> Path:
    """In a folder under a name by which the viewer knows a log; a name that ends in .json is taken as it is."""
    if out.suffix == ".json":
        return out
    stamp = _time(finished_at(found)).replace(":", "-")
    return out / f"{stamp}_{re.sub(r'[^0-9A-Za-z-]+', '-', found.task).strip('-')}_{found.manifest['key']}.json"


class Pictures:
    """Pictures as data URLs while there is room for them; `shown` says whether the model saw these very files."""

    def __init__(self, shown: bool):
        self.shown, self.left = shown, LOG_BYTES

    def part(self, path: str, attached: dict[str, str]) -> dict[str, str]:
        """A part of a chat message: the picture, whose data go to `attached` once, or in words why it is left out."""
        name = os.path.basename(path)
        if not self.shown:
            return _words(f"[picture {name}: the model was shown another one]")
        if not os.path.isfile(path):
            return _words(f"[picture {name}: not there]")
        if os.path.getsize(path) > min(PICTURE_BYTES, self.left):
            return _words(f"[picture {name}: left out for its size]")
        try:
            data, suffix = portable(path)
        except UserError as fault:
            return _words(f"[picture {name}: {fault.what}]")
        self.left -= len(data)
        kind = "png" if suffix == ".png" else "jpeg"
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        attached[hash_text(url)] = url
        return {"type": "image", "image": f"attachment://{hash_text(url)}"}


def _spec(found: Evaluated, board: Board, samples: dict[str, Sample]) -> dict[str, Any]:
    key, settings = found.manifest["key"], found.config
    return {
        "eval_id": key,
        "run_id": key,
        "created": _time(found.manifest["started"]),
        "task": found.task,
        "task_id": hash_text(found.task),
        "task_version": 0,
        "task_display_name": board.title,
        "task_args": {name: found.summary.get(name) for name in ("profile", "prompt", "images")},
        "dataset": {
            "name": board.title,
            "location": settings["data"],
            "samples": len(samples),
            "sample_ids": list(samples),
            "shuffled": False,
        },
        "model": model_name(found),
        "model_base_url": settings.get("base_url") or None,
        "model_generate_config": _sampling(found),
        "config": {"epochs": _draws(found), "limit": settings.get("limit") or None},
        "packages": {"seethink": found.manifest.get("seethink", __version__)},
        "metadata": found.summary,
    }


def _sample(found: Evaluated, score: Score, sample: Sample, pictures: Pictures) -> dict[str, Any]:
    system = found.manifest["inputs"].get("system") or ""
    attached: dict[str, str] = {}
    parts = [
        pictures.part(part["path"], attached) if part["type"] == "image" else _words(part["text"])
        for part in prompt_parts(sample)
    ]
    question = [{"role": "system", "content": system}] if system else []
    question.append({"role": "user", "content": parts if len(parts) > 1 else parts[0]["text"] if parts else ""})
    failed = score.stop == "error"
    answer = {
        "role": "assistant",
        "content": "" if failed else score.text,
        "source": "generate",
        "model": model_name(found),
    }
    choice = {"message": answer, "stop_reason": STOPS[score.stop]}
    return {
        "id": score.sample_id,
        "epoch": score.draw + 1,
        "input": question,
        "choices": list(sample.choices) or None,
        "target": list(sample.golds) if sample.alternatives else sample.gold,
        "messages": question if failed else [*question, answer],
        "output": {
            "model": model_name(found),
            "choices": [] if failed else [choice],
            "completion": answer["content"],
            "usage": _usage(score.tokens),
            "time": score.seconds,
            "error": (score.text or "no answer") if failed else None,
        },
        "scores": {found.summary["profile"]: _score(score)},
        "metadata": {"part": score.part, "level": score.level, "cluster": score.cluster, "kind": score.kind},
        "attachments": attached,
    }


def _score(score: Score) -> dict[str, Any]:
    """`explanation`: the rung that decided, and why an undecided one is so."""
    why = f"{score.status}, decided by {score.decided_by or 'nobody'}{': ' + score.reason if score.reason else ''}"
    if score.scored is not None:
        why += f"\n\nscored: {score.scored}"
    undecided = score.status not in VALUES
    return {
        "value": VALUES.get(score.status, "N"),
        "answer": score.answer,
        "explanation": why,
        "reason": REASONS_OF_INSPECT.get(score.reason, score.reason or None) if undecided else None,
        "metadata": {
            "status": score.status,
            "reason": score.reason,
            "decided_by": score.decided_by,
            "reward": score.reward,
        },
    }


def _results(found: Evaluated) -> dict[str, Any]:
    """Every number of the summary that has an interval, in percent, and the counts."""
    summary = found.summary
    numbers = {name.removesuffix("_interval") for name in summary if name.endswith("_interval")}
    names = [
        *sorted(numbers, key=lambda name: (name != "score", name)),
        "coverage",
        "n",
        "right",
        "wrong",
        "unparsed",
        "judge_failed",
    ]
    metrics = {
        name: {"name": name, "value": value, "params": {}}
        for name in names
        if isinstance(value := summary.get(name), int | float)
    }
    decided = Counter(score.ok is not None for score in found.scores)
    one = {
        "name": summary["profile"],
        "scorer": summary["profile"],
        "scored_samples": decided[True],
        "unscored_samples": decided[False],
        "params": {},
        "metrics": metrics,
    }
    asked = len(found.scores)
    return {"total_samples": asked, "completed_samples": asked, "scores": [one]}


def _sampling(found: Evaluated) -> dict[str, Any]:
    names = () if found.config.get("predictions") else ("temperature", "max_tokens", "seed")
    return {name: found.config[name] for name in names}


def _usage(tokens: int) -> dict[str, int]:
    return {"input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens}


def _draws(found: Evaluated) -> int:
    return 1 + max(score.draw for score in found.scores)


def _words(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _time(stamp: str) -> str:
    """As ISO 8601 has it, from the stamps of a run."""
    return datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z").isoformat()
