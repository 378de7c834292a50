"""What all adapters share: samples out of what a trainer carries, and numbers out of rewards.

The truth of a sample travels under the keys of a sample row: kind, gold (or solution), choices, meta, question, id. Where a
trainer hands over a single string, it is the JSON of those keys.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from seethink.core.config import build, load_file
from seethink.core.errors import UserError
from seethink.core.fields import PLACEHOLDER, names_pictures
from seethink.core.nouns import Reward, Sample, sample_from_row
from seethink.rewards.config import RewardConfig
from seethink.rewards.rewarder import Rewarder

CONFIG_VARIABLE = "SEETHINK_REWARD"
"""Environment variable with a TOML file of reward settings, for trainers that pass none."""

Undecided = Literal["none", "zero", "raise"]
"""What a trainer gets for a reward that cannot be decided: None (where it skips those), 0, or an error that stops it."""


NUMBERS = ("zero", "raise")
"""What a trainer may be told that takes numbers only."""


def check_undecided(word: str, trainer: str, allowed: Sequence[str] = NUMBERS) -> None:
    """Raises UserError for a word that a trainer cannot follow: a misspelt one would hand None to whoever adds it up."""
    if word not in allowed:
        raise UserError(f"undecided is {word!r}, which {trainer} cannot be told", remedy=f"Say {' or '.join(allowed)}")


def number(reward: Reward, sample: Sample, undecided: Undecided) -> float | None:
    """What the trainer gets. Raises UserError for an undecided reward where that is what to do."""
    if reward.value is None and undecided == "raise":
        remedy = "Run `seethink reward check` on the data before training, or set undecided to zero"
        raise UserError(f"sample {sample.id!r} has no reward ({reward.status}: {reward.detail})", remedy=remedy)
    return 0.0 if reward.value is None and undecided == "zero" else reward.value


def as_json(settings: Mapping[str, Any]) -> str:
    """Settings as they name a rewarder; tables and lists within may be of OmegaConf, as trainers hand them over."""
    return json.dumps(
        settings, sort_keys=True, default=lambda value: dict(value) if isinstance(value, Mapping) else list(value)
    )


@cache
def shared_rewarder(settings: str = "{}") -> Rewarder:
    """One rewarder per process and settings (JSON), for hooks that are plain functions."""
    path = os.environ.get(CONFIG_VARIABLE)
    values = {**(load_file(Path(path)) if path else {}), **json.loads(settings)}
    return Rewarder(build(RewardConfig, values, where=path or "reward settings"))


def sample_from_truth(truth: Mapping[str, Any], **more: Any) -> Sample:
    """Sample from the keys that travelled. `more` fills what is missing."""
    carried = {**more, **truth}.items()  # with whatever a trainer's own table has beside it
    row = {key: value for key, value in carried if value is not None and not names_pictures(key)}
    row["gold"] = row.pop("solution", None) if row.get("gold") is None else row["gold"]
    if isinstance(row.get("meta"), str):
        row["meta"] = _object(row["meta"] or "{}", "meta")
    images = row["images"] if isinstance(row.get("images"), list | tuple) else []
    row["images"] = [image for image in images if isinstance(image, str)]
    if str(row.get("question", "")).count(PLACEHOLDER) != len(row["images"]):  # pictures that are no files stay behind
        row["question"] = row.get("question", "").replace(PLACEHOLDER, "")
    return sample_from_row({"id": "", "question": "", **row}, where=f"sample {row.get('id', '')!r}")


def sample_from_label(label: str, **more: Any) -> Sample:
    """Sample from the JSON text of its truth. Raises UserError for a label that is none."""
    return sample_from_truth(_object(label, "label"), **more)


def _object(text: str, name: str) -> dict[str, Any]:
    """Raises UserError for a text that is not the JSON of an object, or nested too deeply."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # also a number of thousands of digits
        value = None
    if not isinstance(value, dict):
        remedy = 'Export the data with seethink, or write {"kind": ..., "solution": ...} into the label'
        raise UserError(f"{name} {text[:60]!r} is not the JSON of an object", remedy=remedy)
    return value


def status_shares(rewards: Sequence[Reward]) -> dict[str, float]:
    """Share of every status and mean reward of every kind, for a trainer's log."""
    found = {f"status/{s}": n / len(rewards) for s, n in Counter(r.status for r in rewards).items()}
    for kind in sorted({r.kind for r in rewards}):
        values = [r.value for r in rewards if r.kind == kind and r.value is not None]
        if values:
            found[f"reward/{kind}"] = sum(values) / len(values)
    return found
